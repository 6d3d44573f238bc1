//! Sends requests to one Consul agent.
//!
//! consulrs provides the endpoints and the middleware that adds headers. Requests are sent here
//! rather than through its `exec_*` functions for three reasons: its client has no timeout, its
//! errors print as "An error occurred with the request", and it unwraps response headers, so that
//! a broken agent or proxy would crash the process.

use std::time::Duration;

use consulrs::api::features::FeaturedEndpoint;
use consulrs::client::{Client as _, ConsulClient, ConsulClientSettings};
use reqwest011::Url;
use reqwest011::header::HeaderValue;
use rustify::endpoint::Endpoint;
use rustify::errors::ClientError;

use crate::answer;
use crate::error::ConsulError;

/// How long a connection to the agent may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one request to the agent may take in all.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest part of an error's body that is shown, characters.
const MESSAGE_CHARS_MAX: usize = 200;

/// One Consul agent. Every request ends within [`REQUEST_TIMEOUT`].
pub struct Directory {
    client: ConsulClient,
}

impl Directory {
    /// The agent at `address` (`http://host:port` or `https://...`). Connects with the first request.
    ///
    /// # Errors
    /// An address or token that cannot be used.
    pub fn new(address: impl AsRef<str>, token: Option<String>) -> Result<Self, ConsulError> {
        let address = checked_address(address.as_ref())?;
        if let Some(token) = &token
            && HeaderValue::from_str(token).is_err()
        {
            return Err(ConsulError::Token { address });
        }
        let http = reqwest011::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            // An agent is on this machine or beside it, never behind a forward proxy.
            .no_proxy()
            // A redirect would carry the token to wherever it points.
            .redirect(reqwest011::redirect::Policy::none())
            // A pooled connection is dead after an agent's restart; requests are seconds apart.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| ConsulError::Address {
                address: address.clone(),
                reason: format!("no HTTP client can be built for it: {error}"),
            })?;
        let client = ConsulClient {
            http: rustify::clients::reqwest::Client::new(&address, http),
            // All fields, because the builder takes missing ones from the environment.
            settings: ConsulClientSettings {
                address,
                ca_certs: Vec::new(),
                client_cert: None,
                client_key: None,
                token: token.filter(|token| !token.is_empty()),
                verify: true,
                version: 1,
            },
        };
        Ok(Self { client })
    }

    /// The agent's address, as `http://host:port`.
    pub fn address(&self) -> &str {
        &self.client.settings.address
    }

    /// Sends a request and reads the answer, which must be what is `expected`.
    pub(crate) async fn call<E>(
        &self,
        endpoint: E,
        expected: &str,
    ) -> Result<E::Response, ConsulError>
    where
        E: Endpoint + FeaturedEndpoint,
    {
        let request = endpoint.path();
        let body = self.call_raw(endpoint).await?;
        answer::read(&body, expected).map_err(|reason| ConsulError::Answer {
            address: self.address().to_string(),
            request,
            reason,
        })
    }

    /// Sends a request and returns the body of the answer.
    pub(crate) async fn call_raw<E>(&self, endpoint: E) -> Result<Vec<u8>, ConsulError>
    where
        E: Endpoint + FeaturedEndpoint,
    {
        let request = endpoint.path();
        let middleware = self.client.middle(endpoint.features());
        let sent = endpoint.with_middleware(&middleware);
        let answered = sent.exec(self.client.http()).await;
        let answer = answered.map_err(|error| self.explain(&request, error))?;
        Ok(answer.raw())
    }

    /// The error with its cause, which rustify's `Display` leaves out.
    fn explain(&self, request: &str, error: ClientError) -> ConsulError {
        let address = self.address().to_string();
        let request = request.to_string();
        match error {
            ClientError::ServerResponseError { code, content } => {
                let message = content.unwrap_or_default();
                let message = match message.trim() {
                    "" => "without a reason".to_string(),
                    said => said.chars().take(MESSAGE_CHARS_MAX).collect(),
                };
                ConsulError::Refused {
                    address,
                    request,
                    status: code,
                    message,
                }
            }
            ClientError::RequestError { source, .. } | ClientError::ResponseError { source } => {
                let timed_out = source
                    .downcast_ref::<reqwest011::Error>()
                    .is_some_and(reqwest011::Error::is_timeout);
                let reason = if timed_out {
                    format!(
                        "no answer in time (connecting may take {CONNECT_TIMEOUT:?}, all of it {REQUEST_TIMEOUT:?})"
                    )
                } else {
                    source.root_cause().to_string()
                };
                ConsulError::Unreachable { address, reason }
            }
            other => ConsulError::Answer {
                address,
                request,
                reason: innermost(&other),
            },
        }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not derived: the settings hold the token.
        f.debug_struct("Directory")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// The address without its trailing slash. consulrs panics on what is not a base URL.
fn checked_address(address: &str) -> Result<String, ConsulError> {
    let refuse = |reason: String| {
        Err(ConsulError::Address {
            address: address.to_string(),
            reason,
        })
    };
    let url = match Url::parse(address.trim()) {
        Ok(url) => url,
        Err(error) => return refuse(error.to_string()),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("it does not begin with http:// or https://".to_string());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("it names no host".to_string());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return refuse("it holds more than a host and a port".to_string());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it holds a user; Consul takes a token".to_string());
    }
    Ok(url.as_str().trim_end_matches('/').to_string())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_a_base_url_is_refused_with_the_reason() {
        for (address, reason) in [
            ("", "relative URL"),
            ("localhost:8500", "begin with http"),
            ("mailto:consul", "begin with http"),
            ("http://", "empty host"),
            ("http://consul:8500/ui", "more than a host"),
            ("http://consul:8500?dc=x", "more than a host"),
            ("http://me:pw@consul:8500", "holds a user"),
            ("http://consul:99999", "invalid port"),
        ] {
            let error = Directory::new(address, None).expect_err(address);
            assert!(matches!(error, ConsulError::Address { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{address}: {error}");
        }
        let directory = Directory::new("http://127.0.0.1:8500/", None).expect("usable");
        assert_eq!(directory.address(), "http://127.0.0.1:8500");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_and_not_shown() {
        let error = Directory::new("http://127.0.0.1:8500", Some("se\ncret".to_string()))
            .expect_err("a line break cannot be sent");
        assert!(matches!(error, ConsulError::Token { .. }), "{error}");
        assert!(!error.to_string().contains("cret"), "{error}");
        let directory =
            Directory::new("http://127.0.0.1:8500", Some("secret".to_string())).expect("usable");
        assert!(!format!("{directory:?}").contains("secret"));
    }
}
