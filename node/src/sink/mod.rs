//! Sinks: copy the cluster's committed events to external systems.
//!
//! # What a sink is
//!
//! A sink delivers the events that the cluster has committed to one *destination*: a PostgreSQL
//! database, a MongoDB database, or an HTTP endpoint (webhook). A database ends up with two things:
//! the *history*, one row per event, and the *instances*, one row per instance with its current state.
//! A webhook receives one signed request per event. Every node is configured with the same sinks; the
//! leader runs them. A sink is not part of a commit: a slow or unreachable destination never
//! delays a write to the cluster.
//!
//! # How the parts work together
//!
//! ```text
//! Sinks ── a Runner per sink ── while this node leads: a Session after another
//!                                 │ open(Claim): the destination's checkpoint
//!                                 │ events after it are compacted? ── a backfill of all current states
//!                                 ▼
//!             the cluster's events ──> Batch ──> Destination: postgres, mongo or webhook
//!                                 │ rejected permanently
//!                                 ▼
//!                               a command in the log: the event is a dead letter
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `handle` | [`Sinks`]: starts the runners; the operations that operators call |
//! | `runner` | one sink on one node: waits for leadership, then runs sessions with pauses between them |
//! | `session` | one open destination: reads events from the cluster and delivers them in order |
//! | `backfill` | the part of a session that writes all current states, from one consistent copy |
//! | `ledger` | what the cluster's replicated state holds about a sink |
//! | `status` | a configured sink and what it is doing: its status and its metrics |
//! | `leader` | status and checks, which the leader answers whichever node is asked |
//! | `destination` | the `Destination` trait and the types that pass through it |
//! | `changes` | the current state of an instance, in the form that every destination gets |
//! | `connect` | what destinations need to connect: files, time limits, host names |
//! | `postgres`, `mongo`, `webhook` | the kinds of destination |
//!
//! A runner opens a session; the session opens the destination with a `Claim` (cluster, sink, term)
//! and learns the destination's *checkpoint*: the cursor of the last event that it has. The session
//! then reads the events after that cursor in batches and writes each batch together with the new
//! checkpoint. Any error ends the session; the runner pauses with exponential backoff and opens a new
//! one, which starts again from the checkpoint that the destination reports.
//!
//! The cluster keeps a bounded number of events. If the events after a checkpoint are compacted, if the
//! destination is empty, or if an operator requests it, the session runs a *backfill* first and
//! continues from there. An event that the destination rejects permanently becomes a *dead letter*: it
//! is stored in the cluster's replicated state, where an operator can list, replay or discard it, and
//! delivery continues with the next event.
//!
//! An event and the current state of an instance each have one JSON form, derived from the types of
//! `lockstep-machine`. A webhook sends it, PostgreSQL takes it as the parameter of a statement, and
//! MongoDB stores it, with dates and keys as that database needs them.
//!
//! # Guarantees
//!
//! - **Order.** Events of one instance are delivered in commit order.
//! - **At least once.** After a failure the last batch may be delivered again.
//! - **Exact result in databases.** The history is keyed by event cursor and a row of the instances
//!   is replaced only by one of a later revision, so a repeated write changes nothing. PostgreSQL commits events,
//!   states and checkpoint in one statement; MongoDB writes the checkpoint after the data, so readers may
//!   briefly see the history ahead of the instances.
//! - **No loss.** No event is skipped without a dead letter. A sink whose dead letters are full halts.
//! - **Fencing.** A leader of an earlier term cannot write to PostgreSQL or MongoDB once a later one has
//!   claimed the destination. A webhook carries the term in a header, and a leader confirms its
//!   leadership with a majority at most 500 ms before each delivery.
//!
//! # Not guaranteed
//!
//! - A webhook receiver may see an event more than once, and, for up to 500 ms, from a deposed leader.
//! - Events that are compacted before they are delivered are missing from the history. A database
//!   records each such gap; the instances are still correct.
//! - A destination that is permanently slower than the cluster's writes is backfilled again and again.

mod backfill;
mod changes;
mod check;
mod connect;
mod destination;
mod error;
mod handle;
mod leader;
mod ledger;
mod mongo;
mod postgres;
mod runner;
mod session;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod webhook;

pub(crate) use changes::{Change, Current, changes};
pub(crate) use check::CheckSteps;
use destination::signed;
pub(crate) use destination::{
    Backfill, BackfillReason, Batch, Checkpoint, Claim, Destination, StoredCheckpoint,
};
pub(crate) use error::SinkError;
pub use handle::{Sinks, SinksError};
pub(crate) use leader::{CHECK_MAX, FORWARDED_KEY, Hop, truncated};
pub use lockstep_proto::v1::{CheckStep, SinkPhase as Phase, SinkStatus};
