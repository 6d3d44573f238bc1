//! Lanes: messages about one instance are sent strictly in sequence, those of different instances concurrently.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::delivery_log::{DeliveryLog, DeliveryState};
use super::endpoint::Endpoint;
use super::message::{Message, MessageKey};
use crate::sink::SinkError;

pub(super) struct Lanes<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// What became of earlier messages.
    pub(super) log: &'a Mutex<DeliveryLog>,
    pub(super) concurrency_max: usize,
    /// Server errors on one message before it counts as rejected.
    pub(super) attempts_max: u32,
    /// Failures since a message was last accepted. Once there are as many as concurrent lanes, the receiver
    /// is at fault and not a message: to go on would only wait for one timeout after another, or add to its
    /// load.
    pub(super) streak: AtomicUsize,
}

/// Where and why a lane stopped.
type Stop = (MessageKey, SinkError);

impl Lanes<'_> {
    /// Delivers all messages, or returns the worst error: one that an operator must fix, then a temporary
    /// one, then a rejection. A lane that stops does not deliver its remaining messages.
    pub(super) async fn run(&self, messages: Vec<Message>) -> Result<(), SinkError> {
        let mut lanes: BTreeMap<_, Vec<Message>> = BTreeMap::new();
        for message in messages {
            let lane = lanes.entry(message.subject.clone()).or_default();
            lane.push(message);
        }
        let mut lanes: Vec<_> = lanes.into_values().collect();
        {
            // Lanes that failed go last, so that they do not delay others; else in order of their events.
            let log = self.log.lock();
            lanes.sort_by_cached_key(|lane| {
                let fails = lane.iter().any(|it| log.is_failing(&it.key));
                (fails, lane.first().map(|it| it.key.clone()))
            });
        }
        let runs: Vec<_> = lanes.into_iter().map(|lane| self.lane(lane)).collect();
        let stops: Vec<Stop> = stream::iter(runs)
            .buffer_unordered(self.concurrency_max)
            .filter_map(|stop| async { stop })
            .collect()
            .await;
        let Some((key, error)) = worst(stops) else {
            return Ok(());
        };
        if matches!(error, SinkError::Rejected { .. }) {
            // It is reported now; if it is delivered again nevertheless, it is sent again.
            self.log.lock().states.remove(&key);
        }
        Err(error)
    }

    /// `None` if all was delivered, or if the lane gave up because others fail.
    async fn lane(&self, messages: Vec<Message>) -> Option<Stop> {
        let mut messages = messages.into_iter();
        while let Some(message) = messages.next() {
            let known = self.log.lock().states.get(&message.key).cloned();
            match known {
                Some(DeliveryState::Accepted) => continue,
                Some(DeliveryState::Rejected(reason)) => {
                    return Some(rejected(message.key, reason));
                }
                Some(DeliveryState::Failing { .. }) | None => {}
            }
            if self.streak.load(Ordering::Relaxed) >= self.concurrency_max {
                return None;
            }
            if let Err(error) = self.endpoint.deliver(&message).await {
                return Some(self.stop(message.key, error, messages.as_slice()).await);
            }
            self.streak.store(0, Ordering::Relaxed);
            self.log.lock().accept(message);
        }
        None
    }

    async fn stop(&self, key: MessageKey, error: SinkError, behind: &[Message]) -> Stop {
        if let SinkError::Rejected { reason, .. } = error {
            self.log.lock().reject(key.clone(), reason.clone());
            return rejected(key, reason);
        }
        let failures = self.log.lock().fail(key.clone(), error.is_server_error());
        match failures {
            Some(failures) if failures >= self.attempts_max && self.accepts_others().await => {
                let reason = format!(
                    "{error} ({failures} attempts; other messages were accepted in the meantime)"
                );
                let mut log = self.log.lock();
                log.suspect(&key, behind.iter().map(|it| it.key.clone()));
                log.reject(key.clone(), reason.clone());
                rejected(key, reason)
            }
            _ => {
                self.streak.fetch_add(1, Ordering::Relaxed);
                (key, error)
            }
        }
    }

    /// Whether the receiver accepts the last accepted message again, which may be repeated at any time. A
    /// receiver that began to fail during a batch also accepted others after the first failure, but accepts
    /// nothing now.
    async fn accepts_others(&self) -> bool {
        let last = self.log.lock().last_accepted.clone();
        match last {
            Some(message) => self.endpoint.deliver(&message).await.is_ok(),
            None => false,
        }
    }
}

fn rejected((cursor, instance): MessageKey, reason: String) -> Stop {
    let error = match &instance {
        None => SinkError::rejected(Some(cursor), reason),
        Some(id) => SinkError::rejected(None, format!("{id}: {reason}")),
    };
    ((cursor, instance), error)
}

/// The worst error, and the first of equals; with the longest pause that any of them requests.
fn worst(stops: Vec<Stop>) -> Option<Stop> {
    let requested = stops.iter().filter_map(|(_, it)| it.retry_after()).max();
    let mut worst = stops
        .into_iter()
        .max_by(|(a_key, a), (b_key, b)| (rank(a), b_key).cmp(&(rank(b), a_key)))?;
    if let SinkError::Unavailable { retry_after, .. } = &mut worst.1 {
        *retry_after = requested;
    }
    Some(worst)
}

fn rank(error: &SinkError) -> u8 {
    match error {
        SinkError::Rejected { .. } => 0,
        SinkError::Unavailable { .. } => 1,
        SinkError::Absent { .. } => 2,
        SinkError::Misconfigured { .. } => 3,
        SinkError::Fenced { .. }
        | SinkError::Moved
        | SinkError::Cluster(_)
        | SinkError::DeadLettersFull(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockstep_machine::{EventCursor, GlobalRevision};

    use super::*;

    fn stop(revision: u64, error: SinkError) -> Stop {
        let revision = GlobalRevision(revision);
        let cursor = EventCursor {
            revision,
            position: 0,
        };
        ((cursor, None), error)
    }

    fn busy(seconds: Option<u64>) -> SinkError {
        SinkError::Unavailable {
            reason: "busy".into(),
            retry_after: seconds.map(Duration::from_secs),
            server_error: false,
        }
    }

    fn no(revision: u64) -> Stop {
        rejected(stop(revision, busy(None)).0, "no".into())
    }

    #[test]
    fn the_worst_error_is_returned_and_the_first_of_equals() {
        assert!(worst(vec![]).is_none());
        let first = worst(vec![no(5), no(3), no(4)]).unwrap();
        assert_eq!(first.0, stop(3, busy(None)).0);
        let waits = worst(vec![no(1), stop(3, busy(Some(7))), stop(2, busy(None))]).unwrap();
        assert_eq!(waits.1, busy(Some(7)));
        assert_eq!(waits.0, stop(2, busy(None)).0);
        let wrong = SinkError::Misconfigured {
            reason: "no such path".into(),
        };
        let found = worst(vec![stop(1, busy(None)), stop(9, wrong.clone()), no(2)]).unwrap();
        assert_eq!(found.1, wrong);
    }
}
