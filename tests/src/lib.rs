//! The harness of the end-to-end tests: real processes on loopback, driven from outside.
//!
//! | module | holds |
//! |---|---|
//! | [`binaries`] | where the binaries under test are |
//! | [`ports`] | ports that the system assigns and no other process gets |
//! | [`process`] | one child process, its signals and its log |
//! | [`program`] | one run of a program from start to end, and what it said where |
//! | [`cluster`] | nodes that make one cluster, and what can be done to them |
//! | [`dev`] | `lockstepd dev`, as a person in a terminal sees it |
//! | [`http`] | the HTTP interface as a user sees it |
//! | [`grpc`] | the gRPC interface as a client in any language sees it |
//! | [`bulk`] | many writes at once, in transactions |
//! | [`traffic`] | writers that remember what was acknowledged to them |
//! | [`timeouts`] | what a watcher saw of timeouts |
//! | [`watcher`] | a watcher that goes on elsewhere when its node fails |
//! | [`walkthrough`] | documents that are run as they are written |
//! | [`receiver`] | a receiver of webhooks that fails, stalls, cuts and reorders |
//! | [`nginx`] | nginx in front of a cluster |
//! | [`browser`] | a browser, and a site whose pages it opens |
//! | [`python`] | Python, with pinned packages |
//! | [`wait`] | waiting for a condition, with a deadline |
//! | [`consul`] | a real Consul agent |
//! | [`machines`] | the machine that most tests use |
//! | [`mongo`] | a MongoDB, or what stands in for it |
//! | [`postgres`] | a real PostgreSQL server |
//! | [`disk`] | a small disk, to be filled |
//! | [`names`] | names that resolve to the addresses that a test chooses |
//! | [`relay`] | stands between one node and its Consul agent |
//! | [`held`] | a start that is held up until it is let go |
//! | [`cable`] | a network cable that can be pulled |
//! | [`sinks`] | a cluster, a system that its sink writes into, and what is compared between them |
//! | [`agreement`] | what the nodes of one cluster must agree on, whatever they run in |
//! | [`docker`] | Docker's command line, and that nothing made with it stays behind |
//! | [`containers`] | nodes in containers, and what can be done to their networks |
//! | [`compose`] | the cluster of `docker-compose.yml`, and its Prometheus |
//!
//! Nothing here uses the server's internals. The output of a test is shown only when it fails, so every
//! process prints the end of its log when it is dropped.

pub mod agreement;
pub mod binaries;
pub mod browser;
pub mod bulk;
pub mod cable;
pub mod cluster;
pub mod compose;
pub mod consul;
pub mod containers;
pub mod dev;
pub mod disk;
pub mod docker;
pub mod grpc;
pub mod held;
pub mod http;
pub mod machines;
pub mod members;
pub mod mongo;
pub mod names;
pub mod nginx;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
pub mod python;
pub mod receiver;
pub mod relay;
pub mod sinks;
pub mod timeouts;
pub mod traffic;
pub mod wait;
pub mod walkthrough;
pub mod watcher;
mod wire;
