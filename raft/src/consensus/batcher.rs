//! Batches requests: while a few batches are in flight, further requests queue up and are sent as one.
//!
//! It is used for proposals on the leader, for requests forwarded to the leader, and for reads that need the
//! leader's confirmation. A batch is closed before it is sent, so a response is never older than its request.

use std::future::{Future, poll_fn};
use std::task::Poll;

use derive_where::derive_where;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lockstep_machine::{EncodedRequest, Reply};
use tokio::sync::{mpsc, oneshot};

use super::network::ENTRY_BYTES_MAX;
use super::types::{NodeId, Runtime};

/// Why a request got no reply. All but [`Unknown`](ProposeError::Unknown) changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was not appended: this node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<NodeId>,
    },
    /// It may or may not be executed.
    #[error("it is not known whether the request was executed")]
    Unknown,
    /// It was not appended: too many are waiting.
    #[error("too many requests are waiting")]
    Overloaded,
    /// It was not appended: this node leads, and has too little disk space left.
    #[error("the leader's disk is nearly full")]
    DiskFull,
    /// It was not appended: no log entry can hold it.
    #[error(
        "the request has {bytes} bytes; the maximum of a log entry is {}",
        ENTRY_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl ProposeError {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            ProposeError::NotLeader { .. } => "not_leader",
            ProposeError::Unknown => "unknown",
            ProposeError::Overloaded => "overloaded",
            ProposeError::DiskFull => "disk_full",
            ProposeError::TooLarge { .. } => "too_large",
        }
    }
}

/// The result of a request.
pub type ProposeResult = Result<Reply, ProposeError>;

/// The bounds of a [`Batcher`].
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Requests in one group at most.
    pub requests_max: usize,
    /// Approximate maximum size of a batch in bytes, at most [`ENTRY_BYTES_MAX`]; a single larger request is a
    /// batch of its own.
    pub bytes_max: usize,
    /// Maximum number of batches in flight.
    pub in_flight_max: usize,
    /// Maximum number of queued requests.
    pub queue_max: usize,
}

/// An item that can be batched.
pub trait Question: Send + 'static {
    /// Its approximate encoded size in bytes.
    fn size(&self) -> usize;
}

/// A request for a read point. All requests of a batch get the same one.
#[derive(Debug, Clone, Copy)]
pub struct Confirm;

impl Question for Confirm {
    fn size(&self) -> usize {
        0
    }
}

struct Waiting<Q, A> {
    question: Q,
    reply: oneshot::Sender<Result<A, ProposeError>>,
}

/// A handle to a batcher. Cheap to clone; the batcher stops when the last handle is dropped.
#[derive_where(Clone)]
pub struct Batcher<Q, A> {
    queue: mpsc::Sender<Waiting<Q, A>>,
}

impl<Q: Question, A: Send + 'static> Batcher<Q, A> {
    /// Starts a batcher that passes its batches to `send`, which returns one result per request.
    pub fn start<RT, F, Sent>(mut limits: BatchLimits, send: F) -> Self
    where
        RT: Runtime,
        F: Fn(Vec<Q>) -> Sent + Clone + Send + Sync + 'static,
        Sent: Future<Output = Vec<Result<A, ProposeError>>> + Send + 'static,
    {
        limits.bytes_max = limits.bytes_max.min(ENTRY_BYTES_MAX);
        let (queue, waiting) = mpsc::channel(limits.queue_max);
        drop(RT::spawn(run(limits, waiting, send)));
        Self { queue }
    }

    /// Queues a request and waits for its response. Dropping the future cancels the request if it is
    /// still queued.
    pub async fn submit(&self, question: Q) -> Result<A, ProposeError> {
        let bytes = question.size();
        if bytes > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        let (reply, received) = oneshot::channel();
        if self.queue.try_send(Waiting { question, reply }).is_err() {
            return Err(ProposeError::Overloaded);
        }
        received.await.unwrap_or(Err(ProposeError::Unknown))
    }
}

impl<A: Clone + Send + 'static> Batcher<Confirm, A> {
    /// Starts a batcher that makes one call per batch and gives all its requests the same result.
    pub fn share<RT, F, Asked>(queue_max: usize, ask: F) -> Self
    where
        RT: Runtime,
        F: Fn() -> Asked + Clone + Send + Sync + 'static,
        Asked: Future<Output = Result<A, ProposeError>> + Send + 'static,
    {
        let limits = BatchLimits {
            requests_max: queue_max,
            bytes_max: usize::MAX,
            in_flight_max: CONFIRMATIONS_IN_FLIGHT_MAX,
            queue_max,
        };
        Self::start::<RT, _, _>(limits, move |all| {
            let asked = ask();
            async move { vec![asked.await; all.len()] }
        })
    }
}

/// One in flight and one that follows: a request that just missed the first one does not have to wait for it.
const CONFIRMATIONS_IN_FLIGHT_MAX: usize = 2;

type Replies<A> = Vec<oneshot::Sender<Result<A, ProposeError>>>;

/// Takes all queued requests, sends them as a batch, and repeats, but only while fewer batches than the maximum are
/// in flight. Meanwhile, requests accumulate.
async fn run<Q, A, F, Sent>(limits: BatchLimits, mut queue: mpsc::Receiver<Waiting<Q, A>>, send: F)
where
    Q: Question,
    F: Fn(Vec<Q>) -> Sent,
    Sent: Future<Output = Vec<Result<A, ProposeError>>>,
{
    let mut in_flight = FuturesUnordered::new();
    // Taken from the queue, but it did not fit into the last batch.
    let mut left_over = None;
    loop {
        let has_room = in_flight.len() < limits.in_flight_max;
        tokio::select! {
            biased;
            Some((results, replies)) = in_flight.next() => answer(results, replies),
            first = next(&mut left_over, &mut queue), if has_room => {
                let Some(first) = first else { break };
                left_over = Some(first);
                let (questions, replies) = gather(limits, &mut left_over, &mut queue);
                if !questions.is_empty() {
                    in_flight.push(send(questions).map(|results| (results, replies)));
                }
            }
        }
    }
    while let Some((results, replies)) = in_flight.next().await {
        answer(results, replies);
    }
}

/// The first request of the next batch; none when the last handle is gone.
async fn next<T>(left_over: &mut Option<T>, queue: &mut mpsc::Receiver<T>) -> Option<T> {
    if left_over.is_none() {
        *left_over = Some(queue.recv().await?);
        // What is ready to run may submit as well: it goes with the first. Where nothing is, this takes no time.
        yield_once().await;
    }
    left_over.take()
}

fn answer<A>(results: Vec<Result<A, ProposeError>>, replies: Replies<A>) {
    let mut results = results.into_iter();
    for reply in replies {
        // A caller that gave up is not an error.
        drop(reply.send(results.next().unwrap_or(Err(ProposeError::Unknown))));
    }
}

/// A batch of what is queued.
fn gather<Q: Question, A>(
    limits: BatchLimits,
    left_over: &mut Option<Waiting<Q, A>>,
    queue: &mut mpsc::Receiver<Waiting<Q, A>>,
) -> (Vec<Q>, Replies<A>) {
    let (mut questions, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    while questions.len() < limits.requests_max
        && let Some(next) = left_over.take().or_else(|| queue.try_recv().ok())
    {
        if next.reply.is_closed() {
            continue;
        }
        bytes = bytes.saturating_add(next.question.size());
        if bytes > limits.bytes_max && !questions.is_empty() {
            *left_over = Some(next);
            break;
        }
        questions.push(next.question);
        replies.push(next.reply);
    }
    (questions, replies)
}

/// Lets the runtime run what is ready.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Approximate size of an origin in the log.
const ORIGIN_BYTES: usize = 32;

impl Question for EncodedRequest {
    fn size(&self) -> usize {
        ORIGIN_BYTES + self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use openraft_rt_tokio::TokioRuntime;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers with how many were asked before, once for each permit.
    struct Counter {
        asked: AtomicU64,
        permits: Semaphore,
    }

    fn shared(counter: &Arc<Counter>, queue_max: usize) -> Batcher<Confirm, u64> {
        let counter = counter.clone();
        Batcher::share::<TokioRuntime, _, _>(queue_max, move || {
            let counter = counter.clone();
            async move {
                let answer = counter.asked.fetch_add(1, Ordering::SeqCst);
                counter
                    .permits
                    .acquire()
                    .await
                    .expect("never closed")
                    .forget();
                Ok(answer)
            }
        })
    }

    fn counter() -> Arc<Counter> {
        Arc::new(Counter {
            asked: AtomicU64::new(0),
            permits: Semaphore::new(0),
        })
    }

    async fn until_asked(counter: &Counter, times: u64) {
        while counter.asked.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn reads_that_wait_together_share_one_confirmation_begun_after_them() {
        let counter = counter();
        let reads = shared(&counter, 100);
        let ask = |reads: &Batcher<Confirm, u64>| {
            let reads = reads.clone();
            tokio::spawn(async move { reads.submit(Confirm).await })
        };
        // Both senders are busy with one read each ...
        let mut early = Vec::new();
        for times in 1..=2 {
            early.push(ask(&reads));
            until_asked(&counter, times).await;
        }
        // ... so that these fifty wait, and go out together once one is free.
        let late: Vec<_> = (0..50).map(|_| ask(&reads)).collect();
        while reads.queue.capacity() > 50 {
            tokio::task::yield_now().await;
        }
        counter.permits.add_permits(3);
        for read in early {
            assert!(read.await.expect("no panic").expect("an answer") < 2);
        }
        for read in late {
            let answer = read.await.expect("no panic").expect("an answer");
            assert_eq!(
                answer, 2,
                "the confirmation began before the read, or was its own"
            );
        }
        assert_eq!(counter.asked.load(Ordering::SeqCst), 3);
    }

    /// Answers each request with the size of its batch.
    fn sizes(bytes_max: usize) -> Batcher<EncodedRequest, usize> {
        let limits = BatchLimits {
            requests_max: 100,
            bytes_max,
            in_flight_max: 1,
            queue_max: 100,
        };
        Batcher::start::<TokioRuntime, _, _>(limits, |all: Vec<EncodedRequest>| async move {
            let bytes: usize = all.iter().map(Question::size).sum();
            vec![Ok(bytes); all.len()]
        })
    }

    fn request(bytes: usize) -> EncodedRequest {
        EncodedRequest {
            origin: lockstep_machine::Origin {
                session: lockstep_machine::SessionId(1),
                sequence: 1,
                answered_below: 1,
            },
            body: vec![0; bytes].into(),
        }
    }

    #[tokio::test]
    async fn a_request_that_no_entry_holds_is_refused() {
        let batches = sizes(usize::MAX);
        let largest = ENTRY_BYTES_MAX - ORIGIN_BYTES;
        let answer = batches.submit(request(largest)).await;
        assert_eq!(answer, Ok(ENTRY_BYTES_MAX));
        let answer = batches.submit(request(largest + 1)).await;
        let bytes = ENTRY_BYTES_MAX + 1;
        assert_eq!(answer, Err(ProposeError::TooLarge { bytes }));
    }

    #[tokio::test]
    async fn no_batch_is_larger_than_an_entry_whatever_its_limit_is() {
        let batches = sizes(usize::MAX);
        let requests = (0..9).map(|_| batches.submit(request(8 << 20)));
        let answers = futures::future::join_all(requests).await;
        let largest = answers.into_iter().map(|it| it.expect("an answer")).max();
        assert!(
            largest > Some(16 << 20),
            "they were not batched: {largest:?}"
        );
        assert!(largest <= Some(ENTRY_BYTES_MAX), "{largest:?}");
    }

    #[tokio::test]
    async fn a_full_line_refuses_and_a_read_given_up_is_not_sent() {
        let counter = counter();
        let reads = shared(&counter, 1);
        let ask = || {
            let reads = reads.clone();
            tokio::spawn(async move { reads.submit(Confirm).await })
        };
        let mut busy = Vec::new();
        for times in 1..=2 {
            busy.push(ask());
            until_asked(&counter, times).await;
        }
        let given_up = ask();
        while reads.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(reads.submit(Confirm).await, Err(ProposeError::Overloaded));

        given_up.abort();
        drop(given_up.await);
        counter.permits.add_permits(3);
        for read in busy {
            read.await.expect("no panic").expect("an answer");
        }
        assert_eq!(reads.submit(Confirm).await, Ok(2));
    }
}
