//! The receiver's end: a client that calls nothing but it, and signs what it sends.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use humantime::format_duration;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Request, Response, StatusCode, Url, redirect, retry};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook as Signer,
};

use super::address::{Resolver, Unusable};
use super::answer::{Failure, failure, quote, retry_after};
use super::message::Message;
use crate::config::{self, WebhookSink};
use crate::sink::SinkError;

/// The term of the leader that sends.
const TERM: HeaderName = HeaderName::from_static("lockstep-term");
const USER_AGENT: &str = concat!("lockstep/", env!("CARGO_PKG_VERSION"));
/// What a signing secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a signing secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Of an answer, no more than this is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of an error, this much is kept: enough for what is quoted of it.
const KEPT_BYTES_MAX: usize = 1024;

/// A receiver that can be called.
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    signers: Vec<Signer>,
    term: Option<HeaderValue>,
    timeout: Duration,
    retry_max: Duration,
}

impl Endpoint {
    /// Reads what is configured anew, and looks whether the receiver has an address. Nothing is sent.
    pub(super) async fn open(
        sink: &config::Sink,
        webhook: &WebhookSink,
        term: Option<u64>,
    ) -> Result<Self, SinkError> {
        let url = Url::parse(&webhook.address)
            .map_err(|e| misconfigured(format!("the address is not a URL: {e}")))?;
        let host = url
            .host_str()
            .ok_or_else(|| misconfigured("the address names no host".to_owned()))?;
        let resolver = Resolver::new(webhook.allow_local);
        let looked_up = tokio::time::timeout(sink.timeout, resolver.look_up(host)).await;
        looked_up.map_err(|_| SinkError::Unavailable {
            reason: format!("no address within {}", format_duration(sink.timeout)),
            retry_after: None,
        })??;
        let (client, signers) = prepare(sink.clone(), webhook.clone(), resolver).await?;
        Ok(Self {
            client,
            url,
            signers,
            term: term.map(HeaderValue::from),
            timeout: sink.timeout,
            retry_max: sink.retry_max,
        })
    }

    /// Sends a message, and waits until it is answered. The status of success.
    pub(super) async fn send(&self, message: Message) -> Result<StatusCode, Failure> {
        let request = self.sign(message, SystemTime::now())?;
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|e| Failure::Down(self.broken(&e)))?;
        let status = answer.status();
        let wait = retry_after(answer.headers(), SystemTime::now(), self.retry_max);
        let (said, end) = read_answer(answer).await;
        if !status.is_success() {
            return Err(failure(status, &quote(&said), wait));
        }
        // An answer that breaks off is none: who sent it may have died of it.
        end.map_err(|e| Failure::Down(self.broken(&e)))?;
        Ok(status)
    }

    fn sign(&self, message: Message, now: SystemTime) -> Result<Request, Failure> {
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
            .map_err(|e| Failure::Refused(format!("it cannot be signed: {e}")))?
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
        built.map_err(|e| Failure::Refused(format!("it cannot be sent: {}", root(&e))))
    }

    /// Why there was no answer. The URL is left out: it may hold a secret.
    fn broken(&self, error: &reqwest::Error) -> SinkError {
        let unusable = causes(error).find_map(|it| it.downcast_ref::<Unusable>());
        if let Some(unusable) = unusable {
            return unusable.clone().into();
        }
        let timeout = format_duration(self.timeout);
        let reason = match (error.is_timeout(), error.is_connect()) {
            (true, true) => format!("no connection within {timeout}"),
            (true, false) => format!("no answer within {timeout}"),
            (false, true) => format!("it cannot be reached: {}", root(error)),
            (false, false) => format!("the connection broke: {}", root(error)),
        };
        SinkError::Unavailable {
            reason,
            retry_after: None,
        }
    }
}

/// The client and the signers, with the files that they need as these are now. Files are slow, and a
/// client reads all authorities that the system trusts.
async fn prepare(
    sink: config::Sink,
    webhook: WebhookSink,
    resolver: Resolver,
) -> Result<(Client, Vec<Signer>), SinkError> {
    let prepare = move || {
        let signers = signers(&webhook.secret.read()?)?;
        let ca_file = sink.ca_file.as_deref();
        let authorities = ca_file.map_or(Ok(vec![]), authorities)?;
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
            .map_err(|e| format!("no client can be made: {}", root(&e)))?;
        Ok((client, signers))
    };
    tokio::task::spawn_blocking(prepare)
        .await
        .unwrap_or_else(|_| Err("its files could not be read".to_owned()))
        .map_err(misconfigured)
}

/// One for each secret. What is wrong with one is told by its place, never by its text.
fn signers(secrets: &str) -> Result<Vec<Signer>, String> {
    let signers: Result<Vec<_>, _> = secrets
        .split_whitespace()
        .enumerate()
        .map(|(at, secret)| {
            let wrong = |what: &str| format!("signing secret {} {what}", at + 1);
            let key = secret
                .strip_prefix(SECRET_PREFIX)
                .ok_or_else(|| wrong("does not begin with whsec_"))?;
            // Base64 keeps three bytes in four digits.
            if !SECRET_BYTES.contains(&(key.trim_end_matches('=').len() * 3 / 4)) {
                return Err(wrong("is not of 24 to 64 bytes"));
            }
            Signer::new(secret).map_err(|_| wrong("is not base64"))
        })
        .collect();
    match signers {
        Ok(signers) if signers.is_empty() => Err("there is no signing secret".to_owned()),
        signers => signers,
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(authorities) if !authorities.is_empty() => Ok(authorities),
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

/// The beginning of an answer, and whether it could be read, to its end or as far as is read at all.
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

fn misconfigured(reason: String) -> SinkError {
    SinkError::Misconfigured { reason }
}

/// An error and what it comes from, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |it| (*it).source())
}

/// What it comes from in the end. Only the outermost of a client's errors names the URL.
fn root(error: &reqwest::Error) -> String {
    let innermost = causes(error).skip(1).last();
    innermost.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_checked_and_never_told() {
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
