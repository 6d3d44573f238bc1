//! JSON bodies that several routes share: instances, events and outcomes.

use std::collections::BTreeMap;
use std::fmt;

use lockstep_machine::{
    Created, Deleted, Instance, InstanceId, Metadata, Migrated, Outcome, Reply, State, StateName,
    Transitioned,
};
use lockstep_proto::ErrorCode;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::service::json::pairs;
pub(super) use crate::service::json::{EventBody, rfc3339};

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
                return Err(Problem::new(ErrorCode::InvalidBody, detail));
            }
        }
        Ok(states)
    }
}

/// An instance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceBody {
    /// `machine/name`.
    id: String,
    /// The version of the definition that it is pinned to.
    version: u32,
    state: String,
    /// The number of its changes.
    revision: u64,
    /// RFC 3339, in cluster time; null for a built-in instance.
    created_at: Option<String>,
    /// The same; null until a built-in instance moves.
    changed_at: Option<String>,
    /// The states it may move to.
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

/// The part that the answers of all writes share.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct Written {
    /// Whether this is the stored answer to an earlier request with the same key.
    pub(super) replayed: bool,
    /// The cluster's revision right after it: give it to a read as `min_revision`.
    pub(super) revision: u64,
}

/// The outcome of a command, or its rejection as a problem.
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

/// The outcome does not belong to the request.
pub(super) fn unknown_outcome() -> Problem {
    Problem::new(
        ErrorCode::UnknownOutcome,
        "the cluster's answer is unknown to this node, which runs an older release; upgrade it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
