//! The HTTP interface as a user sees it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// Longer than any deadline of the server's own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The instance that is always there.
const INSTANCE: &str = "/v1/machines/triad/instances/default";

/// The moves that the built-in machine allows in a circle.
pub fn after(state: &str) -> &'static str {
    match state {
        "first" => "second",
        "second" => "third",
        _ => "first",
    }
}

/// One node's HTTP interface.
#[derive(Clone)]
pub struct Api {
    client: Client,
    address: SocketAddr,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

/// A transition that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The state it led to.
    pub to: String,
    /// The instance's revision since.
    pub revision: u64,
    /// Whether the answer is that of an earlier request with the same key.
    pub replayed: bool,
}

impl Api {
    /// The interface at `address`, over connections of its own.
    pub fn new(address: SocketAddr) -> Self {
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .no_proxy()
            .build()
            .expect("a plain client builds");
        Self { client, address }
    }

    /// Where `path_and_query` is.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.address)
    }

    /// A request for `path_and_query`, to be completed.
    pub fn request(&self, method: Method, path_and_query: &str) -> RequestBuilder {
        self.client.request(method, self.url(path_and_query))
    }

    /// GETs `path_and_query`.
    pub async fn get(&self, path_and_query: &str) -> Result<Answer> {
        answer(self.request(Method::GET, path_and_query)).await
    }

    /// GETs `path_and_query`, which must answer 200 with JSON.
    pub async fn read(&self, path_and_query: &str) -> Result<Value> {
        self.get(path_and_query)
            .await?
            .expect(StatusCode::OK)?
            .json()
    }

    /// A metric that has no labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.get("/metrics").await?.expect(StatusCode::OK)?.text;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .with_context(|| format!("no metric {name}"))?
            .parse()
            .with_context(|| format!("metric {name}"))
    }

    /// The memory of the node's process that is in RAM, in bytes.
    pub async fn resident(&self) -> Result<f64> {
        self.metric("process_resident_memory_bytes").await
    }

    /// Sends a body of this content type.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let request = self.request(method, path);
        answer(
            request
                .header("content-type", content_type)
                .body(body.into()),
        )
        .await
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Defines a machine in JSON, if the document begins as JSON does, or in YAML.
    pub async fn define(&self, document: impl Into<String>) -> Result<Answer> {
        let document = document.into();
        let content_type = match document.starts_with("{\"") {
            true => "application/json",
            false => "application/yaml",
        };
        self.send(Method::POST, "/v1/machines", content_type, document)
            .await
    }

    /// The short interface: moves the built-in instance.
    pub async fn next(&self, state: &str) -> Result<Answer> {
        self.get(&format!("/?next={state}")).await
    }

    /// The short interface: the state, linearizable.
    pub async fn state(&self) -> Result<String> {
        Ok(self
            .get("/")
            .await?
            .expect(StatusCode::OK)?
            .text
            .trim()
            .to_owned())
    }

    /// The built-in instance's state and revision, linearizable.
    pub async fn instance(&self) -> Result<(String, u64)> {
        let instance = self.read(INSTANCE).await?;
        Ok((text(&instance, "state")?, number(&instance, "revision")?))
    }

    /// Asks the built-in instance to move to `to`, with what else `conditions` holds.
    pub async fn transition(
        &self,
        to: &str,
        key: Option<&str>,
        conditions: Value,
    ) -> Result<Answer> {
        let mut body = json!({ "to": to });
        if let (Some(body), Some(conditions)) = (body.as_object_mut(), conditions.as_object()) {
            body.extend(conditions.clone());
        }
        let mut request = self
            .request(Method::POST, &format!("{INSTANCE}/transitions"))
            .json(&body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        answer(request).await
    }

    /// The cluster as this node sees it.
    pub async fn cluster(&self) -> Result<ClusterView> {
        ClusterView::parse(&self.read("/v1/cluster").await?)
    }

    /// The members, as the leader sees them.
    pub async fn members(&self) -> Result<Vec<Value>> {
        let listed = self.read("/v1/cluster/members").await?;
        Ok(listed["members"].as_array().cloned().unwrap_or_default())
    }

    /// The hash over the node's whole state, and the log index it was taken at.
    pub async fn state_hash(&self) -> Result<(u64, String)> {
        let view = self.read("/v1/cluster?state_hash=true").await?;
        let hash = &view["state_hash"];
        Ok((number(hash, "applied_index")?, text(hash, "hash")?))
    }
}

/// Sends a request and reads the answer to its end.
pub async fn answer(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer {
        status,
        headers,
        text: response.text().await?,
    })
}

impl Answer {
    /// Itself if it has this status, else an error that shows it.
    pub fn expect(self, status: StatusCode) -> Result<Self> {
        ensure!(self.status == status, "expected {status}, got {self:?}");
        Ok(self)
    }

    /// Its body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("not JSON: {self:?}"))
    }

    /// Its body as problem details: checks the type, that it repeats the status, and that it has no word of a
    /// library.
    pub fn problem(&self) -> Result<Value> {
        let kind = self
            .headers
            .get("content-type")
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default();
        ensure!(
            kind.starts_with("application/problem+json"),
            "no problem details: {self:?}"
        );
        let problem = self.json()?;
        ensure!(
            problem["status"] == self.status.as_u16(),
            "the body contradicts the status: {self:?}"
        );
        ensure!(problem["code"].is_string(), "no stable code: {self:?}");
        let word = lockstep_machine::library_words(&self.text);
        ensure!(word.is_none(), "{word:?}, a library's word: {self:?}");
        Ok(problem)
    }

    /// When the server says to try again.
    pub fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().ok()?.parse().ok()
    }

    /// The transition it acknowledges.
    pub fn moved(&self) -> Result<Moved> {
        ensure!(self.status == StatusCode::OK, "no transition: {self:?}");
        let answer = self.json()?;
        let made = &answer["transitioned"];
        Ok(Moved {
            to: text(made, "to")?,
            revision: number(made, "revision")?,
            replayed: answer["replayed"].as_bool().context("replayed or not?")?,
        })
    }
}

/// The cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster's id.
    pub cluster_id: String,
    /// The answering node's name.
    pub node: String,
    /// The answering node's id.
    pub node_id: u64,
    /// `leader`, `follower`, ...
    pub role: String,
    /// The term.
    pub term: u64,
    /// The leader it knows.
    pub leader_id: Option<u64>,
    /// The members' names and ids, in order of name.
    pub members: Vec<(String, u64)>,
    /// Applied so far.
    pub applied_index: u64,
    /// Committed as far as it knows.
    pub committed_index: u64,
    /// The oldest entry in its log.
    pub log_first_index: u64,
    /// Covered by its snapshot.
    pub snapshot_index: u64,
}

impl ClusterView {
    fn parse(view: &Value) -> Result<Self> {
        let members = view["members"]
            .as_array()
            .with_context(|| format!("no members in {view}"))?;
        let mut members = members
            .iter()
            .map(|member| Ok((text(member, "name")?, number(member, "id")?)))
            .collect::<Result<Vec<_>>>()?;
        members.sort();
        Ok(Self {
            cluster_id: text(view, "cluster_id")?,
            node: text(&view["node"], "name")?,
            node_id: number(&view["node"], "id")?,
            role: text(view, "role")?,
            term: number(view, "term")?,
            leader_id: if view["leader_id"].is_null() {
                None
            } else {
                Some(number(view, "leader_id")?)
            },
            members,
            applied_index: number(view, "applied_index")?,
            committed_index: number(view, "committed_index")?,
            log_first_index: number(view, "log_first_index")?,
            snapshot_index: number(view, "snapshot_index")?,
        })
    }

    /// Whether the node leads.
    pub fn leads(&self) -> bool {
        self.role == "leader"
    }
}

fn text(object: &Value, field: &str) -> Result<String> {
    Ok(object[field]
        .as_str()
        .with_context(|| format!("no text {field:?} in {object}"))?
        .to_owned())
}

/// A number, or the digits of one: ids have 63 bits, more than every reader of JSON keeps.
fn number(object: &Value, field: &str) -> Result<u64> {
    let value = &object[field];
    let digits = || value.as_str().and_then(|digits| digits.parse().ok());
    value
        .as_u64()
        .or_else(digits)
        .with_context(|| format!("no number {field:?} in {object}"))
}
