//! The client library against gRPC servers that answer by script.

mod calls;
mod failover;
mod sinks;
mod transitions;
mod watch;

use std::time::Duration;

use lockstep_client::Client;

/// A client of these nodes, whose calls have as long as by default.
fn client<E: ToString>(nodes: impl IntoIterator<Item = E>) -> Client {
    client_within(nodes, 5000)
}

fn client_within<E: ToString>(nodes: impl IntoIterator<Item = E>, timeout_ms: u64) -> Client {
    Client::builder()
        .endpoints(nodes)
        .timeout(Duration::from_millis(timeout_ms))
        .build()
        .expect("the test's endpoints are valid")
}
