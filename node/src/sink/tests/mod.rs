//! The runner, with a destination in memory whose failures the tests control.

mod backfills;
mod checkpoints;
mod claims;
mod dead_letters;
mod destination;
mod faults;
pub(crate) mod fixtures;
mod harness;
