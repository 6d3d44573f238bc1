//! The cluster itself: its nodes, and who leads them.

mod backup;
mod members;
mod survey;

pub use backup::Backup;

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use lockstep_proto::v1;
use lockstep_proto::v1::{Member, StatusResponse as NodeStatus};
use serde::Serialize;
use tokio::time::Instant;

use crate::address::Address;
use crate::answer::{Failure, Verdict};
use crate::call;
use crate::client::{Client, required};
use crate::discover::DiscoveryError;
use crate::endpoints::Slot;
use crate::error::{Error, Tried};

/// Who leads the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leader {
    /// The term it was elected for.
    pub term: u64,
    /// The leading node.
    #[serde(rename = "leader")]
    pub member: Member,
}

/// How long to wait before asking again who leads.
const LEADER_POLL: Duration = Duration::from_millis(100);

impl Client {
    /// Asks one node, known or not, how it sees the cluster. Does not fail over.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not answer.
    pub async fn status(
        &self,
        endpoint: &Address,
        with_state_hash: bool,
    ) -> Result<NodeStatus, Error> {
        let deadline = Instant::now() + self.timeout;
        self.ask_status(&self.endpoints.at(endpoint), deadline, with_state_hash)
            .await
    }

    /// Asks every known endpoint, all at once, how it sees the cluster; in the order given.
    ///
    /// # Errors
    /// Only [`Error::Discovery`]: an endpoint that does not answer has its error in its place.
    pub async fn statuses(
        &self,
        with_state_hash: bool,
    ) -> Result<Vec<(Address, Result<NodeStatus, Error>)>, Error> {
        let deadline = Instant::now() + self.timeout;
        self.discover(deadline).await?;
        Ok(join_all(self.ask_all(deadline, with_state_hash)).await)
    }

    /// The leader of the cluster, waiting while there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no leader is known to any endpoint by the deadline.
    pub async fn leader(&self) -> Result<Leader, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let (answers, tried) = self.survey(deadline).await?;
            if let Some(leader) = survey::leader(&answers) {
                return Ok(leader);
            }
            // As with any call: no attempt without time for an answer.
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining < LEADER_POLL + call::ATTEMPT_MIN {
                return Err(self.unavailable(tried));
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// The cluster as the node that knows most sees it: the leader, if it can be reached.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no endpoint answers.
    pub async fn view(&self) -> Result<NodeStatus, Error> {
        let deadline = Instant::now() + self.timeout;
        let (answers, failures) = self.survey(deadline).await?;
        match survey::newest(&answers) {
            Some(view) => Ok(view.clone()),
            None => Err(self.unavailable(failures)),
        }
    }

    /// Finds the leader and sends subsequent calls there first, which saves a hop. This only improves
    /// throughput: nodes forward requests anyway.
    ///
    /// # Errors
    /// Those of [`leader`](Self::leader), and when the leader cannot be reached from here; calls
    /// then go on where they went before.
    pub async fn prefer_leader(&self) -> Result<Leader, Error> {
        let leader = self.leader().await?;
        let address: Address = leader.member.grpc_address.parse()?;
        let slot = self.endpoints.at(&address);
        let deadline = Instant::now() + self.timeout;
        let connected = call::connected(deadline, slot.connect()).await;
        connected.map_err(|verdict| self.failed(address, verdict))?;
        self.endpoints.adopt(&slot);
        Ok(leader)
    }

    /// Asks every endpoint until enough answers are in to know who leads.
    async fn survey(&self, deadline: Instant) -> Result<(Vec<NodeStatus>, Vec<Tried>), Error> {
        self.discover(deadline).await?;
        let mut asked: FuturesUnordered<_> = self.ask_all(deadline, false).collect();
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        while let Some((endpoint, answer)) = asked.next().await {
            match answer {
                Ok(answer) => {
                    let name = answer.node.as_ref().map_or("it", |node| node.name.as_str());
                    let cause = format!("{name} knows no leader");
                    failures.push(Tried { endpoint, cause });
                    answers.push(answer);
                }
                Err(Error::Unavailable { tried, .. }) => failures.extend(tried),
                Err(other) => failures.push(Tried {
                    endpoint,
                    cause: other.to_string(),
                }),
            }
            if survey::is_settled(&answers) {
                break;
            }
        }
        Ok((answers, failures))
    }

    /// Looks for nodes where there is discovery. Fails only when none is known at all.
    async fn discover(&self, deadline: Instant) -> Result<(), DiscoveryError> {
        match self.endpoints.refresh(deadline).await {
            Err(error) if self.endpoints.all().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn ask_all(
        &self,
        deadline: Instant,
        with_state_hash: bool,
    ) -> impl Iterator<Item = impl Future<Output = (Address, Result<NodeStatus, Error>)>> {
        let slots = self.endpoints.all().into_iter();
        slots.map(move |slot| async move {
            let answer = self.ask_status(&slot, deadline, with_state_hash).await;
            (slot.address.clone(), answer)
        })
    }

    async fn ask_status(
        &self,
        slot: &Slot,
        deadline: Instant,
        with_state_hash: bool,
    ) -> Result<NodeStatus, Error> {
        let message = v1::StatusRequest { with_state_hash };
        let checked = |status: NodeStatus| {
            required("node", status.node.as_ref())?;
            Ok(status)
        };
        let answer = call::attempt(slot, deadline, message, checked).await;
        answer.map_err(|verdict| self.failed(slot.address.clone(), verdict))
    }

    /// The error of a call that has but one node to ask.
    fn failed(&self, endpoint: Address, verdict: Verdict) -> Error {
        match verdict {
            Verdict::Final(error) => error,
            Verdict::BadAnswer(reason) => Error::BadAnswer { endpoint, reason },
            Verdict::Retry(Failure { cause, .. }) => {
                self.unavailable(vec![Tried { endpoint, cause }])
            }
        }
    }

    fn unavailable(&self, tried: Vec<Tried>) -> Error {
        Error::Unavailable {
            timeout: self.timeout,
            tried,
        }
    }
}
