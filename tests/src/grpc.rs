//! The gRPC interface as a client in any language sees it: the generated types and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lockstep_proto::v1;
use lockstep_proto::v1::machines_client::MachinesClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::cluster::Node;

/// Longer than any deadline of the server's own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// A bookmark comes every few seconds: silence for longer means that the node is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Flow-control window for a reader that does not read.
const WINDOW_BYTES: u32 = 64 << 10;

/// A node's `lockstep.v1.Machines`, over a connection of its own that is made when it is needed.
pub fn machines(node: &Node) -> Result<MachinesClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc_address()))?
        .connect_timeout(REQUEST_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    Ok(MachinesClient::new(endpoint.connect_lazy()))
}

/// A request with a deadline.
pub fn asking<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(REQUEST_TIMEOUT);
    request
}

/// A value of a status's metadata; empty if it is not there.
pub fn trailer<'a>(status: &'a Status, key: &str) -> &'a str {
    let value = status.metadata().get(key);
    value.and_then(|it| it.to_str().ok()).unwrap_or_default()
}

/// The stable code of a status.
pub fn code(status: &Status) -> &str {
    trailer(status, "lockstep-code")
}

/// A watch that keeps its cursor, so that it can resume on another node.
pub struct Watch {
    request: v1::WatchRequest,
    stream: Option<Streaming<v1::WatchResponse>>,
}

impl Watch {
    /// A watch of what is asked for, not begun.
    pub fn new(request: v1::WatchRequest) -> Self {
        let stream = None;
        Self { request, stream }
    }

    /// Starts the watch, or resumes it after the last cursor received.
    pub async fn open(&mut self, node: &Node) -> Result<(), Status> {
        self.stream = None;
        let mut client = machines(node).map_err(|error| Status::internal(error.to_string()))?;
        let stream = client.watch(self.request.clone()).await?.into_inner();
        self.stream = Some(stream);
        Ok(())
    }

    /// The next events; none for a bookmark. The inner error is how the watch ended.
    pub async fn next(&mut self) -> Result<Result<Vec<v1::Event>, Status>> {
        let stream = self.stream.as_mut().context("the watch is not open")?;
        let next = tokio::time::timeout(SILENCE_MAX, stream.message())
            .await
            .context("neither events nor a bookmark")?;
        let message = match next {
            Ok(Some(response)) => response.message.context("an empty message")?,
            Ok(None) => bail!("the watch ended without a word"),
            Err(status) => return Ok(Err(status)),
        };
        let (events, cursor) = match message {
            v1::watch_response::Message::Events(it) => {
                let cursor = it.events.last().context("no events")?.cursor;
                (it.events, cursor.context("an event without a cursor")?)
            }
            v1::watch_response::Message::Bookmark(cursor) => (vec![], cursor),
        };
        self.request.from = Some(v1::watch_request::From::After(cursor));
        Ok(Ok(events))
    }
}
