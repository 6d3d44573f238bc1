//! Asking a node who it is.

use std::error::Error as _;
use std::time::Duration;

use lockstep_proto::raft as pb;
use tonic::Status;

use lockstep_raft::consensus::NodeId;
use lockstep_raft::consensus::network::{channel, client};

const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a node did not say who it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The address has a host name without an address.
    #[error("its host name does not resolve: {0}")]
    Unresolved(String),
    /// It cannot be reached, or does not answer.
    #[error("{0}")]
    NoAnswer(String),
}

/// Asks the node at an address who it is; `me` asks, if the answer is to say whether it is a member.
pub async fn identify(
    grpc_address: &str,
    me: Option<NodeId>,
) -> Result<pb::IdentifyResponse, Silence> {
    let channel = channel(grpc_address).map_err(|error| Silence::NoAnswer(error.to_string()))?;
    let ask = async {
        let asked = client(channel)
            .identify(pb::IdentifyRequest { node_id: me })
            .await;
        match asked {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(match tokio::net::lookup_host(grpc_address).await {
                Ok(_) => Silence::NoAnswer(cause(&status)),
                Err(error) => Silence::Unresolved(error.to_string()),
            }),
        }
    };
    let asked = tokio::time::timeout(IDENTIFY_TIMEOUT, ask).await;
    asked.unwrap_or_else(|_| {
        let waited = IDENTIFY_TIMEOUT.as_secs();
        Err(Silence::NoAnswer(format!("no answer within {waited} s")))
    })
}

/// The innermost error: a transport error has the system's.
fn cause(status: &Status) -> String {
    let mut cause = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unreachable_node_is_distinguished_from_one_whose_host_name_does_not_resolve() {
        let unresolved = identify("nowhere.invalid:4333", None).await.unwrap_err();
        assert!(matches!(unresolved, Silence::Unresolved(_)), "{unresolved}");
        // Bound, so that no other process listens on it.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = bound.local_addr().unwrap().to_string();
        let refused = identify(&address, None).await.unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
    }
}
