//! `TransitionStream`: many transitions in flight on one stream, each answered on its own.
//!
//! A task of its own pumps each stream. Requests that are in flight are driven to their end also while the
//! client reads no results, because the cluster remembers the replies to all later requests of a node until its
//! oldest one is answered. What is bounded is the number of transitions whose results the client has not read:
//! at the bound, the task stops reading, and HTTP/2 flow control holds the client back.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::vec;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use lockstep_proto::v1;
use lockstep_proto::v1::transition_result::Result as Known;
use prost::Message as _;
use tokio::sync::mpsc::{self, Permit, Sender};
use tonic::{Status, Streaming};

use super::writes;
use crate::api::Edge;
use crate::api::call::Call;
use crate::api::problem::Problem;

/// Transitions of one stream that were read and whose results are not sent yet.
const UNSENT_MAX: usize = 1024;
/// Bytes of results in one message, about: well below what clients take by default, 4 MiB.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

type Message = Result<v1::TransitionStreamResponse, Status>;

pub(super) type Results = Pin<Box<dyn futures::Stream<Item = Message> + Send>>;

pub(super) async fn begin(
    edge: Arc<Edge>,
    requests: Streaming<v1::TransitionStreamRequest>,
) -> Result<Results, Problem> {
    let (messages, mut sent) = mpsc::channel(1);
    tokio::spawn(Pump::new(edge, requests).run(messages));
    let sent = futures::stream::poll_fn(move |cx| sent.poll_recv(cx));
    Ok(Box::pin(sent))
}

struct Pump<R> {
    edge: Arc<Edge>,
    /// None once no more is read.
    requests: Option<R>,
    /// Read, and not begun.
    waiting: vec::IntoIter<v1::SequencedTransition>,
    in_flight: FuturesUnordered<BoxFuture<'static, v1::TransitionResult>>,
    /// Known, and not sent.
    results: VecDeque<v1::TransitionResult>,
    /// What the stream ends with; without it, it ends well.
    end: Option<Status>,
}

impl<R> Pump<R>
where
    R: futures::Stream<Item = Result<v1::TransitionStreamRequest, Status>> + Unpin + Send,
{
    fn new(edge: Arc<Edge>, requests: R) -> Self {
        Self {
            edge,
            requests: Some(requests),
            waiting: Vec::new().into_iter(),
            in_flight: FuturesUnordered::new(),
            results: VecDeque::new(),
            end: None,
        }
    }

    /// Pumps until the stream ends, or the client is gone.
    async fn run(mut self, messages: Sender<Message>) {
        let edge = self.edge.clone();
        let mut stopped = std::pin::pin!(edge.watchers.stopped());
        loop {
            self.begin_waiting();
            let is_open = self.requests.is_some();
            let reads = is_open && self.waiting.as_slice().is_empty() && self.room() > 0;
            let requests = self.requests.as_mut();
            tokio::select! {
                Some(result) = self.in_flight.next() => self.results.push_back(result),
                Ok(permit) = messages.reserve(), if !self.results.is_empty() => self.send(permit),
                read = async { requests?.next().await }, if reads => self.read(read),
                why = &mut stopped, if is_open => self.leave(why.into()),
                () = messages.closed() => return,
            }
            let is_done = self.requests.is_none() && self.in_flight.is_empty();
            if is_done && self.results.is_empty() {
                break;
            }
        }
        if let Some(end) = self.end {
            // The client may be gone.
            drop(messages.send(Err(end)).await);
        }
    }

    /// How many more transitions may be begun.
    fn room(&self) -> usize {
        UNSENT_MAX.saturating_sub(self.in_flight.len() + self.results.len())
    }

    fn begin_waiting(&mut self) {
        let room = self.room();
        for it in self.waiting.by_ref().take(room) {
            self.in_flight
                .push(transition(self.edge.clone(), it).boxed());
        }
    }

    fn read(&mut self, read: Option<Result<v1::TransitionStreamRequest, Status>>) {
        match read {
            Some(Ok(message)) => self.waiting = message.transitions.into_iter(),
            Some(Err(status)) => {
                self.requests = None;
                let problem = super::unreadable(&status).map(Status::from);
                self.end = Some(problem.unwrap_or(status));
            }
            None => self.requests = None,
        }
    }

    /// Reads no more; what was not begun is not executed.
    fn leave(&mut self, why: Problem) {
        self.requests = None;
        let failure = v1::Failure::from(&why);
        self.end = Some(why.into());
        let waiting = std::mem::take(&mut self.waiting);
        let refused = waiting.map(|it| v1::TransitionResult {
            sequence: it.sequence,
            result: Some(Known::Failure(failure.clone())),
        });
        self.results.extend(refused);
    }

    /// Sends as many results as have room in a message, at least one.
    fn send(&mut self, permit: Permit<'_, Message>) {
        let (mut results, mut bytes) = (Vec::with_capacity(self.results.len()), 0);
        while bytes < MESSAGE_BYTES_MAX
            && let Some(result) = self.results.pop_front()
        {
            bytes += result.encoded_len();
            results.push(result);
        }
        permit.send(Ok(v1::TransitionStreamResponse { results }));
    }
}

/// Makes one transition, as by a call of its own.
async fn transition(edge: Arc<Edge>, request: v1::SequencedTransition) -> v1::TransitionResult {
    let call = Call::within(&edge, edge.limits.request_timeout);
    let v1::SequencedTransition {
        sequence,
        transition,
    } = request;
    let answer = writes::transition(&call, transition.unwrap_or_default()).await;
    let result = match answer {
        Ok(response) => Known::Response(response),
        Err(problem) => Known::Failure((&problem).into()),
    };
    v1::TransitionResult {
        sequence,
        result: Some(result),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use lockstep_proto::v1::transition_response::Outcome;
    use tonic::Code;

    use super::*;

    fn edge() -> Arc<Edge> {
        Edge::without_sinks(Edge::test_limits())
    }

    /// A request with these transitions of the built-in instance, numbered from `first` on.
    fn request(first: u64, states: &[&str]) -> Result<v1::TransitionStreamRequest, Status> {
        let numbered = (first..).zip(states).map(|(sequence, state)| {
            let trigger = v1::transition_request::Trigger::To((*state).to_owned());
            let transition = v1::TransitionRequest {
                id: "triad/default".to_owned(),
                trigger: Some(trigger),
                ..Default::default()
            };
            v1::SequencedTransition {
                sequence,
                transition: Some(transition),
            }
        });
        Ok(v1::TransitionStreamRequest {
            transitions: numbered.collect(),
        })
    }

    /// Every result until the stream ends, in order of sequence, and what it ends with.
    async fn all(mut sent: mpsc::Receiver<Message>) -> (Vec<(u64, String)>, Option<Status>) {
        let (mut results, mut end) = (vec![], None);
        while let Some(message) = sent.recv().await {
            match message {
                Ok(message) => results.extend(message.results.into_iter().map(shown)),
                Err(status) => end = Some(status),
            }
        }
        results.sort();
        (results, end)
    }

    fn shown(result: v1::TransitionResult) -> (u64, String) {
        let what = match result.result.expect("a result") {
            Known::Response(response) => match response.outcome.expect("an outcome") {
                Outcome::Transitioned(made) => made.to,
                Outcome::Rejected(rejected) => rejected.code,
            },
            Known::Failure(failure) => failure.code,
        };
        (result.sequence, what)
    }

    fn start<R>(edge: &Arc<Edge>, requests: R) -> mpsc::Receiver<Message>
    where
        R: futures::Stream<Item = Result<v1::TransitionStreamRequest, Status>>
            + Unpin
            + Send
            + 'static,
    {
        let (messages, sent) = mpsc::channel(1);
        tokio::spawn(Pump::new(edge.clone(), requests).run(messages));
        sent
    }

    fn expected(results: &[(u64, &str)]) -> Vec<(u64, String)> {
        let owned = |(sequence, what): &(u64, &str)| (*sequence, (*what).to_owned());
        results.iter().map(owned).collect()
    }

    #[tokio::test]
    async fn each_transition_has_its_own_result_and_the_stream_ends_after_the_last() {
        let requests = [
            request(1, &["second", "third"]),
            request(3, &["second", "a b", "first"]),
        ];
        let sent = start(&edge(), futures::stream::iter(requests));
        let (results, end) = all(sent).await;
        assert_eq!(
            results,
            expected(&[
                (1, "second"),
                (2, "third"),
                (3, "illegal_transition"),
                (4, "invalid_argument"),
                (5, "first"),
            ])
        );
        assert!(end.is_none(), "{end:?}");
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_ends_the_stream_after_the_results_before_it() {
        let damaged = Status::internal("Error decompressing: corrupt deflate stream");
        let requests = [request(1, &["second"]), Err(damaged)];
        let sent = start(&edge(), futures::stream::iter(requests));
        let (results, end) = all(sent).await;
        assert_eq!(results, expected(&[(1, "second")]));
        let end = end.expect("a status");
        assert_eq!(end.code(), Code::InvalidArgument);
        let code = end.metadata().get("lockstep-code");
        assert_eq!(code.unwrap(), "invalid_argument");
        let word = lockstep_machine::library_words(end.message());
        assert_eq!(word, None, "{end}");
    }

    #[tokio::test]
    async fn a_node_that_stops_ends_the_stream_after_the_results_of_what_it_has_read() {
        let edge = edge();
        let requests = futures::stream::iter([request(1, &["second"])]);
        let mut sent = start(&edge, requests.chain(futures::stream::pending()));
        let first = sent.recv().await.expect("a message").expect("results");
        assert_eq!(first.results.len(), 1);
        edge.watchers.stop();
        let (results, end) = all(sent).await;
        assert_eq!(results, []);
        let end = end.expect("a status");
        assert_eq!(end.code(), Code::Unavailable);
        assert_eq!(end.metadata().get("lockstep-code").unwrap(), "not_ready");
    }

    #[tokio::test]
    async fn a_client_that_reads_no_results_is_not_read_without_bound() {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = read.clone();
        let endless = futures::stream::repeat_with(move || {
            counted.fetch_add(100, Ordering::Relaxed);
            request(1, &["second"; 100])
        });
        let sent = start(&edge(), endless);
        while read.load(Ordering::Relaxed) < UNSENT_MAX {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        // One message of results is sent already, and one of requests is begun in part.
        let bound = 2 * UNSENT_MAX + 100;
        assert!(read.load(Ordering::Relaxed) <= bound, "{read:?}");
        drop(sent);
    }
}
