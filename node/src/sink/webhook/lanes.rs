//! Lanes: what is about one thing goes out strictly one after another, about several at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};

use super::answer::Failure;
use super::endpoint::Endpoint;
use super::memory::{Fate, Memory};
use super::message::{Item, Key};
use crate::sink::SinkError;

/// Everything that a lane needs.
pub(super) struct Lanes<'a> {
    /// Where messages go.
    pub(super) endpoint: &'a Endpoint,
    /// What they are of.
    pub(super) cluster: &'a str,
    /// What became of those that were given before.
    pub(super) memory: &'a Mutex<Memory>,
    /// Lanes at once.
    pub(super) concurrency_max: usize,
    /// Failures over one message until it is taken for refused.
    pub(super) attempts_max: u32,
}

/// Where and why a lane stopped.
#[derive(Debug)]
struct Stop {
    key: Key,
    error: SinkError,
}

/// Failures since a message was last accepted. With as many as there are lanes at once, something is
/// wrong with the receiver and not with a message: to go on would only wait for one time-out after
/// another, or add to its load.
#[derive(Default)]
struct Streak(AtomicUsize);

impl Lanes<'_> {
    /// Tells of all items, or says what was worst: what needs somebody's hand, then what needs time,
    /// then what is refused. The items of a lane that stopped stay untold.
    pub(super) async fn run(&self, items: Vec<Item<'_>>) -> Result<(), SinkError> {
        let streak = Streak::default();
        let mut lanes = by_subject(items);
        {
            // What failed goes last, so that it keeps nothing else from being tried.
            let memory = self.memory();
            let fails = |lane: &Vec<Item<'_>>| lane.iter().any(|it| memory.is_failing(&it.key()));
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
        if matches!(worst.error, SinkError::Refused { .. }) {
            // It is told now: if it is given again nevertheless, it is tried again.
            self.memory().forget(&[worst.key]);
        }
        Err(worst.error)
    }

    /// None if all was told, or if it was given up because others fail.
    async fn lane(&self, items: Vec<Item<'_>>, streak: &Streak) -> Option<Stop> {
        let mut items = items.into_iter();
        while let Some(item) = items.next() {
            let key = item.key();
            let known = self.memory().fate(&key).cloned();
            match known {
                Some(Fate::Accepted) => continue,
                Some(Fate::Refused(reason)) => return Some(refused(key, reason)),
                Some(Fate::Failing { .. }) | None => {}
            }
            if streak.0.load(Ordering::Relaxed) >= self.concurrency_max {
                return None;
            }
            let message = item.message(self.cluster);
            if let Err(failure) = self.endpoint.send(message.clone()).await {
                return Some(self.stop(key, failure, items.as_slice(), streak).await);
            }
            streak.0.store(0, Ordering::Relaxed);
            self.memory().accept(key, message);
        }
        None
    }

    async fn stop(&self, key: Key, failure: Failure, behind: &[Item<'_>], streak: &Streak) -> Stop {
        let (over_it, error) = match failure {
            Failure::Refused(reason) => {
                self.memory().refuse(key.clone(), reason.clone());
                return refused(key, reason);
            }
            Failure::Failed(error) => (true, error),
            Failure::Down(error) => (false, error),
        };
        let failures = self.memory().fail(key.clone(), over_it);
        match failures {
            Some(failures) if failures >= self.attempts_max && self.takes_others().await => {
                let reason = format!("{error}, {failures} times, while others were accepted");
                let mut memory = self.memory();
                memory.suspect(&key, behind.iter().map(Item::key));
                memory.refuse(key.clone(), reason.clone());
                refused(key, reason)
            }
            _ => {
                streak.0.fetch_add(1, Ordering::Relaxed);
                Stop { key, error }
            }
        }
    }

    /// Whether the receiver takes what it took last once more, which it may be told at any time. One
    /// that began to fail in the midst of a batch took others after the first failures as well, and
    /// takes nothing now.
    async fn takes_others(&self) -> bool {
        let last = self.memory().last_accepted();
        match last {
            Some(message) => self.endpoint.send(message).await.is_ok(),
            None => false,
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The items by what they are about, each in the order in which they came.
fn by_subject(items: Vec<Item<'_>>) -> Vec<Vec<Item<'_>>> {
    let mut lanes: Vec<Vec<Item<'_>>> = vec![];
    let mut places: HashMap<_, usize> = HashMap::new();
    for item in items {
        match places.entry(item.subject()) {
            Entry::Occupied(place) => lanes[*place.get()].push(item),
            Entry::Vacant(free) => {
                free.insert(lanes.len());
                lanes.push(vec![item]);
            }
        }
    }
    lanes
}

fn refused(key: Key, reason: String) -> Stop {
    let (event, reason) = match &key {
        Key::Event(cursor) => (Some(*cursor), reason),
        Key::State(_, id) => (None, format!("{id}: {reason}")),
    };
    let error = SinkError::Refused { event, reason };
    Stop { key, error }
}

/// The worst, and of those alike the first; it waits as long as any of them asks for.
fn worst(stops: Vec<Stop>) -> Option<Stop> {
    let asked = stops.iter().filter_map(|it| wait_of(&it.error)).max();
    let mut worst = stops
        .into_iter()
        .max_by(|a, b| (rank(&a.error), &b.key).cmp(&(rank(&b.error), &a.key)))?;
    if let SinkError::Unavailable { retry_after, .. } = &mut worst.error {
        *retry_after = asked;
    }
    Some(worst)
}

fn wait_of(error: &SinkError) -> Option<Duration> {
    match error {
        SinkError::Unavailable { retry_after, .. } => *retry_after,
        _ => None,
    }
}

fn rank(error: &SinkError) -> u8 {
    match error {
        SinkError::Refused { .. } => 0,
        SinkError::Unavailable { .. } => 1,
        SinkError::Absent { .. } => 2,
        SinkError::Misconfigured { .. } => 3,
        SinkError::Fenced { .. } | SinkError::Moved => 4,
    }
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{EventCursor, GlobalRevision};

    use super::*;

    fn stop(revision: u64, error: SinkError) -> Stop {
        let revision = GlobalRevision(revision);
        let cursor = EventCursor {
            revision,
            position: 0,
        };
        let key = Key::Event(cursor);
        Stop { key, error }
    }

    fn busy(seconds: Option<u64>) -> SinkError {
        SinkError::Unavailable {
            reason: "busy".into(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    fn no(revision: u64) -> Stop {
        refused(stop(revision, busy(None)).key, "no".into())
    }

    #[test]
    fn the_worst_is_told_and_the_first_of_those_that_are_alike() {
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
