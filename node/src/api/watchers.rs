//! The open watches of this node, over both interfaces: limits their number, and ends them all when the node
//! stops or loses its cluster.
//!
//! A watch costs one chunk of events and one slot. It does not count as a concurrent request.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{EventCursor, EventFilter};
use lockstep_proto::ErrorCode;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::service::{EventId, Service, Watch, WatchEnded, WatchError, Watched};
use crate::telemetry::Metrics;

/// An idle watch sends a bookmark with its position this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(5);
/// When to retry for a free slot.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// The node stops.
    #[error("this node is stopping; resume on another node, after the last event received")]
    Stopping,
    /// The node has lost contact with its cluster, so it sees no new events.
    #[error(
        "this node has lost contact with its cluster; resume on another node, after the last event received"
    )]
    CutOff,
}

impl Leaving {
    /// The stable code.
    pub(super) fn code(self) -> ErrorCode {
        match self {
            Leaving::Stopping => ErrorCode::NotReady,
            Leaving::CutOff => ErrorCode::Unavailable,
        }
    }
}

/// Why a watch did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WatchRefused {
    /// The limit is reached.
    #[error("this node already has {max} open watches; watch on another node")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// It cannot start there.
    #[error(transparent)]
    Unstarted(#[from] WatchError),
    /// It would start before the oldest event kept.
    #[error(transparent)]
    Ended(#[from] WatchEnded),
    /// Watches on this node have ended.
    #[error("{0}")]
    Left(Leaving),
}

impl WatchRefused {
    /// The stable code.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            WatchRefused::TooMany { .. } => ErrorCode::TooManyWatchers,
            WatchRefused::Unstarted(error) => error.code(),
            WatchRefused::Ended(ended) => ended.code(),
            WatchRefused::Left(leaving) => leaving.code(),
        }
    }

    /// When to try again, where that makes sense.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            WatchRefused::TooMany { .. } | WatchRefused::Left(_) => Some(RETRY_AFTER),
            WatchRefused::Unstarted(WatchError::Service(error)) => error.retry_after(),
            WatchRefused::Unstarted(_) | WatchRefused::Ended(_) => None,
        }
    }
}

/// The next step of an open watch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Events or a bookmark, and the cursor after them.
    Watched(Watched, EventCursor),
    /// It cannot continue from this cursor.
    Ended(WatchEnded, EventCursor),
    /// Watches on this node have ended.
    Left(Leaving),
}

/// An open watch. Dropping it frees its slot.
pub(super) struct OpenWatch {
    first: Option<Watched>,
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
    /// At most `max` at once, counted in `metrics`.
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

    /// Opens a watch of the events after `from`, or of those from now on. Waits only to learn whether
    /// it can start there.
    pub(super) async fn open(
        &self,
        service: &Service,
        filter: EventFilter,
        from: Option<EventId>,
        deadline: Duration,
    ) -> Result<OpenWatch, WatchRefused> {
        let leaving = self.leaving.subscribe();
        if let Some(why) = *leaving.borrow() {
            return Err(WatchRefused::Left(why));
        }
        let slot = self.slot()?;
        let mut watch = service.watch(from, filter, deadline).await?;
        let first = watch.next(Duration::ZERO).await?;
        Ok(OpenWatch {
            first: Some(first),
            watch,
            leaving,
            _slot: slot,
        })
    }

    fn slot(&self) -> Result<Slot, WatchRefused> {
        let Ok(permit) = self.slots.clone().try_acquire_owned() else {
            self.metrics.overload_total.inc();
            return Err(WatchRefused::TooMany { max: self.max });
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
    pub(super) async fn next(&mut self) -> Next {
        let next = match self.first.take() {
            Some(first) => Ok(first),
            None => tokio::select! {
                why = left(&mut self.leaving) => return Next::Left(why),
                next = self.watch.next(BOOKMARK_EVERY) => next,
            },
        };
        match next {
            Ok(watched) => Next::Watched(watched, self.watch.cursor()),
            Err(ended) => Next::Ended(ended, self.watch.cursor()),
        }
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
    use crate::service;

    #[test]
    fn slots_are_limited_counted_and_freed() {
        let metrics = Metrics::new().unwrap();
        let watchers = Watchers::new(1, metrics.clone());
        let slot = watchers.slot().unwrap();
        assert_eq!(metrics.watchers.get(), 1);
        let refused = watchers.clone().slot().err().unwrap();
        assert_eq!(refused, WatchRefused::TooMany { max: 1 });
        assert_eq!(refused.code(), ErrorCode::TooManyWatchers);
        assert!(refused.retry_after().is_some());
        assert_eq!(metrics.overload_total.get(), 1);
        drop(slot);
        assert_eq!(metrics.watchers.get(), 0);
        assert!(watchers.slot().is_ok());
    }

    #[tokio::test]
    async fn a_node_that_is_cut_off_ends_its_watches_until_it_is_back() {
        let service = Service::lone(Limits::default());
        let watchers = Watchers::new(9, Metrics::new().unwrap());
        let from = Some(service::from_revision(GlobalRevision(0)));
        let timeout = Duration::from_secs(9);
        let open = async || {
            let filter = EventFilter::default();
            watchers.open(&service, filter, from.clone(), timeout).await
        };
        let mut watch = open().await.unwrap();
        assert!(matches!(watch.next().await, Next::Watched(..)));
        watchers.set_cut_off(true);
        assert_eq!(watch.next().await, Next::Left(Leaving::CutOff));
        let refused = open().await.err().unwrap();
        assert_eq!(refused, WatchRefused::Left(Leaving::CutOff));
        watchers.set_cut_off(false);
        let mut watch = open().await.unwrap();
        assert!(matches!(watch.next().await, Next::Watched(..)));
        watchers.stop();
        watchers.set_cut_off(false);
        assert_eq!(watch.next().await, Next::Left(Leaving::Stopping));
    }
}
