//! `/v1` over one connection that stays open.

use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use lockstep_client::{Address, Consistency, InstanceId, Metadata, StateName};
use lockstep_load::Failed;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection to one of several nodes. When it is lost, the next request goes to the next node.
pub(super) struct Http {
    nodes: Vec<Address>,
    /// The node that it goes to.
    node: usize,
    timeout: Duration,
    /// Of each transition, as the rest of a JSON object.
    metadata: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// Why there is no answer.
enum Lost {
    /// Nothing was sent.
    BeforeSending(String),
    /// The request was sent.
    AfterSending(String),
}

/// The part of a read that is needed.
#[derive(Deserialize)]
struct Found {
    state: StateName,
}

/// The part of a problem document that is needed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
}

impl Http {
    /// Connects to the first node that accepts it.
    pub(super) async fn connect(
        nodes: Vec<Address>,
        timeout: Duration,
        metadata: &Metadata,
    ) -> Result<Self, Failed> {
        let mut http = Self {
            nodes,
            node: 0,
            timeout,
            metadata: match metadata.is_empty() {
                true => String::new(),
                false => format!(r#","metadata":{}"#, json!(metadata)),
            },
            sender: None,
        };
        let mut tried = Vec::new();
        for _ in 0..http.nodes.len() {
            let dialled = tokio::time::timeout(timeout, http.dial()).await;
            match dialled.unwrap_or_else(|_| Err("no connection in time".to_owned())) {
                Ok(()) => return Ok(http),
                Err(cause) => tried.push(format!("{} ({cause})", http.nodes[http.node])),
            }
            http.leave();
        }
        let tried = tried.join(", ");
        let message =
            format!("no node accepts HTTP connections; tried {tried}; --http names others");
        Err(Failed::unavailable("unavailable", message))
    }

    /// `POST .../transitions`
    pub(super) async fn transition(
        &mut self,
        id: &InstanceId,
        to: &StateName,
    ) -> Result<(), Failed> {
        let path = format!("{}/transitions", path(id));
        // Names need no escapes.
        let body = format!(r#"{{"to":"{to}"{}}}"#, self.metadata);
        self.write(&path, body).await
    }

    /// `POST /v1/transactions`
    pub(super) async fn transact(
        &mut self,
        check: Option<&(InstanceId, StateName)>,
        steps: &[(InstanceId, StateName)],
    ) -> Result<(), Failed> {
        let metadata = &self.metadata;
        let check =
            check.map(|(id, state)| format!(r#"{{"check":{{"id":"{id}","state":"{state}"}}}}"#));
        let steps = steps
            .iter()
            .map(|(id, to)| format!(r#"{{"transition":{{"id":"{id}","to":"{to}"{metadata}}}}}"#));
        let operations: Vec<_> = check.into_iter().chain(steps).collect();
        let body = format!(r#"{{"operations":[{}]}}"#, operations.join(","));
        self.write("/v1/transactions", body).await
    }

    /// `GET` of an instance.
    pub(super) async fn read(
        &mut self,
        id: &InstanceId,
        consistency: Consistency,
    ) -> Result<StateName, Failed> {
        let mut path = path(id);
        if consistency == Consistency::Stale {
            path.push_str("?consistency=stale");
        }
        let body = self.exchange(Method::GET, &path, String::new()).await?;
        let found: Result<Found, _> = serde_json::from_slice(&body);
        found
            .map(|it| it.state)
            .map_err(|_| Failed::unavailable("bad_answer", format!("no state in {body:?}")))
    }

    async fn write(&mut self, path: &str, body: String) -> Result<(), Failed> {
        self.exchange(Method::POST, path, body).await.map(|_| ())
    }

    /// Sends a request. Returns the body of a successful answer.
    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Bytes, Failed> {
        let is_read = method == Method::GET;
        let node = self.nodes[self.node].clone();
        let attempt = timeout(self.timeout, self.attempt(method, path, body)).await;
        let lost = match attempt {
            Ok(Ok((status, body))) if status.is_success() => return Ok(body),
            Ok(Ok((status, body))) => return Err(refusal(status, &body)),
            Ok(Err(lost)) => lost,
            Err(_) => Lost::AfterSending("no answer in time".to_owned()),
        };
        self.leave();
        let (code, cause) = match lost {
            Lost::AfterSending(cause) if !is_read => ("outcome_unknown", cause),
            Lost::AfterSending(cause) | Lost::BeforeSending(cause) => ("unavailable", cause),
        };
        Err(Failed::unavailable(code, format!("{node}: {cause}")))
    }

    async fn attempt(
        &mut self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes), Lost> {
        // A node may close a connection that is idle.
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            self.dial().await.map_err(Lost::BeforeSending)?;
        }
        let Some(sender) = &mut self.sender else {
            return Err(Lost::BeforeSending("no connection".to_owned()));
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.nodes[self.node].as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body));
        let request = request.map_err(|error| Lost::BeforeSending(error.to_string()))?;
        let after = |error: hyper::Error| Lost::AfterSending(cause(&error));
        let answer = sender.send_request(request).await.map_err(after)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(after)?;
        Ok((status, body.to_bytes()))
    }

    async fn dial(&mut self) -> Result<(), String> {
        let stream = TcpStream::connect(self.nodes[self.node].as_str()).await;
        let stream = stream.map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| cause(&error))?;
        // Ends when the sender is dropped or the node closes. Requests report its errors.
        tokio::spawn(connection);
        self.sender = Some(sender);
        Ok(())
    }

    /// The next request goes to the next node.
    fn leave(&mut self) {
        self.sender = None;
        self.node = (self.node + 1) % self.nodes.len();
    }
}

/// The innermost error, which is the specific one.
fn cause(error: &hyper::Error) -> String {
    let outermost: &dyn Error = error;
    let chain = std::iter::successors(Some(outermost), |&it| it.source());
    chain.last().unwrap_or(outermost).to_string()
}

fn path(id: &InstanceId) -> String {
    format!("/v1/machines/{}/instances/{}", id.machine, id.name())
}

/// An answer that is not successful.
fn refusal(status: StatusCode, body: &Bytes) -> Failed {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let retryable = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    Failed {
        code: match problem.code.is_empty() {
            true => format!("http_{}", status.as_u16()),
            false => problem.code,
        },
        message: match problem.detail.is_empty() {
            true => status.to_string(),
            false => problem.detail,
        },
        rejected: status.is_client_error() && !retryable.contains(&status),
    }
}
