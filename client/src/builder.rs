//! Says where the cluster is and how long calls may take.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::consul::Directory;
use crate::endpoints::{Endpoints, Registry};
use crate::error::Error;

/// How long a call may take unless the builder says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest time a call may be given.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Says where the cluster is and how long calls may take.
#[derive(Debug, Clone)]
pub struct Builder {
    endpoints: Vec<String>,
    consul: Option<Consul>,
    consul_token: Option<Token>,
    timeout: Duration,
}

#[derive(Debug, Clone)]
struct Consul {
    address: String,
    service: String,
    tag: Option<String>,
}

/// A secret, kept out of logs.
#[derive(Clone)]
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Builder {
    /// Nodes to ask, `host:port` of their gRPC interfaces. The first is asked first.
    pub fn endpoints<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: ToString,
    {
        self.endpoints
            .extend(endpoints.into_iter().map(|endpoint| endpoint.to_string()));
        self
    }

    /// Find nodes through the Consul agent at `address` (`http://host:port`): those that pass
    /// their health checks under this service name and tag. Adds to the endpoints given.
    pub fn consul(mut self, address: &str, service: &str, tag: Option<&str>) -> Self {
        let (address, service, tag) = (
            address.to_owned(),
            service.to_owned(),
            tag.map(str::to_owned),
        );
        self.consul = Some(Consul {
            address,
            service,
            tag,
        });
        self
    }

    /// The token to show to Consul.
    pub fn consul_token(mut self, token: Option<String>) -> Self {
        self.consul_token = token.map(Token);
        self
    }

    /// How long each call may take as a whole: 1 ms to 1 hour, 5 s unless set. A call makes one
    /// attempt however short that is, and a further one while at least 50 ms are left.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks what was given. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when an address or the timeout cannot be used, or there is nowhere to ask.
    pub fn build(self) -> Result<Client, Error> {
        if self.timeout < Duration::from_millis(1) || self.timeout > TIMEOUT_MAX {
            return Err(Error::Invalid(format!(
                "a timeout of {:?} is out of range: it must be from 1ms to 1h",
                self.timeout
            )));
        }
        if self.endpoints.is_empty() && self.consul.is_none() {
            return Err(Error::Invalid(
                "neither endpoints nor Consul are given".to_owned(),
            ));
        }
        let fixed = self
            .endpoints
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        let token = self.consul_token.map(|Token(token)| token);
        let registry = self
            .consul
            .map(
                |Consul {
                     address,
                     service,
                     tag,
                 }| match Directory::new(&address, token) {
                    Ok(directory) => Ok(Registry {
                        directory,
                        service,
                        tag,
                    }),
                    Err(fault) => Err(Error::Invalid(fault.to_string())),
                },
            )
            .transpose()?;
        Ok(Client {
            endpoints: Arc::new(Endpoints::new(fixed, registry)),
            timeout: self.timeout,
        })
    }
}

impl Builder {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            consul: None,
            consul_token: None,
            timeout: TIMEOUT_DEFAULT,
        }
    }
}
