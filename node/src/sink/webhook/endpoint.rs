//! An HTTP client for one receiver, which signs what it sends.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use humantime::format_duration;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Request, Response, StatusCode, Url, redirect, retry};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook as Signer,
};

use super::address::Resolver;
use super::answer::{classify, quote, retry_after};
use super::message::Message;
use crate::config::{Sink, signers};
use crate::sink::SinkError;
use crate::sink::connect::{authorities, causes, read_files};

/// Header: the term of the leader that sends.
const TERM: HeaderName = HeaderName::from_static("lockstep-term");
const USER_AGENT: &str = concat!("lockstep/", env!("CARGO_PKG_VERSION"));
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an error that are kept for quoting.
const KEPT_BYTES_MAX: usize = 1024;

pub(super) struct Endpoint {
    client: Client,
    url: Url,
    signers: Vec<Signer>,
    term: Option<HeaderValue>,
    timeout: Duration,
    retry_max: Duration,
}

impl Endpoint {
    /// Reads the secrets, and resolves the receiver's address. Sends nothing.
    pub(super) async fn open(sink: &Sink, term: Option<u64>) -> Result<Self, SinkError> {
        let url = Url::parse(&sink.address)
            .map_err(|e| SinkError::misconfigured(format!("the address is not a URL: {e}")))?;
        let host = url
            .host_str()
            .ok_or_else(|| SinkError::misconfigured("the address has no host"))?;
        let resolver = Resolver::new(sink.allow_local);
        let looked_up = tokio::time::timeout(sink.timeout, resolver.look_up(host)).await;
        looked_up.map_err(|_| {
            let timeout = format_duration(sink.timeout);
            SinkError::unavailable(format!("the host name did not resolve within {timeout}"))
        })??;
        let prepare = {
            let sink = sink.clone();
            move || prepare(&sink, resolver)
        };
        let (client, signers) = read_files(sink.timeout, prepare).await?;
        Ok(Self {
            client,
            url,
            signers,
            term: term.map(HeaderValue::from),
            timeout: sink.timeout,
            retry_max: sink.retry_max,
        })
    }

    pub(super) async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let sent = self.send(&message.id, message.body.clone());
        sent.await.map(drop)
    }

    /// Sends a message and waits for the answer. The status of success.
    pub(super) async fn send(&self, id: &str, body: Bytes) -> Result<StatusCode, SinkError> {
        let request = self.sign(id, body, SystemTime::now())?;
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|e| self.no_answer(&e))?;
        let status = answer.status();
        let wait = retry_after(answer.headers(), SystemTime::now(), self.retry_max);
        let (said, end) = read_answer(answer).await;
        if !status.is_success() {
            return Err(classify(status, &quote(&said), wait));
        }
        // An incomplete response does not count: the receiver may have crashed on the message.
        end.map_err(|e| self.no_answer(&e))?;
        Ok(status)
    }

    fn sign(&self, id: &str, body: Bytes, now: SystemTime) -> Result<Request, SinkError> {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let signatures: Result<Vec<_>, _> = self
            .signers
            .iter()
            .map(|signer| signer.sign(id, at, &body))
            .collect();
        let signatures = signatures
            .map_err(|e| SinkError::rejected(None, format!("signing the message: {e}")))?
            .join(" ");
        let mut request = self
            .client
            .post(self.url.clone())
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, at)
            .header(HEADER_WEBHOOK_SIGNATURE, signatures)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(term) = &self.term {
            request = request.header(TERM, term.clone());
        }
        let built = request.build();
        built.map_err(|e| SinkError::rejected(None, format!("building the request: {}", root(&e))))
    }

    /// Why there was no answer. Without the URL, which may contain a secret.
    fn no_answer(&self, error: &reqwest::Error) -> SinkError {
        if let Some(unusable) = causes(error).find_map(|it| it.downcast_ref::<SinkError>()) {
            return unusable.clone();
        }
        let timeout = format_duration(self.timeout);
        let reason = match (error.is_timeout(), error.is_connect()) {
            (true, true) => format!("no connection within {timeout}"),
            (true, false) => format!("no answer within {timeout}"),
            (false, true) => format!("cannot connect: {}", root(error)),
            (false, false) => format!("the connection broke: {}", root(error)),
        };
        SinkError::unavailable(reason)
    }
}

/// The client and the signers. Blocking: a client also reads all certificate authorities that the system
/// trusts.
fn prepare(sink: &Sink, resolver: Resolver) -> Result<(Client, Vec<Signer>), SinkError> {
    let secrets = sink.read_secret().map_err(SinkError::misconfigured)?;
    let secrets =
        secrets.ok_or_else(|| SinkError::misconfigured("no signing secret is configured"))?;
    let signers = signers(&secrets)
        .map_err(|reason| SinkError::misconfigured(format!("signing secrets: {reason}")))?;
    let authorities = match &sink.ca_file {
        Some(file) => authorities(file, Certificate::from_pem_bundle)?,
        None => vec![],
    };
    let client = Client::builder()
        .user_agent(USER_AGENT)
        .dns_resolver(resolver)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .connect_timeout(sink.timeout)
        .timeout(sink.timeout)
        .pool_max_idle_per_host(sink.concurrency_max.max(1))
        .tcp_nodelay(true)
        .tls_certs_merge(authorities)
        .build()
        .map_err(|e| SinkError::misconfigured(format!("creating an HTTP client: {}", root(&e))))?;
    Ok((client, signers))
}

/// The beginning of an answer, and whether reading it failed.
async fn read_answer(mut answer: Response) -> (Vec<u8>, Result<(), reqwest::Error>) {
    let (mut kept, mut read) = (vec![], 0);
    while read <= ANSWER_BYTES_MAX {
        let part = match answer.chunk().await {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(e) => return (kept, Err(e)),
        };
        read += part.len();
        let room = KEPT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&part[..part.len().min(room)]);
    }
    (kept, Ok(()))
}

/// The innermost cause. Only the outermost of a client's errors contains the URL.
fn root(error: &reqwest::Error) -> String {
    let innermost = causes(error).skip(1).last();
    innermost.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}
