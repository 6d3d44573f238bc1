//! Why a request to Consul failed.

/// Longest name that is put into a path, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// Why a request to Consul failed.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
    /// The address is not a base URL.
    #[error(
        "{address:?} is not a valid Consul address: {reason}; expected a URL such as http://127.0.0.1:8500"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token cannot be sent.
    #[error(
        "the token for Consul at {address} contains characters that are not allowed in an HTTP header"
    )]
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
    /// A registration that Consul cannot hold.
    #[error("{0}")]
    Registration(String),
    /// No answer, or not in time.
    #[error("consul at {address} cannot be reached: {reason}")]
    Unreachable {
        /// The agent's address.
        address: String,
        /// The innermost cause.
        reason: String,
    },
    /// A status other than 2xx.
    #[error("consul at {address} refused {request}: status {status}: {message}")]
    Refused {
        /// The agent's address.
        address: String,
        /// The request's path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// The body of the answer, shortened.
        message: String,
    },
    /// An answer that cannot be parsed.
    #[error(
        "consul at {address} sent an invalid response to {request}: {reason}; check that this is the HTTP address of a Consul agent and that no proxy answers in its place"
    )]
    Answer {
        /// The agent's address.
        address: String,
        /// The request's path.
        request: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl ConsulError {
    /// Whether Consul answered that it does not have what was named.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}
