//! Groups requests: while a few groups are under way, the next ones gather, and go out as one.
//!
//! Both ways out use it: into the log on the leader, and over the network to the leader.

use std::future::Future;
use std::sync::Arc;

use lockstep_machine::{Command, Reply, Request};
use tokio::sync::{Mutex, mpsc, oneshot};

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
}

/// What a request came to.
pub type ProposeResult = Result<Reply, ProposeError>;

/// The bounds of a [`Batcher`].
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Requests in one group at most.
    pub requests_max: usize,
    /// Bytes in one group at most, about; a single larger request travels alone.
    pub bytes_max: usize,
    /// Groups under way at once.
    pub in_flight_max: usize,
    /// Requests waiting at most.
    pub queue_max: usize,
}

struct Waiting {
    request: Request,
    reply: oneshot::Sender<ProposeResult>,
}

/// The entrance to a batcher. Cheap to clone; the batcher ends with its last entrance.
#[derive(Clone)]
pub struct Batcher {
    queue: mpsc::Sender<Waiting>,
}

impl Batcher {
    /// Starts a batcher that hands its groups to `send`, which gives one result per request.
    pub fn start<RT, F, Sent>(limits: BatchLimits, send: F) -> Self
    where
        RT: Runtime,
        F: Fn(Vec<Request>) -> Sent + Clone + Send + Sync + 'static,
        Sent: Future<Output = Vec<ProposeResult>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(limits.queue_max);
        let waiting = Arc::new(Mutex::new((waiting, None)));
        for _ in 0..limits.in_flight_max {
            drop(RT::spawn(work(limits, waiting.clone(), send.clone())));
        }
        Self { queue }
    }

    /// Puts a request in line and waits for its reply. Dropping the future gives the request up: if
    /// it still waits in line, it is never sent.
    pub async fn submit(&self, request: Request) -> ProposeResult {
        let (reply, received) = oneshot::channel();
        if self.queue.try_send(Waiting { request, reply }).is_err() {
            return Err(ProposeError::Overloaded);
        }
        received.await.unwrap_or(Err(ProposeError::Unknown))
    }
}

type Line = Arc<Mutex<(mpsc::Receiver<Waiting>, Option<Waiting>)>>;

/// One of the few senders: takes all that waits, sends it, and comes back for more. Only a free
/// sender takes from the line, so the line gathers while all are busy.
async fn work<F, Sent>(limits: BatchLimits, line: Line, send: F)
where
    F: Fn(Vec<Request>) -> Sent,
    Sent: Future<Output = Vec<ProposeResult>>,
{
    loop {
        let (requests, replies) = {
            let mut line = line.lock().await;
            let Some(group) = gather(limits, &mut line).await else {
                return;
            };
            group
        };
        let results = send(requests).await;
        let missing = std::iter::repeat(Err(ProposeError::Unknown));
        for (reply, result) in replies.into_iter().zip(results.into_iter().chain(missing)) {
            // A caller that gave up is not an error.
            drop(reply.send(result));
        }
    }
}

async fn gather(
    limits: BatchLimits,
    (queue, left_over): &mut (mpsc::Receiver<Waiting>, Option<Waiting>),
) -> Option<(Vec<Request>, Vec<oneshot::Sender<ProposeResult>>)> {
    let (mut requests, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
    while requests.len() < limits.requests_max {
        let next = match left_over.take() {
            Some(waiting) => waiting,
            None if requests.is_empty() => queue.recv().await?,
            None => match queue.try_recv() {
                Ok(waiting) => waiting,
                _ => break,
            },
        };
        if next.reply.is_closed() {
            continue;
        }
        bytes += size(&next.request);
        if bytes > limits.bytes_max && !requests.is_empty() {
            *left_over = Some(next);
            break;
        }
        requests.push(next.request);
        replies.push(next.reply);
    }
    Some((requests, replies))
}

/// How many bytes a request takes in the log, about.
fn size(request: &Request) -> usize {
    let key = request.key.as_ref().map_or(0, |k| k.as_str().len());
    let command = match &request.command {
        Command::Transition(t) => t.instance.machine.as_str().len() + t.instance.name().len() + 128,
        _ => 1024,
    };
    32 + key + command
}
