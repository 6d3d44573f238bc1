//! The client library against gRPC servers that answer by script.

mod calls;
mod failover;
mod sinks;
mod watch;
