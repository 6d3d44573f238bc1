//! A webhook receiver that verifies messages, stores those it accepts, and fails on request.

mod behaviour;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use reqwest::header::HeaderMap;
use serde_json::Value;
use standardwebhooks::{HEADER_WEBHOOK_ID, Webhook as Verifier};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use behaviour::{Behaviour, Rule};

use crate::ports::Port;
use crate::wire::{Connection, Request};

/// A receiver on a port of its own, until it is dropped.
pub struct Receiver {
    port: Port,
    inner: Arc<Inner>,
    serving: Option<JoinHandle<()>>,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// The instance that it is about, if it is about one.
    pub instance: Option<String>,
    /// The term of the leader that sent it first.
    pub term: Option<u64>,
    /// How often it was accepted.
    pub times: u32,
    /// Its body, as it came.
    pub text: String,
}

impl Accepted {
    /// Its body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// What it saw.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came in whole.
    pub requests: usize,
    /// Those whose signature was wrong; they are answered 401.
    pub forged: usize,
    /// Messages accepted once more.
    pub repeated: usize,
    /// Of those, the ones whose body had changed since.
    pub altered: usize,
    /// Requests that came while another one about the same instance was being answered.
    pub overtaking: usize,
    /// Requests that were being answered at once, at most.
    pub at_once_max: usize,
    /// Messages accepted from a leader of an earlier term than another one before.
    pub late: usize,
}

struct Inner {
    verifiers: Vec<Verifier>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    rules: Vec<Rule>,
    counts: Counts,
    accepted: Vec<Accepted>,
    /// Where each id is in `accepted`.
    places: HashMap<String, usize>,
    /// How often each id came, accepted or not.
    came: HashMap<String, usize>,
    /// The latest term of a leader that sent something.
    term_max: Option<u64>,
    /// What was accepted from a leader of the latest term known by then.
    timely: HashSet<String>,
    last_headers: HeaderMap,
    at_once: usize,
    busy: HashSet<String>,
}

impl Receiver {
    /// Starts one that accepts what is signed with each of these secrets.
    pub async fn start(secrets: &[&str]) -> Result<Self> {
        let verifiers: Result<Vec<_>, _> = secrets.iter().map(|it| Verifier::new(it)).collect();
        let inner = Inner {
            verifiers: verifiers.context("a secret that is none")?,
            seen: Mutex::default(),
        };
        let mut receiver = Self {
            port: Port::free()?,
            inner: Arc::new(inner),
            serving: None,
        };
        receiver.start_again().await?;
        Ok(receiver)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where messages go.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address())
    }

    /// Stops: it refuses connections and breaks those it has. It keeps what it accepted.
    pub async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // It ends as cancelled, and its connections with it.
            let _ = serving.await;
        }
    }

    /// Listens on the same port again.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.serving.is_none(), "it has not been killed");
        let listener = TcpListener::bind(self.address()).await?;
        let inner = self.inner.clone();
        self.serving = Some(tokio::spawn(serve(listener, inner)));
        Ok(())
    }

    /// Adds a rule. If several rules apply, the first one wins.
    pub fn obey(&self, rule: Rule) {
        self.inner.seen().rules.push(rule);
    }

    /// Forgets all rules: it accepts everything again.
    pub fn behave(&self) {
        self.inner.seen().rules.clear();
    }

    /// Deletes everything it accepted, as after a reinstallation.
    pub fn forget(&self) {
        self.forget_behind(0);
    }

    /// Forgets what it accepted behind its first `count` messages.
    pub fn forget_behind(&self, count: usize) {
        let mut seen = self.inner.seen();
        let count = count.min(seen.accepted.len());
        for forgotten in seen.accepted.split_off(count) {
            seen.places.remove(&forgotten.id);
            seen.timely.remove(&forgotten.id);
        }
    }

    /// What it accepted, in the order in which it first did.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.inner.seen().accepted.clone()
    }

    /// How many messages it accepted, each counted once.
    pub fn accepted_count(&self) -> usize {
        self.inner.seen().accepted.len()
    }

    /// Number of accepted messages that it never received from a leader of the latest term known at that time:
    /// those that it would miss if it rejected earlier terms.
    pub fn never_timely_count(&self) -> usize {
        let seen = self.inner.seen();
        seen.accepted.len() - seen.timely.len()
    }

    /// What it accepted about each instance, in the order in which it first did.
    pub fn by_instance(&self) -> BTreeMap<String, Vec<Accepted>> {
        let mut instances: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for accepted in &self.inner.seen().accepted {
            if let Some(instance) = &accepted.instance {
                let all = instances.entry(instance.clone()).or_default();
                all.push(accepted.clone());
            }
        }
        instances
    }

    /// How often a message came, accepted or not.
    pub fn came(&self, id: &str) -> usize {
        self.inner.seen().came.get(id).copied().unwrap_or_default()
    }

    /// What it saw.
    pub fn counts(&self) -> Counts {
        self.inner.seen().counts
    }

    /// The headers of the last message that it accepted.
    pub fn last_headers(&self) -> HeaderMap {
        self.inner.seen().last_headers.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let inner = inner.clone();
        connections.spawn(async move {
            let mut connection = Connection::new(stream);
            // A connection that breaks is the sender's to deal with.
            while let Ok(Some(request)) = connection.read().await {
                if !matches!(inner.answer(&mut connection, request).await, Ok(true)) {
                    break;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection can be used further.
    async fn answer(&self, connection: &mut Connection, request: Request) -> Result<bool> {
        ensure!(request.target == "POST /hook", "{}", request.target);
        self.seen().counts.requests += 1;
        let Some(message) = self.verified(&request) else {
            self.seen().counts.forged += 1;
            return connection.answer(401, "", "who are you?").await;
        };
        let behaviour = {
            let mut seen = self.seen();
            *seen.came.entry(message.id.clone()).or_default() += 1;
            seen.behaviour(&message)
        };
        match behaviour {
            Behaviour::Accept => {
                let _under_way = UnderWay::begin(self, &message);
                self.seen().keep(message, request.headers);
                connection.answer(200, "", "").await
            }
            Behaviour::Slow { at_most } => {
                let _under_way = UnderWay::begin(self, &message);
                tokio::time::sleep(at_most.mul_f64(rand::random())).await;
                self.seen().keep(message, request.headers);
                connection.answer(204, "", "").await
            }
            Behaviour::Fail {
                status,
                headers,
                body,
            } => connection.answer(status, &headers, &body).await,
            Behaviour::Stall => connection.closed().await.map(|()| false),
            Behaviour::Cut => {
                self.seen().keep(message, request.headers);
                connection.break_off().await.map(|()| false)
            }
        }
    }

    /// None unless each secret signed it.
    fn verified(&self, request: &Request) -> Option<Accepted> {
        let Request { headers, body, .. } = request;
        let signed = |it: &Verifier| it.verify(body.as_bytes(), headers).is_ok();
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        if !self.verifiers.iter().all(signed) {
            return None;
        }
        let json: Value = serde_json::from_str(body).ok()?;
        let is_about_instance = json["type"].as_str()?.starts_with("instance.");
        Some(Accepted {
            id: text(HEADER_WEBHOOK_ID)?,
            instance: json["data"]["id"]
                .as_str()
                .filter(|_| is_about_instance)
                .map(str::to_owned),
            term: text("lockstep-term").and_then(|it| it.parse().ok()),
            times: 0,
            text: body.clone(),
        })
    }
}

impl Seen {
    fn behaviour(&mut self, message: &Accepted) -> Behaviour {
        let rule = self.rules.iter_mut().find(|it| it.applies(message));
        rule.map_or(Behaviour::Accept, Rule::use_once)
    }

    fn keep(&mut self, message: Accepted, headers: HeaderMap) {
        self.last_headers = headers;
        self.term_max = self.term_max.max(message.term);
        if message.term == self.term_max {
            self.timely.insert(message.id.clone());
        } else {
            self.counts.late += 1;
        }
        let (id, next) = (message.id.clone(), self.accepted.len());
        let place = *self.places.entry(id).or_insert(next);
        if place < next {
            self.counts.repeated += 1;
            self.counts.altered += usize::from(self.accepted[place].text != message.text);
        } else {
            self.accepted.push(message);
        }
        self.accepted[place].times += 1;
    }
}

/// A request that is being answered, until this is dropped.
struct UnderWay<'a> {
    inner: &'a Inner,
    instance: Option<String>,
}

impl<'a> UnderWay<'a> {
    fn begin(inner: &'a Inner, message: &Accepted) -> Self {
        let instance = message.instance.clone();
        let mut seen = inner.seen();
        seen.at_once += 1;
        seen.counts.at_once_max = seen.counts.at_once_max.max(seen.at_once);
        let is_first = match &instance {
            Some(instance) => seen.busy.insert(instance.clone()),
            None => true,
        };
        seen.counts.overtaking += usize::from(!is_first);
        Self { inner, instance }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut seen = self.inner.seen();
        seen.at_once -= 1;
        if let Some(instance) = &self.instance {
            seen.busy.remove(instance);
        }
    }
}
