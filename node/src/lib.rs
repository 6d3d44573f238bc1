//! The Lockstep server: a Raft cluster of state machines behind HTTP and gRPC.
//!
//! The modules in the order of the house: each may use only those above it.

mod clock;
pub mod config;
pub mod telemetry;

pub mod discovery;

pub mod cluster;

pub mod service;

pub mod observe;

pub mod sink;

pub mod api;

pub mod dev;
pub mod open_files;
pub mod probe;
pub mod run;
