//! Many writes at once: transactions of a hundred operations, each repeated until it is acknowledged.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::{Answer, Api, answer};

/// Operations in one transaction; the server takes 128.
pub const OPERATIONS: usize = 100;
/// How long one transaction may stay without an acknowledgement.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// Before a request that failed is repeated.
const PAUSE: Duration = Duration::from_millis(20);

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// The cluster's revision that its changes belong to.
    pub revision: u64,
    /// What was done: `{"created": {...}}` or `{"transitioned": {...}}`, in order.
    pub results: Vec<Value>,
}

/// The nodes to send writes to: a request goes to one, and, if that fails, to the next.
#[derive(Clone)]
pub struct Entrances {
    nodes: Vec<Api>,
    turn: usize,
}

impl Entrances {
    /// All of `nodes`, of which `turn` chooses the one to begin with.
    pub fn new(nodes: &[Api], turn: usize) -> Self {
        Self {
            nodes: nodes.to_vec(),
            turn,
        }
    }

    /// Does all of `operations` or nothing, under `key` if there is one.
    pub async fn commit(
        &mut self,
        key: Option<&str>,
        operations: &[Value],
    ) -> Result<Acknowledged> {
        let body = json!({ "operations": operations });
        let answer = self.write("/v1/transactions", key, &body).await?.json()?;
        Ok(Acknowledged {
            revision: answer["revision"].as_u64().context("no revision")?,
            results: answer["results"].as_array().context("no results")?.clone(),
        })
    }

    /// Moves one instance, under `key` if there is one.
    pub async fn transition(
        &mut self,
        id: &str,
        to: &str,
        key: Option<&str>,
    ) -> Result<Acknowledged> {
        let (machine, name) = id.split_once('/').context("an id is machine/name")?;
        let path = format!("/v1/machines/{machine}/instances/{name}/transitions");
        let answer = self.write(&path, key, &json!({ "to": to })).await?.json()?;
        Ok(Acknowledged {
            revision: answer["revision"].as_u64().context("no revision")?,
            results: vec![json!({ "transitioned": answer["transitioned"] })],
        })
    }

    /// POSTs again and again until it is acknowledged. A refusal is an error at once.
    async fn write(&mut self, path: &str, key: Option<&str>, body: &Value) -> Result<Answer> {
        let deadline = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            let node = &self.nodes[self.turn % self.nodes.len()];
            let mut request = node.request(Method::POST, path).json(body);
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            let failure = match answer(request).await {
                Ok(answer) if answer.status == StatusCode::OK => return Ok(answer),
                Ok(answer)
                    if answer.status.is_client_error()
                        && answer.status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    bail!("{path} was refused: {answer:?}")
                }
                Ok(answer) => format!("{answer:?}"),
                Err(error) => format!("{error:#}"),
            };
            ensure!(
                Instant::now() < deadline,
                "{path} was not acknowledged within {ACKNOWLEDGED_WITHIN:?}: {failure}"
            );
            self.turn += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The operation that creates an instance.
pub fn create(id: &str) -> Value {
    json!({ "create": { "id": id } })
}

/// The operation that moves an instance.
pub fn transition(id: &str, to: &str) -> Value {
    json!({ "transition": { "id": id, "to": to } })
}

/// The name of an instance by its number: in order.
pub fn numbered(machine: &str, number: usize) -> String {
    format!("{machine}/{number:08}")
}

/// Instances of one machine to be created, named by their [`numbered`] numbers.
#[derive(Debug, Clone)]
pub struct Creation {
    /// The machine.
    pub machine: String,
    /// The numbers.
    pub numbers: Range<usize>,
    /// How many write at once.
    pub writers: usize,
    /// They are spread evenly over this; as fast as possible if it is zero.
    pub window: Duration,
    /// Whether each request has an idempotency key: needed where nodes may die, and remembered.
    pub keyed: bool,
    /// The state to which each is moved after its creation, in a transaction of its own.
    pub moved_to: Option<&'static str>,
}

impl Creation {
    /// Creates them all through `nodes`.
    pub async fn run(&self, nodes: &[Api]) -> Result<Vec<Acknowledged>> {
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for writer in 0..self.writers {
            tasks.spawn(self.clone().write(nodes.to_vec(), writer, began));
        }
        let mut acknowledged = Vec::new();
        while let Some(done) = tasks.join_next().await {
            acknowledged.extend(done.context("a writer panicked")??);
        }
        Ok(acknowledged)
    }

    /// Creates one writer's share.
    async fn write(
        self,
        nodes: Vec<Api>,
        writer: usize,
        began: Instant,
    ) -> Result<Vec<Acknowledged>> {
        let mut entrances = Entrances::new(&nodes, writer);
        let mut acknowledged = Vec::new();
        let firsts = self.numbers.clone().step_by(OPERATIONS);
        for first in firsts.skip(writer).step_by(self.writers) {
            let share = (first - self.numbers.start) as f64 / self.numbers.len() as f64;
            tokio::time::sleep_until(began + self.window.mul_f64(share)).await;
            let numbers = first..self.numbers.end.min(first + OPERATIONS);
            let ids: Vec<_> = numbers.map(|n| numbered(&self.machine, n)).collect();
            let created: Vec<_> = ids.iter().map(|id| create(id)).collect();
            let moved = self
                .moved_to
                .map(|to| ids.iter().map(|id| transition(id, to)).collect());
            for (what, operations) in [("create", Some(created)), ("move", moved)] {
                let Some(operations) = operations else {
                    continue;
                };
                let key = self
                    .keyed
                    .then(|| format!("{what}-{}-{first}", self.machine));
                acknowledged.push(entrances.commit(key.as_deref(), &operations).await?);
            }
        }
        Ok(acknowledged)
    }
}
