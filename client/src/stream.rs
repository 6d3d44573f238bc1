//! A stream of messages from one node, on a connection of its own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::answer::{Failure, Verdict, judge};
use crate::call::{connected, within};
use crate::endpoints::Slot;

/// A node that sends nothing for this long is given up. Watches get a bookmark every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A stream that has begun.
pub(crate) struct MessageStream<M> {
    pub slot: Arc<Slot>,
    opened: Instant,
    first: Option<M>,
    messages: Streaming<M>,
    /// Closed when the stream is dropped.
    _channel: Channel,
}

impl<M: Send + 'static> MessageStream<M> {
    /// Connects, sends a request, and waits for the first message. The request must have no deadline on the wire: it
    /// would hold for the whole stream.
    pub(crate) async fn open<F>(
        slot: Arc<Slot>,
        deadline: Instant,
        send: impl FnOnce(Channel) -> F,
    ) -> Result<Self, Verdict>
    where
        F: Future<Output = Result<Response<Streaming<M>>, Status>>,
    {
        let channel = connected(deadline, slot.connect_apart()).await?;
        let begin = async {
            let mut messages = send(channel.clone()).await.map_err(judge)?.into_inner();
            let first = messages.message().await.map_err(judge)?;
            Ok((first.ok_or_else(ended)?, messages))
        };
        let begun = within(deadline, "answer", Failure::no_answer, begin).await;
        let (first, messages) = begun.flatten()?;
        Ok(Self {
            slot,
            opened: Instant::now(),
            first: Some(first),
            messages,
            _channel: channel,
        })
    }

    /// The next message, or none at the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Verdict> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match timeout(SILENCE_MAX, self.messages.message()).await {
            Ok(received) => received.map_err(judge),
            Err(_) => Err(Verdict::Retry(Failure::no_answer(format!(
                "no message for {SILENCE_MAX:?}"
            )))),
        }
    }

    /// How long it has lasted.
    pub(crate) fn age(&self) -> Duration {
        self.opened.elapsed()
    }
}

/// A stream that should not have ended: the node is stopping.
pub(crate) fn ended() -> Verdict {
    Verdict::Retry(Failure::no_answer("the node ended the stream".to_owned()))
}
