//! The Lockstep server: a Raft cluster of state machines, served over HTTP and gRPC.
//!
//! [`node::Node`] assembles a server, runs it and stops it. A request arrives at an interface of [`api`],
//! which decodes it and calls [`service`]. The service routes the request to the leader and waits for the
//! outcome. The crate `lockstep-raft` replicates requests through a log on disk, and each node applies them to
//! its copy of the state machine (crate `lockstep-machine`). [`sink`] copies the committed events to other
//! systems. Around these: [`config`] parses and checks the settings, [`lifecycle`] tracks the progress of a
//! start, [`discovery`] finds the addresses of peers, [`cluster`] joins the node to them, [`observe`] turns
//! what happens into the metrics of [`telemetry`], and [`check_disk`] measures the disk.
//!
//! The modules below are in order: each uses only those above it.
//!
//! The binary, `lockstepd`, adds the command line, and `dev`, which runs three nodes as child processes.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the docs are for those who change the server: `cargo doc --document-private-items`"
)]

pub mod check_disk;
mod clock;
pub mod config;
mod lifecycle;
pub mod telemetry;

pub mod discovery;

pub mod cluster;

pub mod service;

mod backup;

mod observe;

mod sink;

mod api;

pub mod node;
