//! Peers from Consul.
//!
//! A node registers itself with its agent, with a health check that Consul runs against `/livez`,
//! and finds the others through the agent's health endpoint: only those that pass. The bootstrap
//! plan is a key that is created once (`cas=0`) and read back with the consistent mode.
//!
//! Consul is asked about addresses only; a cluster that runs does not need it.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_consul::{
    ConsulError, Directory, NODE_TAG, Registered, Registration, check_meta, check_name,
};

use super::{Announcement, Discovery, DiscoveryError, FoundPeer};
use crate::config;
use lockstep_raft::store::BootstrapPlan;

/// The name for logs and errors.
const KIND: &str = "consul";
/// How long a call may take in all; it may need several requests.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Discovery through a Consul agent.
#[derive(Debug)]
pub struct ConsulDiscovery {
    settings: config::Consul,
    directory: Directory,
    /// The id this node registers under, from its first announcement on.
    registered_as: OnceLock<String>,
}

impl ConsulDiscovery {
    /// Discovery through the agent that `settings` name. Connects only when asked something.
    ///
    /// # Errors
    /// [`DiscoveryError::Settings`] for an address, token, service name or metadata that Consul
    /// cannot be given.
    pub fn new(settings: &config::Consul) -> Result<Self, DiscoveryError> {
        let directory = Directory::new(&settings.address, settings.token.clone())?;
        check_name(&settings.service)?;
        check_meta(&settings.meta)?;
        Ok(Self {
            settings: settings.clone(),
            directory,
            registered_as: OnceLock::new(),
        })
    }

    fn latch_key(&self) -> String {
        format!("lockstep/{}/bootstrap", self.settings.service)
    }

    async fn within_deadline<T>(
        &self,
        call: impl Future<Output = Result<T, DiscoveryError>>,
    ) -> Result<T, DiscoveryError> {
        match tokio::time::timeout(CALL_DEADLINE, call).await {
            Ok(result) => result,
            Err(_) => Err(DiscoveryError::Unreachable {
                service: KIND,
                address: self.directory.address().to_string(),
                reason: format!("no answer within {CALL_DEADLINE:?}"),
            }),
        }
    }

    fn registration(&self, me: &Announcement) -> Registration {
        let settings = &self.settings;
        Registration {
            service: settings.service.clone(),
            name: me.name.clone(),
            node_id: me.node_id,
            cluster_id: me.cluster_id.clone(),
            grpc_address: me.grpc_address.clone(),
            http_address: me.http_address.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            tags: settings.tags.clone(),
            meta: settings.meta.clone(),
            check_interval: settings.check_interval,
            deregister_after: settings.deregister_after,
        }
    }

    async fn read_plan(&self) -> Result<Option<BootstrapPlan>, DiscoveryError> {
        let key = self.latch_key();
        let Some(value) = self.directory.read_key(&key).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&value)
            .map(Some)
            .map_err(|error| self.unusable(format!("key {key} holds no bootstrap plan: {error}")))
    }

    async fn write_plan(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError> {
        let key = self.latch_key();
        let value = serde_json::to_vec(plan)
            .map_err(|error| self.unusable(format!("the plan cannot be written: {error}")))?;
        let won = self.directory.create_key(&key, value).await?;
        let holds = self.read_plan().await?.ok_or_else(|| {
            self.unusable(format!(
                "key {key} is gone right after it was written; try again"
            ))
        })?;
        tracing::info!(key, won, cluster_id = holds.cluster_id, "bootstrap_latched");
        Ok(holds)
    }

    fn unusable(&self, reason: String) -> DiscoveryError {
        let address = self.directory.address().to_string();
        DiscoveryError::Answer {
            service: KIND,
            address,
            reason,
        }
    }
}

#[async_trait]
impl Discovery for ConsulDiscovery {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn announce(&self, me: &Announcement) -> Result<(), DiscoveryError> {
        let wanted = self.registration(me);
        // Set before the request: a registration whose answer is lost is withdrawn as well.
        let id = self.registered_as.get_or_init(|| wanted.id());
        self.within_deadline(async {
            let registered = self.directory.register(&wanted).await?;
            if registered != Registered::Unchanged {
                tracing::info!(
                    id,
                    service = self.settings.service,
                    was_known = registered == Registered::Replaced,
                    "consul_registered"
                );
            }
            Ok(())
        })
        .await
    }

    async fn peers(&self) -> Result<Vec<FoundPeer>, DiscoveryError> {
        self.within_deadline(async {
            let entries = self
                .directory
                .services(&self.settings.service, Some(NODE_TAG))
                .await?;
            let peers = entries.into_iter().map(|entry| FoundPeer {
                name: entry.name,
                grpc_address: entry.grpc_address,
                http_address: entry.http_address,
                tags: entry.tags,
            });
            Ok(peers.collect())
        })
        .await
    }

    async fn latched(&self) -> Result<Option<BootstrapPlan>, DiscoveryError> {
        self.within_deadline(self.read_plan()).await
    }

    async fn latch(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError> {
        self.within_deadline(self.write_plan(plan)).await
    }

    fn may_propose(&self, _me: &Announcement, _found: &[FoundPeer]) -> bool {
        // The key decides between proposals.
        true
    }

    async fn withdraw(&self) -> Result<(), DiscoveryError> {
        let Some(id) = self.registered_as.get() else {
            return Ok(());
        };
        self.within_deadline(async { Ok(self.directory.deregister(id).await?) })
            .await?;
        tracing::info!(id, "consul_deregistered");
        Ok(())
    }
}

impl From<ConsulError> for DiscoveryError {
    fn from(error: ConsulError) -> Self {
        let service = KIND;
        match error {
            ConsulError::Unreachable { address, reason } => Self::Unreachable {
                service,
                address,
                reason,
            },
            ConsulError::Answer {
                address,
                request,
                reason,
            } => Self::Answer {
                service,
                address,
                reason: format!("to {request}: {reason}"),
            },
            ConsulError::Refused {
                address,
                request,
                status,
                message,
            } => Self::Answer {
                service,
                address,
                reason: format!("{request} was refused with status {status}: {message}"),
            },
            ConsulError::Address { .. }
            | ConsulError::Token { .. }
            | ConsulError::Name { .. }
            | ConsulError::Registration { .. } => Self::Settings {
                service,
                reason: error.to_string(),
            },
        }
    }
}
