//! The cluster as it is loaded.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use lockstep_client::{
    Address, Client, Consistency, Error, Expectation, InstanceId, Metadata, StateName, Transaction,
    TransitionCall, TransitionStream,
};
use lockstep_load::{self as load, Failed, Operation, Service};

use super::Via;
use super::http::Http;
use super::instances::{Instances, after, number, state};

/// A cluster, and how clients reach it.
pub(super) struct Cluster {
    pub(super) via: Via,
    /// Addresses of the nodes.
    pub(super) nodes: Vec<Address>,
    /// How many of them, from the first on, clients start with.
    pub(super) starts: usize,
    /// Of one operation.
    pub(super) timeout: Duration,
    pub(super) clients: usize,
    /// How many clients share a gRPC connection.
    pub(super) sharing: usize,
    /// Transitions in one operation.
    pub(super) batch: usize,
    /// Of each transition.
    pub(super) metadata: Metadata,
    pub(super) instances: Arc<Instances>,
}

impl Service for Cluster {
    type Client = Worker;

    async fn connect(&self, clients: Range<usize>) -> Result<Vec<Worker>, Failed> {
        let connections = match self.via {
            Via::Http => {
                let connecting = clients.clone().map(|number| self.http(number));
                try_join_all(connecting).await?
            }
            Via::Grpc | Via::Stream => {
                let shared = clients.clone().step_by(self.sharing);
                let shared = try_join_all(shared.map(|number| self.grpc(number))).await?;
                let connection = |position: usize| shared[position / self.sharing].clone();
                let positions = 0..clients.len();
                positions.map(connection).map(Connection::Grpc).collect()
            }
        };
        let workers = clients.zip(connections).map(|(number, connection)| {
            let own = (number..self.instances.count).step_by(self.clients);
            Worker {
                connection,
                instances: self.instances.clone(),
                first: number,
                stride: self.clients,
                // New instances are in the first state.
                states: own.map(|_| Some(0)).collect(),
                next: 0,
                batch: self.batch,
            }
        });
        Ok(workers.collect())
    }
}

impl Cluster {
    /// The nodes in the order in which a client tries them.
    fn nodes_from(&self, number: usize) -> Vec<Address> {
        let mut nodes = self.nodes.clone();
        nodes.rotate_left(number % self.starts);
        nodes
    }

    async fn http(&self, number: usize) -> Result<Connection, Failed> {
        let http = Http::connect(self.nodes_from(number), self.timeout, &self.metadata).await;
        http.map(Connection::Http)
    }

    async fn grpc(&self, number: usize) -> Result<Grpc, Failed> {
        let client = Client::builder()
            .endpoints(self.nodes_from(number))
            .timeout(self.timeout)
            .build();
        let client = client.map_err(failed)?;
        // It connects with its first call.
        let id = self.instances.id(number);
        client.get(&id, Consistency::Stale).await.map_err(failed)?;
        Ok(Grpc {
            stream: (self.via == Via::Stream).then(|| client.transition_stream()),
            client,
            metadata: self.metadata.clone(),
        })
    }
}

/// A client, which takes its own instances through their states again and again.
pub(super) struct Worker {
    connection: Connection,
    instances: Arc<Instances>,
    /// The number of the first of its instances, and the distance from one to the next.
    first: usize,
    stride: usize,
    /// The number of each instance's state; none if it is not known.
    states: Vec<Option<u8>>,
    /// The position of the instance whose turn it is.
    next: usize,
    batch: usize,
}

/// A transition of an instance, which has this position among a client's own, to the state of this number.
struct Step {
    position: usize,
    id: InstanceId,
    to: u8,
}

impl load::Client for Worker {
    async fn execute(&mut self, operation: Operation) -> Result<(), Failed> {
        let freshness = match operation {
            Operation::Read => Consistency::Linearizable,
            Operation::StaleRead => Consistency::Stale,
            Operation::Transition => return self.advance(self.batch, false).await,
            Operation::Transaction => return self.advance(1, true).await,
        };
        let position = self.turn();
        let id = self.id(position);
        self.connection.read(&id, freshness).await.map(|_| ())
    }
}

impl Worker {
    /// The position of the next instance.
    fn turn(&mut self) -> usize {
        let position = self.next;
        self.next = (position + 1) % self.states.len();
        position
    }

    fn id(&self, position: usize) -> InstanceId {
        self.instances.id(self.first + position * self.stride)
    }

    /// The number of an instance's state. After a failure, only the cluster knows.
    async fn state(&mut self, position: usize, id: &InstanceId) -> Result<u8, Failed> {
        if let Some(known) = self.states[position] {
            return Ok(known);
        }
        let read = self.connection.read(id, Consistency::Linearizable).await?;
        let found = number(read.as_str())
            .ok_or_else(|| Failed::unavailable("bad_answer", format!("{id} is in state {read}")))?;
        self.states[position] = Some(found);
        Ok(found)
    }

    /// Makes a transition of each of the next instances; if `checked`, only if the instance after them is in its state.
    async fn advance(&mut self, count: usize, checked: bool) -> Result<(), Failed> {
        let mut steps = Vec::with_capacity(count);
        for _ in 0..count {
            let position = self.turn();
            let id = self.id(position);
            let to = after(self.state(position, &id).await?);
            steps.push(Step { position, id, to });
        }
        let mut check = None;
        if checked {
            // Its turn comes next. With one instance, it is the one that makes the transition.
            let position = self.next;
            let id = self.id(position);
            let found = self.state(position, &id).await?;
            check = Some((id, state(found)));
        }
        let named: Vec<_> = steps
            .iter()
            .map(|it| (it.id.clone(), state(it.to)))
            .collect();
        let made = match (&check, &named[..]) {
            (None, [(id, to)]) => self.connection.transition(id, to).await,
            _ => self.connection.transact(check.as_ref(), &named).await,
        };
        for it in steps {
            self.states[it.position] = made.is_ok().then_some(it.to);
        }
        made
    }
}

/// A state that an instance is in, or is to go to.
type InState = (InstanceId, StateName);

enum Connection {
    Http(Http),
    Grpc(Grpc),
}

/// A gRPC connection. Clones share it.
#[derive(Clone)]
struct Grpc {
    client: Client,
    /// Takes the transitions that are alone in an operation.
    stream: Option<TransitionStream>,
    /// Of each transition.
    metadata: Metadata,
}

impl Connection {
    async fn transition(&mut self, id: &InstanceId, to: &StateName) -> Result<(), Failed> {
        match self {
            Self::Http(http) => http.transition(id, to).await,
            Self::Grpc(grpc) => {
                let call = TransitionCall::to(id, to.clone()).metadata(grpc.metadata.clone());
                let made = match &grpc.stream {
                    Some(stream) => stream.transition(call).await,
                    None => grpc.client.transition(call).await,
                };
                made.map(|_| ()).map_err(failed)
            }
        }
    }

    async fn transact(&mut self, check: Option<&InState>, steps: &[InState]) -> Result<(), Failed> {
        match self {
            Self::Http(http) => http.transact(check, steps).await,
            Self::Grpc(Grpc {
                client, metadata, ..
            }) => {
                let mut transaction = Transaction::new();
                if let Some((id, state)) = check {
                    transaction = transaction.check(id, Expectation::InState(state.clone()));
                }
                for (id, to) in steps {
                    let call = TransitionCall::to(id, to.clone()).metadata(metadata.clone());
                    transaction = transaction.transition(call);
                }
                client
                    .transact(transaction)
                    .await
                    .map(|_| ())
                    .map_err(failed)
            }
        }
    }

    async fn read(
        &mut self,
        id: &InstanceId,
        consistency: Consistency,
    ) -> Result<StateName, Failed> {
        match self {
            Self::Http(http) => http.read(id, consistency).await,
            Self::Grpc(Grpc { client, .. }) => {
                let read = client.get(id, consistency).await.map_err(failed)?;
                Ok(read.found.state)
            }
        }
    }
}

fn failed(error: Error) -> Failed {
    Failed {
        code: error.code().to_owned(),
        message: error.to_string(),
        rejected: matches!(error, Error::Rejected(_) | Error::Invalid(_)),
    }
}
