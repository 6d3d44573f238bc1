//! The model of the records of sinks, each with a list of its dead letters.

use std::sync::Arc;

use lockstep_machine::*;

use crate::model::Model;

#[derive(Clone, Default)]
pub struct Account {
    pub term: u64,
    pub checkpoint: Option<SinkCheckpoint>,
    pub seeds_asked: u64,
    pub seeds_done: u64,
    /// In order of their events.
    pub letters: Vec<DeadLetter>,
}

impl Account {
    fn find(&mut self, cursor: EventCursor) -> Option<&mut DeadLetter> {
        self.letters
            .iter_mut()
            .find(|it| it.event.cursor() == cursor)
    }
}

/// The longest beginning of at most 1024 bytes.
fn cut(reason: &str) -> String {
    let mut kept = String::new();
    for c in reason.chars() {
        if kept.len() + c.len_utf8() > 1024 {
            break;
        }
        kept.push(c);
    }
    kept
}

fn refused_again(letter: &mut DeadLetter, reason: &str, now: u64) {
    letter.reason = cut(reason);
    letter.attempts += 1;
    letter.tried_at = Timestamp(now);
    letter.replay_wanted = false;
}

impl Model {
    pub fn sink(&mut self, it: &SinkCommand) -> Result<u64, Rejection> {
        let known = self.sinks.get(&it.sink).cloned();
        let is_new = known.is_none();
        let mut account = known.unwrap_or_default();
        let term = match &it.change {
            SinkChange::Claim { term }
            | SinkChange::Advance { term, .. }
            | SinkChange::Bury { term, .. }
            | SinkChange::Settle { term, .. }
            | SinkChange::Seeding { term }
            | SinkChange::Seeded { term, .. } => *term,
            _ => account.term,
        };
        if term < account.term {
            return Err(Rejection::SinkFenced {
                sink: it.sink.clone(),
                term: account.term,
            });
        }
        let raised = term > account.term;
        account.term = term;
        let affected = match &it.change {
            SinkChange::Replay { which } => self.replay(&it.sink, &mut account, *which)?,
            SinkChange::Discard { which } => self.discard(&it.sink, &mut account, *which)?,
            SinkChange::Forget => {
                self.sinks.remove(&it.sink);
                return Ok(u64::from(!is_new));
            }
            change => u64::from(self.change(&mut account, change)? || raised),
        };
        if is_new && affected > 0 {
            let asked = self.sinks.len() as u64 + 1;
            self.quota(Quota::Sinks, asked, self.limits.sinks_max)?;
        }
        if !is_new || affected > 0 {
            self.sinks.insert(it.sink.clone(), account);
        }
        Ok(affected)
    }

    /// Whether anything but the term changes.
    fn change(&self, account: &mut Account, change: &SinkChange) -> Result<bool, Rejection> {
        match change {
            SinkChange::Claim { .. } => Ok(false),
            SinkChange::Advance { checkpoint, .. } => {
                let ahead = checkpoint.cursor.revision.0 > self.revision
                    || checkpoint.seeded.0 > self.revision;
                if ahead || account.checkpoint == Some(*checkpoint) {
                    return Ok(false);
                }
                account.checkpoint = Some(*checkpoint);
                Ok(true)
            }
            SinkChange::Bury { event, reason, .. } => self.bury(account, event, reason),
            SinkChange::Settle {
                cursor, refused, ..
            } => {
                let Some(letter) = account.find(*cursor) else {
                    return Ok(false);
                };
                match refused {
                    Some(reason) => refused_again(letter, reason, self.now),
                    None => account.letters.retain(|it| it.event.cursor() != *cursor),
                }
                Ok(true)
            }
            SinkChange::Seed => {
                account.seeds_asked += 1;
                Ok(true)
            }
            SinkChange::Seeded { asked, .. } => {
                let before = account.seeds_done;
                if *asked > before {
                    account.seeds_done = account.seeds_asked.min(*asked);
                }
                Ok(before != account.seeds_done)
            }
            SinkChange::Seeding { .. } => {
                let before = account.letters.len();
                account
                    .letters
                    .retain(|it| it.event.kind != EventKind::Seeded);
                Ok(account.letters.len() < before)
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn bury(&self, account: &mut Account, event: &Event, reason: &str) -> Result<bool, Rejection> {
        let cursor = event.cursor();
        if let Some(letter) = account.find(cursor) {
            refused_again(letter, reason, self.now);
            return Ok(true);
        }
        let gone = match event.kind {
            EventKind::Seeded => {
                let of_a_state = event.name.is_some() && event.to.is_some();
                of_a_state && cursor.position >= 500_000_000 && cursor.revision.0 <= self.revision
            }
            _ => (cursor.revision.0, cursor.position) <= self.events_gone,
        };
        let event = match self.events.iter().find(|it| it.cursor() == cursor) {
            Some(event) => event.clone(),
            None if gone && event.at.0 <= self.now => event.clone(),
            None => return Ok(false),
        };
        let asked = account.letters.len() as u64 + 1;
        self.quota(Quota::DeadLetters, asked, self.limits.dead_letters_max)?;
        account.letters.push(DeadLetter {
            event: Arc::new(event),
            reason: cut(reason),
            attempts: 1,
            rejected_at: Timestamp(self.now),
            tried_at: Timestamp(self.now),
            replay_wanted: false,
        });
        account.letters.sort_by_key(|it| it.event.cursor());
        Ok(true)
    }

    fn replay(
        &self,
        sink: &SinkName,
        account: &mut Account,
        which: Option<EventCursor>,
    ) -> Result<u64, Rejection> {
        let mut marked = 0;
        for letter in &mut account.letters {
            if which.is_none_or(|it| it == letter.event.cursor()) {
                letter.replay_wanted = true;
                marked += 1;
            }
        }
        found(marked, sink, which)
    }

    fn discard(
        &self,
        sink: &SinkName,
        account: &mut Account,
        which: Option<EventCursor>,
    ) -> Result<u64, Rejection> {
        let before = account.letters.len();
        let kept = |it: &DeadLetter| which.is_some_and(|which| which != it.event.cursor());
        account.letters.retain(kept);
        found((before - account.letters.len()) as u64, sink, which)
    }
}

/// How many there were; one that was asked for by its place must be there.
fn found(count: u64, sink: &SinkName, which: Option<EventCursor>) -> Result<u64, Rejection> {
    match which {
        Some(cursor) if count == 0 => Err(Rejection::UnknownDeadLetter {
            sink: sink.clone(),
            cursor,
        }),
        _ => Ok(count),
    }
}

pub fn assert_alike(state: &State, model: &Model) {
    assert!(
        state.sinks().map(|(name, _)| name).eq(model.sinks.keys()),
        "the sinks"
    );
    let mut fullest = 0;
    for (name, account) in &model.sinks {
        let record = state.sink(name.as_str()).unwrap();
        assert_eq!(
            (
                record.term,
                record.checkpoint,
                record.seeds_asked,
                record.seeds_done
            ),
            (
                account.term,
                account.checkpoint,
                account.seeds_asked,
                account.seeds_done
            )
        );
        assert!(record.letters().eq(&account.letters), "letters of {name}");
        fullest = fullest.max(account.letters.len() as u64);
        for letter in &account.letters {
            let cursor = letter.event.cursor();
            let behind = account.letters.iter();
            let behind = behind.filter(|it| it.event.cursor() > cursor);
            assert!(record.letters_after(Some(cursor)).eq(behind));
        }
    }
    let used = state.usage();
    assert!(used.contains(&(Setting::SinksMax, model.sinks.len() as u64)));
    assert!(used.contains(&(Setting::DeadLettersMax, fullest)));
}
