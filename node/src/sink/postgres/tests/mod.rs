//! The sink against a real server.

mod backfills;
mod broken;
mod claims;
mod fixtures;
mod tls;
mod writes;

pub(super) use fixtures::config;
