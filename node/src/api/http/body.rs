//! Fields that the responses of all writes share.

use lockstep_machine::{Outcome, Reply};
use lockstep_proto::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;

/// The part that the answers of all writes share.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct Written {
    /// Whether this is the stored answer to an earlier request with the same key.
    pub(super) replayed: bool,
    /// The cluster's revision after the write; pass it to a read as `min_revision`.
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
        "this node runs an older release and cannot read the outcome of the request; upgrade it",
    )
}
