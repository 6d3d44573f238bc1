//! Load on a service: many clients that execute operations for a while, and how long each took.
//!
//! A [`Service`] connects clients; a [`Plan`] says how many there are and what they do; [`run`] returns a
//! [`Record`], which holds a histogram of the latencies of each [`Operation`] and counts its failures by code.
//! [`Report`] is its summary, and [`Chart`] draws it.
//!
//! In a **closed loop**, each client sends its next operation when it has the answer to the last. The rate follows
//! from the service, and a service that stalls is asked less: the stall is one slow operation of each client. In an
//! **open loop**, operations are due at a constant rate, whether or not the service keeps up. Latency counts from the
//! time at which an operation was due, so that a stall shows in every operation that waited for it (no coordinated
//! omission).
//!
//! The generator usually shares a machine with the service, so it must use little of it. Each thread has a
//! single-threaded runtime with clients of its own; they share nothing but a lock, taken once for each operation,
//! which another thread takes once a second.

mod chart;
mod operation;
mod plan;
mod record;
mod report;
mod run;

pub use chart::{Axis, Chart, Series};
pub use operation::Operation;
pub use plan::{Mix, Plan, threads_default};
pub use record::{Failed, Record, Tally};
pub use report::{Latency, OperationReport, Report};
pub use run::{Client, Service, Stop, run};
