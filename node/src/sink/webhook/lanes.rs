//! Lanes: messages about one instance are sent strictly in sequence, those of different instances concurrently.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::answer::DeliveryError;
use super::delivery_log::{DeliveryLog, DeliveryState};
use super::endpoint::Endpoint;
use super::message::{Item, MessageKey};
use crate::sink::SinkError;

/// Sends messages in lanes.
pub(super) struct Lanes<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) cluster: &'a str,
    /// What became of earlier messages.
    pub(super) log: &'a Mutex<DeliveryLog>,
    /// Lanes at once.
    pub(super) concurrency_max: usize,
    /// Server errors on one message before it counts as rejected.
    pub(super) attempts_max: u32,
}

/// Where and why a lane stopped.
#[derive(Debug)]
struct Stop {
    key: MessageKey,
    error: SinkError,
}

/// Failures since a message was last accepted. Once there are as many as concurrent lanes, the receiver is
/// at fault and not a message: to go on would only wait for one timeout after another, or add to its load.
#[derive(Default)]
struct Streak(AtomicUsize);

impl Lanes<'_> {
    /// Delivers all items, or returns the worst error: one that an operator must fix, then a temporary one,
    /// then a rejection. A lane that stops does not deliver its remaining items.
    pub(super) async fn run(&self, items: Vec<Item<'_>>) -> Result<(), SinkError> {
        let streak = Streak::default();
        let mut lanes = by_subject(items);
        {
            // Lanes that failed go last, so that they do not delay others.
            let log = self.log.lock();
            let fails = |lane: &Vec<Item<'_>>| lane.iter().any(|it| log.is_failing(&it.key()));
            lanes.sort_by_cached_key(fails);
        }
        let runs: Vec<_> = lanes
            .into_iter()
            .map(|lane| self.lane(lane, &streak))
            .collect();
        let stops: Vec<Stop> = stream::iter(runs)
            .buffer_unordered(self.concurrency_max)
            .filter_map(|stop| async { stop })
            .collect()
            .await;
        let Some(worst) = worst(stops) else {
            return Ok(());
        };
        if matches!(worst.error, SinkError::Rejected { .. }) {
            // It is reported now; if it is delivered again nevertheless, it is sent again.
            self.log.lock().forget(&[worst.key]);
        }
        Err(worst.error)
    }

    /// `None` if all was delivered, or if the lane gave up because others fail.
    async fn lane(&self, items: Vec<Item<'_>>, streak: &Streak) -> Option<Stop> {
        let mut items = items.into_iter();
        while let Some(item) = items.next() {
            let key = item.key();
            let known = self.log.lock().state(&key).cloned();
            match known {
                Some(DeliveryState::Accepted) => continue,
                Some(DeliveryState::Rejected(reason)) => return Some(rejected(key, reason)),
                Some(DeliveryState::Failing { .. }) | None => {}
            }
            if streak.0.load(Ordering::Relaxed) >= self.concurrency_max {
                return None;
            }
            let message = item.message(self.cluster);
            if let Err(failure) = self.endpoint.send(message.clone()).await {
                return Some(self.stop(key, failure, items.as_slice(), streak).await);
            }
            streak.0.store(0, Ordering::Relaxed);
            self.log.lock().accept(key, message);
        }
        None
    }

    async fn stop(
        &self,
        key: MessageKey,
        failure: DeliveryError,
        behind: &[Item<'_>],
        streak: &Streak,
    ) -> Stop {
        let DeliveryError {
            error,
            server_error,
        } = failure;
        if let SinkError::Rejected { reason, .. } = error {
            self.log.lock().reject(key.clone(), reason.clone());
            return rejected(key, reason);
        }
        let failures = self.log.lock().fail(key.clone(), server_error);
        match failures {
            Some(failures) if failures >= self.attempts_max && self.accepts_others().await => {
                let reason = format!(
                    "{error} ({failures} attempts; other messages were accepted in the meantime)"
                );
                let mut log = self.log.lock();
                log.suspect(&key, behind.iter().map(Item::key));
                log.reject(key.clone(), reason.clone());
                rejected(key, reason)
            }
            _ => {
                streak.0.fetch_add(1, Ordering::Relaxed);
                Stop { key, error }
            }
        }
    }

    /// Whether the receiver accepts the last accepted message again, which may be repeated at any time. A
    /// receiver that began to fail during a batch also accepted others after the first failure, but accepts
    /// nothing now.
    async fn accepts_others(&self) -> bool {
        let last = self.log.lock().last_accepted();
        match last {
            Some(message) => self.endpoint.send(message).await.is_ok(),
            None => false,
        }
    }
}

/// The items by subject, each in their order.
fn by_subject(items: Vec<Item<'_>>) -> Vec<Vec<Item<'_>>> {
    let mut lanes: Vec<Vec<Item<'_>>> = vec![];
    let mut indexes: HashMap<_, usize> = HashMap::new();
    for item in items {
        match indexes.entry(item.subject()) {
            Entry::Occupied(index) => lanes[*index.get()].push(item),
            Entry::Vacant(free) => {
                free.insert(lanes.len());
                lanes.push(vec![item]);
            }
        }
    }
    lanes
}

fn rejected(key: MessageKey, reason: String) -> Stop {
    let (event, reason) = match &key {
        MessageKey::Event(cursor) => (Some(*cursor), reason),
        MessageKey::State(_, id) => (None, format!("{id}: {reason}")),
    };
    let error = SinkError::rejected(event, reason);
    Stop { key, error }
}

/// The worst error, and the first of equals; with the longest pause that any of them requests.
fn worst(stops: Vec<Stop>) -> Option<Stop> {
    let requested = stops.iter().filter_map(|it| it.error.retry_after()).max();
    let mut worst = stops
        .into_iter()
        .max_by(|a, b| (rank(&a.error), &b.key).cmp(&(rank(&b.error), &a.key)))?;
    if let SinkError::Unavailable { retry_after, .. } = &mut worst.error {
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
        SinkError::Fenced { .. } | SinkError::Moved => 4,
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
        let key = MessageKey::Event(cursor);
        Stop { key, error }
    }

    fn busy(seconds: Option<u64>) -> SinkError {
        SinkError::Unavailable {
            reason: "busy".into(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    fn no(revision: u64) -> Stop {
        rejected(stop(revision, busy(None)).key, "no".into())
    }

    #[test]
    fn the_worst_error_is_returned_and_the_first_of_equals() {
        assert!(worst(vec![]).is_none());
        let first = worst(vec![no(5), no(3), no(4)]).unwrap();
        assert_eq!(first.key, stop(3, busy(None)).key);
        let waits = worst(vec![no(1), stop(3, busy(Some(7))), stop(2, busy(None))]).unwrap();
        assert_eq!(waits.error, busy(Some(7)));
        assert_eq!(waits.key, stop(2, busy(None)).key);
        let wrong = SinkError::Misconfigured {
            reason: "no such path".into(),
        };
        let found = worst(vec![stop(1, busy(None)), stop(9, wrong.clone()), no(2)]).unwrap();
        assert_eq!(found.error, wrong);
    }
}
