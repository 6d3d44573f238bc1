//! The contracts of Lockstep: generated gRPC types, their conversions to and from
//! [`lockstep_machine`], and the catalogue of errors.
//!
//! - [`v1`] is the public interface, `lockstep.v1`, stable within a major version. Each message that a
//!   client sends or receives is converted in one place, in `public`; both the node and the client
//!   library use these conversions. Read-only messages (statuses, rejections, lists) have no other type:
//!   `build.rs` derives their JSON, and the client library returns them as they are.
//! - [`raft`] is the peer interface, `lockstep.raft.v1`. Only nodes of one cluster speak it.
//! - [`errors`] is the one table of stable error codes, with their HTTP and gRPC statuses and whether
//!   a retry is safe.
//!
//! A conversion to a machine type checks names, ids and required fields, and reports the first fault
//! with its field ([`Malformed`]). Whether a request is allowed is up to the state machine.

use std::convert::Infallible;

/// The public interface, `lockstep.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("lockstep.v1");

    /// The encoded file descriptors of `lockstep.v1`, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("lockstep.v1.descriptors");
}

/// The peer interface, `lockstep.raft.v1`: not for clients.
#[allow(missing_docs, clippy::all)]
pub mod raft {
    tonic::include_proto!("lockstep.raft.v1");
}

pub mod errors;
mod json;
mod public;

pub use errors::ErrorCode;
pub use public::{UnexpectedOutcome, optional_name};

/// A message that breaks the contract: which field, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Malformed {
    /// The field, for example `transition.to`.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Malformed {
    /// A fault in one field.
    pub fn new(field: &'static str, reason: impl ToString) -> Self {
        Self {
            field,
            reason: reason.to_string(),
        }
    }
}

/// A field that cannot be malformed.
impl From<Infallible> for Malformed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Names the field that a name, or anything else with rules of its own, stood in.
pub(crate) fn parsed<T, E: std::fmt::Display>(
    field: &'static str,
    read: Result<T, E>,
) -> Result<T, Malformed> {
    read.map_err(|invalid| Malformed::new(field, invalid))
}
