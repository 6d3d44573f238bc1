//! The entry of a node in Consul, and whether the agent already has it. No I/O here.

use std::collections::HashMap;
use std::time::Duration;

use consulrs::api::check::common::AgentServiceCheck;
use consulrs::api::service::requests::RegisterServiceRequest;
use serde::Deserialize;

use crate::directory::{Service, check_name};
use crate::error::ConsulError;

/// The tag that every node registers with, besides the operator's own: distinguishes nodes from
/// anything else registered under the same service name.
pub const NODE_TAG: &str = "lockstep";

/// Longest time Consul waits for `/livez`; less where the check runs more often.
const CHECK_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// The keys of the metadata that a node registers with.
pub(crate) mod meta {
    /// The operator's name for the node.
    pub(crate) const NAME: &str = "name";
    /// Its id in the consensus group, decimal.
    pub(crate) const NODE_ID: &str = "node_id";
    /// The cluster it belongs to; absent until it does.
    pub(crate) const CLUSTER_ID: &str = "cluster_id";
    /// `host:port` of its HTTP interface.
    pub(crate) const HTTP_ADDRESS: &str = "http_address";
    /// The version of the server.
    pub(crate) const VERSION: &str = "version";

    /// All reserved keys.
    pub(crate) const RESERVED: [&str; 5] = [NAME, NODE_ID, CLUSTER_ID, HTTP_ADDRESS, VERSION];
}

/// The entry of a node.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The service name that all nodes of the cluster share.
    pub service: String,
    /// The operator's name for the node.
    pub name: String,
    /// Its node id.
    pub node_id: u64,
    /// The cluster it belongs to, once it does.
    pub cluster_id: Option<String>,
    /// `host:port` of its gRPC interface.
    pub grpc_address: String,
    /// `host:port` of its HTTP interface, where Consul checks `/livez`.
    pub http_address: String,
    /// The version of the server.
    pub version: String,
    /// Tags besides [`NODE_TAG`].
    pub tags: Vec<String>,
    /// Metadata besides the node's own.
    pub meta: Vec<(String, String)>,
    /// How often Consul checks the node.
    pub check_interval: Duration,
    /// How long the check may fail before Consul removes the entry.
    pub deregister_after: Duration,
}

impl Registration {
    /// The id it is registered under.
    pub fn id(&self) -> String {
        format!("{}-{}", self.service, self.name)
    }

    /// The id of its check.
    pub(crate) fn check_id(&self) -> String {
        format!("{}:livez", self.id())
    }

    /// Whether the agent has exactly what `request` registers.
    pub(crate) fn is_held(
        &self,
        request: &RegisterServiceRequest,
        service: &Service,
        check: &HeldCheck,
    ) -> bool {
        request.name.as_ref() == Some(&service.name)
            && request.address.as_ref() == Some(&service.address)
            && request.port.map(u64::cast_signed) == Some(service.port)
            && request.tags.as_ref() == Some(&service.tags)
            && request.meta.as_ref() == Some(&service.meta)
            && Some(&check.notes) == self.check().notes.as_ref()
    }

    /// The request that registers it. The agent keeps the verdict of a check it has; a new check
    /// is critical until it has run.
    pub(crate) fn request(&self) -> Result<RegisterServiceRequest, ConsulError> {
        check_name(&self.id())?;
        let (host, port) = split("gRPC", &self.grpc_address)?;
        split("HTTP", &self.http_address)?;
        let mut tags = vec![NODE_TAG.to_string()];
        for tag in &self.tags {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        Ok(RegisterServiceRequest {
            id: Some(self.id()),
            name: Some(self.service.clone()),
            address: Some(host),
            port: Some(u64::from(port)),
            tags: Some(tags),
            meta: Some(self.metadata()),
            checks: Some(vec![self.check()]),
            ..RegisterServiceRequest::default()
        })
    }

    fn metadata(&self) -> HashMap<String, String> {
        let own = [
            (meta::NAME, Some(self.name.clone())),
            (meta::NODE_ID, Some(self.node_id.to_string())),
            (meta::CLUSTER_ID, self.cluster_id.clone()),
            (meta::HTTP_ADDRESS, Some(self.http_address.clone())),
            (meta::VERSION, Some(self.version.clone())),
        ];
        let own = own
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_string(), value?)));
        self.meta.iter().cloned().chain(own).collect()
    }

    /// The check. Its notes are its settings in words: the agent reports the notes of a check, not its
    /// settings.
    fn check(&self) -> AgentServiceCheck {
        let (interval, forgotten) = (self.check_interval, self.deregister_after);
        let timeout = interval.min(CHECK_TIMEOUT_MAX);
        let url = format!("http://{}/livez", self.http_address);
        let notes = format!(
            "GET {url} every {interval:?}, answered within {timeout:?}; forgotten after {forgotten:?} critical"
        );
        AgentServiceCheck {
            check_id: Some(self.check_id()),
            name: Some("livez".to_string()),
            notes: Some(notes),
            http: Some(url),
            interval: Some(go_duration(interval)),
            timeout: Some(go_duration(timeout)),
            deregister_critical_service_after: Some(go_duration(forgotten)),
            ..AgentServiceCheck::default()
        }
    }
}

/// A check as the agent reports it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HeldCheck {
    #[serde(default)]
    notes: String,
}

/// Rejects configured metadata under a key that the node sets itself.
///
/// # Errors
/// [`ConsulError::Registration`].
pub fn check_meta(configured: &[(String, String)]) -> Result<(), ConsulError> {
    let is_reserved = |(key, _): &&(String, String)| meta::RESERVED.contains(&key.as_str());
    match configured.iter().find(is_reserved) {
        None => Ok(()),
        Some((key, _)) => Err(ConsulError::Registration(format!(
            "metadata key {key:?} is reserved; the reserved keys are {}",
            meta::RESERVED.join(", ")
        ))),
    }
}

/// Splits `host:port`; an IPv6 address loses its brackets.
fn split(which: &str, address: &str) -> Result<(String, u16), ConsulError> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let is_whole = !host.is_empty() && (bare.is_some() || !host.contains(':'));
        is_whole.then(|| (host.to_string(), port))
    });
    parts.ok_or_else(|| {
        ConsulError::Registration(format!(
            "the {which} address to advertise is {address:?}; write it like 10.0.0.1:4333 or [fd00::1]:4333"
        ))
    })
}

/// A duration as Go parses it.
fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration {
            service: "lockstep".to_string(),
            name: "node1".to_string(),
            node_id: 7,
            cluster_id: None,
            grpc_address: "10.0.0.1:4333".to_string(),
            http_address: "10.0.0.1:3333".to_string(),
            version: "1.2.3".to_string(),
            tags: vec!["blue".to_string(), NODE_TAG.to_string()],
            meta: vec![("rack".to_string(), "r1".to_string())],
            check_interval: Duration::from_secs(1),
            deregister_after: Duration::from_secs(60),
        }
    }

    fn request(registration: &Registration) -> RegisterServiceRequest {
        registration.request().expect("usable")
    }

    /// What an agent reports once `registration` was sent to it.
    fn held(registration: &Registration) -> (Service, HeldCheck) {
        let request = request(registration);
        let service = Service {
            id: registration.id(),
            name: request.name.unwrap_or_default(),
            address: request.address.unwrap_or_default(),
            port: request.port.unwrap_or_default().cast_signed(),
            tags: request.tags.unwrap_or_default(),
            meta: request.meta.unwrap_or_default(),
        };
        let notes = registration.check().notes.unwrap_or_default();
        (service, HeldCheck { notes })
    }

    #[test]
    fn it_names_the_node_and_how_to_check_it() {
        let request = request(&registration());
        assert_eq!(request.id.as_deref(), Some("lockstep-node1"));
        assert_eq!(request.address.as_deref(), Some("10.0.0.1"));
        assert_eq!(request.port, Some(4333));
        assert_eq!(
            request.tags,
            Some(vec![NODE_TAG.to_string(), "blue".to_string()])
        );
        let meta = request.meta.expect("it has metadata");
        assert_eq!(meta["name"], "node1");
        assert_eq!(meta["node_id"], "7");
        assert_eq!(meta["http_address"], "10.0.0.1:3333");
        assert_eq!(meta["rack"], "r1");
        assert!(meta.contains_key("version") && !meta.contains_key("cluster_id"));
        let check = &request.checks.expect("it has checks")[0];
        assert_eq!(check.http.as_deref(), Some("http://10.0.0.1:3333/livez"));
        assert_eq!(check.interval.as_deref(), Some("1000ms"));
        assert_eq!(check.timeout.as_deref(), Some("1000ms"));
        assert_eq!(
            check.deregister_critical_service_after.as_deref(),
            Some("60000ms")
        );
    }

    #[test]
    fn only_a_change_requires_another_registration() {
        let is_held = |wanted: &Registration| {
            let (service, check) = held(&registration());
            wanted.is_held(&request(wanted), &service, &check)
        };
        assert!(is_held(&registration()));

        let changes: [fn(&mut Registration); 7] = [
            |it| it.node_id = 8,
            |it| it.cluster_id = Some("c".to_string()),
            |it| it.grpc_address = "10.0.0.1:4334".to_string(),
            |it| it.http_address = "10.0.0.1:3334".to_string(),
            |it| it.tags.clear(),
            |it| it.check_interval = Duration::from_secs(5),
            |it| it.deregister_after = Duration::from_secs(90),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = registration();
            change(&mut changed);
            assert!(!is_held(&changed), "change {number}");
        }
    }

    #[test]
    fn an_address_to_advertise_is_split_or_refused() {
        let parts = |address| split("gRPC", address).ok();
        assert_eq!(parts("node1:4333"), Some(("node1".to_string(), 4333)));
        assert_eq!(parts("[fd00::1]:4333"), Some(("fd00::1".to_string(), 4333)));
        for address in [
            "",
            "node1",
            ":4333",
            "node1:",
            "node1:0",
            "node1:70000",
            "fd00::1:4333",
        ] {
            assert_eq!(parts(address), None, "{address:?}");
        }
    }

    #[test]
    fn configured_metadata_cannot_use_reserved_keys() {
        let configured = |key: &str| vec![(key.to_string(), "x".to_string())];
        assert!(check_meta(&configured("rack")).is_ok());
        let error = check_meta(&configured("node_id")).expect_err("it is reserved");
        assert!(error.to_string().contains("node_id"), "{error}");
    }
}
