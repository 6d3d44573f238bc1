//! Sinks: external systems that follow the cluster's committed events.
//!
//! # What a sink is
//!
//! A sink delivers the events that the cluster has committed to one *destination*: a PostgreSQL
//! database, a MongoDB database, or an HTTP endpoint (webhook). A database ends up with two things:
//! the *history*, one row per event, and the *instances*, one row per instance with its current state.
//! A webhook receives one signed request per event. Every node configures the same sinks; the node that
//! leads the cluster runs them. A sink is not part of a commit: a slow or unreachable destination never
//! delays a write to the cluster.
//!
//! # How the parts work together
//!
//! | module | holds |
//! |---|---|
//! | `handle` | [`Sinks`]: starts the runners; the operations that operators call |
//! | `runner` | one sink on one node: waits for leadership, then runs sessions with pauses between them |
//! | `session` | one open destination: reads events from the cluster and delivers them in order |
//! | `backfill` | writes all current states at once, from one consistent copy of the state |
//! | `writer` | what sessions and backfills share: the open destination, leadership checks, dead letters |
//! | `leader` | status and checks from whichever node leads |
//! | `ledger` | what the cluster's replicated state holds about a sink |
//! | `destination` | the `Destination` trait and the types that pass through it |
//! | `tracker` | what a sink is doing: its status and its metrics |
//! | `postgres`, `mongo`, `webhook` | the kinds of destination |
//!
//! A runner opens a session; the session opens the destination with a `Claim` (cluster, sink, term)
//! and learns the destination's *checkpoint*: the cursor of the last event that it has. The session
//! then reads the events after that cursor in batches and writes each batch together with the new
//! checkpoint. Any error ends the session; the runner pauses with exponential backoff and opens a new
//! one, which starts again from the checkpoint that the destination reports.
//!
//! The cluster keeps a bounded number of events. If the events after a checkpoint are compacted, if the
//! destination is empty, or if an operator asks for it, the session runs a *backfill* first and
//! continues from there. An event that the destination rejects permanently becomes a *dead letter*: it
//! is stored in the cluster's replicated state, where an operator can list, replay or discard it, and
//! delivery goes on with the next event.
//!
//! # Guarantees
//!
//! - **Order.** Events of one instance are delivered in commit order.
//! - **At least once.** After a failure the last batch may be delivered again.
//! - **Exact result in databases.** The history is keyed by event cursor and a row of the instances
//!   only gives way to a later revision, so a repeated write changes nothing. PostgreSQL commits events,
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
mod backoff;
mod changes;
mod check;
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
mod tests;
mod tracker;
mod webhook;
mod writer;

pub(crate) use changes::{Change, Current, changes};
pub use check::CheckStep;
pub(crate) use check::CheckSteps;
pub(crate) use destination::{
    Backfill, BackfillReason, Batch, Checkpoint, Claim, Destination, StoredCheckpoint, read_files,
};
pub(crate) use error::{SessionError, SinkError};
pub use handle::{Sinks, SinksError};
pub(crate) use leader::{AskError, CHECK_MAX, FORWARDED_KEY, Hop, LeadersSinks, truncated};
pub use lockstep_machine::DeadLetter;
pub use runner::Leading;
pub use status::{Phase, SinkStatus};
