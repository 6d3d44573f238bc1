//! A network in memory: delay, loss, cuts in one direction, replies lost after execution, and messages that
//! arrive late or twice. A message that was sent arrives even if its sender has stopped waiting for the reply.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use tokio::sync::oneshot;

use super::bugs::Bug;
use super::chance::{nap, one_of};
use super::disk::SimDisk;
use super::links::SimPeers;
use super::oracle::Oracle;
use lockstep_raft::consensus::{Consensus, NodeId};

/// Production consensus on the simulated runtime and disk.
pub type SimConsensus = Consensus<SimRuntime, SimDisk>;

/// The most by which a late message is late, or a second copy after the first. Longer than any timeout.
const LATE_MAX: Duration = Duration::from_secs(5);

/// One run of a node process: the node's id and the number of the run.
pub type Process = (NodeId, u64);

/// What happens to messages, by chance.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The delay of a message is up to this.
    pub delay_max: Duration,
    /// Of a thousand messages, so many are lost.
    pub lost_permille: u64,
    /// Of a thousand requests, so many are late by up to [`LATE_MAX`].
    pub late_permille: u64,
    /// Of a thousand requests, so many arrive again, up to [`LATE_MAX`] later.
    pub twice_permille: u64,
}

impl Weather {
    /// A healthy network.
    pub const FINE: Self = Self {
        delay_max: Duration::from_millis(1),
        lost_permille: 0,
        late_permille: 0,
        twice_permille: 0,
    };
}

/// The network between all nodes.
#[derive(Clone)]
pub struct SimNetwork(Arc<Inner>);

struct Inner {
    running: Mutex<BTreeMap<NodeId, (u64, SimConsensus)>>,
    /// Nothing travels from the first to the second.
    cuts: Mutex<BTreeSet<(NodeId, NodeId)>>,
    weather: Mutex<Weather>,
    oracle: Oracle,
    bug: Option<Bug>,
}

/// Why a call got no reply.
pub enum Failure {
    /// The peer does not listen: nothing was sent.
    Refused,
    /// No reply in time.
    Lost,
    /// The peer refused.
    Answered(String),
}

/// A request on its way.
pub struct Call<T> {
    pub from: Process,
    pub to: NodeId,
    /// How long the sender waits for the reply.
    pub timeout: Duration,
    /// Whether it may be late or, after this reply, arrive again.
    pub stray: Option<fn(&T) -> bool>,
}

impl SimNetwork {
    /// A healthy network without nodes.
    pub fn new(oracle: Oracle, bug: Option<Bug>) -> Self {
        Self(Arc::new(Inner {
            running: Mutex::default(),
            cuts: Mutex::default(),
            weather: Mutex::new(Weather::FINE),
            oracle,
            bug,
        }))
    }

    /// Connects a process.
    pub fn connect(&self, (id, run): Process, consensus: SimConsensus) {
        self.0.running.lock().unwrap().insert(id, (run, consensus));
    }

    /// Disconnects whichever process of a node is running.
    pub fn disconnect(&self, id: NodeId) {
        self.0.running.lock().unwrap().remove(&id);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.0.cuts.lock().unwrap().insert((from, to));
    }

    /// Heals all partitions.
    pub fn mend(&self) {
        self.0.cuts.lock().unwrap().clear();
    }

    /// Sets what happens to messages from now on.
    pub fn set_weather(&self, weather: Weather) {
        *self.0.weather.lock().unwrap() = weather;
    }

    /// Whether this bug is planted.
    pub fn has(&self, bug: Bug) -> bool {
        self.0.bug == Some(bug)
    }

    pub fn oracle(&self) -> &Oracle {
        &self.0.oracle
    }

    /// The end of the network at one process.
    pub fn at(&self, process: Process) -> SimPeers {
        SimPeers::new(self.clone(), process)
    }

    fn process(&self, id: NodeId) -> Option<(u64, SimConsensus)> {
        self.0.running.lock().unwrap().get(&id).cloned()
    }

    fn is_running(&self, (id, run): Process) -> bool {
        self.process(id).is_some_and(|(now, _)| now == run)
    }

    fn weather(&self) -> Weather {
        *self.0.weather.lock().unwrap()
    }

    /// Delays a message. Whether it arrives.
    async fn travel(&self, from: NodeId, to: NodeId) -> bool {
        let weather = self.weather();
        nap(weather.delay_max).await;
        let cut = self.0.cuts.lock().unwrap().contains(&(from, to));
        !cut && one_of(1000) >= weather.lost_permille
    }

    /// Has node `call.to` `serve` a request, and brings the reply back.
    pub async fn call<T, F>(
        &self,
        call: Call<T>,
        serve: impl Fn(SimConsensus) -> F + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        let timeout = call.timeout;
        let (reply, replied) = oneshot::channel();
        drop(SimRuntime::spawn(self.clone().deliver(call, serve, reply)));
        let replied = async move {
            match replied.await {
                Ok(reply) => reply,
                // The message, or its reply, was lost.
                Err(_) => pending().await,
            }
        };
        SimRuntime::timeout(timeout, Box::pin(replied))
            .await
            .unwrap_or(Err(Failure::Lost))
    }

    async fn deliver<T, F>(
        self,
        call: Call<T>,
        serve: impl Fn(SimConsensus) -> F + Send + 'static,
        answer: oneshot::Sender<Result<T, Failure>>,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        let Call {
            from, to, stray, ..
        } = call;
        if !self.is_running(from) || !self.travel(from.0, to).await {
            return;
        }
        let weather = self.weather();
        if stray.is_some() && one_of(1000) < weather.late_permille {
            self.0.oracle.count("late messages");
            nap(LATE_MAX).await;
        }
        let Some((_, peer)) = self.process(to) else {
            drop(answer.send(Err(Failure::Refused)));
            return;
        };
        let reply = serve(peer).await;
        let repeat = matches!((&reply, stray), (Ok(reply), Some(stray)) if stray(reply));
        if self.travel(to, from.0).await && self.is_running(from) {
            drop(answer.send(reply.map_err(Failure::Answered)));
        }
        if repeat && one_of(1000) < weather.twice_permille {
            nap(LATE_MAX).await;
            if let Some((_, peer)) = self.process(to) {
                self.0.oracle.count("repeated messages");
                drop(serve(peer).await);
            }
        }
    }
}
