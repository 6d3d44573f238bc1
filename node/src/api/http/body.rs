//! Parts of JSON bodies that several routes share.

use std::collections::BTreeMap;

use lockstep_machine::json::Entries;
use lockstep_machine::{Metadata, Outcome, Reply, StateName};
use lockstep_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;

/// String metadata as a JSON object. A key given twice is refused, which a map would hide.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Pairs(Entries<String, String>);

impl Pairs {
    pub(super) fn into_metadata(self) -> Result<Metadata, Problem> {
        Ok(Metadata::new(self.0.0)?)
    }

    /// As names of states; each left one at most once.
    pub(super) fn into_states(self) -> Result<BTreeMap<StateName, StateName>, Problem> {
        let mut states = BTreeMap::new();
        for (from, to) in self.0.0 {
            let from = StateName::new(from)?;
            if states.insert(from.clone(), StateName::new(to)?).is_some() {
                let detail = format!("state {from:?} is mapped twice");
                return Err(Problem::new(ErrorCode::InvalidBody, detail));
            }
        }
        Ok(states)
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
