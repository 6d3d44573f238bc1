//! What became of messages that may be given again: a batch that failed is given again, as a whole or
//! in parts.

use std::collections::HashMap;

use lockstep_machine::{EventCursor, GlobalRevision};

use super::message::{Key, Message};

/// What is known of the messages behind the place that the cluster keeps.
#[derive(Debug, Default)]
pub(super) struct Memory {
    behind: EventCursor,
    /// Messages accepted since this began.
    accepted: u64,
    last_accepted: Option<Message>,
    fates: HashMap<Key, Fate>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The receiver has it.
    Accepted,
    /// The receiver refuses it for good, and that has yet to be told.
    Refused(String),
    /// Not settled.
    Failing {
        /// How often the receiver failed over it.
        failures: u32,
        /// Messages accepted before it was first in question; none if it never was.
        accepted_before: Option<u64>,
    },
}

impl Memory {
    /// The place is here now. What is up to it will not be given again; if it went back, all is to be
    /// told again.
    pub(super) fn go_on_behind(&mut self, cursor: EventCursor) {
        if cursor < self.behind {
            self.fates.clear();
        }
        self.behind = cursor;
        self.fates
            .retain(|key, _| matches!(key, Key::Event(it) if *it > cursor));
    }

    /// The current states of this revision are told now.
    pub(super) fn seed_at(&mut self, revision: GlobalRevision) {
        self.fates
            .retain(|key, _| matches!(key, Key::State(it, _) if *it == revision));
    }

    /// What is known of a message.
    pub(super) fn fate(&self, key: &Key) -> Option<&Fate> {
        self.fates.get(key)
    }

    /// Whether it was tried in vain.
    pub(super) fn is_failing(&self, key: &Key) -> bool {
        matches!(self.fates.get(key), Some(Fate::Failing { .. }))
    }

    /// The message that was accepted last.
    pub(super) fn last_accepted(&self) -> Option<Message> {
        self.last_accepted.clone()
    }

    /// The receiver has it.
    pub(super) fn accept(&mut self, key: Key, message: Message) {
        self.accepted += 1;
        self.last_accepted = Some(message);
        self.fates.insert(key, Fate::Accepted);
    }

    /// The receiver refuses it.
    pub(super) fn refuse(&mut self, key: Key, reason: String) {
        self.fates.insert(key, Fate::Refused(reason));
    }

    /// It was tried in vain; `over_it` if the receiver itself failed over it. Says how often that
    /// happened if other messages were accepted since it first did: then it is to blame, and not the
    /// receiver.
    pub(super) fn fail(&mut self, key: Key, over_it: bool) -> Option<u32> {
        let (mut failures, mut accepted_before) = match self.fates.get(&key) {
            Some(Fate::Failing {
                failures,
                accepted_before,
            }) => (*failures, *accepted_before),
            _ => (0, None),
        };
        if over_it {
            failures = failures.saturating_add(1);
            accepted_before.get_or_insert(self.accepted);
        }
        let fate = Fate::Failing {
            failures,
            accepted_before,
        };
        self.fates.insert(key, fate);
        (over_it && accepted_before.is_some_and(|it| it < self.accepted)).then_some(failures)
    }

    /// The messages behind one that was to blame come into question with it: they are about the same
    /// thing, and there may be nothing left to accept between their failures.
    pub(super) fn suspect(&mut self, to_blame: &Key, behind: impl Iterator<Item = Key>) {
        let Some(Fate::Failing {
            accepted_before, ..
        }) = self.fates.get(to_blame)
        else {
            return;
        };
        let suspected = Fate::Failing {
            failures: 0,
            accepted_before: *accepted_before,
        };
        for key in behind {
            self.fates.entry(key).or_insert_with(|| suspected.clone());
        }
    }

    /// Forgets what became of some messages.
    pub(super) fn forget(&mut self, keys: &[Key]) {
        for key in keys {
            self.fates.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(revision: u64) -> Key {
        Key::Event(EventCursor {
            revision: GlobalRevision(revision),
            position: 0,
        })
    }

    fn accept(memory: &mut Memory, revision: u64) {
        let message = Message {
            id: revision.to_string(),
            body: vec![],
        };
        memory.accept(key(revision), message);
    }

    fn behind(revision: u64) -> EventCursor {
        EventCursor::after(GlobalRevision(revision))
    }

    #[test]
    fn what_is_behind_the_place_is_kept_and_the_rest_forgotten() {
        let mut memory = Memory::default();
        memory.go_on_behind(behind(0));
        (1..=3).for_each(|revision| accept(&mut memory, revision));
        memory.go_on_behind(behind(1));
        assert_eq!(memory.fate(&key(1)), None);
        assert_eq!(memory.fate(&key(2)), Some(&Fate::Accepted));
        assert_eq!(memory.fate(&key(3)), Some(&Fate::Accepted));
        memory.go_on_behind(behind(0));
        assert_eq!(memory.fate(&key(3)), None, "it went back: all again");
    }

    #[test]
    fn a_message_is_to_blame_only_if_others_were_accepted_since_it_first_failed() {
        let mut memory = Memory::default();
        accept(&mut memory, 1);
        assert_eq!(memory.fail(key(2), true), None);
        assert_eq!(memory.fail(key(2), true), None);
        accept(&mut memory, 3);
        assert_eq!(memory.fail(key(2), false), None, "it could not be reached");
        assert_eq!(memory.fail(key(2), true), Some(3));
        assert_eq!(memory.fail(key(4), true), None, "that was before");
        memory.suspect(&key(2), [key(5), key(1)].into_iter());
        assert_eq!(memory.fate(&key(1)), Some(&Fate::Accepted));
        assert_eq!(memory.fail(key(5), true), Some(1));
    }
}
