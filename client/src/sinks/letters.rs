//! The events that a far side refused for good.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use lockstep_machine::{Event, Timestamp};
use lockstep_proto::v1;

use crate::answer::Verdict;
use crate::call::Effect;
use crate::client::Client;
use crate::error::Error;
use crate::wire::{Unreadable, event};

/// Which dead letters to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLettersCall {
    sink: String,
    limit: Option<u32>,
    cursor: Option<String>,
}

impl DeadLettersCall {
    /// Those of a sink.
    pub fn of(sink: impl Into<String>) -> Self {
        Self {
            sink: sink.into(),
            limit: None,
            cursor: None,
        }
    }

    /// Dead letters on a page at most, 1 to 1000; 100 without it.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Begin where an earlier page ended: its [`next_cursor`](DeadLetterPage::next_cursor).
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// The call for the page that follows one with this answer. None after the last page.
    pub fn following(mut self, page: &DeadLetterPage) -> Option<Self> {
        self.cursor = Some(page.next_cursor.clone()?);
        Some(self)
    }

    fn to_message(&self) -> v1::ListDeadLettersRequest {
        v1::ListDeadLettersRequest {
            sink: self.sink.clone(),
            limit: self.limit,
            cursor: self.cursor.clone(),
        }
    }
}

/// An event that a far side refused for good, and that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The event; its place names the dead letter. One of the kind
    /// [`Seeded`](crate::EventKind::Seeded) stands for a state that was refused when the
    /// current ones were written as a whole.
    pub event: Event,
    /// What the far side said last.
    pub reason: String,
    /// How often it was refused.
    pub attempts: u32,
    /// When it was put aside, in cluster time.
    pub buried_at: Timestamp,
    /// When it was last tried, in cluster time.
    pub tried_at: Timestamp,
    /// Whether somebody wants it written once more, and it was not tried yet.
    pub replay_wanted: bool,
}

impl TryFrom<v1::DeadLetter> for DeadLetter {
    type Error = Unreadable;

    fn try_from(wire: v1::DeadLetter) -> Result<Self, Unreadable> {
        Ok(Self {
            event: event::event(wire.event.ok_or("a dead letter has no event")?)?,
            reason: wire.reason,
            attempts: wire.attempts,
            buried_at: Timestamp(wire.buried_at_ms),
            tried_at: Timestamp(wire.tried_at_ms),
            replay_wanted: wire.replay_wanted,
        })
    }
}

/// A page of dead letters, in the order of their events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterPage {
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the next page starts; none on the last.
    pub next_cursor: Option<String>,
}

impl Client {
    /// A page of the events that a far side refused for good.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink, [`Error::Invalid`] when the limit or the cursor
    /// is none, [`Error::Unavailable`] when no node could answer in time.
    pub async fn dead_letters(&self, call: &DeadLettersCall) -> Result<DeadLetterPage, Error> {
        let understand = |answer: v1::ListDeadLettersResponse| {
            let letters = answer.dead_letters.into_iter().map(DeadLetter::try_from);
            Ok::<_, Verdict>(DeadLetterPage {
                dead_letters: letters
                    .collect::<Result<_, _>>()
                    .map_err(Verdict::BadAnswer)?,
                next_cursor: answer.next_cursor,
            })
        };
        self.ask(Effect::None, call.to_message(), understand).await
    }

    /// All dead letters of a sink, page after page as they are taken.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::{DeadLettersCall, Letters};
    ///
    /// let mut letters = client.all_dead_letters(DeadLettersCall::of("reports"));
    /// while let Some(letter) = letters.next().await {
    ///     let letter = letter?;
    ///     println!("{:?}: {}", letter.event.instance(), letter.reason);
    /// }
    /// // Once the far side is mended.
    /// client.replay_dead_letters("reports", Letters::All).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_dead_letters(&self, call: DeadLettersCall) -> DeadLetters {
        DeadLetters::new(self.clone(), call)
    }
}

/// The dead letters of a sink, in the order of their events: a `Stream` that fetches each page when
/// the one before is used up.
///
/// The pages are not one snapshot: a dead letter that is put aside or settled meanwhile may be there
/// or not, and one that stays is there once. Each page has the client's timeout. The stream ends
/// after an error.
pub struct DeadLetters {
    inner: BoxStream<'static, Result<DeadLetter, Error>>,
}

impl DeadLetters {
    fn new(client: Client, call: DeadLettersCall) -> Self {
        let pages = stream::try_unfold(Some(call), move |call| {
            let client = client.clone();
            async move {
                let Some(call) = call else {
                    return Ok::<_, Error>(None);
                };
                let page = client.dead_letters(&call).await?;
                let next = call.following(&page);
                let letters = page.dead_letters.into_iter().map(Ok);
                Ok(Some((stream::iter(letters), next)))
            }
        });
        Self {
            inner: pages.try_flatten().boxed(),
        }
    }

    /// The next dead letter; none after the last.
    pub async fn next(&mut self) -> Option<Result<DeadLetter, Error>> {
        self.inner.next().await
    }
}

impl Stream for DeadLetters {
    type Item = Result<DeadLetter, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").finish_non_exhaustive()
    }
}
