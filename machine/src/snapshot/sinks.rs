//! What is kept account of for sinks, put together from its records.

use std::sync::Arc;

use super::filling::{Filling, OUT_OF_ORDER};
use super::restore::{Fault, ensure};
use crate::event::{Event, EventKind};
use crate::ids::SinkName;
use crate::sink::{DEAD_LETTER_REASON_BYTES_MAX, DeadLetter, SinkRecord};

impl Filling {
    /// How many records of a kind that belongs behind the sinks' have been seen.
    pub(super) fn behind_sinks(&self) -> u64 {
        self.seen.keys + self.seen.sessions
    }

    pub(super) fn sink(&mut self, name: SinkName, record: SinkRecord) -> Result<(), Fault> {
        ensure(self.behind_sinks() == 0, OUT_OF_ORDER)?;
        let last = self.world.sinks.get_max();
        ensure(last.is_none_or(|(last, _)| *last < name), OUT_OF_ORDER)?;
        let reached = record
            .checkpoint
            .map(|it| it.cursor.revision.max(it.seeded))
            .unwrap_or_default();
        ensure(
            reached <= self.header.revision,
            "the sink is ahead of the revision",
        )?;
        ensure(
            record.seeds_done <= record.seeds_asked,
            "the sink has fulfilled more backfill requests than were made",
        )?;
        self.seen.sinks += 1;
        self.world.sinks.insert(name, record);
        Ok(())
    }

    pub(super) fn dead_letter(&mut self, mut letter: DeadLetter) -> Result<(), Fault> {
        ensure(self.behind_sinks() == 0, OUT_OF_ORDER)?;
        ensure(letter.attempts > 0, "the dead letter has no attempts")?;
        ensure(
            letter.reason.len() <= DEAD_LETTER_REASON_BYTES_MAX,
            "the dead letter's reason is too long",
        )?;
        let in_order = letter.event.at <= letter.buried_at
            && letter.buried_at <= letter.tried_at
            && letter.tried_at <= self.header.clock;
        ensure(in_order, "the dead letter's times are not in order")?;
        letter.event = self.letters_event(letter.event)?;
        let Some((name, last)) = self.world.sinks.get_max() else {
            return Err("the dead letter has no sink".into());
        };
        let cursor = letter.event.cursor();
        let last = last.letters.get_max();
        ensure(last.is_none_or(|(last, _)| *last < cursor), OUT_OF_ORDER)?;
        self.seen.dead_letters += 1;
        let name = name.clone();
        if let Some(record) = self.world.sinks.get_mut(&name) {
            record.letters.insert(cursor, letter);
        }
        Ok(())
    }

    /// The event of a dead letter, as the recent ones have it if they reach back to it.
    fn letters_event(&self, event: Arc<Event>) -> Result<Arc<Event>, Fault> {
        let seeded = event.kind == EventKind::Seeded;
        ensure(
            !seeded || event.is_seeded(self.header.revision),
            "the dead letter's state was not part of a backfill",
        )?;
        if seeded || event.cursor() <= self.world.ring.gone() {
            let mut event = Event::clone(&event);
            self.share_names(&mut event);
            return Ok(Arc::new(event));
        }
        let recent = self.world.ring.at(event.cursor());
        match recent.filter(|recent| **recent == event) {
            Some(recent) => Ok(recent.clone()),
            None => Err("the dead letter's event is not among the recent ones".into()),
        }
    }
}
