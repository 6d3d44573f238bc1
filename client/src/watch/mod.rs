//! Watches: subscriptions to the event stream.
//!
//! Only the cursor of the last message received is carried over to the next node: it is asked for the
//! events after that cursor, and earlier ones are dropped, whichever node sends them.

mod call;

pub use call::WatchCall;

use std::fmt;
use std::time::Duration;
use std::vec;

use futures::{Stream, stream};
use lockstep_machine::{Event, EventCursor};
use lockstep_proto::v1;
use lockstep_proto::v1::watch_response::Message;
use tokio::time::Instant;

use crate::address::Address;
use crate::answer::{Failure, Verdict};
use crate::call::{Backoff, Effect, run};
use crate::client::{Client, required};
use crate::error::Error;
use crate::service::machines;
use crate::stream::{MessageStream, ended};

/// A stream that lasts for less than this counts as failed: reconnecting at once, again and again,
/// would only add load to a cluster that has a problem.
const SHORT: Duration = Duration::from_secs(1);

/// An item of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// An event that matches the call.
    Event(Box<Event>),
    /// No further event up to this cursor matches; the watch continues after it.
    Bookmark(EventCursor),
    /// The connection to the node is lost; the watch looks for another one.
    Lost {
        /// The node.
        endpoint: Address,
        /// What happened, for people.
        cause: String,
    },
    /// The watch continues on a node, after the last event or bookmark.
    Resumed {
        /// The node; it may be the same.
        endpoint: Address,
    },
}

/// The events that match a call, each once, in order and without gaps. It continues on another node
/// when the connection to its node is lost.
///
/// It ends after an error:
///
/// - [`Error::Compacted`] or [`Error::Lagged`] when events that were not received are no longer
///   kept;
/// - [`Error::Unavailable`] when no node has answered for as long as the call's
///   [`timeout`](WatchCall::timeout);
/// - another error that a retry does not fix.
///
/// A reader that stops reading delays no other: about 256 KiB of events wait here, the rest in the
/// cluster. Dropping it ends the watch; another one can continue after [`reached`](Self::reached).
pub struct Watch {
    client: Client,
    call: WatchCall,
    messages: MessageStream<v1::WatchResponse>,
    stage: Stage,
    reached: Option<EventCursor>,
    /// Received, and not yet returned.
    waiting: vec::IntoIter<v1::Event>,
    /// The wait before the next node is asked, after a short stream.
    backoff: Option<Backoff>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Receiving,
    Lost,
    Over,
}

impl Watch {
    /// The next item; none after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Watched, Error>> {
        let watched = match self.stage {
            Stage::Over => return None,
            Stage::Lost => self.resume().await,
            Stage::Receiving => match self.receive().await {
                Ok(watched) => Ok(watched),
                Err(Verdict::Retry(failure)) => Ok(self.lost(failure)),
                Err(Verdict::Final(error)) => Err(error),
                Err(Verdict::BadAnswer(reason)) => Err(Error::BadAnswer {
                    endpoint: self.endpoint().clone(),
                    reason,
                }),
            },
        };
        Some(watched.map_err(|error| self.ended(error)))
    }

    /// The items as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Watched, Error>> + Send {
        stream::unfold(self, async |mut watch| Some((watch.next().await?, watch)))
    }

    /// The cursor of the last event or bookmark that was returned: after it, a later watch with the
    /// same filter continues without a gap. Before the first, where the watch began, if that is known.
    pub fn reached(&self) -> Option<EventCursor> {
        self.reached
    }

    /// The node that sends the events, or did until it was lost.
    pub fn endpoint(&self) -> &Address {
        &self.messages.slot.address
    }

    /// The next event or bookmark from the node that is new.
    async fn receive(&mut self) -> Result<Watched, Verdict> {
        loop {
            while let Some(event) = self.waiting.next() {
                let event = Event::try_from(event)?;
                if self.move_to(event.cursor()) {
                    return Ok(Watched::Event(Box::new(event)));
                }
            }
            let response = self.messages.next().await?.ok_or_else(ended)?;
            if !response.cluster_id.is_empty() {
                self.call.stay_in(response.cluster_id);
            }
            match required("message", response.message)? {
                Message::Events(v1::Events { events }) => self.waiting = events.into_iter(),
                Message::Bookmark(cursor) => {
                    let cursor = cursor.into();
                    if self.move_to(cursor) {
                        return Ok(Watched::Bookmark(cursor));
                    }
                }
            }
        }
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
        self.backoff = match self.messages.age() < SHORT {
            true => Some(self.backoff.take().unwrap_or_default()),
            false => None,
        };
        self.client.endpoints.demote(&self.messages.slot);
        Watched::Lost {
            endpoint: self.endpoint().clone(),
            cause: failure.cause,
        }
    }

    fn ended(&mut self, mut error: Error) -> Error {
        self.stage = Stage::Over;
        if let Error::Lagged { reached, .. } = &mut error {
            *reached = self.reached;
        }
        error
    }

    /// Continues on another node, after the cursor that was reached.
    async fn resume(&mut self) -> Result<Watched, Error> {
        if let Some(backoff) = &mut self.backoff {
            tokio::time::sleep(backoff.next()).await;
        }
        let message = self.call.to_message(self.reached);
        self.messages = open(&self.client, self.call.timeout, message).await?;
        self.stage = Stage::Receiving;
        Ok(Watched::Resumed {
            endpoint: self.endpoint().clone(),
        })
    }
}

/// Opens a stream at the first node that begins one.
async fn open(
    client: &Client,
    timeout: Duration,
    message: v1::WatchRequest,
) -> Result<MessageStream<v1::WatchResponse>, Error> {
    let once = |slot, deadline: Instant| {
        let deadline = deadline.min(Instant::now() + client.timeout);
        let message = message.clone();
        MessageStream::open(slot, deadline, async |channel| {
            machines(channel).watch(message).await
        })
    };
    run(&client.endpoints, timeout, Effect::None, once).await
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("endpoint", self.endpoint())
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Watches the events that match a call. Once this returns, none is missed.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::{Consistency, ListCall, WatchCall, Watched};
    ///
    /// // A page of the orders, and every change after it: none is missed, none is seen twice.
    /// let orders = "order".parse()?;
    /// let page = client.instances(&ListCall::of(&orders)).await?;
    /// let mut watch = client.watch(WatchCall::of(&orders).after(page.cursor())).await?;
    /// while let Some(watched) = watch.next().await {
    ///     match watched? {
    ///         Watched::Event(event) => println!("{:?} is in {:?} now", event.instance(), event.to),
    ///         Watched::Lost { endpoint, cause } => eprintln!("{endpoint} is lost: {cause}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Compacted`] when it would begin before the events that are kept, [`Error::Invalid`]
    /// when the filter is not valid, [`Error::Unavailable`] when no node could begin it within the
    /// client's timeout.
    pub async fn watch(&self, call: WatchCall) -> Result<Watch, Error> {
        let messages = open(self, self.timeout, call.to_message(None)).await?;
        Ok(Watch {
            client: self.clone(),
            messages,
            stage: Stage::Receiving,
            reached: call.origin(),
            waiting: vec::IntoIter::default(),
            backoff: None,
            call,
        })
    }
}
