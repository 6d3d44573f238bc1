//! One call: attempts at one node after another, under one deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::IdempotencyKey;
use tokio::time::Instant;
use tonic::Request;
use tonic::transport::Channel;

use crate::address::Address;
use crate::answer::{Execution, Failure, Verdict, judge};
use crate::discover::DiscoveryError;
use crate::endpoints::{Endpoints, Slot};
use crate::error::{Error, Tried};
use crate::service::Unary;

/// With less time left than this, no further attempt is made. A busy node may not answer that fast, and a write
/// that is aborted has an unknown outcome, although every earlier attempt had certainly not executed it.
pub(crate) const ATTEMPT_MIN: Duration = Duration::from_millis(50);
/// Minimum time for an attempt while there are other nodes to try.
const ATTEMPT_SHARE_MIN: Duration = Duration::from_millis(100);

/// The effect of repeating a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effect<'a> {
    /// Nothing: it is a read.
    None,
    /// A change, executed once however often it is sent under this key.
    Once(&'a IdempotencyKey),
    /// A change that may be made again.
    Repeatable,
}

/// Makes one attempt at one node, connecting first if need be. The time left is sent along, as the
/// header `grpc-timeout`.
pub(crate) async fn attempt<M: Unary, T>(
    slot: &Slot,
    deadline: Instant,
    message: M,
    convert: impl Fn(M::Answer) -> Result<T, Verdict>,
) -> Result<T, Verdict> {
    let channel = connected(deadline, slot.connect()).await?;
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    let sent = M::send(request, Channel::clone(&channel));
    let answered = within(deadline, "answer", Failure::no_answer, sent).await;
    let answered = answered.and_then(|answer| answer.map_err(judge));
    if let Err(Verdict::Retry(Failure {
        disconnected: true, ..
    })) = &answered
    {
        slot.disconnect(&channel).await;
    }
    convert(answered?.into_inner())
}

/// The connection, if it is made before the deadline.
pub(crate) async fn connected<T>(
    deadline: Instant,
    connecting: impl Future<Output = Result<T, String>>,
) -> Result<T, Verdict> {
    let connected = within(deadline, "connection", Failure::not_sent, connecting).await?;
    connected.map_err(|cause| Verdict::Retry(Failure::not_sent(cause)))
}

/// The result of the future, or a failure if the deadline passes first.
pub(crate) async fn within<T>(
    deadline: Instant,
    what: &str,
    failure: fn(String) -> Failure,
    future: impl Future<Output = T>,
) -> Result<T, Verdict> {
    tokio::time::timeout_at(deadline, future)
        .await
        .map_err(|_| Verdict::Retry(failure(format!("no {what} in time"))))
}

/// Attempts a request, at one node after another, until one answers it or the deadline passes.
///
/// Only a request that changes something can end with an unknown outcome.
pub(crate) async fn run<T, F, Fut>(
    endpoints: &Endpoints,
    timeout: Duration,
    effect: Effect<'_>,
    once: F,
) -> Result<T, Error>
where
    F: Fn(Arc<Slot>, Instant) -> Fut,
    Fut: Future<Output = Result<T, Verdict>>,
{
    let mut progress = Progress::start(timeout);
    loop {
        progress.discover(endpoints).await;
        let round = endpoints.round();
        for slot in &round {
            let is_first = progress.tried.is_empty();
            let Some(share) = share(progress.remaining(), round.len(), is_first) else {
                return Err(progress.give_up(effect));
            };
            match once(slot.clone(), Instant::now() + share).await {
                Ok(answer) => {
                    endpoints.prefer(slot);
                    return Ok(answer);
                }
                Err(Verdict::Final(error)) => {
                    endpoints.prefer(slot);
                    return Err(error);
                }
                Err(Verdict::BadAnswer(reason)) => {
                    return Err(Error::BadAnswer {
                        endpoint: slot.address.clone(),
                        reason,
                    });
                }
                Err(Verdict::Retry(failure)) => {
                    if !progress.failed(endpoints, slot, failure).await {
                        return Err(progress.give_up(effect));
                    }
                }
            }
        }
        if !progress.back_off().await {
            return Err(progress.give_up(effect));
        }
    }
}

/// Pauses that double from 50 ms to 1 s, randomly reduced by up to half, so that clients do not retry
/// simultaneously.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    previous: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(1);

    pub(crate) fn next(&mut self) -> Duration {
        self.previous = (self.previous * 2).clamp(Self::FIRST, Self::MAX);
        self.previous.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// How a call has gone so far.
struct Progress {
    timeout: Duration,
    deadline: Instant,
    backoff: Backoff,
    rounds: u64,
    tried: Vec<Tried>,
    undiscovered: Option<DiscoveryError>,
    /// Once set, stays set: if a request may have been executed, no later response changes that.
    execution: Execution,
}

impl Progress {
    fn start(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            backoff: Backoff::default(),
            rounds: 0,
            tried: Vec::new(),
            undiscovered: None,
            execution: Execution::None,
        }
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Looks for nodes when none is known, and again when all that are known have failed.
    async fn discover(&mut self, endpoints: &Endpoints) {
        if endpoints.are_discovered() && (self.rounds > 0 || endpoints.round().is_empty()) {
            self.undiscovered = match endpoints.refresh(self.deadline).await {
                // An earlier error says more than that the deadline passed.
                Err(DiscoveryError::TimedOut) if self.undiscovered.is_some() => {
                    self.undiscovered.take()
                }
                refreshed => refreshed.err(),
            };
        }
        self.rounds += 1;
    }

    /// Records a failed attempt; false when there is no time for another.
    async fn failed(&mut self, endpoints: &Endpoints, slot: &Arc<Slot>, failure: Failure) -> bool {
        if failure.execution == Execution::Possible {
            self.execution = Execution::Possible;
        }
        self.note(&slot.address, failure.cause);
        if !failure.overloaded {
            endpoints.demote(slot);
            return true;
        }
        match failure.retry_after {
            Some(hint) => self.pause(hint.mul_f64(rand::random_range(1.0..1.2))).await,
            None => self.back_off().await,
        }
    }

    fn note(&mut self, endpoint: &Address, cause: String) {
        self.tried.retain(|tried| tried.endpoint != *endpoint);
        self.tried.push(Tried {
            endpoint: endpoint.clone(),
            cause,
        });
    }

    /// Waits before the next round, each time about twice as long.
    async fn back_off(&mut self) -> bool {
        let wait = self.backoff.next().min(self.remaining() / 2);
        self.pause(wait).await
    }

    /// Waits, unless that would leave no time for another attempt.
    async fn pause(&self, wait: Duration) -> bool {
        if wait + ATTEMPT_MIN >= self.remaining() {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    fn give_up(self, effect: Effect<'_>) -> Error {
        let Self {
            timeout,
            tried,
            undiscovered,
            execution,
            ..
        } = self;
        let key = match effect {
            Effect::Once(key) => Some(key.clone()),
            Effect::Repeatable | Effect::None => None,
        };
        match (execution, effect, undiscovered) {
            (Execution::Possible, Effect::Once(_) | Effect::Repeatable, _) => {
                Error::OutcomeUnknown {
                    key,
                    timeout,
                    tried,
                }
            }
            (_, _, Some(error)) if tried.is_empty() => Error::Discovery(error),
            _ => Error::Unavailable { timeout, tried },
        }
    }
}

/// How long the next attempt may take, if there is time for one: half of what is left while there
/// is another node to ask, so that one that hangs does not use up the whole call.
///
/// The first attempt is made however short the timeout is: without it, nothing would be sent.
fn share(remaining: Duration, nodes: usize, is_first: bool) -> Option<Duration> {
    let is_possible = remaining >= ATTEMPT_MIN || (is_first && !remaining.is_zero());
    let most = if nodes > 1 {
        (remaining / 2).max(ATTEMPT_SHARE_MIN)
    } else {
        remaining
    };
    is_possible.then_some(most.min(remaining))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_attempt_leaves_time_for_another_node_and_a_short_call_has_one_attempt_all_the_same() {
        for (remaining, nodes, is_first, expected) in [
            (ms(5000), 1, true, Some(ms(5000))),
            (ms(5000), 3, true, Some(ms(2500))),
            (ms(150), 3, false, Some(ms(100))),
            (ms(60), 3, false, Some(ms(60))),
            (ATTEMPT_MIN, 1, false, Some(ATTEMPT_MIN)),
            (ms(49), 1, false, None),
            (ms(49), 3, false, None),
            (ms(1), 1, true, Some(ms(1))),
            (ms(1), 3, true, Some(ms(1))),
            (Duration::ZERO, 3, true, None),
        ] {
            assert_eq!(
                share(remaining, nodes, is_first),
                expected,
                "{remaining:?} left, {nodes} nodes, first: {is_first}"
            );
        }
    }
}
