//! The JSON form of events and times.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use lockstep_machine::{Cause, Event, Metadata, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventBody {
    /// The cluster's revision that it belongs to.
    revision: u64,
    /// Its place among the changes of that revision.
    position: u32,
    /// created, transitioned, migrated, deleted, defined or definition_deleted; seeded for a state that
    /// a sink put aside.
    kind: &'static str,
    machine: String,
    /// `machine/name`; not there if it is about a definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The instance's revision after the change.
    instance_revision: u64,
    /// RFC 3339, in cluster time.
    at: Option<String>,
    /// request or timeout.
    cause: &'static str,
    /// How late a timeout fired, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_ms: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl From<&Event> for EventBody {
    fn from(it: &Event) -> Self {
        let (cause, late_ms) = match it.cause {
            Cause::Timeout { late_ms } => ("timeout", Some(late_ms)),
            Cause::Request => ("request", None),
        };
        Self {
            revision: it.revision.0,
            position: it.position,
            kind: it.kind.name(),
            machine: it.machine.to_string(),
            id: it.instance().map(|id| id.to_string()),
            version: it.version.0,
            from_version: it.from_version.map(|version| version.0),
            from: it.from.as_ref().map(ToString::to_string),
            to: it.to.as_ref().map(ToString::to_string),
            event: it.event.as_ref().map(ToString::to_string),
            instance_revision: it.instance_revision.0,
            at: rfc3339(it.at),
            cause,
            late_ms,
            metadata: pairs(&it.metadata),
        }
    }
}

/// Metadata as an object of texts.
pub(crate) fn pairs(metadata: &Metadata) -> BTreeMap<String, String> {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    metadata.iter().map(own).collect()
}

/// None for 0, which marks what was always there, and for times beyond the year 9999.
pub(crate) fn rfc3339(at: Timestamp) -> Option<String> {
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    if at.0 == 0 || at.0 >= YEAR_10000_MS {
        return None;
    }
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at.0))?;
    Some(humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_out_of_range_are_left_out() {
        assert_eq!(rfc3339(Timestamp(0)), None);
        assert_eq!(rfc3339(Timestamp(u64::MAX)), None);
        assert_eq!(
            rfc3339(Timestamp(253_402_300_799_999)).as_deref(),
            Some("9999-12-31T23:59:59.999Z")
        );
        assert_eq!(rfc3339(Timestamp(253_402_300_800_000)), None);
    }
}
