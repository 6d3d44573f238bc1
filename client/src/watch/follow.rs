//! Follows the event stream from node to node.
//!
//! Only the cursor of the last message received is carried over to the next node: it is asked for the
//! events after that cursor, and earlier ones are dropped, whichever node sends them.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, stream};
use lockstep_machine::{Event, EventCursor};
use lockstep_proto::v1::watch_response::Message;
use lockstep_proto::{Malformed, v1};
use tokio::time::Instant;

use super::Watched;
use super::call::WatchCall;
use super::line::Line;
use crate::address::Address;
use crate::answer::{Failure, Verdict};
use crate::call::{Backoff, Effect, run_each};
use crate::client::{Client, required};
use crate::error::Error;

/// A stream that lasts for less than this counts as failed: reconnecting at once, again and again,
/// would only add load to a cluster that has a problem.
const SHORT: Duration = Duration::from_secs(1);

/// A watch, and its stream from one node.
pub(super) struct Follower {
    client: Client,
    call: WatchCall,
    line: Line,
    stage: Stage,
    /// The cursor of the last event or bookmark received.
    reached: Option<EventCursor>,
    /// Received, and not yet returned.
    waiting: VecDeque<Watched>,
    /// The wait before the next node is asked, after a short stream.
    backoff: Option<Backoff>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Following,
    Lost,
    Over,
}

impl Follower {
    /// Begins the watch at the first node that can.
    pub(super) async fn begin(client: Client, call: WatchCall) -> Result<Self, Error> {
        let line = open(&client, client.timeout, call.to_message(None)).await?;
        Ok(Self {
            client,
            line,
            stage: Stage::Following,
            reached: call.origin(),
            waiting: VecDeque::new(),
            backoff: None,
            call,
        })
    }

    pub(super) fn endpoint(&self) -> &Address {
        &self.line.slot.address
    }

    /// The cursor after which it began, if that is known.
    pub(super) fn origin(&self) -> Option<EventCursor> {
        self.call.origin()
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Watched, Error>> + Send {
        stream::unfold(self, |mut follower| async move {
            let watched = follower.next().await?;
            Some((watched, follower))
        })
    }

    async fn next(&mut self) -> Option<Result<Watched, Error>> {
        loop {
            if let Some(watched) = self.waiting.pop_front() {
                return Some(Ok(watched));
            }
            match self.stage {
                Stage::Over => return None,
                Stage::Lost => return Some(self.resume().await),
                Stage::Following => {}
            }
            let received = self.line.next().await;
            let taken = received.and_then(|it| Ok(self.take(it)?));
            match taken {
                Ok(()) => {}
                Err(Verdict::Retry(failure)) => return Some(Ok(self.lost(failure))),
                Err(Verdict::Final(error)) => return Some(Err(self.end(error))),
                Err(Verdict::BadAnswer(reason)) => {
                    let endpoint = self.endpoint().clone();
                    return Some(Err(self.end(Error::BadAnswer { endpoint, reason })));
                }
            }
        }
    }

    /// Queues what is new in a message.
    fn take(&mut self, response: v1::WatchResponse) -> Result<(), Malformed> {
        if !response.cluster_id.is_empty() {
            self.call.stay_in(response.cluster_id);
        }
        match required("message", response.message)? {
            Message::Events(v1::Events { events }) => {
                for wire in events {
                    let event = Event::try_from(wire)?;
                    if self.move_to(event.cursor()) {
                        self.waiting.push_back(Watched::Event(Box::new(event)));
                    }
                }
            }
            Message::Bookmark(cursor) => {
                let cursor = cursor.into();
                if self.move_to(cursor) {
                    self.waiting.push_back(Watched::Bookmark(cursor));
                }
            }
        }
        Ok(())
    }

    /// Advances to a cursor; false if it was reached already.
    fn move_to(&mut self, cursor: EventCursor) -> bool {
        let is_new = self.reached.is_none_or(|reached| reached < cursor);
        if is_new {
            self.reached = Some(cursor);
        }
        is_new
    }

    fn lost(&mut self, failure: Failure) -> Watched {
        self.stage = Stage::Lost;
        self.backoff = match self.line.age() < SHORT {
            true => Some(self.backoff.take().unwrap_or_default()),
            false => None,
        };
        self.client.endpoints.demote(&self.line.slot);
        Watched::Lost {
            endpoint: self.endpoint().clone(),
            cause: failure.cause,
        }
    }

    /// Continues on another node, after the cursor that was reached.
    async fn resume(&mut self) -> Result<Watched, Error> {
        if let Some(backoff) = &mut self.backoff {
            tokio::time::sleep(backoff.next()).await;
        }
        let message = self.call.to_message(self.reached);
        match open(&self.client, self.call.timeout, message).await {
            Ok(line) => {
                self.line = line;
                self.stage = Stage::Following;
                Ok(Watched::Resumed {
                    endpoint: self.endpoint().clone(),
                })
            }
            Err(error) => Err(self.end(error)),
        }
    }

    fn end(&mut self, error: Error) -> Error {
        self.stage = Stage::Over;
        match error {
            Error::Lagged { oldest, .. } => Error::Lagged {
                oldest,
                reached: self.reached,
            },
            error => error,
        }
    }
}

/// Opens a stream at the first node that begins one.
async fn open(
    client: &Client,
    timeout: Duration,
    message: v1::WatchRequest,
) -> Result<Line, Error> {
    run_each(
        &client.endpoints,
        timeout,
        Effect::None,
        |slot, deadline| {
            let deadline = deadline.min(Instant::now() + client.timeout);
            Line::open(slot, deadline, message.clone())
        },
    )
    .await
}
