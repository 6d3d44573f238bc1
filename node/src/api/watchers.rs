//! The open watches of this node, over both interfaces: limits their number, and ends them all when the node
//! stops or loses its cluster.
//!
//! A watch costs one chunk of events and one slot. It does not count as a concurrent request.

use std::sync::Arc;
use std::time::Duration;
use std::vec;

use lockstep_machine::{Event, EventCursor, EventFilter};
use lockstep_proto::ErrorCode;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::problem::Problem;
use crate::service::{Service, Watch, WatchEnded, WatchFrom, Watched};
use crate::telemetry::Metrics;

/// An idle watch sends a bookmark with its position this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(5);
/// When to retry for a free slot.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Admits watches, up to a limit, until the node stops. Clones share the limit.
#[derive(Clone)]
pub struct Watchers {
    slots: Arc<Semaphore>,
    max: usize,
    metrics: Arc<Metrics>,
    leaving: watch::Sender<Option<Leaving>>,
}

/// Why watches on this node end. They can resume on another node after the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Leaving {
    #[error("this node is stopping; resume on another node, after the last event received")]
    Stopping,
    #[error(
        "this node has lost contact with its cluster; resume on another node, after the last event received"
    )]
    CutOff,
}

/// The next step of an open watch.
pub(super) enum Next<'a> {
    /// Events, oldest first. Those that are not taken are the next step.
    Events(&'a mut vec::IntoIter<Arc<Event>>),
    /// There were no matching events up to this cursor.
    Bookmark(EventCursor),
    /// It cannot continue from this cursor.
    Ended(WatchEnded, EventCursor),
    /// Watches on this node have ended.
    Left(Leaving),
}

/// An open watch. Dropping it frees its slot.
pub(super) struct OpenWatch {
    /// What was read to learn whether it can start.
    first: Option<Watched>,
    /// Events that were read and not taken yet, so that a reader that does not read keeps little in memory.
    events: vec::IntoIter<Arc<Event>>,
    watch: Watch,
    leaving: watch::Receiver<Option<Leaving>>,
    _slot: Slot,
}

/// A slot under the limit, counted in the metrics.
struct Slot {
    _permit: OwnedSemaphorePermit,
    open: IntGauge,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Watchers {
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            max,
            metrics,
            leaving: watch::Sender::default(),
        }
    }

    /// Ends every watch and refuses new ones: the node stops.
    pub fn stop(&self) {
        self.leaving.send_replace(Some(Leaving::Stopping));
    }

    pub(super) async fn stopped(&self) -> Leaving {
        let mut leaving = self.leaving.subscribe();
        let stopping = leaving.wait_for(|why| *why == Some(Leaving::Stopping));
        // The sender is not dropped before `self`.
        drop(stopping.await);
        Leaving::Stopping
    }

    /// Sets whether the node has lost contact with its cluster. If so, every watch ends rather than
    /// stay silent while the cluster moves on, and none starts.
    pub fn set_cut_off(&self, cut_off: bool) {
        let now = cut_off.then_some(Leaving::CutOff);
        self.leaving.send_if_modified(|leaving| {
            let changes = *leaving != Some(Leaving::Stopping) && *leaving != now;
            if changes {
                *leaving = now;
            }
            changes
        });
    }

    /// How many watches are open, and the limit.
    pub(super) fn taken(&self) -> (u64, u64) {
        let open = self.max.saturating_sub(self.slots.available_permits());
        (open as u64, self.max as u64)
    }

    /// Opens a watch. Waits only to learn whether it can start there.
    pub(super) async fn open(
        &self,
        service: &Service,
        filter: EventFilter,
        from: WatchFrom,
        deadline: Duration,
    ) -> Result<OpenWatch, Problem> {
        let leaving = self.leaving.subscribe();
        if let Some(why) = *leaving.borrow() {
            return Err(why.into());
        }
        let slot = self.slot()?;
        let mut watch = service.watch(from, filter, deadline).await?;
        let first = watch.next(Duration::ZERO).await?;
        Ok(OpenWatch {
            first: Some(first),
            events: vec![].into_iter(),
            watch,
            leaving,
            _slot: slot,
        })
    }

    fn slot(&self) -> Result<Slot, Problem> {
        let Ok(permit) = self.slots.clone().try_acquire_owned() else {
            self.metrics.overload_total.inc();
            let max = self.max;
            let detail = format!("this node already has {max} open watches; watch on another node");
            return Err(Problem::new(ErrorCode::TooManyWatchers, detail).retry_after(RETRY_AFTER));
        };
        let open = self.metrics.watchers.clone();
        open.inc();
        Ok(Slot {
            _permit: permit,
            open,
        })
    }
}

impl OpenWatch {
    /// The next events or, after an idle interval, a bookmark.
    pub(super) async fn next(&mut self) -> Next<'_> {
        if self.events.as_slice().is_empty() {
            let next = match self.first.take() {
                Some(first) => Ok(first),
                None => tokio::select! {
                    why = left(&mut self.leaving) => return Next::Left(why),
                    next = self.watch.next(BOOKMARK_EVERY) => next,
                },
            };
            let cursor = self.watch.cursor();
            match next {
                Ok(Watched::Events(events)) => self.events = events.into_iter(),
                Ok(Watched::Bookmark(_)) => return Next::Bookmark(cursor),
                Err(ended) => return Next::Ended(ended, cursor),
            }
        }
        Next::Events(&mut self.events)
    }
}

/// Waits until watches on this node end.
async fn left(leaving: &mut watch::Receiver<Option<Leaving>>) -> Leaving {
    match leaving.wait_for(Option::is_some).await.map(|why| *why) {
        Ok(Some(why)) => why,
        // The sender is gone with the node.
        _ => Leaving::Stopping,
    }
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{GlobalRevision, Limits};

    use super::*;

    #[test]
    fn slots_are_limited_counted_and_freed() {
        let metrics = Metrics::new().unwrap();
        let watchers = Watchers::new(1, metrics.clone());
        let slot = watchers.slot().unwrap();
        assert_eq!(metrics.watchers.get(), 1);
        let refused = watchers.clone().slot().err().unwrap();
        assert_eq!(refused.code, ErrorCode::TooManyWatchers);
        assert!(refused.detail.contains("1 open watches"));
        assert_eq!(metrics.overload_total.get(), 1);
        drop(slot);
        assert_eq!(metrics.watchers.get(), 0);
        assert!(watchers.slot().is_ok());
    }

    #[tokio::test]
    async fn a_node_that_is_cut_off_ends_its_watches_until_it_is_back() {
        let service = Service::lone(Limits::default());
        let watchers = Watchers::new(9, Metrics::new().unwrap());
        let from = WatchFrom::Revision(GlobalRevision(0));
        let timeout = Duration::from_secs(9);
        let open = async || {
            let filter = EventFilter::default();
            watchers.open(&service, filter, from.clone(), timeout).await
        };
        let mut watch = open().await.unwrap();
        assert!(matches!(watch.next().await, Next::Bookmark(_)));
        watchers.set_cut_off(true);
        assert!(matches!(watch.next().await, Next::Left(Leaving::CutOff)));
        let refused = open().await.err().unwrap();
        assert_eq!(refused.detail, Leaving::CutOff.to_string());
        watchers.set_cut_off(false);
        let mut watch = open().await.unwrap();
        assert!(matches!(watch.next().await, Next::Bookmark(_)));
        watchers.stop();
        watchers.set_cut_off(false);
        assert!(matches!(watch.next().await, Next::Left(Leaving::Stopping)));
    }
}
