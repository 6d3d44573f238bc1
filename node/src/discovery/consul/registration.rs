//! What a node registers with Consul, and whether the agent holds it already. Pure: no agent is
//! asked here.

use std::collections::HashMap;
use std::time::Duration;

use consulrs::api::check::common::AgentServiceCheck;
use consulrs::api::service::requests::RegisterServiceRequest;
use lockstep_client::consul::{NODE_TAG, check_name, meta};
use serde::Deserialize;

use super::KIND;
use crate::config;
use crate::discovery::{Announcement, DiscoveryError};

/// How long Consul waits for `/livez` at most; less where it asks more often.
const CHECK_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// A registration as the agent holds it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HeldService {
    #[serde(rename = "Service")]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u64,
    // Go writes an empty list or map as null.
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<HashMap<String, String>>,
}

/// A check as the agent holds it. It does not tell the check's settings, but it tells the notes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HeldCheck {
    pub(super) status: String,
    #[serde(default)]
    notes: String,
}

/// What a node registers.
#[derive(Debug)]
pub(super) struct Registration {
    id: String,
    service: String,
    host: String,
    port: u16,
    tags: Vec<String>,
    meta: HashMap<String, String>,
    check: Check,
}

/// The health check that Consul runs against the node.
#[derive(Debug)]
struct Check {
    id: String,
    url: String,
    interval: Duration,
    timeout: Duration,
    deregister_after: Duration,
    /// The settings in words: for people, and to see a change of them.
    notes: String,
}

impl Registration {
    pub(super) fn new(
        settings: &config::Consul,
        me: &Announcement,
    ) -> Result<Self, DiscoveryError> {
        let id = format!("{}-{}", settings.service, me.name);
        check_name(&id)?;
        let (host, port) = host_and_port("gRPC", &me.grpc_address)?;
        host_and_port("HTTP", &me.http_address)?;
        Ok(Self {
            service: settings.service.clone(),
            host,
            port,
            tags: tags(settings),
            meta: metadata(settings, me),
            check: Check::new(&id, settings, &me.http_address),
            id,
        })
    }

    /// The id it is registered under.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The id of its check.
    pub(super) fn check_id(&self) -> &str {
        &self.check.id
    }

    /// Whether the agent holds just this, so that nothing has to be done.
    pub(super) fn is_held(&self, service: &HeldService, check: &HeldCheck) -> bool {
        service.name == self.service
            && service.address == self.host
            && service.port == u64::from(self.port)
            && service.tags.as_ref() == Some(&self.tags)
            && service.meta.as_ref() == Some(&self.meta)
            && self.is_same_check(check)
    }

    /// Whether the agent runs the very check that this would register: then its verdict stands.
    pub(super) fn is_same_check(&self, check: &HeldCheck) -> bool {
        check.notes == self.check.notes
    }

    /// The request that registers it, with the check's first status; critical if none is given.
    pub(super) fn request(&self, status: Option<String>) -> RegisterServiceRequest {
        RegisterServiceRequest {
            id: Some(self.id.clone()),
            name: Some(self.service.clone()),
            address: Some(self.host.clone()),
            port: Some(u64::from(self.port)),
            tags: Some(self.tags.clone()),
            meta: Some(self.meta.clone()),
            checks: Some(vec![self.check.request(status)]),
            ..RegisterServiceRequest::default()
        }
    }
}

impl Check {
    fn new(service_id: &str, settings: &config::Consul, http_address: &str) -> Self {
        let url = format!("http://{http_address}/livez");
        let interval = settings.check_interval;
        let timeout = interval.min(CHECK_TIMEOUT_MAX);
        let deregister_after = settings.deregister_after;
        let notes = format!(
            "GET {url} every {interval:?}, answered within {timeout:?}; forgotten after {deregister_after:?} critical"
        );
        let id = format!("{service_id}:livez");
        Self {
            id,
            url,
            interval,
            timeout,
            deregister_after,
            notes,
        }
    }

    fn request(&self, status: Option<String>) -> AgentServiceCheck {
        AgentServiceCheck {
            check_id: Some(self.id.clone()),
            name: Some("livez".to_string()),
            notes: Some(self.notes.clone()),
            http: Some(self.url.clone()),
            interval: Some(go_duration(self.interval)),
            timeout: Some(go_duration(self.timeout)),
            deregister_critical_service_after: Some(go_duration(self.deregister_after)),
            status,
            ..AgentServiceCheck::default()
        }
    }
}

/// Refuses configured metadata under a key that the node fills itself.
pub(super) fn check_meta(configured: &[(String, String)]) -> Result<(), DiscoveryError> {
    let reserved = [
        meta::NAME,
        meta::NODE_ID,
        meta::CLUSTER_ID,
        meta::HTTP_ADDRESS,
        meta::VERSION,
    ];
    match configured
        .iter()
        .find(|(key, _)| reserved.contains(&key.as_str()))
    {
        None => Ok(()),
        Some((key, _)) => Err(settings_error(format!(
            "metadata key {key:?} is the node's own; the own keys are {}",
            reserved.join(", ")
        ))),
    }
}

fn tags(settings: &config::Consul) -> Vec<String> {
    let mut tags = vec![NODE_TAG.to_string()];
    for tag in &settings.tags {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

fn metadata(settings: &config::Consul, me: &Announcement) -> HashMap<String, String> {
    let own = [
        (meta::NAME, Some(me.name.clone())),
        (meta::NODE_ID, Some(me.node_id.to_string())),
        (meta::CLUSTER_ID, me.cluster_id.clone()),
        (meta::HTTP_ADDRESS, Some(me.http_address.clone())),
        (meta::VERSION, Some(env!("CARGO_PKG_VERSION").to_string())),
    ];
    let own = own
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_string(), value?)));
    settings.meta.iter().cloned().chain(own).collect()
}

/// Takes `host:port` apart; an IPv6 address loses its brackets.
fn host_and_port(which: &str, address: &str) -> Result<(String, u16), DiscoveryError> {
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
        settings_error(format!(
            "the {which} address to advertise is {address:?}; write it like 10.0.0.1:4333 or [fd00::1]:4333"
        ))
    })
}

fn settings_error(reason: String) -> DiscoveryError {
    DiscoveryError::Settings {
        service: KIND,
        reason,
    }
}

/// A duration as Go reads it.
fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> config::Consul {
        config::Consul {
            address: "http://127.0.0.1:8500".to_string(),
            token: None,
            service: "lockstep".to_string(),
            tags: vec!["blue".to_string(), NODE_TAG.to_string()],
            meta: vec![("rack".to_string(), "r1".to_string())],
            check_interval: Duration::from_secs(1),
            deregister_after: Duration::from_secs(60),
        }
    }

    fn me() -> Announcement {
        Announcement {
            name: "node1".to_string(),
            node_id: 7,
            cluster_id: None,
            grpc_address: "10.0.0.1:4333".to_string(),
            http_address: "10.0.0.1:3333".to_string(),
        }
    }

    fn registration(settings: &config::Consul, me: &Announcement) -> Registration {
        Registration::new(settings, me).expect("usable")
    }

    /// What an agent holds once `registration` was sent to it.
    fn held(registration: &Registration) -> (HeldService, HeldCheck) {
        let request = registration.request(None);
        let service = HeldService {
            name: request.name.unwrap_or_default(),
            address: request.address.unwrap_or_default(),
            port: request.port.unwrap_or_default(),
            tags: request.tags,
            meta: request.meta,
        };
        let check = request
            .checks
            .and_then(|mut checks| checks.pop())
            .expect("it has a check");
        let notes = check.notes.unwrap_or_default();
        (
            service,
            HeldCheck {
                status: "passing".to_string(),
                notes,
            },
        )
    }

    #[test]
    fn it_says_who_the_node_is_and_how_to_check_it() {
        let request = registration(&settings(), &me()).request(None);
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
    fn only_a_change_calls_for_registering_anew() {
        let (service, check) = held(&registration(&settings(), &me()));
        assert!(registration(&settings(), &me()).is_held(&service, &check));

        let changes: [fn(&mut config::Consul, &mut Announcement); 7] = [
            |_, me| me.node_id = 8,
            |_, me| me.cluster_id = Some("c".to_string()),
            |_, me| me.grpc_address = "10.0.0.1:4334".to_string(),
            |_, me| me.http_address = "10.0.0.1:3334".to_string(),
            |settings, _| settings.tags.clear(),
            |settings, _| settings.check_interval = Duration::from_secs(5),
            |settings, _| settings.deregister_after = Duration::from_secs(90),
        ];
        for (number, change) in changes.iter().enumerate() {
            let (mut settings, mut me) = (settings(), me());
            change(&mut settings, &mut me);
            assert!(
                !registration(&settings, &me).is_held(&service, &check),
                "change {number}"
            );
        }
    }

    #[test]
    fn a_verdict_stands_only_while_the_check_is_the_same() {
        let (_, check) = held(&registration(&settings(), &me()));
        let joined = Announcement {
            cluster_id: Some("c".to_string()),
            ..me()
        };
        assert!(registration(&settings(), &joined).is_same_check(&check));
        let moved = Announcement {
            http_address: "10.0.0.2:3333".to_string(),
            ..me()
        };
        assert!(!registration(&settings(), &moved).is_same_check(&check));
    }

    #[test]
    fn an_address_to_advertise_is_taken_apart_or_refused() {
        let parts = |address| host_and_port("gRPC", address).ok();
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
    fn configured_metadata_cannot_take_the_nodes_own_keys() {
        let configured = |key: &str| vec![(key.to_string(), "x".to_string())];
        assert!(check_meta(&configured("rack")).is_ok());
        let error = check_meta(&configured("node_id")).expect_err("it is the node's own");
        assert!(error.to_string().contains("node_id"), "{error}");
    }
}
