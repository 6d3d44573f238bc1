//! An HTTP client for one receiver, which signs what it sends.

use std::time::{Duration, SystemTime};

use humantime::format_duration;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Request, Response, StatusCode, Url, redirect, retry};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook as Signer,
};

use super::address::Resolver;
use super::answer::{DeliveryError, classify, quote, retry_after};
use super::message::Message;
use crate::config::{self, WebhookSink};
use crate::sink::SinkError;
use crate::sink::connect::{authorities, causes, read_files};

/// Header: the term of the leader that sends.
const TERM: HeaderName = HeaderName::from_static("lockstep-term");
const USER_AGENT: &str = concat!("lockstep/", env!("CARGO_PKG_VERSION"));
/// The prefix of a signing secret.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a signing secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
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
    pub(super) async fn open(
        sink: &config::Sink,
        webhook: &WebhookSink,
        term: Option<u64>,
    ) -> Result<Self, SinkError> {
        let url = Url::parse(&webhook.address)
            .map_err(|e| SinkError::misconfigured(format!("the address is not a URL: {e}")))?;
        let host = url
            .host_str()
            .ok_or_else(|| SinkError::misconfigured("the address has no host"))?;
        let resolver = Resolver::new(webhook.allow_local);
        let looked_up = tokio::time::timeout(sink.timeout, resolver.look_up(host)).await;
        looked_up.map_err(|_| {
            let timeout = format_duration(sink.timeout);
            SinkError::unavailable(format!("the host name did not resolve within {timeout}"))
        })??;
        let prepare = {
            let (sink, webhook) = (sink.clone(), webhook.clone());
            move || prepare(&sink, &webhook, resolver)
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

    /// Sends a message and waits for the answer. The status of success.
    pub(super) async fn send(&self, message: Message) -> Result<StatusCode, DeliveryError> {
        let request = self.sign(message, SystemTime::now())?;
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

    fn sign(&self, message: Message, now: SystemTime) -> Result<Request, SinkError> {
        let Message { id, body } = message;
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let signatures: Result<Vec<_>, _> = self
            .signers
            .iter()
            .map(|signer| signer.sign(&id, at, &body))
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
fn prepare(
    sink: &config::Sink,
    webhook: &WebhookSink,
    resolver: Resolver,
) -> Result<(Client, Vec<Signer>), SinkError> {
    let secrets = webhook.secret.read();
    let signers = secrets.and_then(|secrets| signers(&secrets));
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
        .pool_max_idle_per_host(webhook.concurrency_max.max(1))
        .tcp_nodelay(true)
        .tls_certs_merge(authorities)
        .build()
        .map_err(|e| SinkError::misconfigured(format!("creating an HTTP client: {}", root(&e))))?;
    Ok((client, signers.map_err(SinkError::misconfigured)?))
}

/// One signer per secret. Errors name a secret by its number, never by its text.
fn signers(secrets: &str) -> Result<Vec<Signer>, String> {
    let signers: Result<Vec<_>, _> = secrets
        .split_whitespace()
        .enumerate()
        .map(|(at, secret)| {
            let wrong = |what: &str| format!("signing secret {} {what}", at + 1);
            let key = secret
                .strip_prefix(SECRET_PREFIX)
                .ok_or_else(|| wrong("does not start with whsec_"))?;
            // Base64 encodes three bytes in four digits.
            if !SECRET_BYTES.contains(&(key.trim_end_matches('=').len() * 3 / 4)) {
                return Err(wrong("does not have 24 to 64 bytes"));
            }
            Signer::new(secret).map_err(|_| wrong("is not valid base64"))
        })
        .collect();
    match signers {
        Ok(signers) if signers.is_empty() => Err("no signing secret is configured".to_owned()),
        signers => signers,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_checked_and_never_shown() {
        let good = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAA";
        assert_eq!(signers(good).map(|it| it.len()), Ok(1));
        assert_eq!(
            signers(&format!("{good}\n {good} ")).map(|it| it.len()),
            Ok(2)
        );
        let wrong = [
            ("", "no signing secret"),
            ("C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAA", "whsec_"),
            ("whsec_C2FV", "24 to 64 bytes"),
            ("whsec_****************************************", "base64"),
        ];
        for (text, what) in wrong {
            let said = signers(text).map(|it| it.len()).unwrap_err();
            assert!(said.contains(what), "{said}");
            assert!(text.is_empty() || !said.contains(text), "{said}");
        }
        let second = signers(&format!("{good} C2FV")).map(|it| it.len());
        assert!(second.unwrap_err().contains("secret 2"));
    }
}
