//! What to watch, and from where on.

use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, InstanceId, MachineName, StateName};
use lockstep_proto::v1;
use lockstep_proto::v1::watch_request::From as Wire;

/// How long a watch looks for a node that answers, unless the call says otherwise.
pub const WATCH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// "For ever" that an `Instant` can still be moved by.
const TIMEOUT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchCall {
    machine: Option<MachineName>,
    instance: Option<String>,
    prefix: Option<String>,
    state: Option<StateName>,
    from: From,
    pub(super) timeout: Duration,
}

/// From where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Now,
    Revision(GlobalRevision),
    Behind(EventCursor),
}

impl WatchCall {
    /// Everything, from now on.
    pub fn all() -> Self {
        Self {
            machine: None,
            instance: None,
            prefix: None,
            state: None,
            from: From::Now,
            timeout: WATCH_TIMEOUT_DEFAULT,
        }
    }

    /// A machine: its definitions and its instances.
    pub fn of(machine: &MachineName) -> Self {
        Self {
            machine: Some(machine.clone()),
            ..Self::all()
        }
    }

    /// One instance.
    pub fn instance(instance: &InstanceId) -> Self {
        Self {
            instance: Some(instance.name().to_owned()),
            ..Self::of(&instance.machine)
        }
    }

    /// Only instances whose name starts like this.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Only changes into this state.
    pub fn state(mut self, state: StateName) -> Self {
        self.state = Some(state);
        self
    }

    /// From this revision of the cluster on, itself included.
    pub fn from_revision(mut self, revision: GlobalRevision) -> Self {
        self.from = From::Revision(revision);
        self
    }

    /// From behind a place on: that of an event or bookmark received before, or of an answer.
    pub fn after(mut self, place: EventCursor) -> Self {
        self.from = From::Behind(place);
        self
    }

    /// How long to look for a node that answers once the one that is followed is lost: a minute
    /// without it, `Duration::MAX` for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// The place it begins behind, where the call alone says so.
    pub(super) fn origin(&self) -> Option<EventCursor> {
        match self.from {
            From::Now => None,
            From::Revision(revision) => Some(match revision.0.checked_sub(1) {
                Some(before) => EventCursor::after(GlobalRevision(before)),
                None => EventCursor::default(),
            }),
            From::Behind(place) => Some(place),
        }
    }

    /// The request that goes on behind `reached`, or begins where the call says.
    pub(super) fn to_message(&self, reached: Option<EventCursor>) -> v1::WatchRequest {
        let from = match (reached, self.from) {
            (Some(reached), _) => Some(Wire::After(reached.into())),
            (None, From::Behind(place)) => Some(Wire::After(place.into())),
            (None, From::Revision(revision)) => Some(Wire::FromRevision(revision.0)),
            (None, From::Now) => None,
        };
        v1::WatchRequest {
            machine: self.machine.as_ref().map(ToString::to_string),
            instance: self.instance.clone(),
            prefix: self.prefix.clone(),
            state: self.state.as_ref().map(ToString::to_string),
            from,
        }
    }
}
