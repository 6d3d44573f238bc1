//! Dead letters: the events that a sink's destination rejected permanently.

use lockstep_machine::{DeadLetter, EventCursor};
use lockstep_proto::v1;
use serde::Serialize;

use crate::call::Effect;
use crate::client::Client;
use crate::error::Error;
use crate::pages::{Pages, pages};
use crate::setters::setters;

/// Which dead letters to list.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLettersCall(v1::ListDeadLettersRequest);

impl DeadLettersCall {
    /// Those of a sink.
    pub fn of(sink: impl Into<String>) -> Self {
        Self(v1::ListDeadLettersRequest {
            sink: sink.into(),
            ..Default::default()
        })
    }

    /// The call for the page that follows this one. None after the last page.
    pub fn following(self, page: &DeadLetterPage) -> Option<Self> {
        Some(self.cursor(page.next_cursor.clone()?))
    }
}

setters! {
    [DeadLettersCall].0 {
        /// The most dead letters on a page, 1 to 1000; 100 without it.
        limit: u32 => Some(limit),
        /// Start where an earlier page ended: its [`next_cursor`](DeadLetterPage::next_cursor).
        cursor: impl Into<String> => Some(cursor.into()),
    }
}

/// A page of dead letters, in the order of their events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterPage {
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the next page starts; none on the last.
    pub next_cursor: Option<String>,
}

/// Which dead letters of a sink to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetters {
    /// The one of the event at this cursor.
    One(EventCursor),
    /// All of them.
    All,
}

macro_rules! which {
    ($($module:ident),*) => {$(
        impl From<DeadLetters> for v1::$module::Which {
            fn from(which: DeadLetters) -> Self {
                match which {
                    DeadLetters::One(cursor) => Self::Event(cursor.into()),
                    DeadLetters::All => Self::All(true),
                }
            }
        }
    )*};
}

which!(replay_dead_letters_request, discard_dead_letters_request);

impl Client {
    /// A page of the dead letters of a sink.
    ///
    /// # Errors
    /// Those of every read, and [`Error::Invalid`] when the limit or the cursor is not valid.
    pub async fn dead_letters(&self, call: &DeadLettersCall) -> Result<DeadLetterPage, Error> {
        self.ask(Effect::None, call.0.clone(), |answer| {
            let letters = answer.dead_letters.into_iter().map(TryInto::try_into);
            Ok(DeadLetterPage {
                dead_letters: letters.collect::<Result<_, _>>()?,
                next_cursor: answer.next_cursor,
            })
        })
        .await
    }

    /// All dead letters of a sink, in the order of their events, page after page as they are taken.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use futures::StreamExt;
    /// use lockstep_client::{DeadLettersCall, DeadLetters};
    ///
    /// let mut letters = client.all_dead_letters(DeadLettersCall::of("reports"));
    /// while let Some(letter) = letters.next().await {
    ///     let letter = letter?;
    ///     println!("{:?}: {}", letter.event.instance(), letter.reason);
    /// }
    /// // Once the cause is fixed at the destination.
    /// client.replay_dead_letters("reports", DeadLetters::All).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_dead_letters(&self, call: DeadLettersCall) -> Pages<DeadLetter> {
        pages(self, call, async |client, call: DeadLettersCall| {
            let page = client.dead_letters(&call).await?;
            let next = call.following(&page);
            Ok((page.dead_letters, next))
        })
    }

    /// Marks dead letters for another attempt; returns how many. The sink makes it later: one
    /// that the destination accepts disappears, and one that it rejects again stays, with the new
    /// reason.
    pub async fn replay_dead_letters(&self, sink: &str, which: DeadLetters) -> Result<u64, Error> {
        let message = v1::ReplayDeadLettersRequest {
            sink: sink.to_owned(),
            which: Some(which.into()),
        };
        let marked: v1::DeadLettersMarked = self.change(message).await?;
        Ok(marked.count)
    }

    /// Drops dead letters: their events will never be delivered. Returns their number.
    ///
    /// # Errors
    /// Those of every write. The client may have repeated the call because a response
    /// was lost: then a dead letter reported as unknown was discarded by this very call.
    pub async fn discard_dead_letters(&self, sink: &str, which: DeadLetters) -> Result<u64, Error> {
        let message = v1::DiscardDeadLettersRequest {
            sink: sink.to_owned(),
            which: Some(which.into()),
        };
        let discarded: v1::DeadLettersDiscarded = self.change(message).await?;
        Ok(discarded.count)
    }
}
