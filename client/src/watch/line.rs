//! One stream of events from one node, on its own connection.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::v1;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::answer::{Failure, Verdict, judge};
use crate::call::{connected, within};
use crate::endpoints::Slot;
use crate::service::machines;

/// A bookmark comes every few seconds: a longer silence means that the node sends nothing any more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A stream that has begun.
pub(super) struct Line {
    pub slot: Arc<Slot>,
    opened: Instant,
    first: Option<v1::WatchResponse>,
    messages: Streaming<v1::WatchResponse>,
    /// Closed when the stream is dropped.
    _channel: Channel,
}

impl Line {
    /// Connects, sends the request, and waits for the first message. Every stream begins with one, so
    /// that a cursor to continue from is known from then on.
    pub(super) async fn open(
        slot: Arc<Slot>,
        deadline: Instant,
        message: v1::WatchRequest,
    ) -> Result<Self, Verdict> {
        let channel = connected(deadline, slot.connect_apart()).await?;
        let begin = async {
            let mut client = machines(channel.clone());
            // Without a deadline on the wire: it would hold for the whole stream.
            let response = client.watch(Request::new(message)).await.map_err(judge)?;
            let mut messages = response.into_inner();
            let first = receive(&mut messages).await?;
            Ok((first, messages))
        };
        let (first, messages) = within(deadline, "answer", Failure::no_answer, begin)
            .await
            .flatten()?;
        Ok(Self {
            slot,
            opened: Instant::now(),
            first: Some(first),
            messages,
            _channel: channel,
        })
    }

    /// The next message. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<v1::WatchResponse, Verdict> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match timeout(SILENCE_MAX, receive(&mut self.messages)).await {
            Ok(received) => received,
            Err(_) => Err(Verdict::Retry(Failure::no_answer(format!(
                "no message for {SILENCE_MAX:?}"
            )))),
        }
    }

    /// How long it has lasted.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }
}

async fn receive(
    messages: &mut Streaming<v1::WatchResponse>,
) -> Result<v1::WatchResponse, Verdict> {
    match messages.message().await {
        Ok(Some(message)) => Ok(message),
        // A node that is stopping.
        Ok(None) => Err(Verdict::Retry(Failure::no_answer(
            "the node ended the watch".to_owned(),
        ))),
        Err(status) => Err(judge(status)),
    }
}
