//! The client: what a caller holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use lockstep_machine::{IdempotencyKey, InstanceId};
use lockstep_proto::v1;
use lockstep_proto::v1::cluster_client::ClusterClient;
use lockstep_proto::v1::machines_client::MachinesClient;
use tokio::time::Instant;

use crate::address::Address;
use crate::answer::{Failure, Verdict, judge};
use crate::call::{self, Attempt};
use crate::consul::Directory;
use crate::endpoints::{Endpoints, Registry, Slot};
use crate::error::{DiscoveryError, Error, Rejected, Tried};
use crate::survey;
use crate::types::{
    Consistency, Leader, NodeStatus, Read, Transition, TransitionCall, transition_outcome,
};

/// How long a call may take unless the builder says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest time a call may be given.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// How long to wait before asking again who leads.
const LEADER_POLL: Duration = Duration::from_millis(100);

/// A client of one cluster. Cloning is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    endpoints: Arc<Endpoints>,
    timeout: Duration,
}

/// Says where the cluster is and how long calls may take.
#[derive(Debug, Clone)]
pub struct Builder {
    endpoints: Vec<String>,
    consul: Option<Consul>,
    consul_token: Option<Token>,
    timeout: Duration,
}

#[derive(Debug, Clone)]
struct Consul {
    address: String,
    service: String,
    tag: Option<String>,
}

/// A secret, kept out of logs.
#[derive(Clone)]
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Builder {
    /// Nodes to ask, `host:port` of their gRPC interfaces. The first is asked first.
    pub fn endpoints<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: ToString,
    {
        self.endpoints
            .extend(endpoints.into_iter().map(|endpoint| endpoint.to_string()));
        self
    }

    /// Find nodes through the Consul agent at `address` (`http://host:port`): those that pass
    /// their health checks under this service name and tag. Adds to the endpoints given.
    pub fn consul(mut self, address: &str, service: &str, tag: Option<&str>) -> Self {
        let (address, service, tag) = (
            address.to_owned(),
            service.to_owned(),
            tag.map(str::to_owned),
        );
        self.consul = Some(Consul {
            address,
            service,
            tag,
        });
        self
    }

    /// The token to show to Consul.
    pub fn consul_token(mut self, token: Option<String>) -> Self {
        self.consul_token = token.map(Token);
        self
    }

    /// How long each call may take as a whole: 1 ms to 1 hour, 5 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks what was given. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when an address or the timeout cannot be used, or there is nowhere to ask.
    pub fn build(self) -> Result<Client, Error> {
        if self.timeout < Duration::from_millis(1) || self.timeout > TIMEOUT_MAX {
            return Err(Error::Invalid(format!(
                "a timeout of {:?} is out of range: it must be from 1ms to 1h",
                self.timeout
            )));
        }
        if self.endpoints.is_empty() && self.consul.is_none() {
            return Err(Error::Invalid(
                "neither endpoints nor Consul are given".to_owned(),
            ));
        }
        let fixed = self
            .endpoints
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        let token = self.consul_token.map(|Token(token)| token);
        let registry = self
            .consul
            .map(
                |Consul {
                     address,
                     service,
                     tag,
                 }| match Directory::new(&address, token) {
                    Ok(directory) => Ok(Registry {
                        directory,
                        service,
                        tag,
                    }),
                    Err(fault) => Err(Error::Invalid(fault.to_string())),
                },
            )
            .transpose()?;
        Ok(Client {
            endpoints: Arc::new(Endpoints::new(fixed, registry)),
            timeout: self.timeout,
        })
    }
}

impl Client {
    /// Starts with no endpoint and a timeout of 5 s.
    pub fn builder() -> Builder {
        Builder {
            endpoints: Vec::new(),
            consul: None,
            consul_token: None,
            timeout: TIMEOUT_DEFAULT,
        }
    }

    /// Reads an instance, and where it may go from its state.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such instance, [`Error::Unavailable`] when no node
    /// could answer in time.
    pub async fn get(
        &self,
        instance: &InstanceId,
        consistency: Consistency,
    ) -> Result<Read, Error> {
        let consistency = match consistency {
            Consistency::Linearizable => v1::Consistency::Linearizable,
            Consistency::Stale => v1::Consistency::Stale,
        };
        let message = v1::GetInstanceRequest {
            id: instance.to_string(),
            freshness: Some(v1::Freshness {
                consistency: consistency.into(),
                min_revision: None,
            }),
        };
        call::run(
            &self.endpoints,
            self.timeout,
            None,
            async |attempt: Attempt| {
                let request = attempt.request(message.clone());
                let response = MachinesClient::new(attempt.channel)
                    .get_instance(request)
                    .await
                    .map_err(judge)?;
                let v1::GetInstanceResponse {
                    instance: found,
                    read_at,
                } = response.into_inner();
                let found = found.ok_or_else(|| Verdict::Final(no_instance(instance)))?;
                let instance = found.try_into().map_err(Verdict::BadAnswer)?;
                Ok(Read {
                    instance,
                    applied_index: read_at.unwrap_or_default().applied_index,
                })
            },
        )
        .await
    }

    /// Moves an instance along one transition, at most once however often it is sent.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the machine refuses, [`Error::Unavailable`] when nothing was
    /// executed, [`Error::OutcomeUnknown`] when it may have been.
    pub async fn transition(&self, mut transition: TransitionCall) -> Result<Transition, Error> {
        let key = match transition.key.take() {
            Some(key) => key,
            None => IdempotencyKey::new(format!("{:032x}", rand::random::<u128>()))?,
        };
        let message = transition.into_message(&key);
        call::run(
            &self.endpoints,
            self.timeout,
            Some(&key),
            async |attempt: Attempt| {
                let request = attempt.request(message.clone());
                let response = MachinesClient::new(attempt.channel)
                    .transition(request)
                    .await
                    .map_err(judge)?;
                match transition_outcome(response.into_inner()).map_err(Verdict::BadAnswer)? {
                    Ok(made) => Ok(made),
                    // Says only that this copy was not executed: another copy may have been.
                    Err(rejected) if rejected.code == "request_expired" => {
                        Err(Verdict::Retry(Failure {
                            disconnected: false,
                            ..Failure::no_answer(rejected.message)
                        }))
                    }
                    Err(rejected) => Err(Verdict::Final(Error::Rejected(Box::new(rejected)))),
                }
            },
        )
        .await
    }

    /// Asks one node, known or not, how it sees the cluster. Asked once: it does not fail over.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not answer.
    pub async fn status(
        &self,
        endpoint: &Address,
        with_state_hash: bool,
    ) -> Result<NodeStatus, Error> {
        ask_status(&self.endpoints.at(endpoint), self.timeout, with_state_hash).await
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
        let asked = self.endpoints.all().into_iter().map(async |slot| {
            let remaining = deadline.saturating_duration_since(Instant::now());
            (
                slot.address.clone(),
                ask_status(&slot, remaining, with_state_hash).await,
            )
        });
        Ok(join_all(asked).await)
    }

    /// Who leads the cluster, asking again while there is nobody.
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
            if deadline.saturating_duration_since(Instant::now()) <= LEADER_POLL {
                return Err(Error::Unavailable {
                    timeout: self.timeout,
                    tried,
                });
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// The cluster as the node that knows most sees it: the leader, where it can be asked.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no endpoint answers.
    pub async fn view(&self) -> Result<NodeStatus, Error> {
        let deadline = Instant::now() + self.timeout;
        let (answers, failures) = self.survey(deadline).await?;
        match survey::newest(&answers) {
            Some(view) => Ok(view.clone()),
            None => Err(Error::Unavailable {
                timeout: self.timeout,
                tried: failures,
            }),
        }
    }

    /// Finds the leader and starts the following calls there, which saves them a hop. Nodes
    /// forward by themselves: this is for throughput, never needed for correctness.
    ///
    /// # Errors
    /// Those of [`leader`](Self::leader), and when the leader cannot be reached from here; calls
    /// then go on where they went before.
    pub async fn prefer_leader(&self) -> Result<Leader, Error> {
        let leader = self.leader().await?;
        let address: Address = leader.member.grpc_address.parse()?;
        let slot = self.endpoints.at(&address);
        match tokio::time::timeout(self.timeout, slot.connect()).await {
            Ok(Ok(_)) => {
                self.endpoints.adopt(&slot);
                Ok(leader)
            }
            failed => {
                let cause = failed
                    .ok()
                    .and_then(Result::err)
                    .unwrap_or_else(|| "no connection in time".to_owned());
                let tried = vec![Tried {
                    endpoint: address,
                    cause,
                }];
                Err(Error::Unavailable {
                    timeout: self.timeout,
                    tried,
                })
            }
        }
    }

    /// Asks every endpoint until enough answers are in to know who leads.
    async fn survey(&self, deadline: Instant) -> Result<(Vec<NodeStatus>, Vec<Tried>), Error> {
        self.discover(deadline).await?;
        let remaining = deadline.saturating_duration_since(Instant::now());
        let mut asked: FuturesUnordered<_> = self
            .endpoints
            .all()
            .into_iter()
            .map(async |slot| {
                (
                    slot.address.clone(),
                    ask_status(&slot, remaining, false).await,
                )
            })
            .collect();
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        while let Some((endpoint, answer)) = asked.next().await {
            match answer {
                Ok(answer) => {
                    let cause = format!("{} knows no leader", answer.node.name);
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

    /// Finds nodes where Consul is used. Fails only when none is known at all.
    async fn discover(&self, deadline: Instant) -> Result<(), DiscoveryError> {
        match self.endpoints.refresh(deadline).await {
            Err(error) if self.endpoints.all().is_empty() => Err(error),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self
            .endpoints
            .all()
            .iter()
            .map(|slot| slot.address.to_string())
            .collect();
        f.debug_struct("Client")
            .field("endpoints", &endpoints)
            .field("timeout", &self.timeout)
            .finish()
    }
}

async fn ask_status(
    slot: &Slot,
    allowance: Duration,
    with_state_hash: bool,
) -> Result<NodeStatus, Error> {
    let ask = async |attempt: Attempt| {
        let request = attempt.request(v1::StatusRequest { with_state_hash });
        let response = ClusterClient::new(attempt.channel)
            .status(request)
            .await
            .map_err(judge)?;
        NodeStatus::try_from(response.into_inner()).map_err(Verdict::BadAnswer)
    };
    let endpoint = slot.address.clone();
    call::attempt(slot, allowance, &ask)
        .await
        .map_err(|verdict| match verdict {
            Verdict::Final(error) => error,
            Verdict::BadAnswer(reason) => Error::BadAnswer { endpoint, reason },
            Verdict::Retry(Failure { cause, .. }) => Error::Unavailable {
                timeout: allowance,
                tried: vec![Tried { endpoint, cause }],
            },
        })
}

fn no_instance(instance: &InstanceId) -> Error {
    Error::Rejected(Box::new(Rejected {
        code: "unknown_instance".to_owned(),
        message: format!("there is no instance {instance:?}"),
        current_state: None,
        current_revision: None,
        allowed: Vec::new(),
        replayed: false,
    }))
}
