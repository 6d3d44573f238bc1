//! Watches: subscriptions to the event stream.

mod call;
mod follow;
mod line;

pub use call::{WATCH_TIMEOUT_DEFAULT, WatchCall};

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use lockstep_machine::{Event, EventCursor};

use crate::address::Address;
use crate::client::Client;
use crate::error::Error;
use follow::Follower;

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

/// The events that match a call, each once, in order and without gaps: a `Stream` that continues on
/// another node when the connection to its node is lost.
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
    endpoint: Address,
    reached: Option<EventCursor>,
    inner: BoxStream<'static, Result<Watched, Error>>,
}

impl Watch {
    fn new(follower: Follower) -> Self {
        Self {
            endpoint: follower.endpoint().clone(),
            reached: follower.origin(),
            inner: follower.into_stream().boxed(),
        }
    }

    /// The next item; none after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Watched, Error>> {
        StreamExt::next(self).await
    }

    /// The cursor of the last event or bookmark that was returned: after it, a later watch with the
    /// same filter continues without a gap. Before the first, where the watch began, if that is known.
    pub fn reached(&self) -> Option<EventCursor> {
        self.reached
    }

    /// The node that sends the events, or did until it was lost.
    pub fn endpoint(&self) -> &Address {
        &self.endpoint
    }
}

impl Stream for Watch {
    type Item = Result<Watched, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(watched))) = &polled {
            match watched {
                Watched::Event(event) => self.reached = Some(event.cursor()),
                Watched::Bookmark(cursor) => self.reached = Some(*cursor),
                Watched::Resumed { endpoint } => self.endpoint = endpoint.clone(),
                Watched::Lost { .. } => {}
            }
        }
        polled
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("endpoint", &self.endpoint)
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
        Ok(Watch::new(Follower::begin(self.clone(), call).await?))
    }
}
