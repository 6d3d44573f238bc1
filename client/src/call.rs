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
use crate::endpoints::{Endpoints, Slot};
use crate::error::{DiscoveryError, Error, Tried};

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// With less time left than this, no attempt is worth its while.
const ATTEMPT_MIN: Duration = Duration::from_millis(5);

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
            let Some(allowance) = course.allowance(round.len()) else {
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
            self.undiscovered = endpoints.refresh(self.deadline).await.err();
        }
        self.rounds += 1;
    }

    /// How long the next attempt may take: half of what is left while there is another node to
    /// ask, so that one that hangs does not use up the whole call.
    fn allowance(&self, nodes: usize) -> Option<Duration> {
        let remaining = self.remaining();
        let allowance = if nodes > 1 {
            (remaining / 2).max(Duration::from_millis(100))
        } else {
            remaining
        };
        (remaining >= ATTEMPT_MIN).then_some(allowance.min(remaining))
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

    /// Waits, unless that would leave no time for an attempt.
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
