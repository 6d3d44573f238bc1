//! The sink against a server: see `lockstep_tests::mongo` for which.

mod backfills;
mod claims;
mod faults;
mod scripted;
mod server;
mod writes;

pub(super) use server::config;
