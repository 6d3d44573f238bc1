//! Configurations, claims, events and instances that the tests of every destination use.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{
    Cause, Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId, Limits, Metadata,
    Revision, StateName, Timestamp, Version,
};

use crate::config::{Hidden, Sink, SinkKind, Start};
use crate::service::Service;
use crate::service::peers::GrpcPeers;
use crate::sink::{
    Backfill, BackfillReason, Batch, Change, Checkpoint, Claim, Current, SinkError, Sinks,
    StoredCheckpoint,
};
use crate::telemetry::Metrics;

/// Cluster time at revision 0.
const BEGINNING_MS: u64 = 1_700_000_000_000;

pub(crate) fn config(kind: SinkKind, address: &str) -> Sink {
    Sink {
        name: "reports".parse().unwrap(),
        kind,
        address: address.to_owned(),
        machines: vec![],
        batch_events_max: 1000,
        timeout: Duration::from_secs(10),
        retry_max: Duration::from_secs(1),
        optional: false,
        ca_file: None,
        password: None,
        password_file: None,
        schema: "lockstep".to_owned(),
        database: "lockstep".to_owned(),
        history: "history".to_owned(),
        instances: "instances".to_owned(),
        secret: hidden("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAA"),
        secret_file: None,
        concurrency_max: 8,
        attempts_max: 3,
        allow_local: true,
        start: Start::Now,
    }
}

impl Sinks {
    /// The sinks of a cluster of one.
    pub(crate) fn lone(configs: &[Sink]) -> Self {
        let service = Service::lone(Limits::default());
        let metrics = Metrics::new().unwrap();
        let peers = GrpcPeers::new(Arc::default());
        Self::new(configs, Arc::new(service), peers, &metrics)
    }
}

pub(crate) fn hidden(text: &str) -> Option<Hidden> {
    Some(Hidden(text.to_owned()))
}

pub(crate) fn claim(term: u64) -> Claim {
    Claim {
        cluster: "c1".to_owned(),
        sink: "reports".to_owned(),
        term,
    }
}

pub(crate) fn at(revision: u64, position: u32) -> EventCursor {
    EventCursor {
        revision: GlobalRevision(revision),
        position,
    }
}

pub(crate) fn checkpoint(revision: u64, position: u32, seeded: u64) -> Checkpoint {
    Checkpoint {
        cursor: at(revision, position),
        seeded: GlobalRevision(seeded),
    }
}

/// A batch from a checkpoint to the last of the events.
pub(crate) fn batch(from: Checkpoint, events: &[Arc<Event>]) -> Batch<'_> {
    let to = events.last().map_or(from.cursor, |event| event.cursor());
    Batch { from, to, events }
}

/// A backfill after which delivery resumes at a revision.
pub(crate) fn backfill(revision: u64, previous: Option<EventCursor>, resume_at: u64) -> Backfill {
    Backfill {
        revision: GlobalRevision(revision),
        at: Timestamp(BEGINNING_MS + revision),
        previous,
        resume_at: at(resume_at, 0),
        reason: match previous {
            None => BackfillReason::First,
            Some(_) => BackfillReason::Compacted,
        },
    }
}

/// An event of an instance, the first of its revision.
pub(crate) fn event(revision: u64, id: &str, kind: EventKind, to: Option<&str>) -> Event {
    let (machine, name) = id.split_once('/').unwrap();
    Event {
        revision: GlobalRevision(revision),
        position: 0,
        kind,
        machine: machine.parse().unwrap(),
        name: Some(name.parse().unwrap()),
        version: Version(1),
        from_version: None,
        from: None,
        to: to.map(state),
        event: None,
        instance_revision: Revision(revision),
        at: Timestamp(BEGINNING_MS + revision),
        cause: Cause::Request,
        metadata: Metadata::default(),
    }
}

pub(crate) fn created(revision: u64, id: &str) -> Arc<Event> {
    let metadata = Metadata::new([("by", "ann")]).unwrap();
    Arc::new(Event {
        metadata,
        ..event(revision, id, EventKind::Created, Some("open"))
    })
}

pub(crate) fn moved(revision: u64, id: &str, to: &str) -> Arc<Event> {
    Arc::new(event(revision, id, EventKind::Transitioned, Some(to)))
}

pub(crate) fn deleted(revision: u64, id: &str) -> Arc<Event> {
    Arc::new(event(revision, id, EventKind::Deleted, None))
}

/// An instance as the cluster holds it.
pub(crate) fn instance(id: &str, state: &str) -> (InstanceId, Instance) {
    let state = StateName::new(state).unwrap();
    let metadata = Metadata::new([("by", "eve")]).unwrap();
    let mut instance = Instance::new(Version(1), state, Timestamp(BEGINNING_MS), metadata);
    instance.revision = Revision(3);
    instance.changed_at = Timestamp(BEGINNING_MS + 5);
    (id.parse().unwrap(), instance)
}

/// The same as of a revision.
pub(crate) fn current(id: &str, state: &str, revision: u64) -> Current {
    let (id, instance) = instance(id, state);
    Current::of(&id, &instance, GlobalRevision(revision))
}

/// What an instance is at a revision.
pub(crate) fn now(id: &str, state: &str, revision: u64) -> Option<Change> {
    Some(Change::Is(current(id, state, revision)))
}

/// An instance that does not exist at a revision.
pub(crate) fn gone(id: &str, revision: u64) -> Option<Change> {
    Some(Change::Deleted {
        id: id.parse().unwrap(),
        revision: GlobalRevision(revision),
    })
}

pub(crate) fn state(name: &str) -> StateName {
    name.parse().unwrap()
}

/// The reason of a misconfiguration.
pub(crate) fn misconfigured(ended: Result<StoredCheckpoint, SinkError>) -> String {
    match ended {
        Err(SinkError::Misconfigured { reason }) => reason,
        other => panic!("{other:?}"),
    }
}
