//! The client, and how it sends reads and writes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{GlobalRevision, IdempotencyKey};
use lockstep_proto::{ErrorCode, Malformed, v1};

use crate::answer::{Failure, Verdict};
use crate::builder::Builder;
use crate::call::{self, Effect};
use crate::endpoints::{Endpoints, Slot};
use crate::error::{Error, Rejected};
use crate::freshness::Read;
use crate::service::{Unary, WriteAnswer};
use crate::writes::{Call, Written, random_key};

/// A client of one cluster. Cloning is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) timeout: Duration,
}

/// What a read found, and as of when.
type Found<T> = Result<(T, Option<v1::ReadAt>), Malformed>;

impl Client {
    /// Starts with no endpoint and a timeout of 5 s.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Sends a request that changes nothing.
    pub(crate) async fn read<M: Unary, T: Send>(
        &self,
        message: M,
        convert: fn(M::Answer) -> Found<T>,
    ) -> Result<Read<T>, Error> {
        self.ask(Effect::None, message, |answer| {
            let (found, at) = convert(answer)?;
            let at = required("read_at", at)?;
            Ok(Read {
                found,
                applied_index: at.applied_index,
                revision: GlobalRevision(at.revision),
            })
        })
        .await
    }

    /// Sends a change, executed at most once however often it is sent. Without a key, one is generated.
    /// A dry run changes nothing, and has none.
    pub(crate) async fn write<C, M, T>(
        &self,
        call: Call<C>,
        message: impl FnOnce((C, Option<IdempotencyKey>)) -> M,
    ) -> Result<Written<T>, Error>
    where
        M: Unary<Answer: WriteAnswer<Made: TryInto<T, Error: Into<Malformed>>>>,
        T: Send,
    {
        if call.dry_run {
            let message = message((call.command, None));
            return self.ask(Effect::None, message, settled).await;
        }
        let key = match call.key {
            Some(key) => key,
            None => random_key()?,
        };
        let message = message((call.command, Some(key.clone())));
        self.ask(Effect::Once(&key), message, settled).await
    }

    /// Sends a change without a key, which may be made again.
    pub(crate) async fn change<M, T>(&self, message: M) -> Result<T, Error>
    where
        M: Unary<Answer: WriteAnswer<Made = T>>,
        T: Send,
    {
        let changed: Written<T> = self.ask(Effect::Repeatable, message, settled).await?;
        Ok(changed.made)
    }

    /// Sends a request, and converts its response.
    pub(crate) async fn ask<M: Unary, T: Send>(
        &self,
        effect: Effect<'_>,
        message: M,
        convert: impl Fn(M::Answer) -> Result<T, Verdict> + Send + Sync,
    ) -> Result<T, Error> {
        let once = async |slot: Arc<Slot>, deadline| {
            call::attempt(&slot, deadline, message.clone(), &convert).await
        };
        call::run(&self.endpoints, self.timeout, effect, once).await
    }
}

/// A field of a response that must not be missing.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::new(field, "it is missing"))
}

/// The outcome of a change: made, or rejected.
pub(crate) fn settled<A, T>(answer: A) -> Result<Written<T>, Verdict>
where
    A: WriteAnswer<Made: TryInto<T, Error: Into<Malformed>>>,
{
    let (outcome, written) = answer.into_parts();
    let outcome = required("outcome", outcome)?;
    let written = required("written", written)?;
    match outcome {
        Ok(made) => Ok(Written {
            made: made.try_into().map_err(Into::into)?,
            replayed: written.replayed,
            revision: GlobalRevision(written.revision),
        }),
        // Only this copy was not executed: another copy may have been.
        Err(rejected) if ErrorCode::RequestExpired == rejected.code.as_str() => {
            Err(Verdict::Retry(Failure {
                disconnected: false,
                ..Failure::no_answer(rejected.message)
            }))
        }
        Err(rejected) => {
            let (answer, replayed) = (*rejected, written.replayed);
            let rejected = Rejected { answer, replayed };
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
