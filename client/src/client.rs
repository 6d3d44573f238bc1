//! The client: what a caller holds, and the two ways in which it asks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{GlobalRevision, IdempotencyKey};

use crate::answer::{Failure, Verdict, judge};
use crate::builder::Builder;
use crate::call::{self, Attempt, Effect};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::freshness::Read;
use crate::wire::unary::{Unary, WriteAnswer};
use crate::wire::{Unreadable, outcome};
use crate::written::{Written, random_key};

/// A client of one cluster. Cloning is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) timeout: Duration,
}

impl Client {
    /// Starts with no endpoint and a timeout of 5 s.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Asks for something, and changes nothing.
    pub(crate) async fn read<M: Unary, T: Send>(
        &self,
        message: M,
        understand: fn(M::Answer) -> Result<Read<T>, Unreadable>,
    ) -> Result<Read<T>, Error> {
        self.ask(Effect::None, message, |answer| {
            understand(answer).map_err(Verdict::BadAnswer)
        })
        .await
    }

    /// Asks for a change, at most once however often it is sent. Without a key, one is drawn.
    pub(crate) async fn write<M, A, T: Send>(
        &self,
        key: Option<IdempotencyKey>,
        message: impl FnOnce(&IdempotencyKey) -> M,
        understand: fn(A::Made) -> Result<T, Unreadable>,
    ) -> Result<Written<T>, Error>
    where
        M: Unary<Answer = A>,
        A: WriteAnswer,
    {
        let key = match key {
            Some(key) => key,
            None => random_key()?,
        };
        self.ask(Effect::Once(&key), message(&key), |answer| {
            settled(answer, understand)
        })
        .await
    }

    /// Asks what a change would come to, and changes nothing.
    pub(crate) async fn try_out<M, A, T: Send>(
        &self,
        message: M,
        understand: fn(A::Made) -> Result<T, Unreadable>,
    ) -> Result<Written<T>, Error>
    where
        M: Unary<Answer = A>,
        A: WriteAnswer,
    {
        self.ask(Effect::None, message, |answer| settled(answer, understand))
            .await
    }

    /// Sends a request, and makes of its answer what `understand` does.
    pub(crate) async fn ask<M: Unary, T: Send>(
        &self,
        effect: Effect<'_>,
        message: M,
        understand: impl Fn(M::Answer) -> Result<T, Verdict> + Send + Sync,
    ) -> Result<T, Error> {
        let send = async |attempt: Attempt| {
            let request = attempt.request(message.clone());
            let response = M::send(request, attempt.channel).await.map_err(judge)?;
            understand(response.into_inner())
        };
        call::run(&self.endpoints, self.timeout, effect, send).await
    }
}

/// What a change came to: made, or refused.
fn settled<A: WriteAnswer, T>(
    answer: A,
    understand: fn(A::Made) -> Result<T, Unreadable>,
) -> Result<Written<T>, Verdict> {
    let (outcome, written) = answer.into_parts();
    let missing = |what: &str| Verdict::BadAnswer(format!("the answer does not say {what}"));
    let outcome = outcome.ok_or_else(|| missing("what came of it"))?;
    let written = written.ok_or_else(|| missing("at which revision it was given"))?;
    match outcome {
        Ok(made) => Ok(Written {
            made: understand(made).map_err(Verdict::BadAnswer)?,
            replayed: written.replayed,
            revision: GlobalRevision(written.revision),
        }),
        // Says only that this copy was not executed: another copy may have been.
        Err(rejected) if rejected.code == "request_expired" => Err(Verdict::Retry(Failure {
            disconnected: false,
            ..Failure::no_answer(rejected.message)
        })),
        Err(rejected) => {
            let rejected = outcome::rejected(*rejected, written.replayed);
            let rejected = rejected.map_err(Verdict::BadAnswer)?;
            Err(Verdict::Final(Error::Rejected(Box::new(rejected))))
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self
            .endpoints
            .all()
            .iter()
            .map(|slot| slot.address.to_string())
            .collect();
        f.debug_struct("Client")
            .field("endpoints", &endpoints)
            .field("timeout", &self.timeout)
            .finish()
    }
}
