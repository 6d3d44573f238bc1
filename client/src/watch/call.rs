//! What to watch, and from where on.

use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, InstanceId, MachineName, StateName};
use lockstep_proto::v1;
use lockstep_proto::v1::watch_request::From as Start;

use crate::setters::setters;

/// How long a watch looks for a node that answers, unless the call says otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// "For ever", short enough to be added to an `Instant`.
const TIMEOUT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchCall {
    request: v1::WatchRequest,
    pub(super) timeout: Duration,
}

impl WatchCall {
    /// Everything, from now on.
    pub fn all() -> Self {
        Self {
            request: v1::WatchRequest::default(),
            timeout: TIMEOUT_DEFAULT,
        }
    }

    /// A machine: its definitions and its instances.
    pub fn of(machine: &MachineName) -> Self {
        let mut call = Self::all();
        call.request.machine = Some(machine.to_string());
        call
    }

    /// One instance.
    pub fn instance(instance: &InstanceId) -> Self {
        let mut call = Self::of(&instance.machine);
        call.request.instance = Some(instance.name().to_owned());
        call
    }

    /// From this revision of the cluster on, itself included.
    pub fn from_revision(mut self, revision: GlobalRevision) -> Self {
        self.request.from = Some(Start::FromRevision(revision.0));
        self
    }

    /// From after a cursor on: that of an event or bookmark received before, or of an answer.
    pub fn after(mut self, cursor: EventCursor) -> Self {
        self.request.from = Some(Start::After(cursor.into()));
        self
    }

    /// How long to look for a node that answers once the connection is lost: a minute without it,
    /// `Duration::MAX` for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// The cursor after which it begins, where the call alone says so.
    pub(super) fn origin(&self) -> Option<EventCursor> {
        Some(match self.request.from? {
            Start::FromRevision(revision) => EventCursor::before(GlobalRevision(revision)),
            Start::After(cursor) => cursor.into(),
        })
    }

    /// Continues in this cluster only.
    pub(super) fn stay_in(&mut self, cluster_id: String) {
        self.request.cluster_id = Some(cluster_id);
    }

    /// The request that continues after `reached`, or begins where the call says.
    pub(super) fn to_message(&self, reached: Option<EventCursor>) -> v1::WatchRequest {
        let mut request = self.request.clone();
        if let Some(reached) = reached {
            request.from = Some(Start::After(reached.into()));
        }
        request
    }
}

setters! {
    [WatchCall].request {
        /// Only instances whose name starts like this.
        prefix: impl Into<String> => Some(prefix.into()),
        /// The cluster that the watch continues in: another one refuses it, wherever it begins.
        cluster_id: impl Into<String> => Some(cluster_id.into()),
        /// Only changes into this state.
        state: StateName => Some(state.to_string()),
    }
}
