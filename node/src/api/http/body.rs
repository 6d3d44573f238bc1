//! Answers to writes.

use lockstep_machine::{Outcome, Reply};
use lockstep_proto::{ErrorCode, v1};

use crate::api::problem::Problem;

/// The outcome of a command, or its rejection as a problem.
pub(super) fn outcome(reply: Reply) -> Result<(Outcome, v1::Written), Problem> {
    let written = v1::Written {
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

pub(super) fn unknown_outcome() -> Problem {
    Problem::new(
        ErrorCode::UnknownOutcome,
        "this node runs an older release and cannot read the outcome of the request; upgrade it",
    )
}

/// Declares the answer to a write: the value of its [`Outcome`], and for a write that may be a dry run
/// whether it was one.
macro_rules! answer {
    ($(#[doc = $doc:literal])+ $name:ident = $outcome:ident {
        $(#[$meta:meta])* $field:ident: $type:ty $(, $dry_run:ident)? $(,)?
    }) => {
        $(#[doc = $doc])+
        #[derive(Debug, serde::Serialize, utoipa::ToSchema)]
        pub(super) struct $name {
            $(#[$meta])*
            pub(super) $field: $type,
            $(
                /// Whether this was a dry run, which changes nothing.
                #[serde(skip_serializing_if = "std::ops::Not::not")]
                pub(super) $dry_run: bool,
            )?
            #[serde(flatten)]
            written: lockstep_proto::v1::Written,
        }

        impl TryFrom<lockstep_machine::Reply> for $name {
            type Error = $crate::api::problem::Problem;

            fn try_from(reply: lockstep_machine::Reply) -> Result<Self, Self::Error> {
                use $crate::api::http::body::{outcome, unknown_outcome};
                match outcome(reply)? {
                    (lockstep_machine::Outcome::$outcome($field), written) => Ok(Self {
                        $field,
                        $($dry_run: false,)?
                        written,
                    }),
                    _ => Err(unknown_outcome()),
                }
            }
        }
    };
}

pub(super) use answer;
