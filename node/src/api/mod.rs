//! The edges: decode, call the service, encode. Nothing is decided here.

pub mod grpc;
pub mod http;
mod names;
mod places;
mod sinks;
mod watchers;

use lockstep_machine::{OperationResult, Outcome, Reply};

use crate::telemetry::Report;

pub use watchers::Watchers;

/// Counts the transitions that this node got made for a client.
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
