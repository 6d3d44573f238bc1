//! Events and states as the arrays that the statements take: one per column, borrowed from the events and
//! states.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use lockstep_machine::{Cause, Event, InstanceId, Metadata, Timestamp};
use serde::ser::{Serialize, Serializer};
use tokio_postgres::types::{IsNull, Json, ToSql, Type, to_sql_checked};

use crate::sink::{Change, Current, SinkError};

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A number as a `bigint`.
///
/// # Errors
///
/// [`SinkError::Rejected`] beyond 2^63 - 1.
pub(super) fn bigint(number: u64) -> Result<i64, SinkError> {
    i64::try_from(number).map_err(|_| {
        SinkError::rejected(
            None,
            format!("{number} exceeds the range of a PostgreSQL bigint"),
        )
    })
}

/// A time in milliseconds since 1970, as a `timestamptz`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(Timestamp);

impl Time {
    pub(super) fn new(time: Timestamp) -> Self {
        Self(time)
    }

    /// `None` for the built-in instance, which was never created.
    fn of_creation(time: Timestamp) -> Option<Self> {
        (time.0 > 0).then_some(Self(time))
    }

    /// In microseconds since 2000, as the server counts. It rejects times that it cannot represent; the
    /// largest number would mean infinity.
    fn micros(self) -> i64 {
        const YEAR_2000_MS: i128 = 946_684_800_000;
        let micros = (i128::from(self.0.0) - YEAR_2000_MS) * 1000;
        i64::try_from(micros).unwrap_or(i64::MAX - 1)
    }
}

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.micros());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

/// Metadata as a JSON object.
#[derive(Debug)]
pub(super) struct Object<'a>(&'a Metadata);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter())
    }
}

/// Rows of the history.
#[derive(Debug, Default)]
pub(super) struct HistoryRows<'a> {
    revision: Vec<i64>,
    position: Vec<i64>,
    kind: Vec<&'static str>,
    machine: Vec<&'a str>,
    instance: Vec<Option<&'a str>>,
    version: Vec<i64>,
    from_version: Vec<Option<i64>>,
    from_state: Vec<Option<&'a str>>,
    to_state: Vec<Option<&'a str>>,
    event: Vec<Option<&'a str>>,
    instance_revision: Vec<i64>,
    at: Vec<Time>,
    cause: Vec<&'static str>,
    late_ms: Vec<Option<i64>>,
    metadata: Vec<Json<Object<'a>>>,
}

impl<'a> HistoryRows<'a> {
    /// One row per event.
    pub(super) fn of(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, SinkError> {
        let mut rows = Self::default();
        for event in events {
            rows.push(event).map_err(|error| of_event(error, event))?;
        }
        Ok(rows)
    }

    fn push(&mut self, event: &'a Event) -> Result<(), SinkError> {
        let (cause, late_ms) = match event.cause {
            Cause::Timeout { late_ms } => ("timeout", Some(bigint(late_ms)?)),
            Cause::Request => ("request", None),
        };
        self.revision.push(bigint(event.revision.0)?);
        self.position.push(event.position.into());
        self.kind.push(event.kind.name());
        self.machine.push(event.machine.as_str());
        self.instance
            .push(event.name.as_ref().map(|name| name.as_str()));
        self.version.push(event.version.0.into());
        self.from_version
            .push(event.from_version.map(|version| version.0.into()));
        self.from_state
            .push(event.from.as_ref().map(|state| state.as_str()));
        self.to_state
            .push(event.to.as_ref().map(|state| state.as_str()));
        self.event
            .push(event.event.as_ref().map(|name| name.as_str()));
        self.instance_revision
            .push(bigint(event.instance_revision.0)?);
        self.at.push(Time(event.at));
        self.cause.push(cause);
        self.late_ms.push(late_ms);
        self.metadata.push(Json(Object(&event.metadata)));
        Ok(())
    }

    /// In the order of [`HISTORY`](super::statements::HISTORY).
    pub(super) fn parameters(&self) -> [Parameter<'_>; 15] {
        [
            &self.revision,
            &self.position,
            &self.kind,
            &self.machine,
            &self.instance,
            &self.version,
            &self.from_version,
            &self.from_state,
            &self.to_state,
            &self.event,
            &self.instance_revision,
            &self.at,
            &self.cause,
            &self.late_ms,
            &self.metadata,
        ]
    }
}

fn of_event(error: SinkError, event: &Event) -> SinkError {
    match error {
        SinkError::Rejected { reason, .. } => SinkError::Rejected {
            event: Some(event.cursor()),
            reason,
        },
        other => other,
    }
}

/// Deleted instances.
#[derive(Debug, Default)]
pub(super) struct DeletedRows<'a> {
    machine: Vec<&'a str>,
    instance: Vec<&'a str>,
    revision: Vec<i64>,
}

impl DeletedRows<'_> {
    /// In the order of [`DELETED`](super::statements::DELETED).
    pub(super) fn parameters(&self) -> [Parameter<'_>; 3] {
        [&self.machine, &self.instance, &self.revision]
    }
}

/// Current states.
#[derive(Debug, Default)]
pub(super) struct StateRows<'a> {
    machine: Vec<&'a str>,
    instance: Vec<&'a str>,
    state: Vec<&'a str>,
    version: Vec<i64>,
    instance_revision: Vec<i64>,
    created_at: Vec<Option<Time>>,
    changed_at: Vec<Time>,
    /// `None` keeps the stored metadata and time of creation.
    metadata: Vec<Option<Json<Object<'a>>>>,
    revision: Vec<i64>,
}

impl<'a> StateRows<'a> {
    fn push(&mut self, id: &'a InstanceId, current: &'a Current) -> Result<(), SinkError> {
        let created = current.created.as_ref();
        self.machine.push(id.machine.as_str());
        self.instance.push(id.name());
        self.state.push(current.state.as_str());
        self.version.push(current.version.0.into());
        self.instance_revision
            .push(bigint(current.instance_revision.0)?);
        self.created_at
            .push(created.and_then(|(at, _)| Time::of_creation(*at)));
        self.changed_at.push(Time(current.changed_at));
        self.metadata
            .push(created.map(|(_, metadata)| Json(Object(metadata))));
        self.revision.push(bigint(current.revision.0)?);
        Ok(())
    }

    /// In the order of [`STATES`](super::statements::STATES).
    pub(super) fn parameters(&self) -> [Parameter<'_>; 9] {
        [
            &self.machine,
            &self.instance,
            &self.state,
            &self.version,
            &self.instance_revision,
            &self.created_at,
            &self.changed_at,
            &self.metadata,
            &self.revision,
        ]
    }
}

/// Splits changes into deleted instances and current states.
pub(super) fn split<'a>(
    changes: impl IntoIterator<Item = (&'a InstanceId, &'a Change)>,
) -> Result<(DeletedRows<'a>, StateRows<'a>), SinkError> {
    let (mut deleted, mut states) = (DeletedRows::default(), StateRows::default());
    for (id, change) in changes {
        match change {
            Change::Is(current) => states.push(id, current)?,
            Change::Deleted { revision } => {
                deleted.machine.push(id.machine.as_str());
                deleted.instance.push(id.name());
                deleted.revision.push(bigint(revision.0)?);
            }
        }
    }
    Ok((deleted, states))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_2000_and_never_infinite() {
        assert_eq!(Time(Timestamp(946_684_800_001)).micros(), 1000);
        assert_eq!(Time(Timestamp(0)).micros(), -946_684_800_000_000);
        assert_eq!(Time(Timestamp(u64::MAX)).micros(), i64::MAX - 1);
    }

    #[test]
    fn metadata_is_an_object() {
        let metadata = Metadata::new([("by", "ann"), ("why", "\"late\"")]).unwrap();
        let text = serde_json::to_string(&Object(&metadata)).unwrap();
        assert_eq!(text, r#"{"by":"ann","why":"\"late\""}"#);
        let none = serde_json::to_string(&Object(&Metadata::default())).unwrap();
        assert_eq!(none, "{}");
    }
}
