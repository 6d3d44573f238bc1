//! The interfaces of a node: HTTP/JSON in [`http`], gRPC in [`grpc`].
//!
//! Each handler parses a request, calls [`Service`](crate::service::Service) and encodes the answer.
//! Rules that both interfaces share are in the service; status codes and retry hints come from the
//! catalogue [`lockstep_proto::errors`]. The edges add only admission: a bound on concurrent HTTP
//! requests, on message and body sizes, and on open watches ([`Watchers`]).
//!
//! Guarantees: a request with any unknown or invalid part is rejected before anything is executed;
//! every error has a stable code; every response is sent within the request's timeout. Not here: TLS
//! and authentication, which a proxy must add.

pub mod grpc;
pub mod http;
mod names;
mod watchers;

use lockstep_machine::{OperationResult, Outcome, Reply};

use crate::telemetry::Report;

pub use watchers::Watchers;

/// Counts the transitions that this node executed for its clients.
fn count_transitions(report: &Report, reply: &Reply) {
    if reply.replayed {
        return;
    }
    let made = match &reply.outcome {
        Outcome::Transitioned(_) => 1,
        Outcome::Committed(results) => {
            let moved = |it: &&OperationResult| matches!(it, OperationResult::Transitioned(_));
            results.iter().filter(moved).count() as u64
        }
        _ => return,
    };
    report.transitions.add(made);
}
