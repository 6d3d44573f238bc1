//! One call: attempts at one node after another, under one deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::IdempotencyKey;
use tokio::time::Instant;
use tonic::Request;
use tonic::transport::Channel;

use crate::address::Address;
use crate::answer::{Execution, Failure, Verdict};
use crate::discover::DiscoveryError;
use crate::endpoints::{Endpoints, Slot};
use crate::error::{Error, Tried};

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// With less time left than this, no further attempt is worth its while: a busy node answers no
/// sooner, and an attempt that is cut off makes the outcome of a write unknown that every node before
/// had plainly refused.
pub(crate) const ATTEMPT_MIN: Duration = Duration::from_millis(50);
/// While there is another node to ask, an attempt has no less than this, or all that is left.
const ATTEMPT_SHARE_MIN: Duration = Duration::from_millis(100);

/// What a request does to the cluster, as far as sending it again goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effect<'a> {
    /// Nothing: it only asks.
    None,
    /// A change, executed once however often it is sent under this key.
    Once(&'a IdempotencyKey),
    /// A change that does no harm when it is made again.
    Repeatable,
}

/// What an attempt is made with.
pub(crate) struct Attempt {
    pub channel: Channel,
    /// How long it may take; the node is told.
    pub allowance: Duration,
}

impl Attempt {
    /// Wraps a message with the time it has left, as the header `grpc-timeout`.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.allowance);
        request
    }
}

/// Makes one attempt at one node, connecting first if need be.
pub(crate) async fn attempt<T, F, Fut>(
    slot: &Slot,
    allowance: Duration,
    send: &F,
) -> Result<T, Verdict>
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<T, Verdict>>,
{
    let end = Instant::now() + allowance;
    let connection = match tokio::time::timeout_at(end, slot.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(cause)) => return Err(Verdict::Retry(Failure::not_sent(cause))),
        Err(_) => {
            return Err(Verdict::Retry(Failure::not_sent(
                "no connection in time".to_owned(),
            )));
        }
    };
    let allowance = end.saturating_duration_since(Instant::now());
    let sent = send(Attempt {
        channel: connection.channel.clone(),
        allowance,
    });
    let result = match tokio::time::timeout_at(end, sent).await {
        Ok(result) => result,
        Err(_) => Err(Verdict::Retry(Failure::no_answer(
            "no answer in time".to_owned(),
        ))),
    };
    if let Err(Verdict::Retry(Failure {
        disconnected: true, ..
    })) = &result
    {
        slot.disconnect(&connection).await;
    }
    result
}

/// Attempts a request until a node answers it or the deadline passes.
///
/// Only a request that changes something can end with an unknown outcome.
pub(crate) async fn run<T, F, Fut>(
    endpoints: &Endpoints,
    timeout: Duration,
    effect: Effect<'_>,
    send: F,
) -> Result<T, Error>
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<T, Verdict>>,
{
    let once = async |slot: Arc<Slot>, allowance| attempt(&slot, allowance, &send).await;
    run_each(endpoints, timeout, effect, once).await
}

/// Like [`run`], for what makes its own use of a node.
pub(crate) async fn run_each<T, F, Fut>(
    endpoints: &Endpoints,
    timeout: Duration,
    effect: Effect<'_>,
    once: F,
) -> Result<T, Error>
where
    F: Fn(Arc<Slot>, Duration) -> Fut,
    Fut: Future<Output = Result<T, Verdict>>,
{
    let mut course = Course::start(timeout);
    loop {
        course.discover(endpoints).await;
        let round = endpoints.round();
        for slot in &round {
            let is_first = course.tried.is_empty();
            let Some(allowance) = allowance(course.remaining(), round.len(), is_first) else {
                return Err(course.give_up(effect));
            };
            match once(slot.clone(), allowance).await {
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
                    if !course.failed(endpoints, slot, failure).await {
                        return Err(course.give_up(effect));
                    }
                }
            }
        }
        if !course.back_off().await {
            return Err(course.give_up(effect));
        }
    }
}

/// How a call has gone so far.
struct Course {
    timeout: Duration,
    deadline: Instant,
    backoff: Duration,
    rounds: u64,
    tried: Vec<Tried>,
    undiscovered: Option<DiscoveryError>,
    /// Sticks: once a request may have been executed, no later refusal to execute takes it back.
    execution: Execution,
}

impl Course {
    fn start(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            backoff: BACKOFF_FIRST,
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
                // What Consul said before the deadline says more than that it passed.
                Err(DiscoveryError::TimedOut) if self.undiscovered.is_some() => {
                    self.undiscovered.take()
                }
                refreshed => refreshed.err(),
            };
        }
        self.rounds += 1;
    }

    /// Takes note of a failed attempt; false when no other is worth making.
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
        let jittered = self.backoff.mul_f64(rand::random_range(0.5..1.0));
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        self.pause(jittered.min(self.remaining() / 2)).await
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
        match (effect, execution, undiscovered) {
            (Effect::Once(key), Execution::Possible, _) => Error::OutcomeUnknown {
                key: key.clone(),
                timeout,
                tried,
            },
            (Effect::Repeatable, Execution::Possible, _) => Error::Unanswered { timeout, tried },
            (_, _, Some(error)) if tried.is_empty() => Error::Discovery(error),
            _ => Error::Unavailable { timeout, tried },
        }
    }
}

/// How long the next attempt may take, if it is worth its while: half of what is left while there
/// is another node to ask, so that one that hangs does not use up the whole call.
///
/// The first is made however little its caller allows: without it, nothing was asked at all.
fn allowance(remaining: Duration, nodes: usize, is_first: bool) -> Option<Duration> {
    let is_worth_it = remaining >= ATTEMPT_MIN || (is_first && !remaining.is_zero());
    let share = if nodes > 1 {
        (remaining / 2).max(ATTEMPT_SHARE_MIN)
    } else {
        remaining
    };
    is_worth_it.then_some(share.min(remaining))
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
                allowance(remaining, nodes, is_first),
                expected,
                "{remaining:?} left, {nodes} nodes, first: {is_first}"
            );
        }
    }
}
