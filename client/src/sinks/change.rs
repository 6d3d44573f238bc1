//! What an operator wants of a sink: a seed, and what becomes of its dead letters.

use lockstep_machine::EventCursor;
use lockstep_proto::v1;

use crate::answer::Verdict;
use crate::call::Effect;
use crate::client::Client;
use crate::error::Error;
use crate::wire::event::to_place;
use crate::wire::outcome;
use crate::wire::unary::Outcome;

/// Which dead letters of a sink are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// That of the event at this place.
    One(EventCursor),
    /// All there are.
    All,
}

/// What came of a change: done, or refused.
fn decided<T>(outcome: Option<Outcome<T>>) -> Result<T, Verdict> {
    match outcome {
        Some(Ok(done)) => Ok(done),
        Some(Err(rejected)) => {
            let rejected = outcome::rejected(*rejected, false).map_err(Verdict::BadAnswer)?;
            Err(Verdict::Final(Error::Rejected(Box::new(rejected))))
        }
        None => {
            let reason = "the answer does not say what came of it";
            Err(Verdict::BadAnswer(reason.to_owned()))
        }
    }
}

impl Client {
    /// Has the current states written to the far side of a sink as a whole, once more. It happens
    /// later, as soon as the far side is there: [`sinks`](Self::sinks) shows how far it is.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink, [`Error::Unavailable`] when nothing was
    /// changed, [`Error::Unanswered`] when it may have been.
    pub async fn reseed_sink(&self, sink: &str) -> Result<(), Error> {
        use v1::reseed_sink_response::Outcome as Wire;
        let message = v1::ReseedSinkRequest {
            sink: sink.to_owned(),
        };
        let understand = |answer: v1::ReseedSinkResponse| {
            decided(answer.outcome.map(|outcome| match outcome {
                Wire::Asked(v1::SeedAsked { .. }) => Ok(()),
                Wire::Rejected(rejected) => Err(Box::new(rejected)),
            }))
        };
        self.ask(Effect::Repeatable, message, understand).await
    }

    /// Has dead letters written to the far side once more; how many. It happens later: one that the
    /// far side takes is a dead letter no longer, and one that it refuses again stays, with the new
    /// reason.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink or dead letter, and those of
    /// [`reseed_sink`](Self::reseed_sink).
    pub async fn replay_dead_letters(&self, sink: &str, which: Letters) -> Result<u64, Error> {
        use v1::replay_dead_letters_request::Which;
        use v1::replay_dead_letters_response::Outcome as Wire;
        let message = v1::ReplayDeadLettersRequest {
            sink: sink.to_owned(),
            which: Some(match which {
                Letters::One(cursor) => Which::Event(to_place(cursor)),
                Letters::All => Which::All(true),
            }),
        };
        let understand = |answer: v1::ReplayDeadLettersResponse| {
            decided(answer.outcome.map(|outcome| match outcome {
                Wire::Marked(v1::DeadLettersMarked { count }) => Ok(count),
                Wire::Rejected(rejected) => Err(Box::new(rejected)),
            }))
        };
        self.ask(Effect::Repeatable, message, understand).await
    }

    /// Forgets dead letters: the far side will never hold their events. How many.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink or dead letter, and those of
    /// [`reseed_sink`](Self::reseed_sink). An answer may have been lost and the call repeated: then a
    /// dead letter that is unknown was discarded by this very call.
    pub async fn discard_dead_letters(&self, sink: &str, which: Letters) -> Result<u64, Error> {
        use v1::discard_dead_letters_request::Which;
        use v1::discard_dead_letters_response::Outcome as Wire;
        let message = v1::DiscardDeadLettersRequest {
            sink: sink.to_owned(),
            which: Some(match which {
                Letters::One(cursor) => Which::Event(to_place(cursor)),
                Letters::All => Which::All(true),
            }),
        };
        let understand = |answer: v1::DiscardDeadLettersResponse| {
            decided(answer.outcome.map(|outcome| match outcome {
                Wire::Discarded(v1::DeadLettersDiscarded { count }) => Ok(count),
                Wire::Rejected(rejected) => Err(Box::new(rejected)),
            }))
        };
        self.ask(Effect::Repeatable, message, understand).await
    }
}
