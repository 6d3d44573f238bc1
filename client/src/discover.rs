//! Discovery of nodes, for clients without a list of addresses.

use async_trait::async_trait;

use crate::address::Address;

/// Finds the nodes of a cluster, for example in a service registry.
///
/// The client calls it before the first request, and again when no node that it knows can be
/// reached. Nodes that it no longer returns are dropped; the endpoints given to the
/// [`Builder`](crate::Builder) stay.
#[async_trait]
pub trait Discover: Send + Sync + 'static {
    /// The addresses of the nodes that are up, in any order. At least one: an implementation that
    /// finds none returns an error that says where it looked.
    ///
    /// # Errors
    /// Whatever prevents an answer. The call fails with [`Error::Discovery`](crate::Error::Discovery),
    /// unless there are other endpoints to try.
    async fn nodes(&self) -> Result<Vec<Address>, DiscoveryError>;
}

/// Why no node could be found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The registry could not be reached, or returned an error.
    #[error("discovery failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The registry did not answer within the call's deadline.
    #[error("discovery failed: no answer within the call's timeout")]
    TimedOut,
    /// The registry answered, and knows no node.
    #[error("{0}")]
    Empty(String),
}
