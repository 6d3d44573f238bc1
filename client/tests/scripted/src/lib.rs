//! A server of `lockstep.v1` that answers by script.
//!
//! Each request takes the next [`Answer`] of the script. One that lets it through is answered by
//! what [`Node::on`] set for that kind of request, or else by a plain answer of its kind.

mod plain;
mod service;
pub mod sinks;
pub mod watching;

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::stream::BoxStream;
use lockstep_proto::v1;
use parking_lot::Mutex;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tonic::{Code, Status};

/// What the server does with a request. When the script is over, it is unavailable.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Done,
    Replayed,
    Rejected,
    Expired,
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

/// A kind of request, and what answers it.
pub trait Scriptable: Clone + Send + 'static {
    type Response: Send + 'static;

    fn key(&self) -> Option<String> {
        None
    }
}

/// What a watch sends.
pub type Watching = BoxStream<'static, Result<v1::WatchResponse, Status>>;

type Handler<M> = Box<dyn FnMut(M) -> Result<<M as Scriptable>::Response, Status> + Send>;

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
    /// Every request as it came, whatever its kind.
    messages: Mutex<Vec<Box<dyn Any + Send>>>,
    /// By kind of request: a `Handler` of it.
    handlers: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
    status: Mutex<Option<v1::StatusResponse>>,
    backup: Mutex<Option<Vec<u8>>>,
}

pub struct Node {
    pub address: String,
    script: Arc<Script>,
    end: oneshot::Sender<End>,
    server: JoinHandle<()>,
}

/// How a server ends. One that is dropped ends abruptly.
enum End {
    Gracefully,
    Abruptly,
}

/// A port without a listener, and that no process can listen on: it stays bound until the test ends.
pub fn closed_port() -> String {
    let socket = bound();
    let address = address_of(&socket);
    std::mem::forget(socket);
    address
}

/// A port that stays a node's own while the node is down: bound until the test ends, and never
/// listened on. With address reuse, though only once it is bound: so Linux lets a listener have it
/// (every Rust listener sets that), but gives it to no process that asks for any port.
fn kept_port() -> String {
    let socket = bound();
    socket
        .set_reuseaddr(true)
        .expect("a socket takes the option");
    let address = address_of(&socket);
    std::mem::forget(socket);
    address
}

fn bound() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket
        .bind(([127, 0, 0, 1], 0).into())
        .expect("loopback has a port left");
    socket
}

fn address_of(socket: &TcpSocket) -> String {
    let address = socket.local_addr().expect("a bound socket has an address");
    address.to_string()
}

pub fn coded(code: Code, text: &'static str) -> Status {
    let mut status = Status::new(code, text);
    status.metadata_mut().insert(
        "lockstep-code",
        tonic::metadata::MetadataValue::from_static(text),
    );
    status
}

impl Node {
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_at(&kept_port(), answers).await
    }

    /// One that returns to where it was.
    pub async fn start_at(address: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = listen(address).await;
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into_iter().collect()),
            ..Default::default()
        });
        let (end, ended) = oneshot::channel();
        let served = script.clone();
        // A runtime of its own: when it goes, every connection goes, as when a process is killed.
        let server = std::thread::spawn(move || serve(served, listener, ended));
        Self {
            address: address.to_owned(),
            script,
            end,
            server,
        }
    }

    /// Lets the requests under way finish, and closes the connections.
    pub async fn stop(self) -> String {
        self.end(End::Gracefully).await
    }

    /// Closes the connections as they are.
    pub async fn kill(self) -> String {
        self.end(End::Abruptly).await
    }

    async fn end(self, how: End) -> String {
        let _ = self.end.send(how);
        let joined = tokio::task::spawn_blocking(|| self.server.join()).await;
        joined
            .expect("the wait is not cancelled")
            .expect("the server stops");
        self.address
    }

    pub fn requests(&self) -> Vec<Asked> {
        self.script.asked.lock().clone()
    }

    /// The requests of one kind, as they came.
    pub fn asked<M: Scriptable>(&self) -> Vec<M> {
        let messages = self.script.messages.lock();
        messages
            .iter()
            .filter_map(|message| message.downcast_ref::<M>())
            .cloned()
            .collect()
    }

    /// Answers requests of one kind, those that the script lets through; after the script, all.
    pub fn on<M: Scriptable>(
        &self,
        handler: impl FnMut(M) -> Result<M::Response, Status> + Send + 'static,
    ) {
        let handler: Handler<M> = Box::new(handler);
        self.script
            .handlers
            .lock()
            .insert(TypeId::of::<M>(), Box::new(handler));
    }

    /// The bytes that the node sends as a backup.
    pub fn set_backup(&self, bytes: Vec<u8>) {
        *self.script.backup.lock() = Some(bytes);
    }

    /// What the node says of itself; the leader with its address.
    pub fn set_status(&self, id: u64, term: u64, leader: Option<(u64, &str)>) {
        let member = |id, address: &str| v1::Member {
            id,
            name: format!("node{id}"),
            grpc_address: address.to_owned(),
            http_address: "127.0.0.1:3333".to_owned(),
            voter: true,
            ..v1::Member::default()
        };
        let mut members = vec![member(id, &self.address)];
        members.extend(
            leader
                .filter(|(leader, _)| *leader != id)
                .map(|(id, address)| member(id, address)),
        );
        let leads = leader.is_some_and(|(leader, _)| leader == id);
        *self.script.status.lock() = Some(v1::StatusResponse {
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

/// Binds an address, also one whose connections were closed a moment ago.
async fn listen(address: &str) -> TcpListener {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .expect("the port is free");
    listener.into_std().expect("a listener is one")
}

fn serve(script: Arc<Script>, listener: TcpListener, ended: oneshot::Receiver<End>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let (stop, stopped) = oneshot::channel::<()>();
        let mut serving = tokio::spawn(service::serve(script, listener, stopped));
        tokio::select! {
            how = ended => {
                if let Ok(End::Gracefully) = how {
                    let _ = stop.send(());
                    serving.await.expect("the server runs");
                }
            }
            served = &mut serving => served.expect("the server runs"),
        }
    });
}
