//! Watches: the cluster's events in order and without gaps, from any node.
//!
//! A watch keeps only an event cursor: events are read from the replicated ring when the reader is ready for
//! more. A reader that never reads costs one chunk of memory; one that is too slow gets an error that says
//! where it can resume.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{
    Event, EventCursor, EventFilter, GlobalRevision, InstanceId, MachineName, State, StateName,
};
use lockstep_proto::ErrorCode;
use tokio::sync::watch;

use super::{Invalid, ServiceError, invalid};
use lockstep_raft::consensus::SharedState;

/// Number of events read from the ring at once, matching or not. A watcher that never reads holds
/// this many.
const CHUNK_EVENTS_MAX: usize = 128;
/// How many states an error lists.
const KNOWN_MAX: usize = 20;

/// An item of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// The next matching events, oldest first.
    Events(Vec<Arc<Event>>),
    /// A bookmark: there were no matching events up to this revision.
    Bookmark(GlobalRevision),
}

/// Why a watch cannot continue. Read the current state, then watch from its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnded {
    #[error(
        "some events of revision {asked} or later are no longer kept; the oldest complete revision is {oldest}: read the state, then watch from the revision after it"
    )]
    Compacted {
        asked: GlobalRevision,
        oldest: GlobalRevision,
    },
    #[error(
        "the reader was too slow: events after revision {reached} are no longer kept; the oldest complete revision is {oldest}: read the state, then watch from the revision after it"
    )]
    Lagged {
        reached: GlobalRevision,
        oldest: GlobalRevision,
    },
}

/// Why a watch did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(
        "the watch continues one of cluster {asked}, but this is cluster {own}, at revision {reached}: read the current state, then watch from the revision after it"
    )]
    AnotherCluster {
        asked: String,
        own: String,
        reached: GlobalRevision,
    },
    #[error("there is no machine \"{machine}\" to watch; define it first")]
    UnknownMachine { machine: MachineName },
    #[error("no version of {} has the state \"{state}\"; known states: {}", of(machine), known.join(", "))]
    UnknownState {
        machine: Option<MachineName>,
        state: StateName,
        known: Vec<String>,
    },
}

fn of(machine: &Option<MachineName>) -> String {
    match machine {
        Some(machine) => format!("machine \"{machine}\""),
        None => "any machine".to_owned(),
    }
}

impl WatchError {
    pub fn code(&self) -> ErrorCode {
        match self {
            WatchError::Service(error) => error.code(),
            WatchError::AnotherCluster { .. } => ErrorCode::CursorOfAnotherCluster,
            WatchError::UnknownMachine { .. } => ErrorCode::UnknownMachine,
            WatchError::UnknownState { .. } => ErrorCode::UnknownState,
        }
    }
}

/// The id of an event or bookmark: a cursor, and the cluster that it is of. Written
/// `revision-position-cluster`; an id without a cluster is taken to be of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    pub cursor: EventCursor,
    pub cluster: Option<String>,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, "{}-{cluster}", self.cursor),
            None => self.cursor.fmt(f),
        }
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let cluster_at = text.match_indices('-').nth(1).map(|(at, _)| at);
        let (cursor, cluster) = match cluster_at.map(|at| (&text[..at], &text[at + 1..])) {
            None => (text, None),
            Some((cursor, cluster)) => (cursor, Some(cluster)),
        };
        let is_id =
            |it: &str| (1..=64).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_hexdigit());
        if !cluster.is_none_or(is_id) {
            return Err(());
        }
        Ok(Self {
            cursor: cursor.parse().map_err(|_| ())?,
            cluster: cluster.map(str::to_owned),
        })
    }
}

/// Why nothing matches a filter, if nothing can.
pub(super) fn unmatchable(filter: &EventFilter, state: &State) -> Option<WatchError> {
    if let Some(machine) = &filter.machine
        && state.newest(machine).is_none()
    {
        let machine = machine.clone();
        return Some(WatchError::UnknownMachine { machine });
    }
    let wanted = filter.state.as_ref()?;
    let machines: Vec<_> = match &filter.machine {
        Some(machine) => vec![machine],
        None => state.machines().map(|(name, ..)| name).collect(),
    };
    let versions = machines.iter().flat_map(|it| state.versions(it));
    let states: BTreeSet<_> = versions.flat_map(|(_, it)| it.state_names()).collect();
    if states.contains(wanted) {
        return None;
    }
    let known = states.into_iter().take(KNOWN_MAX).map(ToString::to_string);
    Some(WatchError::UnknownState {
        machine: filter.machine.clone(),
        state: wanted.clone(),
        known: known.collect(),
    })
}

impl WatchEnded {
    pub fn code(&self) -> ErrorCode {
        match self {
            WatchEnded::Compacted { .. } => ErrorCode::Compacted,
            WatchEnded::Lagged { .. } => ErrorCode::Lagged,
        }
    }

    /// The oldest revision that can still be watched.
    pub fn oldest(&self) -> GlobalRevision {
        match self {
            WatchEnded::Compacted { oldest, .. } | WatchEnded::Lagged { oldest, .. } => *oldest,
        }
    }
}

/// A filter for events, unchecked; absent fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchAsked {
    pub machine: Option<MachineName>,
    /// Only events of this instance: `machine/name`, or its name if the machine is given.
    pub instance: Option<String>,
    pub prefix: Option<String>,
    /// Only events that lead into this state.
    pub state: Option<StateName>,
}

impl WatchAsked {
    /// Checks the filter.
    pub fn filter(self) -> Result<EventFilter, Invalid> {
        let Self {
            mut machine,
            instance,
            prefix,
            state,
        } = self;
        let prefix = invalid::prefix(prefix)?;
        let mut name = None;
        if let Some(instance) = instance {
            let id = match &machine {
                Some(machine) if !instance.contains('/') => {
                    InstanceId::new(machine.as_str(), instance)
                }
                _ => instance.parse(),
            }
            .map_err(Invalid::name("instance"))?;
            if machine.as_ref().is_some_and(|it| *it != id.machine) {
                return Err(Invalid::value("instance", "is of another machine"));
            }
            name = Some(id.instance_name().clone());
            machine = Some(id.machine);
        }
        Ok(EventFilter {
            machine,
            name,
            prefix,
            state,
        })
    }
}

/// Where a watch starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchFrom {
    /// After the latest revision.
    Now,
    /// At this revision.
    Revision(GlobalRevision),
    /// After this event or bookmark.
    After(EventId),
}

/// A reader of the event stream.
pub struct Watch {
    shared: SharedState,
    changes: watch::Receiver<u64>,
    cursor: EventCursor,
    filter: EventFilter,
    begun: bool,
}

impl Watch {
    /// A watch of the events after `cursor`, which may lie ahead of what this node has applied.
    pub(super) fn new(shared: SharedState, cursor: EventCursor, filter: EventFilter) -> Self {
        Self {
            changes: shared.changes(),
            shared,
            cursor,
            filter,
            begun: false,
        }
    }

    /// The cursor of the last event looked at.
    pub fn cursor(&self) -> EventCursor {
        self.cursor
    }

    /// The next matching events or, after `idle` without any, a bookmark. Cancel-safe. After an error, every later
    /// call fails in the same way.
    pub async fn next(&mut self, idle: Duration) -> Result<Watched, WatchEnded> {
        let bookmark_due = tokio::time::Instant::now() + idle;
        loop {
            // Marked as seen before reading, so that a concurrent change wakes the wait below.
            self.changes.borrow_and_update();
            let (events, behind) = self.take()?;
            if !events.is_empty() {
                return Ok(Watched::Events(events));
            }
            if behind {
                // Nothing in a whole chunk matched: yield to other tasks.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                // It fails when the node is stopping, and its connections with it.
                Ok(()) = self.changes.changed() => {}
                () = tokio::time::sleep_until(bookmark_due) => {
                    return Ok(Watched::Bookmark(self.cursor.revision));
                }
            }
        }
    }

    /// Reads the next chunk: the matching events, and whether more follow.
    fn take(&mut self) -> Result<(Vec<Arc<Event>>, bool), WatchEnded> {
        let applied = self.shared.read();
        let chunk = applied
            .state
            .events_after(self.cursor, CHUNK_EVENTS_MAX)
            .map_err(|compacted| match self.begun {
                false => WatchEnded::Compacted {
                    asked: self.cursor.next_revision(),
                    oldest: compacted.oldest,
                },
                true => WatchEnded::Lagged {
                    reached: self.cursor.revision,
                    oldest: compacted.oldest,
                },
            })?;
        self.begun = true;
        let behind = chunk.len() == CHUNK_EVENTS_MAX;
        // At the end of the stream the cursor moves past the newest revision, so that a bookmark
        // reports it.
        let seen = EventCursor::after(applied.state.revision());
        drop(applied);
        match chunk.last() {
            Some(last) if behind => self.cursor = last.cursor(),
            _ => self.cursor = self.cursor.max(seen),
        }
        let wanted = chunk
            .into_iter()
            .filter(|event| self.filter.wants(event))
            .collect();
        Ok((wanted, behind))
    }
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{
        Batch, Command, Create, InstanceId, Limits, Metadata, Origin, Request, SessionId, State,
        Timestamp,
    };

    use super::*;

    const IDLE: Duration = Duration::from_millis(20);

    fn filter(machine: Option<&str>, instance: &str) -> Result<EventFilter, Invalid> {
        let asked = WatchAsked {
            machine: machine.map(|name| MachineName::new(name).unwrap()),
            instance: Some(instance.to_owned()),
            ..WatchAsked::default()
        };
        asked.filter()
    }

    #[test]
    fn an_instance_is_named_with_or_within_its_machine() {
        let whole = filter(None, "order/42");
        assert_eq!(whole, filter(Some("order"), "42"));
        assert_eq!(whole, filter(Some("order"), "order/42"));
        assert_eq!(whole.unwrap().machine.unwrap().as_str(), "order");
        assert!(matches!(
            filter(None, "42"),
            Err(Invalid::Name {
                field: "instance",
                ..
            })
        ));
        assert!(matches!(
            filter(Some("a"), "order/42"),
            Err(Invalid::Value {
                field: "instance",
                ..
            })
        ));
        let long = WatchAsked {
            prefix: Some("x".repeat(65)),
            ..WatchAsked::default()
        };
        assert!(long.filter().is_err());
    }

    /// Creates `triad/{prefix}{n}` for each number, one batch each.
    fn create(shared: &SharedState, prefix: &str, numbers: std::ops::Range<u64>) {
        for n in numbers {
            let request = Request {
                origin: Origin {
                    session: SessionId(prefix.len() as u64),
                    sequence: n + 1,
                    answered_below: n,
                },
                key: None,
                command: Command::Create(Create {
                    instance: InstanceId::new("triad", format!("{prefix}{n}")).unwrap(),
                    version: None,
                    metadata: Metadata::default(),
                }),
            };
            shared.change_for_test(|state| {
                let batch = Batch {
                    stamp: Timestamp(1),
                    requests: vec![request],
                };
                state.apply(&batch);
            });
        }
    }

    fn names(watched: Watched) -> Vec<String> {
        match watched {
            Watched::Events(events) => events
                .iter()
                .map(|event| event.name.as_ref().unwrap().to_string())
                .collect(),
            Watched::Bookmark(revision) => vec![format!("bookmark {revision}")],
        }
    }

    #[tokio::test]
    async fn events_come_in_order_once_and_a_bookmark_when_idle() {
        let shared = SharedState::default();
        create(&shared, "a", 0..3);
        let mut watch = Watch::new(
            shared.clone(),
            EventCursor::default(),
            EventFilter::default(),
        );
        assert_eq!(names(watch.next(IDLE).await.unwrap()), ["a0", "a1", "a2"]);
        assert_eq!(names(watch.next(IDLE).await.unwrap()), ["bookmark 3"]);
        let waiting = tokio::spawn(async move {
            let next = watch.next(Duration::from_secs(60)).await;
            (next, watch)
        });
        create(&shared, "a", 3..4);
        let (next, watch) = waiting.await.unwrap();
        assert_eq!(names(next.unwrap()), ["a3"]);
        assert_eq!(watch.cursor().revision, GlobalRevision(4));
    }

    #[tokio::test]
    async fn a_filter_skips_events_and_the_bookmark_still_advances() {
        let shared = SharedState::default();
        let filter = EventFilter {
            prefix: Some("b".to_owned()),
            ..EventFilter::default()
        };
        let mut watch = Watch::new(shared.clone(), EventCursor::default(), filter);
        create(&shared, "aa", 0..2 * CHUNK_EVENTS_MAX as u64);
        assert_eq!(
            names(watch.next(IDLE).await.unwrap()),
            [format!("bookmark {}", 2 * CHUNK_EVENTS_MAX)]
        );
        create(&shared, "b", 0..1);
        assert_eq!(names(watch.next(IDLE).await.unwrap()), ["b0"]);
    }

    #[tokio::test]
    async fn a_watch_ahead_of_this_node_waits_and_skips_no_event_after_its_cursor() {
        let shared = SharedState::default();
        create(&shared, "a", 0..2);
        let ahead = EventCursor::after(GlobalRevision(4));
        let mut watch = Watch::new(shared.clone(), ahead, EventFilter::default());
        assert_eq!(names(watch.next(IDLE).await.unwrap()), ["bookmark 4"]);
        create(&shared, "a", 2..6);
        assert_eq!(names(watch.next(IDLE).await.unwrap()), ["a4", "a5"]);
    }

    #[tokio::test]
    async fn a_watch_of_compacted_events_names_the_oldest_revision_kept() {
        let limits = Limits {
            events_max: 4,
            ..Limits::default()
        };
        let shared = SharedState::default();
        shared.change_for_test(|state| *state = State::new(limits));
        create(&shared, "a", 0..2);
        let from = |revision| {
            let cursor = EventCursor::after(GlobalRevision(revision));
            Watch::new(shared.clone(), cursor, EventFilter::default())
        };
        let mut slow = from(0);
        assert_eq!(names(slow.next(IDLE).await.unwrap()), ["a0", "a1"]);
        create(&shared, "a", 2..10);
        let oldest = GlobalRevision(7);
        assert_eq!(
            slow.next(IDLE).await,
            Err(WatchEnded::Lagged {
                reached: GlobalRevision(2),
                oldest
            })
        );
        assert_eq!(
            from(5).next(IDLE).await,
            Err(WatchEnded::Compacted {
                asked: GlobalRevision(6),
                oldest
            })
        );
        assert_eq!(
            names(from(6).next(IDLE).await.unwrap()),
            ["a6", "a7", "a8", "a9"]
        );
    }
}
