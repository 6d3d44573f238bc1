//! The edges: decode, call the service, encode. Nothing is decided here.

pub mod grpc;
pub mod http;

use lockstep_machine::{Outcome, Reply};

use crate::telemetry::Report;

/// Counts a transition that this node got made for a client.
fn count_transition(report: &Report, reply: &Reply) {
    if !reply.replayed && matches!(reply.outcome, Outcome::Transitioned(_)) {
        report.transitions.add(1);
    }
}
