//! Routes requests to the leader, under one deadline, and executes each at most once.
//!
//! A request gets a number (`Sequencer`) before the first attempt. Every attempt carries the same
//! number, so that the state machine recognises a repeated one. When the deadline passes after an
//! attempt that may have reached the log, the outcome is reported as unknown.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use derive_where::derive_where;
use lockstep_machine::{
    Command, EncodedRequest, IdempotencyKey, Outcome, Rejection, Reply, RequestBody, SessionId,
};

use super::ServiceError;
use super::sequencer::Sequencer;
use lockstep_raft::consensus::batcher::{Batcher, Confirm};
use lockstep_raft::consensus::{
    BatchLimits, Consensus, Member, NodeId, ProposeError, ProposeResult, ReadPoint, Runtime,
};
use lockstep_raft::store::Storage;
use lockstep_raft::{Backoff, Deadline};

/// The timeout of one attempt at one leader: a leader that is cut off or paused does not answer.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// Pauses between attempts while there is no leader.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Forwards requests to other nodes.
#[async_trait]
pub trait Peers: Clone + Send + Sync + 'static {
    /// Has the leader propose requests; one result per request, in order.
    async fn propose(
        &self,
        leader: (NodeId, Member),
        requests: Vec<EncodedRequest>,
        timeout: Duration,
    ) -> Vec<ProposeResult>;

    /// A read point from the leader.
    async fn read_point(
        &self,
        leader: (NodeId, Member),
        timeout: Duration,
    ) -> Result<ReadPoint, ProposeError>;
}

/// Observes forwarding, for metrics.
pub trait ForwardObserver: Send + Sync + 'static {
    /// A request was forwarded: "propose" or "read", with "ok", "not_leader", "unknown",
    /// "overloaded" or "disk_full".
    fn forwarded(&self, kind: &'static str, result: &'static str);
}

/// Routes requests to the leader. Cheap to clone.
#[derive_where(Clone)]
pub struct Router<RT: Runtime, S: Storage> {
    consensus: Consensus<RT, S>,
    forward: Batcher<EncodedRequest, Reply>,
    forward_reads: Batcher<Confirm, ReadPoint>,
    sequencer: Sequencer,
    draw_session: Arc<dyn Fn() -> SessionId + Send + Sync>,
    observer: Arc<dyn ForwardObserver>,
}

impl<RT: Runtime, S: Storage> Router<RT, S> {
    /// A router over this node's consensus. `draw_session` gives a new random session id.
    pub fn new(
        consensus: Consensus<RT, S>,
        peers: impl Peers,
        limits: BatchLimits,
        draw_session: Arc<dyn Fn() -> SessionId + Send + Sync>,
        observer: Arc<dyn ForwardObserver>,
    ) -> Self {
        let forward = {
            let (consensus, peers) = (consensus.clone(), peers.clone());
            Batcher::start::<RT, _, _>(limits, move |requests| {
                let (leader, peers, me) = (consensus.leader(), peers.clone(), consensus.node_id());
                async move {
                    match leader {
                        Some(leader) if leader.0 != me => {
                            peers.propose(leader, requests, ATTEMPT_MAX).await
                        }
                        _ => vec![Err(ProposeError::NotLeader { leader: None }); requests.len()],
                    }
                }
            })
        };
        let forward_reads = {
            let (consensus, peers) = (consensus.clone(), peers.clone());
            let observer = observer.clone();
            Batcher::share::<RT, _, _>(limits.queue_max, move || {
                forward_read(consensus.clone(), peers.clone(), observer.clone())
            })
        };
        let sequencer = Sequencer::new(draw_session(), limits.queue_max);
        Self {
            consensus,
            forward,
            forward_reads,
            sequencer,
            draw_session,
            observer,
        }
    }

    /// This node's consensus.
    pub fn consensus(&self) -> &Consensus<RT, S> {
        &self.consensus
    }

    /// How many commands entered here and are not answered yet, and how many may be.
    pub fn outstanding(&self) -> (usize, usize) {
        self.sequencer.outstanding()
    }

    /// Executes a command once, on whichever node leads.
    pub async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        deadline: Deadline<RT>,
    ) -> Result<Reply, ServiceError> {
        self.submit_to(command, key, deadline, true).await
    }

    /// As [`submit`](Self::submit), but only while this node leads.
    pub async fn submit_here(
        &self,
        command: Command,
        deadline: Deadline<RT>,
    ) -> Result<Reply, ServiceError> {
        self.submit_to(command, None, deadline, false).await
    }

    async fn submit_to(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        deadline: Deadline<RT>,
        forwards: bool,
    ) -> Result<Reply, ServiceError> {
        let mut ticket = self.sequencer.begin().ok_or(ServiceError::Overloaded)?;
        let body = RequestBody { command, key }.encode();
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        // Whether an attempt may have reached the log.
        let mut maybe_executed = false;
        loop {
            let Some(origin) = ticket.origin() else {
                if maybe_executed {
                    let waited = deadline.waited();
                    return Err(ServiceError::OutcomeUnknown { waited });
                }
                ticket = self.sequencer.begin().ok_or(ServiceError::Overloaded)?;
                continue;
            };
            let request = EncodedRequest {
                origin,
                body: body.clone(),
            };
            let attempted = self.attempt(request, deadline.at_most(ATTEMPT_MAX), forwards);
            match attempted.await {
                Ok(reply) => match reply.outcome {
                    // The cluster has forgotten the session, so none of its requests will be executed.
                    Outcome::Rejected(Rejection::RequestExpired) => {
                        self.sequencer.renew(origin.session, (self.draw_session)());
                    }
                    _ => {
                        ticket.applied();
                        return Ok(reply);
                    }
                },
                Err(ProposeError::Overloaded) if !maybe_executed => {
                    return Err(ServiceError::Overloaded);
                }
                Err(ProposeError::DiskFull) if !maybe_executed => {
                    return Err(ServiceError::DiskFull);
                }
                Err(ProposeError::TooLarge { bytes }) if !maybe_executed => {
                    return Err(ServiceError::TooLarge { bytes });
                }
                Err(ProposeError::Unknown) => maybe_executed = true,
                Err(
                    ProposeError::NotLeader { .. }
                    | ProposeError::Overloaded
                    | ProposeError::TooLarge { .. }
                    | ProposeError::DiskFull,
                ) => {}
            }
            if !deadline.sleep(backoff.pause()).await {
                let waited = deadline.waited();
                return Err(if maybe_executed {
                    ServiceError::OutcomeUnknown { waited }
                } else {
                    ServiceError::Unavailable { waited }
                });
            }
        }
    }

    async fn attempt(
        &self,
        request: EncodedRequest,
        deadline: Deadline<RT>,
        forwards: bool,
    ) -> ProposeResult {
        let Some((leader, _)) = self.consensus.leader() else {
            return Err(ProposeError::NotLeader { leader: None });
        };
        let unknown = Err(ProposeError::Unknown);
        if leader == self.consensus.node_id() {
            let proposed = self.consensus.propose(request);
            return deadline.bound(proposed).await.unwrap_or(unknown);
        }
        if !forwards {
            return Err(ProposeError::NotLeader {
                leader: Some(leader),
            });
        }
        let forwarded = self.forward.submit(request);
        let result = deadline.bound(forwarded).await.unwrap_or(unknown);
        self.observer.forwarded("propose", label(&result));
        result
    }

    /// Waits until this node has applied every write acknowledged before the call.
    pub async fn confirm(&self, deadline: Deadline<RT>) -> Result<(), ServiceError> {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            if let Some(point) = self.read_point(deadline.at_most(ATTEMPT_MAX)).await {
                let applied = self.consensus.await_applied(point, deadline).await;
                if let Ok(true) = applied {
                    return Ok(());
                }
            }
            if !deadline.sleep(backoff.pause()).await {
                return Err(ServiceError::Unavailable {
                    waited: deadline.waited(),
                });
            }
        }
    }

    async fn read_point(&self, deadline: Deadline<RT>) -> Option<ReadPoint> {
        let (leader, _) = self.consensus.leader()?;
        let point = if leader == self.consensus.node_id() {
            deadline.bound(self.consensus.read_point()).await
        } else {
            deadline.bound(self.forward_reads.submit(Confirm)).await
        };
        point?.ok()
    }
}

/// Asks the leader for a read point that all waiting reads share.
async fn forward_read<RT: Runtime, S: Storage, P: Peers>(
    consensus: Consensus<RT, S>,
    peers: P,
    observer: Arc<dyn ForwardObserver>,
) -> Result<ReadPoint, ProposeError> {
    let not_leader = Err(ProposeError::NotLeader { leader: None });
    let result = match consensus.leader() {
        Some(leader) if leader.0 != consensus.node_id() => Deadline::<RT>::after(ATTEMPT_MAX)
            .bound(peers.read_point(leader, ATTEMPT_MAX))
            .await
            .unwrap_or(not_leader),
        _ => return not_leader,
    };
    observer.forwarded("read", label(&result));
    result
}

fn label<T>(result: &Result<T, ProposeError>) -> &'static str {
    result.as_ref().err().map_or("ok", ProposeError::name)
}
