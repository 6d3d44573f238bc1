//! A server of `lockstep.v1` that answers by script.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lockstep_proto::v1;
use lockstep_proto::v1::cluster_server::{Cluster, ClusterServer};
use lockstep_proto::v1::machines_server::{Machines, MachinesServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// What the server does with a request. When the script is over, it is unavailable.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Done,
    Replayed,
    Rejected,
    Unavailable,
    OutcomeUnknown,
    Overloaded { retry_after_ms: u64 },
    Invalid,
    Nonsense,
    Hang,
}

/// What the server was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub key: Option<String>,
    pub timeout: Option<Duration>,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
    status: Mutex<Option<v1::StatusResponse>>,
}

pub struct Node {
    pub address: String,
    script: Arc<Script>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// A port where nobody listens.
pub fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a port left");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_at("127.0.0.1:0", answers).await
    }

    pub async fn start_at(address: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address")
            .to_string();
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into_iter().collect()),
            ..Default::default()
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Scripted(script.clone());
        let server = tokio::spawn(async move {
            let serving = tonic::transport::Server::builder()
                .add_service(MachinesServer::new(service.clone()))
                .add_service(ClusterServer::new(service))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    let _ = stopped.await;
                });
            serving.await.expect("the server runs");
        });
        Self {
            address,
            script,
            stop,
            server,
        }
    }

    /// Stops the server and closes its connections.
    pub async fn stop(self) -> String {
        let _ = self.stop.send(());
        self.server.await.expect("the server stops");
        self.address
    }

    pub fn requests(&self) -> Vec<Asked> {
        lock(&self.script.asked).clone()
    }

    /// What the node says of itself; the leader with its address.
    pub fn set_status(&self, id: u64, term: u64, leader: Option<(u64, &str)>) {
        let member = |id, address: &str| v1::Member {
            id,
            name: format!("node{id}"),
            grpc_address: address.to_owned(),
            http_address: "127.0.0.1:3333".to_owned(),
            voter: true,
            matched_index: None,
        };
        let mut members = vec![member(id, &self.address)];
        members.extend(
            leader
                .filter(|(leader, _)| *leader != id)
                .map(|(id, address)| member(id, address)),
        );
        let leads = leader.is_some_and(|(leader, _)| leader == id);
        *lock(&self.script.status) = Some(v1::StatusResponse {
            cluster_id: "c1".to_owned(),
            node: members.first().cloned(),
            version: "9.8.7".to_owned(),
            build_date: "2020-01-01T00:00:00Z".to_owned(),
            role: if leads {
                v1::Role::Leader
            } else {
                v1::Role::Follower
            }
            .into(),
            term,
            leader_id: leader.map(|(leader, _)| leader),
            members,
            log_first_index: 1,
            log_last_index: 12,
            committed_index: 11,
            applied_index: 10,
            ..Default::default()
        });
    }
}

#[derive(Clone)]
struct Scripted(Arc<Script>);

impl Scripted {
    async fn next(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        key: Option<String>,
    ) -> Result<Answer, Status> {
        let timeout = metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(grpc_timeout);
        lock(&self.0.asked).push(Asked { key, timeout });
        let answer = lock(&self.0.answers)
            .pop_front()
            .unwrap_or(Answer::Unavailable);
        match answer {
            Answer::Unavailable => Err(coded(Code::Unavailable, "unavailable")),
            Answer::OutcomeUnknown => Err(coded(Code::DeadlineExceeded, "outcome_unknown")),
            Answer::Overloaded { retry_after_ms } => {
                let mut status = coded(Code::ResourceExhausted, "overloaded");
                status
                    .metadata_mut()
                    .insert("retry-after-ms", retry_after_ms.into());
                Err(status)
            }
            Answer::Invalid => Err(coded(Code::InvalidArgument, "invalid_argument")),
            Answer::Hang => std::future::pending().await,
            answer => Ok(answer),
        }
    }
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "n" => Some(Duration::from_nanos(number)),
        "u" => Some(Duration::from_micros(number)),
        "m" => Some(Duration::from_millis(number)),
        "S" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

fn coded(code: Code, text: &'static str) -> Status {
    let mut status = Status::new(code, text);
    status.metadata_mut().insert(
        "lockstep-code",
        tonic::metadata::MetadataValue::from_static(text),
    );
    status
}

#[tonic::async_trait]
impl Machines for Scripted {
    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<v1::GetInstanceResponse>, Status> {
        self.next(request.metadata(), None).await?;
        Ok(Response::new(v1::GetInstanceResponse {
            instance: Some(v1::Instance {
                id: request.into_inner().id,
                version: 1,
                state: "second".to_owned(),
                revision: 4,
                created_at_ms: 0,
                changed_at_ms: 1_700_000_000_000,
                allowed: vec!["third".to_owned()],
            }),
            applied_index: 42,
        }))
    }

    async fn transition(
        &self,
        request: Request<v1::TransitionRequest>,
    ) -> Result<Response<v1::TransitionResponse>, Status> {
        use v1::transition_request::Trigger;
        use v1::transition_response::Outcome;
        let answer = self
            .next(
                request.metadata(),
                request.get_ref().idempotency_key.clone(),
            )
            .await?;
        let request = request.into_inner();
        let Some(Trigger::To(to)) = request.trigger else {
            return Err(Status::unimplemented("events"));
        };
        let outcome = match answer {
            Answer::Nonsense => None,
            Answer::Rejected => Some(Outcome::Rejected(v1::Rejected {
                code: "illegal_transition".to_owned(),
                message: format!(
                    "{} cannot go from \"third\" to {to:?}; allowed from \"third\": first",
                    request.id
                ),
                current_state: Some("third".to_owned()),
                current_revision: Some(9),
                allowed: vec!["first".to_owned()],
            })),
            _ => Some(Outcome::Transitioned(v1::Transitioned {
                id: request.id,
                version: 1,
                from: "first".to_owned(),
                to,
                event: None,
                revision: 5,
                at_ms: 1_700_000_000_000,
            })),
        };
        Ok(Response::new(v1::TransitionResponse {
            outcome,
            replayed: matches!(answer, Answer::Replayed),
        }))
    }
}

#[tonic::async_trait]
impl Cluster for Scripted {
    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let Some(mut status) = lock(&self.0.status).clone() else {
            return Err(coded(Code::Unavailable, "unavailable"));
        };
        status.state_hash = request
            .get_ref()
            .with_state_hash
            .then(|| "0123456789abcdef".repeat(2));
        Ok(Response::new(status))
    }
}
