//! Watching what changes.

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

/// What a watch has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Something wanted happened.
    Event(Box<Event>),
    /// Nothing wanted happened up to this place, which the watch goes on from.
    Bookmark(EventCursor),
    /// The node that it followed is lost: another one is looked for.
    Lost {
        /// The node.
        endpoint: Address,
        /// What happened, for people.
        cause: String,
    },
    /// A node is followed again, behind the last event or bookmark before.
    Resumed {
        /// The node; it may be the same.
        endpoint: Address,
    },
}

/// What changes, in order, each event once, without gaps: a `Stream` that goes on by itself on
/// another node when the one it follows is lost.
///
/// It ends after an error:
///
/// - [`Error::Compacted`] or [`Error::Lagged`] when events that were not received are no longer
///   kept;
/// - [`Error::Unavailable`] when no node has answered for as long as the call's
///   [`timeout`](WatchCall::timeout);
/// - another one that trying again would not heal.
///
/// A reader that stops reading delays no other: about 256 KiB of events wait here, the rest with the
/// cluster. Dropping it ends the watch; another one can go on behind
/// [`reached`](Self::reached).
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

    /// What comes next; none after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Watched, Error>> {
        StreamExt::next(self).await
    }

    /// The place of the last event or bookmark that was taken: behind it, a later watch with the
    /// same filter goes on without a gap. Before the first, where the watch began, if that is known.
    pub fn reached(&self) -> Option<EventCursor> {
        self.reached
    }

    /// The node that is followed, or was until it was lost.
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
    /// Watches what changes. Once this returns, nothing that the call asks for is missed.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::{Consistency, ListCall, WatchCall, Watched};
    ///
    /// // The first orders there are, and from there on, what changes: nothing is missed, and nothing
    /// // seen twice.
    /// let orders = "order".parse()?;
    /// let page = client.instances(&ListCall::of(&orders)).await?;
    /// let mut watch = client.watch(WatchCall::of(&orders).after(page.place())).await?;
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
    /// [`Error::Compacted`] when it should begin before what is kept, [`Error::Invalid`] when the
    /// filter breaks the rules, [`Error::Unavailable`] when no node could begin it within the
    /// client's timeout.
    pub async fn watch(&self, call: WatchCall) -> Result<Watch, Error> {
        Ok(Watch::new(Follower::begin(self.clone(), call).await?))
    }
}
