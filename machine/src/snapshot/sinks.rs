//! Restores the records of sinks from a snapshot.

use std::sync::Arc;

use super::filling::{Filling, ensure_last};
use super::restore::{damaged, ensure};
use crate::codec::CodecError;
use crate::event::{Event, EventKind};
use crate::ids::SinkName;
use crate::sink::{DEAD_LETTER_REASON_BYTES_MAX, DeadLetter, SinkRecord};

impl Filling {
    pub(super) fn sink(&mut self, name: SinkName, record: SinkRecord) -> Result<(), CodecError> {
        ensure_last(&self.world.sinks, &name)?;
        let reached = record
            .checkpoint
            .map(|it| it.cursor.revision.max(it.seeded))
            .unwrap_or_default();
        let past = reached <= self.header.revision;
        ensure(past, "the sink is ahead of the revision")?;
        let asked = record.seeds_done <= record.seeds_asked;
        ensure(
            asked,
            "the sink has fulfilled more backfill requests than were made",
        )?;
        self.world.sinks.insert(name, record);
        Ok(())
    }

    pub(super) fn dead_letter(&mut self, mut letter: DeadLetter) -> Result<(), CodecError> {
        ensure(letter.attempts > 0, "the dead letter has no attempts")?;
        let fits = letter.reason.len() <= DEAD_LETTER_REASON_BYTES_MAX;
        ensure(fits, "the dead letter's reason is too long")?;
        let in_order = letter.event.at <= letter.rejected_at
            && letter.rejected_at <= letter.tried_at
            && letter.tried_at <= self.header.clock;
        ensure(in_order, "the dead letter's times are not in order")?;
        letter.event = self.letters_event(letter.event)?;
        let last = self.world.sinks.get_max().map(|(name, _)| name.clone());
        let Some(record) = last.and_then(|name| self.world.sinks.get_mut(&name)) else {
            return Err(damaged("the dead letter has no sink"));
        };
        let cursor = letter.event.cursor();
        ensure_last(&record.letters, &cursor)?;
        record.letters.insert(cursor, letter);
        Ok(())
    }

    /// The event of a dead letter, as the recent ones have it if they reach back to it.
    fn letters_event(&self, event: Arc<Event>) -> Result<Arc<Event>, CodecError> {
        let seeded = event.kind == EventKind::Seeded;
        ensure(
            !seeded || event.is_seeded(self.header.revision),
            "the dead letter's state was not part of a backfill",
        )?;
        if seeded || event.cursor() <= self.world.ring.gone {
            let mut event = Event::clone(&event);
            self.share_names(&mut event);
            return Ok(Arc::new(event));
        }
        let recent = self.world.ring.at(event.cursor());
        match recent.filter(|recent| **recent == event) {
            Some(recent) => Ok(recent.clone()),
            None => Err(damaged(
                "the dead letter's event is not among the recent ones",
            )),
        }
    }
}
