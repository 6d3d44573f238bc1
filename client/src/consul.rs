//! Finds Lockstep nodes in Consul.
//!
//! Consul knows addresses, nothing else: who leads and who is a member is asked of the nodes. Only
//! nodes whose health check passes are returned.

mod connection;

use std::collections::HashMap;

use consulrs::api::Features;
use consulrs::api::features::FeaturedEndpoint;
use rustify_derive::Endpoint;
use serde::{Deserialize, Deserializer};

pub use connection::{CONNECT_TIMEOUT, Connection, ConsulError, REQUEST_TIMEOUT, check_name};

/// The tag every node registers with, besides the operator's own: tells a node from whatever else
/// was registered under the same service name.
pub const NODE_TAG: &str = "lockstep";

/// The keys of the metadata that a node registers with.
pub mod meta {
    /// The operator's name for the node.
    pub const NAME: &str = "name";
    /// Its id in the consensus group, decimal.
    pub const NODE_ID: &str = "node_id";
    /// The cluster it belongs to; absent until it does.
    pub const CLUSTER_ID: &str = "cluster_id";
    /// `host:port` of its HTTP interface.
    pub const HTTP_ADDRESS: &str = "http_address";
    /// The version of the server.
    pub const VERSION: &str = "version";
}

/// A service instance that passes its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The registration's id.
    pub id: String,
    /// The node's name; the registration's id where the metadata holds none.
    pub name: String,
    /// The node's id, where the metadata holds one.
    pub node_id: Option<u64>,
    /// The cluster the node belongs to, once it does.
    pub cluster_id: Option<String>,
    /// `host:port` of its gRPC interface: the address and port of the registration.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface, where the metadata holds it.
    pub http_address: Option<String>,
    /// The tags it registered with.
    pub tags: Vec<String>,
    /// All of its metadata.
    pub meta: HashMap<String, String>,
}

/// What a Consul agent knows about services.
#[derive(Debug)]
pub struct Directory {
    connection: Connection,
}

impl Directory {
    /// Prepares to ask the agent at `address` (`http://host:port`); connects only when asked.
    ///
    /// # Errors
    /// An address or token that cannot be used.
    pub fn new(address: impl AsRef<str>, token: Option<String>) -> Result<Self, ConsulError> {
        Ok(Self {
            connection: Connection::new(address.as_ref(), token)?,
        })
    }

    /// The connection, for whoever needs more than the directory.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The instances of service `name` that pass all their checks, with `tag` if one is given, in
    /// the order of their ids. Instances that cannot be dialled, for want of a port, are left out.
    ///
    /// # Errors
    /// An unusable name or tag, no answer in time, a refusal, or an answer that cannot be parsed.
    pub async fn services(
        &self,
        name: &str,
        tag: Option<&str>,
    ) -> Result<Vec<ServiceEntry>, ConsulError> {
        check_name(name)?;
        let endpoint = HealthyServices {
            name: name.to_string(),
            tag: tag.map(str::to_string),
            passing: true,
        };
        let answers = self.connection.call(endpoint).await?;
        let mut entries: Vec<_> = answers
            .into_iter()
            .filter_map(HealthyService::entry)
            .collect();
        entries.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(entries)
    }
}

/// consulrs has no health endpoint at all, and only that one knows both health and tags.
#[derive(Debug, Endpoint)]
#[endpoint(path = "health/service/{self.name}", response = "Vec<HealthyService>")]
struct HealthyServices {
    #[endpoint(skip)]
    name: String,
    #[endpoint(query)]
    tag: Option<String>,
    #[endpoint(query)]
    passing: bool,
}

impl FeaturedEndpoint for HealthyServices {
    fn features(&self) -> Option<Features> {
        None
    }
}

// Own answer types: consulrs' own ones take `TaggedAddresses` for strings and fail on every answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthyService {
    node: Node,
    service: Service,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    meta: HashMap<String, String>,
}

impl HealthyService {
    fn entry(self) -> Option<ServiceEntry> {
        let Service {
            id,
            address,
            port,
            tags,
            meta,
        } = self.service;
        // A service without an address of its own has its node's.
        let host = if address.is_empty() {
            self.node.address
        } else {
            address
        };
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        if host.is_empty() {
            return None;
        }
        let held = |key: &str| meta.get(key).filter(|value| !value.is_empty()).cloned();
        Some(ServiceEntry {
            name: held(meta::NAME).unwrap_or_else(|| id.clone()),
            node_id: held(meta::NODE_ID).and_then(|value| value.parse().ok()),
            cluster_id: held(meta::CLUSTER_ID),
            grpc_address: host_and_port(&host, port),
            http_address: held(meta::HTTP_ADDRESS),
            id,
            tags,
            meta,
        })
    }
}

/// `host:port`, with the brackets that an IPv6 address needs.
fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Go writes an empty list or map as null.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Option<ServiceEntry> {
        serde_json::from_str::<HealthyService>(json)
            .expect("the shape is Consul's")
            .entry()
    }

    #[test]
    fn an_entry_takes_its_identity_from_the_metadata() {
        let entry = parsed(
            r#"{"Node":{"Address":"10.0.0.9"},"Checks":[],"Service":{"ID":"lockstep-node1",
            "Address":"10.0.0.1","Port":4333,"Tags":["lockstep"],"TaggedAddresses":{"lan":{}},
            "Meta":{"name":"node1","node_id":"7","cluster_id":"c","http_address":"10.0.0.1:3333"}}}"#,
        )
        .expect("it can be dialled");
        assert_eq!(entry.name, "node1");
        assert_eq!(entry.node_id, Some(7));
        assert_eq!(entry.cluster_id.as_deref(), Some("c"));
        assert_eq!(entry.grpc_address, "10.0.0.1:4333");
        assert_eq!(entry.http_address.as_deref(), Some("10.0.0.1:3333"));
    }

    #[test]
    fn an_entry_without_metadata_falls_back_to_its_registration() {
        let entry = parsed(
            r#"{"Node":{"Address":"fd00::1"},
            "Service":{"ID":"x","Address":"","Port":4333,"Tags":null,"Meta":null}}"#,
        )
        .expect("it can be dialled");
        assert_eq!(entry.name, "x");
        assert_eq!(entry.node_id, None);
        assert_eq!(entry.grpc_address, "[fd00::1]:4333");
        assert!(entry.tags.is_empty() && entry.meta.is_empty());
    }

    #[test]
    fn an_entry_that_cannot_be_dialled_is_left_out() {
        for service in [
            r#"{"ID":"x","Address":"10.0.0.1","Port":0}"#,
            r#"{"ID":"x","Address":"10.0.0.1","Port":70000}"#,
            r#"{"ID":"x","Address":"10.0.0.1","Port":-1}"#,
            r#"{"ID":"x","Address":"","Port":4333}"#,
        ] {
            let json = format!(r#"{{"Node":{{"Address":""}},"Service":{service}}}"#);
            assert_eq!(parsed(&json), None, "{service}");
        }
    }
}
