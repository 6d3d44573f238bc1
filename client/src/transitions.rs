//! Transitions over one stream per node: many in flight, without a call for each.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use lockstep_machine::Transitioned;
use lockstep_proto::v1;
use lockstep_proto::v1::transition_result::Result as Known;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use crate::address::Address;
use crate::answer::{Failure, Verdict, judge};
use crate::call::{self, Effect, connected, within};
use crate::client::{Client, settled};
use crate::endpoints::Slot;
use crate::error::Error;
use crate::service::machines;
use crate::writes::{TransitionCall, Written, random_key};

/// Transitions in one message at most.
const MESSAGE_ITEMS_MAX: usize = 256;
/// Transitions that wait to be sent to one node at most; more wait for room.
const QUEUE_MAX: usize = 1024;

/// Makes transitions over a stream, which costs client and node less than a call for each. Cheap to clone; clones
/// share the stream.
///
/// Each transition has what [`Client::transition`] has: a key, the client's timeout, failover to another node, and
/// the same errors. Transitions that are in flight at the same time are not ordered among one another: await
/// a result before the transition that depends on it, or expect a state or a revision.
#[derive(Clone)]
pub struct TransitionStream {
    client: Client,
    pipes: Arc<Mutex<HashMap<Address, Pipe>>>,
}

/// The stream to one node.
#[derive(Clone)]
struct Pipe {
    channel: Arc<Channel>,
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    transition: v1::TransitionRequest,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<v1::TransitionResponse, Status>>;

impl Client {
    /// Makes transitions over one stream per node.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use futures::{StreamExt, stream};
    /// use lockstep_client::{InstanceId, TransitionCall};
    ///
    /// let transitions = client.transition_stream();
    /// let orders: Vec<InstanceId> = vec!["order/1".parse()?, "order/2".parse()?];
    /// let paid = orders.iter().map(|order| async {
    ///     transitions.transition(TransitionCall::event(order, "pay".parse()?)).await
    /// });
    /// // A thousand in flight at most.
    /// let mut paid = stream::iter(paid).buffer_unordered(1000);
    /// while let Some(written) = paid.next().await {
    ///     println!("{} is paid", written?.made.instance);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn transition_stream(&self) -> TransitionStream {
        TransitionStream {
            client: self.clone(),
            pipes: Arc::default(),
        }
    }
}

impl TransitionStream {
    /// Moves an instance along one transition.
    ///
    /// # Errors
    /// Those of [`Client::transition`].
    pub async fn transition(&self, call: TransitionCall) -> Result<Written<Transitioned>, Error> {
        let key = match call.key {
            Some(key) => key,
            None => random_key()?,
        };
        let message = v1::TransitionRequest::from((call.command, Some(key.clone())));
        let once = async |slot: Arc<Slot>, deadline| {
            let answer = self.attempt(&slot, deadline, message.clone()).await?;
            settled(answer)
        };
        let Client { endpoints, timeout } = &self.client;
        call::run(endpoints, *timeout, Effect::Once(&key), once).await
    }

    /// Sends a transition to one node, and waits for its result.
    async fn attempt(
        &self,
        slot: &Slot,
        deadline: Instant,
        transition: v1::TransitionRequest,
    ) -> Result<v1::TransitionResponse, Verdict> {
        let channel = connected(deadline, slot.connect()).await?;
        let pipe = self.pipe(&slot.address, channel);
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { transition, answer };
        let queued = pipe.queue.send(waiting);
        let queued = within(deadline, "room on the stream", Failure::not_sent, queued).await?;
        let ended = || Verdict::Retry(Failure::no_answer("the stream ended".to_owned()));
        queued.map_err(|_| ended())?;
        let answered = within(deadline, "answer", Failure::no_answer, answered).await?;
        let answered = answered.map_err(|_| ended())?.map_err(judge);
        if let Err(Verdict::Retry(Failure {
            disconnected: true, ..
        })) = &answered
        {
            slot.disconnect(&pipe.channel).await;
        }
        answered
    }

    /// The stream to a node, opened now if there is none on this connection.
    fn pipe(&self, address: &Address, channel: Arc<Channel>) -> Pipe {
        let mut pipes = self.pipes.lock();
        pipes.retain(|_, pipe| !pipe.queue.is_closed());
        let there = pipes.get(address);
        if let Some(pipe) = there.filter(|it| Arc::ptr_eq(&it.channel, &channel)) {
            return pipe.clone();
        }
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(pump(Channel::clone(&channel), waiting));
        let pipe = Pipe { channel, queue };
        pipes.insert(address.clone(), pipe.clone());
        pipe
    }
}

/// What was sent and is not answered, by sequence number.
type Unanswered = Arc<Mutex<HashMap<u64, Answer>>>;

/// Sends what waits, and hands out the results, until the stream ends or every sender is gone.
async fn pump(channel: Channel, waiting: mpsc::Receiver<Waiting>) {
    let unanswered = Unanswered::default();
    let requests = messages(waiting, unanswered.clone());
    let status = match machines(channel).transition_stream(requests).await {
        Ok(opened) => receive(opened.into_inner(), &unanswered).await,
        Err(status) => status,
    };
    let lost = std::mem::take(&mut *unanswered.lock());
    for answer in lost.into_values() {
        // A caller that gave up is not an error.
        drop(answer.send(Err(status.clone())));
    }
}

/// What waits, as messages: as much in each as is there.
fn messages(
    waiting: mpsc::Receiver<Waiting>,
    unanswered: Unanswered,
) -> impl Stream<Item = v1::TransitionStreamRequest> + Send + 'static {
    let waiting = stream::unfold(waiting, async |mut waiting| {
        let mut all = Vec::new();
        (waiting.recv_many(&mut all, MESSAGE_ITEMS_MAX).await > 0).then_some((all, waiting))
    });
    let mut last = 0_u64;
    waiting.map(move |all| {
        let mut unanswered = unanswered.lock();
        let transitions = all.into_iter().map(|it| {
            last += 1;
            unanswered.insert(last, it.answer);
            v1::SequencedTransition {
                sequence: last,
                transition: Some(it.transition),
            }
        });
        v1::TransitionStreamRequest {
            transitions: transitions.collect(),
        }
    })
}

/// Hands out results until there are no more; why.
async fn receive(
    mut results: tonic::Streaming<v1::TransitionStreamResponse>,
    unanswered: &Mutex<HashMap<u64, Answer>>,
) -> Status {
    loop {
        let message = match results.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Status::unknown("the node ended the stream"),
            Err(status) => return status,
        };
        let mut unanswered = unanswered.lock();
        for result in message.results {
            let Some(answer) = unanswered.remove(&result.sequence) else {
                continue;
            };
            let known = match result.result {
                Some(Known::Response(response)) => Ok(response),
                Some(Known::Failure(failure)) => Err(failure.into()),
                None => Err(Status::unknown("the node sent no result")),
            };
            drop(answer.send(known));
        }
    }
}
