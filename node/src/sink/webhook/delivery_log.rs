//! The delivery results of the messages of the current batch, for when the batch fails and is delivered again
//! as a whole or in parts.

use std::collections::HashMap;

use lockstep_machine::{EventCursor, GlobalRevision};

use super::message::{Message, MessageKey};

/// The messages after the checkpoint that the cluster stores.
#[derive(Debug, Default)]
pub(super) struct DeliveryLog {
    checkpoint: EventCursor,
    accepted: u64,
    pub(super) last_accepted: Option<Message>,
    pub(super) states: HashMap<MessageKey, DeliveryState>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeliveryState {
    Accepted,
    /// The receiver rejected it, which has yet to be reported.
    Rejected(String),
    /// Neither.
    Failing {
        failures: u32,
        /// Messages accepted before its first server error; `None` if it had none.
        accepted_before: Option<u64>,
    },
}

impl DeliveryLog {
    /// A batch after a checkpoint starts. Messages up to it are not delivered again; if it went back, all
    /// are.
    pub(super) fn start_batch(&mut self, cursor: EventCursor) {
        if cursor < self.checkpoint {
            self.states.clear();
        }
        self.checkpoint = cursor;
        let is_after = |(at, instance): &MessageKey| instance.is_none() && *at > cursor;
        self.states.retain(|key, _| is_after(key));
    }

    /// A backfill at a revision is in progress.
    pub(super) fn start_backfill(&mut self, revision: GlobalRevision) {
        let end = EventCursor::after(revision);
        let is_of = |(at, instance): &MessageKey| instance.is_some() && *at == end;
        self.states.retain(|key, _| is_of(key));
    }

    /// Whether it was sent and neither accepted nor rejected.
    pub(super) fn is_failing(&self, key: &MessageKey) -> bool {
        matches!(self.states.get(key), Some(DeliveryState::Failing { .. }))
    }

    pub(super) fn accept(&mut self, message: Message) {
        self.accepted += 1;
        let key = message.key.clone();
        self.states.insert(key, DeliveryState::Accepted);
        self.last_accepted = Some(message);
    }

    pub(super) fn reject(&mut self, key: MessageKey, reason: String) {
        self.states.insert(key, DeliveryState::Rejected(reason));
    }

    /// An attempt failed; `server_error` if with a 5xx. Returns the number of such failures if other messages
    /// have been accepted since the first one: then the message is at fault, not the receiver.
    pub(super) fn fail(&mut self, key: MessageKey, server_error: bool) -> Option<u32> {
        let state = self.states.entry(key).or_insert(DeliveryState::Failing {
            failures: 0,
            accepted_before: None,
        });
        // What was accepted or rejected is not sent again.
        let DeliveryState::Failing {
            failures,
            accepted_before,
        } = state
        else {
            return None;
        };
        if !server_error {
            return None;
        }
        *failures = failures.saturating_add(1);
        let before = *accepted_before.get_or_insert(self.accepted);
        (before < self.accepted).then_some(*failures)
    }

    /// The messages that follow a rejected one are suspect, too: they concern the same instance, and there may be no
    /// other messages to accept between their failures.
    pub(super) fn suspect(
        &mut self,
        at_fault: &MessageKey,
        after: impl Iterator<Item = MessageKey>,
    ) {
        let Some(DeliveryState::Failing {
            accepted_before, ..
        }) = self.states.get(at_fault)
        else {
            return;
        };
        let suspected = DeliveryState::Failing {
            failures: 0,
            accepted_before: *accepted_before,
        };
        for key in after {
            self.states.entry(key).or_insert_with(|| suspected.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(revision: u64) -> MessageKey {
        let revision = GlobalRevision(revision);
        let cursor = EventCursor {
            revision,
            position: 0,
        };
        (cursor, None)
    }

    fn accept(log: &mut DeliveryLog, revision: u64) {
        log.accept(Message {
            key: key(revision),
            subject: ("order".parse().unwrap(), None),
            id: revision.to_string(),
            body: Bytes::new(),
        });
    }

    fn cursor(revision: u64) -> EventCursor {
        EventCursor::after(GlobalRevision(revision))
    }

    #[test]
    fn messages_after_the_checkpoint_are_kept_and_the_rest_forgotten() {
        let mut log = DeliveryLog::default();
        log.start_batch(cursor(0));
        (1..=3).for_each(|revision| accept(&mut log, revision));
        log.start_batch(cursor(1));
        assert_eq!(log.states.get(&key(1)), None);
        assert_eq!(log.states.get(&key(2)), Some(&DeliveryState::Accepted));
        assert_eq!(log.states.get(&key(3)), Some(&DeliveryState::Accepted));
        log.start_batch(cursor(0));
        assert_eq!(log.states.get(&key(3)), None, "the checkpoint went back");
    }

    #[test]
    fn a_message_is_at_fault_only_if_others_were_accepted_since_it_first_failed() {
        let mut log = DeliveryLog::default();
        accept(&mut log, 1);
        assert_eq!(log.fail(key(2), true), None);
        assert_eq!(log.fail(key(2), true), None);
        accept(&mut log, 3);
        assert_eq!(
            log.fail(key(2), false),
            None,
            "the receiver was unreachable"
        );
        assert_eq!(log.fail(key(2), true), Some(3));
        assert_eq!(log.fail(key(4), true), None, "others were accepted before");
        log.suspect(&key(2), [key(5), key(1)].into_iter());
        assert_eq!(log.states.get(&key(1)), Some(&DeliveryState::Accepted));
        assert_eq!(log.fail(key(5), true), Some(1));
    }
}
