//! Requests to a Consul agent: about the nodes it knows, this node's entry, and keys.

use std::collections::HashMap;

use consulrs::api::Features;
use consulrs::api::features::{ConsistencyMode, FeaturedEndpoint};
use consulrs::api::kv::requests::{
    DeleteKeyRequest, ReadKeyRequest, ReadRawKeyRequest, SetKeyRequest,
};
use consulrs::api::service::requests::DeregisterServiceRequest;
use rustify_derive::Endpoint;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::connection::Directory;
use crate::error::{ConsulError, NAME_BYTES_MAX};
use crate::registration::{HeldCheck, Registration, meta};

/// A service instance that passes its checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceEntry {
    /// The registration's id.
    #[serde(rename = "service_id")]
    pub id: String,
    /// The node's name; the registration's id where the metadata holds none.
    pub name: String,
    /// The node's id, where the metadata holds one. In JSON as text, because it has 63 bits.
    #[serde(serialize_with = "as_text")]
    pub node_id: Option<u64>,
    /// The cluster the node belongs to, once it does.
    pub cluster_id: Option<String>,
    /// `host:port` of its gRPC interface: the address and port of the registration.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface, where the metadata holds it.
    pub http_address: Option<String>,
    /// The tags it registered with.
    pub tags: Vec<String>,
}

fn as_text<S: Serializer>(id: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
    id.map(|id| id.to_string()).serialize(s)
}

/// What [`Directory::register`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// Nothing: the agent has this registration.
    Unchanged,
    /// Replaced a registration that differed.
    Replaced,
    /// Registered a service that the agent did not have.
    Added,
}

impl Directory {
    /// The instances of service `name` that pass all their checks, with `tag` if one is given, in
    /// the order of their ids. Instances without a port are left out.
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
        let answers = self.call(endpoint, HEALTHY).await?;
        let mut entries: Vec<_> = answers
            .into_iter()
            .filter_map(HealthyService::entry)
            .collect();
        entries.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(entries)
    }

    /// Registers a node with the agent, unless the agent has exactly this registration: registering
    /// restarts the check's interval, so that a node which does so more often than that might never
    /// be checked.
    ///
    /// # Errors
    /// [`ConsulError::Registration`] and [`ConsulError::Name`] for one that Consul cannot hold, no
    /// answer in time, or a refusal.
    pub async fn register(&self, wanted: &Registration) -> Result<Registered, ConsulError> {
        let request = wanted.request()?;
        let (service, check) = self.held(wanted).await?;
        if let (Some(service), Some(check)) = (&service, &check)
            && wanted.is_held(&request, service, check)
        {
            return Ok(Registered::Unchanged);
        }
        self.call_raw(request).await?;
        Ok(match service {
            Some(_) => Registered::Replaced,
            None => Registered::Added,
        })
    }

    /// Removes a registration. One that the agent does not have is no error.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub async fn deregister(&self, id: &str) -> Result<(), ConsulError> {
        let request = DeregisterServiceRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        match self.call_raw(request).await {
            // Newer agents answer 404 for what they do not have, older ones success.
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The value of a key, linearizable.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub async fn read_key(&self, key: &str) -> Result<Option<Vec<u8>>, ConsulError> {
        let read = ReadRawKeyRequest {
            features: Some(consistent()),
            key: key.to_owned(),
            raw: true,
            ..ReadRawKeyRequest::default()
        };
        match self.call_raw(read).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a key; returns whether it did. A key that exists is left as it is.
    ///
    /// # Errors
    /// No answer in time (the key may have been created), or a refusal.
    pub async fn create_key(&self, key: &str, value: Vec<u8>) -> Result<bool, ConsulError> {
        // cas=0: only if there is no such key.
        let write = SetKeyRequest {
            key: key.to_owned(),
            value,
            cas: Some(0),
            ..SetKeyRequest::default()
        };
        self.call(write, "true or false").await
    }

    /// Deletes a key if it still has this value; returns whether it did.
    ///
    /// # Errors
    /// No answer in time (the key may have been deleted), or a refusal.
    pub async fn delete_key(&self, key: &str, value: &[u8]) -> Result<bool, ConsulError> {
        let read = ReadKeyRequest {
            features: Some(consistent()),
            key: key.to_owned(),
            ..ReadKeyRequest::default()
        };
        // The index before the value: a change after it makes the deletion fail.
        let pairs = match self.call(read, "a list of keys").await {
            Ok(pairs) => pairs,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(pair) = pairs.first() else {
            return Ok(false);
        };
        if self.read_key(key).await?.as_deref() != Some(value) {
            return Ok(false);
        }
        let delete = DeleteKeyRequest {
            key: key.to_owned(),
            cas: Some(pair.modify_index),
            ..DeleteKeyRequest::default()
        };
        self.call(delete, "true or false").await
    }

    /// The service and the check that the agent has for a registration.
    async fn held(
        &self,
        wanted: &Registration,
    ) -> Result<(Option<Service>, Option<HeldCheck>), ConsulError> {
        let id = wanted.id();
        let filter = format!("ServiceID == \"{id}\"");
        let service = match self.call(HeldServiceRequest { id }, HELD).await {
            Ok(service) => service,
            Err(error) if error.is_not_found() => return Ok((None, None)),
            Err(error) => return Err(error),
        };
        let mut checks = self.call(HeldChecksRequest { filter }, CHECKS).await?;
        Ok((Some(service), checks.remove(&wanted.check_id())))
    }
}

/// The default mode may be answered by a leader that was deposed a moment ago.
fn consistent() -> Features {
    Features {
        mode: Some(ConsistencyMode::CONSISTENT),
        ..Features::default()
    }
}

/// Rejects a name that would not reach Consul unchanged.
///
/// consulrs escapes a path twice and splits it at slashes: `a b` would be sent as `a%20b`.
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

/// What the answers must be, in the words of an error.
pub(crate) const HEALTHY: &str = "a list of instances, each with Node (Address: text) and Service (ID and Address: text, Port: number, Tags: list of texts, Meta: texts by name)";
const HELD: &str = "a service with ID, Service and Address: text, Port: number, Tags: list of texts, Meta: texts by name";
const CHECKS: &str = "checks by id, each with Notes: text";

/// Endpoints that consulrs lacks, or whose answers it cannot parse. None has features.
macro_rules! without_features {
    ($($endpoint:ty),*) => {
        $(impl FeaturedEndpoint for $endpoint {
            fn features(&self) -> Option<Features> {
                None
            }
        })*
    };
}

without_features!(HealthyServices, HeldServiceRequest, HeldChecksRequest);

/// One registration of the agent.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/{self.id}", response = "Service")]
struct HeldServiceRequest {
    #[endpoint(skip)]
    id: String,
}

/// The agent's checks, by their ids.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/checks", response = "HashMap<String, HeldCheck>")]
struct HeldChecksRequest {
    #[endpoint(query)]
    filter: String,
}

/// The health endpoint: the only one that filters by both health and tag.
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

// consulrs' own types take `TaggedAddresses` for strings and fail on every answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthyService {
    node: Node,
    service: Service,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    address: String,
}

/// A registration, as the agent reports it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Service {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(default, rename = "Service")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) port: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) meta: HashMap<String, String>,
}

impl HealthyService {
    fn entry(self) -> Option<ServiceEntry> {
        let Service {
            id,
            name: _,
            address,
            port,
            tags,
            meta,
        } = self.service;
        // Without an address of its own, a service has its node's.
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
            grpc_address: joined(&host, port),
            http_address: held(meta::HTTP_ADDRESS),
            id,
            tags,
        })
    }
}

/// `host:port`, with the brackets that an IPv6 address needs.
fn joined(host: &str, port: u16) -> String {
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
            .expect("valid")
            .entry()
    }

    #[test]
    fn an_entry_takes_its_identity_from_the_metadata() {
        let entry = parsed(
            r#"{"Node":{"Address":"10.0.0.9"},"Checks":[],"Service":{"ID":"lockstep-node1",
            "Address":"10.0.0.1","Port":4333,"Tags":["lockstep"],"TaggedAddresses":{"lan":{}},
            "Meta":{"name":"node1","node_id":"7","cluster_id":"c","http_address":"10.0.0.1:3333"}}}"#,
        )
        .expect("it has an address");
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
        .expect("it has an address");
        assert_eq!(entry.name, "x");
        assert_eq!(entry.node_id, None);
        assert_eq!(entry.grpc_address, "[fd00::1]:4333");
        assert!(entry.tags.is_empty());
    }

    #[test]
    fn an_entry_without_a_usable_address_is_left_out() {
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
