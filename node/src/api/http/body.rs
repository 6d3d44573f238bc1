//! What several routes say in JSON: instances, events, and what came of a command.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use lockstep_machine::{
    Cause, Created, Deleted, Event, Instance, InstanceId, Metadata, Migrated, Outcome, Reply,
    State, StateName, Timestamp, Transitioned,
};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use utoipa::ToSchema;

use super::problem::Problem;

/// String metadata as a JSON object. A key given twice is refused, which a map would hide.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs: Vec<(String, String)> = vec![];
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        d.deserialize_map(Object)
    }
}

impl Pairs {
    pub(super) fn into_metadata(self) -> Result<Metadata, Problem> {
        Ok(Metadata::new(self.0)?)
    }

    /// As names of states; each left one at most once.
    pub(super) fn into_states(self) -> Result<BTreeMap<StateName, StateName>, Problem> {
        let mut states = BTreeMap::new();
        for (from, to) in self.0 {
            let from = StateName::new(from)?;
            if states.insert(from.clone(), StateName::new(to)?).is_some() {
                let detail = format!("state {from:?} is mapped twice");
                return Err(Problem::bad_request("invalid_body", detail));
            }
        }
        Ok(states)
    }
}

/// Metadata for an answer.
pub(super) fn pairs(metadata: &Metadata) -> BTreeMap<String, String> {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    metadata.iter().map(own).collect()
}

/// An instance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceBody {
    /// `machine/name`.
    id: String,
    /// The version of the definition that it is pinned to.
    version: u32,
    state: String,
    /// How often it has changed.
    revision: u64,
    /// RFC 3339, in cluster time; null for a built-in instance.
    created_at: Option<String>,
    /// The same; null until a built-in instance moves.
    changed_at: Option<String>,
    /// Where it may go from here.
    allowed: Vec<String>,
    /// When its state's timeout is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    /// What it was created with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl InstanceBody {
    pub(super) fn new(id: &InstanceId, instance: &Instance, allowed: &[StateName]) -> Self {
        Self {
            id: id.to_string(),
            version: instance.version.0,
            state: instance.state.to_string(),
            revision: instance.revision.0,
            created_at: rfc3339(instance.created_at),
            changed_at: rfc3339(instance.changed_at),
            allowed: allowed.iter().map(ToString::to_string).collect(),
            deadline: instance.deadline.and_then(rfc3339),
            metadata: pairs(&instance.metadata),
        }
    }

    pub(super) fn of(state: &State, id: &InstanceId, instance: &Instance) -> Self {
        Self::new(id, instance, &state.allowed(id))
    }
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    /// The cluster's revision that it belongs to.
    revision: u64,
    /// Its place among the changes of that revision.
    position: u32,
    /// created, transitioned, migrated, deleted, defined or definition_deleted.
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
            _ => ("request", None),
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

/// A transition that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransitionedBody {
    id: String,
    version: u32,
    from: String,
    to: String,
    event: Option<String>,
    /// The instance's.
    revision: u64,
    at: Option<String>,
}

impl From<Transitioned> for TransitionedBody {
    fn from(it: Transitioned) -> Self {
        Self {
            id: it.instance.to_string(),
            version: it.version.0,
            from: it.from.to_string(),
            to: it.to.to_string(),
            event: it.event.map(|event| event.to_string()),
            revision: it.revision.0,
            at: rfc3339(it.at),
        }
    }
}

/// An instance that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedBody {
    id: String,
    version: u32,
    state: String,
    at: Option<String>,
}

impl From<Created> for CreatedBody {
    fn from(it: Created) -> Self {
        Self {
            id: it.instance.to_string(),
            version: it.version.0,
            state: it.state.to_string(),
            at: rfc3339(it.at),
        }
    }
}

/// An instance that was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedBody {
    id: String,
    /// The state it was in.
    state: String,
    /// Its last revision.
    revision: u64,
    at: Option<String>,
}

impl From<Deleted> for DeletedBody {
    fn from(it: Deleted) -> Self {
        Self {
            id: it.instance.to_string(),
            state: it.state.to_string(),
            revision: it.revision.0,
            at: rfc3339(it.at),
        }
    }
}

/// An instance that was pinned to another version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MigratedBody {
    id: String,
    from_version: u32,
    version: u32,
    from: String,
    to: String,
    /// The instance's.
    revision: u64,
    at: Option<String>,
}

impl From<Migrated> for MigratedBody {
    fn from(it: Migrated) -> Self {
        Self {
            id: it.instance.to_string(),
            from_version: it.from_version.0,
            version: it.version.0,
            from: it.from.to_string(),
            to: it.to.to_string(),
            revision: it.revision.0,
            at: rfc3339(it.at),
        }
    }
}

/// What every write's answer says about itself.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct Written {
    /// Whether this is the stored answer to an earlier request with the same key.
    pub(super) replayed: bool,
    /// The cluster's revision right after it: give it to a read as `min_revision`.
    pub(super) revision: u64,
}

/// What came of a command, unless it was refused.
pub(super) fn outcome(reply: Reply) -> Result<(Outcome, Written), Problem> {
    let written = Written {
        replayed: reply.replayed,
        revision: reply.revision.0,
    };
    match reply.outcome {
        Outcome::Rejected(rejection) => Err(Problem::from(rejection)
            .with("replayed", written.replayed)
            .with("revision", written.revision)),
        outcome => Ok((outcome, written)),
    }
}

/// The cluster said something that does not answer what was asked.
pub(super) fn unknown_outcome() -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "unknown_outcome",
        "the cluster gave an answer unknown to this node; it may be older than the others",
    )
}

/// None for 0, which marks what was always there, and for times beyond the year 9999.
pub(super) fn rfc3339(at: Timestamp) -> Option<String> {
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

    #[test]
    fn a_key_given_twice_is_refused() {
        let read = |text| serde_json::from_str::<Pairs>(text).unwrap();
        let metadata = read(r#"{"by":"ann"}"#).into_metadata().unwrap();
        assert_eq!(metadata.get("by"), Some("ann"));
        let twice = read(r#"{"by":"ann","by":"bob"}"#);
        assert_eq!(
            twice.clone().into_metadata().unwrap_err().code,
            "invalid_metadata"
        );
        assert_eq!(twice.into_states().unwrap_err().code, "invalid_body");
        assert!(serde_json::from_str::<Pairs>(r#"{"by":1}"#).is_err());
    }
}
