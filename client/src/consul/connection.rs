//! One way of speaking to a Consul agent, for everything that does.
//!
//! consulrs brings the endpoints and the middleware that dresses them. Calls are made here rather
//! than through its `exec_*` functions for three reasons: its client waits for ever, its errors
//! print as "An error occurred with the request", and it unwraps what an answer's headers hold, so
//! that a broken agent or proxy would take the whole process down.

use std::time::Duration;

use consulrs::api::features::FeaturedEndpoint;
use consulrs::client::{Client as _, ConsulClient, ConsulClientSettings};
use reqwest011::Url;
use reqwest011::header::HeaderValue;
use rustify::endpoint::{Endpoint, EndpointResult};
use rustify::errors::ClientError;

/// How long a connection to the agent may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one request to the agent may take in all.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How much of a refusal's text is shown, characters.
const MESSAGE_CHARS_MAX: usize = 200;
/// Longest name that is put into a path, bytes.
const NAME_BYTES_MAX: usize = 256;

/// Why Consul could not be asked, or did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
    /// The address is none that Consul can be spoken to at.
    #[error("{address:?} is no Consul address: {reason}; write it like http://127.0.0.1:8500")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token cannot be sent.
    #[error("the token for Consul at {address} holds characters that an HTTP header cannot carry")]
    Token {
        /// The agent it was meant for. The token itself is not shown.
        address: String,
    },
    /// A service or node name cannot be used.
    #[error(
        "{name:?} cannot be used as a name in Consul: use up to {NAME_BYTES_MAX} of a-z A-Z 0-9 - _ ."
    )]
    Name {
        /// The name.
        name: String,
    },
    /// No answer, or not in time.
    #[error("consul at {address} cannot be reached: {reason}")]
    Unreachable {
        /// The agent's address.
        address: String,
        /// The innermost cause.
        reason: String,
    },
    /// An answer that says no.
    #[error("consul at {address} refused {request}: status {status}: {message}")]
    Refused {
        /// The agent's address.
        address: String,
        /// What was asked for: the request's path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What Consul said, shortened.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("consul at {address} gave an unusable answer to {request}: {reason}")]
    Answer {
        /// The agent's address.
        address: String,
        /// What was asked for: the request's path.
        request: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl ConsulError {
    /// A stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "consul_address",
            Self::Token { .. } => "consul_token",
            Self::Name { .. } => "consul_name",
            Self::Unreachable { .. } => "consul_unreachable",
            Self::Refused { .. } => "consul_refused",
            Self::Answer { .. } => "consul_answer",
        }
    }

    /// Whether asking again later may help: not when what was asked is at fault.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Address { .. } | Self::Token { .. } | Self::Name { .. } | Self::Answer { .. } => {
                false
            }
        }
    }

    /// Whether Consul said that it does not know the thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// Speaks to one Consul agent. Every call ends within [`REQUEST_TIMEOUT`].
pub struct Connection {
    client: ConsulClient,
}

impl Connection {
    /// Prepares to speak to the agent at `address` (`http://host:port` or `https://...`); connects
    /// only when something is asked.
    ///
    /// # Errors
    /// An address or token that cannot be used.
    pub fn new(address: &str, token: Option<String>) -> Result<Self, ConsulError> {
        let address = checked_address(address)?;
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
            // A kept connection is dead after an agent's restart; calls are seconds apart.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| ConsulError::Address {
                address: address.clone(),
                reason: format!("no HTTP client can be built for it: {error}"),
            })?;
        let client = ConsulClient {
            http: rustify::clients::reqwest::Client::new(&address, http),
            // Written out, because the builder takes what is not set from the environment.
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

    /// Asks, and parses the answer.
    ///
    /// # Errors
    /// No answer in time, a status other than 2xx, or an answer that cannot be parsed.
    pub async fn call<E>(&self, endpoint: E) -> Result<E::Response, ConsulError>
    where
        E: Endpoint + FeaturedEndpoint,
    {
        let request = endpoint.path();
        let result = self.execute(endpoint).await?;
        result
            .parse()
            .map_err(|error| self.explain(&request, error))
    }

    /// Asks, and returns the answer's bytes as they came.
    ///
    /// # Errors
    /// No answer in time, or a status other than 2xx.
    pub async fn call_raw<E>(&self, endpoint: E) -> Result<Vec<u8>, ConsulError>
    where
        E: Endpoint + FeaturedEndpoint,
    {
        Ok(self.execute(endpoint).await?.raw())
    }

    async fn execute<E>(&self, endpoint: E) -> Result<EndpointResult<E::Response>, ConsulError>
    where
        E: Endpoint + FeaturedEndpoint,
    {
        let request = endpoint.path();
        let middleware = self.client.middle(endpoint.features());
        endpoint
            .with_middleware(&middleware)
            .exec(self.client.http())
            .await
            .map_err(|error| self.explain(&request, error))
    }

    /// Names the cause that rustify's `Display` leaves out.
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
            ClientError::ResponseParseError { source, .. }
            | ClientError::ResponseConversionError { source, .. } => ConsulError::Answer {
                address,
                request,
                reason: source.root_cause().to_string(),
            },
            other => ConsulError::Answer {
                address,
                request,
                reason: innermost(&other),
            },
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not derived: the settings hold the token.
        f.debug_struct("Connection")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// Refuses a name that does not reach Consul as it is written.
///
/// consulrs escapes a path twice, and splits it at slashes: `a b` would be asked for as `a%20b`.
///
/// # Errors
/// [`ConsulError::Name`].
pub fn check_name(name: &str) -> Result<(), ConsulError> {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let dots_only = name.bytes().all(|byte| byte == b'.');
    if dots_only || name.len() > NAME_BYTES_MAX || !name.bytes().all(usable) {
        return Err(ConsulError::Name {
            name: name.to_string(),
        });
    }
    Ok(())
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
    fn an_address_that_is_no_base_url_is_refused_with_what_is_wrong() {
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
            let error = Connection::new(address, None).expect_err(address);
            assert_eq!(error.code(), "consul_address", "{address}");
            assert!(error.to_string().contains(reason), "{address}: {error}");
        }
        let connection = Connection::new("http://127.0.0.1:8500/", None).expect("usable");
        assert_eq!(connection.address(), "http://127.0.0.1:8500");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_and_never_shown() {
        let error = Connection::new("http://127.0.0.1:8500", Some("se\ncret".to_string()))
            .expect_err("a line break cannot be sent");
        assert_eq!(error.code(), "consul_token");
        assert!(!error.to_string().contains("cret"), "{error}");
        let connection =
            Connection::new("http://127.0.0.1:8500", Some("secret".to_string())).expect("usable");
        assert!(!format!("{connection:?}").contains("secret"));
    }

    #[test]
    fn a_name_that_would_be_escaped_twice_is_refused() {
        for name in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a?b",
            "a%20b",
            "ä",
            &"x".repeat(257),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["lockstep", "lockstep-node1", "Blue_2.eu"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
