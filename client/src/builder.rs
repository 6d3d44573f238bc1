//! Builds a client: addresses or discovery, and timeouts.

use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::discover::Discover;
use crate::endpoints::Endpoints;
use crate::error::Error;

/// How long a call may take unless the builder says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest time a call may be given.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Says where the cluster is and how long calls may take.
#[derive(Clone)]
pub struct Builder {
    endpoints: Vec<String>,
    discover: Option<Arc<dyn Discover>>,
    timeout: Duration,
}

impl Builder {
    /// Nodes to contact, `host:port` of their gRPC interfaces. The first is tried first.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item: ToString>) -> Self {
        let endpoints = endpoints.into_iter();
        self.endpoints.extend(endpoints.map(|it| it.to_string()));
        self
    }

    /// Find nodes with this, besides the endpoints given.
    pub fn discover(mut self, discover: impl Discover) -> Self {
        self.discover = Some(Arc::new(discover));
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
        if self.endpoints.is_empty() && self.discover.is_none() {
            return Err(Error::Invalid(
                "neither endpoints nor discovery are given".to_owned(),
            ));
        }
        let fixed = self
            .endpoints
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        Ok(Client {
            endpoints: Arc::new(Endpoints::new(fixed, self.discover)),
            timeout: self.timeout,
        })
    }
}

impl Builder {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            discover: None,
            timeout: TIMEOUT_DEFAULT,
        }
    }
}
