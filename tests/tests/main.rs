//! Lockstep's end-to-end tests: real processes and containers, driven from outside.
//!
//! One binary, so that it links once. A module per subject; `cargo nextest run -E 'test(/^cluster::/)'`
//! runs one of them, and docs/TESTING.md says what each shows.

mod addresses;
mod backup;
mod bad_input;
mod bad_machines;
mod bad_messages;
mod cli;
mod client_library;
mod clock;
mod cluster;
mod comparison;
mod compose;
mod consul;
mod consul_cluster;
mod containers;
mod data_folder;
mod dev;
mod dns;
mod environment;
mod failpoints;
mod formation;
mod full_disk;
mod grpc;
mod guarantees;
mod http_clients;
mod logs;
mod machines;
mod membership;
mod openapi;
mod operations;
mod renaming;
mod scale;
mod service_manager;
mod signals;
mod sinks_mongo;
mod sinks_postgres;
mod sinks_webhook;
mod starting;
mod upgrade;
mod walkthroughs;
