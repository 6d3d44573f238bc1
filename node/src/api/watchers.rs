//! The watches that are open on this node, over whichever interface: one bound for all of them, and
//! one end.
//!
//! A watch costs one chunk of events and one place under the bound. It is not counted among the
//! requests served at once, lasts as long as its reader, and ends when the node stops.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{EventCursor, EventFilter};
use lockstep_proto::ErrorCode;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::service::{Service, ServiceError, Watch, WatchEnded, Watched};
use crate::telemetry::Metrics;

/// After this long without an event, a bookmark says how far the watch is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(5);
/// When to try again for a place.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Lets watches in, up to a bound, until the node stops. Cheap to clone: it is shared.
#[derive(Clone)]
pub struct Watchers {
    places: Arc<Semaphore>,
    max: usize,
    metrics: Arc<Metrics>,
    leaving: watch::Sender<Option<Leaving>>,
}

/// Why no watch goes on here: another node goes on behind the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Leaving {
    /// The node stops.
    #[error("this node is stopping; watch on another one, behind the last place received")]
    Stopping,
    /// The node has not reached its cluster for a while: what happens there is not seen here.
    #[error(
        "this node does not reach its cluster; watch on another one, behind the last place received"
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

/// Why a watch did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WatchRefused {
    /// As many are open as may be.
    #[error("{max} watches are open on this node already; watch on another one")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// It is not known where to begin.
    #[error(transparent)]
    Unanswered(#[from] ServiceError),
    /// It would begin before what is kept.
    #[error(transparent)]
    Ended(#[from] WatchEnded),
    /// None goes on here.
    #[error("{0}")]
    Left(Leaving),
}

impl WatchRefused {
    /// The stable code.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            WatchRefused::TooMany { .. } => ErrorCode::TooManyWatchers,
            WatchRefused::Unanswered(error) => error.code(),
            WatchRefused::Ended(ended) => ended.code(),
            WatchRefused::Left(leaving) => leaving.code(),
        }
    }

    /// When to try again, where that makes sense.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            WatchRefused::TooMany { .. } | WatchRefused::Left(_) => Some(RETRY_AFTER),
            WatchRefused::Unanswered(error) => error.retry_after(),
            WatchRefused::Ended(_) => None,
        }
    }
}

/// What an open watch does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It has something to say, and stands here then.
    Watched(Watched, EventCursor),
    /// It cannot go on from here.
    Ended(WatchEnded, EventCursor),
    /// It does not go on here.
    Left(Leaving),
}

/// An open watch. Dropping it gives its place back.
pub(super) struct OpenWatch {
    first: Option<Watched>,
    watch: Watch,
    leaving: watch::Receiver<Option<Leaving>>,
    _place: Place,
}

/// A place under the bound, and its count.
struct Place {
    _permit: OwnedSemaphorePermit,
    open: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Watchers {
    /// At most `max` at once, counted in `metrics`.
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            max,
            metrics,
            leaving: watch::Sender::default(),
        }
    }

    /// Ends every watch, and those to come: the node stops.
    pub fn stop(&self) {
        self.leaving.send_replace(Some(Leaving::Stopping));
    }

    /// Says whether the node has not reached its cluster for a while. Then every watch ends, rather
    /// than to be silent while things happen elsewhere, and none begins.
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

    /// How many are open, and how many may be.
    pub(super) fn taken(&self) -> (u64, u64) {
        let open = self.max.saturating_sub(self.places.available_permits());
        (open as u64, self.max as u64)
    }

    /// Opens a watch of the events behind `from`, or of those from now on. What can be said at once
    /// is: whether it can begin there, and the first events or a bookmark.
    pub(super) async fn open(
        &self,
        service: &Service,
        filter: EventFilter,
        from: Option<EventCursor>,
        deadline: Duration,
    ) -> Result<OpenWatch, WatchRefused> {
        let leaving = self.leaving.subscribe();
        if let Some(why) = *leaving.borrow() {
            return Err(WatchRefused::Left(why));
        }
        let place = self.place()?;
        let mut watch = service.watch(from, filter, deadline).await?;
        let first = watch.next(Duration::ZERO).await?;
        Ok(OpenWatch {
            first: Some(first),
            watch,
            leaving,
            _place: place,
        })
    }

    fn place(&self) -> Result<Place, WatchRefused> {
        let Ok(permit) = self.places.clone().try_acquire_owned() else {
            self.metrics.overload_total.inc();
            return Err(WatchRefused::TooMany { max: self.max });
        };
        let open = self.metrics.watchers.clone();
        open.inc();
        Ok(Place {
            _permit: permit,
            open,
        })
    }
}

impl OpenWatch {
    /// The next events or, after a while without any, a bookmark.
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

/// Waits until no watch goes on here.
async fn left(leaving: &mut watch::Receiver<Option<Leaving>>) -> Leaving {
    match leaving.wait_for(Option::is_some).await.map(|why| *why) {
        Ok(Some(why)) => why,
        // The sender is gone with the node.
        _ => Leaving::Stopping,
    }
}

#[cfg(test)]
mod tests {
    use lockstep_machine::Limits;

    use super::*;

    #[test]
    fn places_are_bounded_counted_and_given_back() {
        let metrics = Metrics::new().unwrap();
        let watchers = Watchers::new(1, metrics.clone());
        let place = watchers.place().unwrap();
        assert_eq!(metrics.watchers.get(), 1);
        let refused = watchers.clone().place().err().unwrap();
        assert_eq!(refused, WatchRefused::TooMany { max: 1 });
        assert_eq!(refused.code(), ErrorCode::TooManyWatchers);
        assert!(refused.retry_after().is_some());
        assert_eq!(metrics.overload_total.get(), 1);
        drop(place);
        assert_eq!(metrics.watchers.get(), 0);
        assert!(watchers.place().is_ok());
    }

    #[tokio::test]
    async fn a_node_that_is_cut_off_ends_its_watches_until_it_is_back() {
        let service = Service::lone(Limits::default());
        let watchers = Watchers::new(9, Metrics::new().unwrap());
        let from = Some(EventCursor::default());
        let patience = Duration::from_secs(9);
        let open = async || {
            let filter = EventFilter::default();
            watchers.open(&service, filter, from, patience).await
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
