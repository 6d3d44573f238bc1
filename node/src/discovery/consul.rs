//! Peers from Consul.
//!
//! A node registers itself with its agent, with a health check that Consul runs against `/livez`,
//! and finds the others through the agent's health endpoint: only those that pass. The bootstrap
//! plan is a key that is created once (`cas=0`) and read back with the consistent mode.
//!
//! Consul is asked about addresses only; a cluster that runs does not need it.

mod registration;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use consulrs::api::Features;
use consulrs::api::features::{ConsistencyMode, FeaturedEndpoint};
use consulrs::api::kv::requests::{ReadRawKeyRequest, SetKeyRequest};
use consulrs::api::service::requests::DeregisterServiceRequest;
use lockstep_client::consul::{Connection, ConsulError, Directory, NODE_TAG, check_name};
use rustify_derive::Endpoint;

use self::registration::{HeldCheck, HeldService, Registration};
use super::{Announcement, Discovery, DiscoveryError, FoundPeer};
use crate::config;
use crate::store::BootstrapPlan;

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
        registration::check_meta(&settings.meta)?;
        Ok(Self {
            settings: settings.clone(),
            directory,
            registered_as: OnceLock::new(),
        })
    }

    fn connection(&self) -> &Connection {
        self.directory.connection()
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
                address: self.connection().address().to_string(),
                reason: format!("no answer within {CALL_DEADLINE:?}"),
            }),
        }
    }

    /// Registers only what the agent does not hold already: registering starts the check's interval
    /// over, so that a node announcing itself more often than that might never be checked.
    async fn register_if_needed(&self, wanted: &Registration) -> Result<(), DiscoveryError> {
        let (service, check) = self.held(wanted).await?;
        if let (Some(service), Some(check)) = (&service, &check)
            && wanted.is_held(service, check)
        {
            return Ok(());
        }
        self.connection().call_raw(wanted.request()).await?;
        tracing::info!(
            id = wanted.id(),
            service = self.settings.service,
            was_known = service.is_some(),
            "consul_registered"
        );
        Ok(())
    }

    /// What the agent holds of this node's registration.
    async fn held(
        &self,
        wanted: &Registration,
    ) -> Result<(Option<HeldService>, Option<HeldCheck>), DiscoveryError> {
        let id = wanted.id().to_string();
        let service = match self.connection().call(HeldServiceRequest { id }).await {
            Ok(service) => service,
            Err(error) if error.is_not_found() => return Ok((None, None)),
            Err(error) => return Err(error.into()),
        };
        let filter = format!("ServiceID == \"{}\"", wanted.id());
        let mut checks = self.connection().call(HeldChecksRequest { filter }).await?;
        Ok((Some(service), checks.remove(wanted.check_id())))
    }

    async fn read_plan(&self) -> Result<Option<BootstrapPlan>, DiscoveryError> {
        let key = self.latch_key();
        // The default mode may be answered by a leader that was deposed a moment ago.
        let consistent = Features {
            mode: Some(ConsistencyMode::CONSISTENT),
            ..Features::default()
        };
        let read = ReadRawKeyRequest {
            features: Some(consistent),
            key: key.clone(),
            raw: true,
            ..ReadRawKeyRequest::default()
        };
        let value = match self.connection().call_raw(read).await {
            Ok(value) => value,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&value)
            .map(Some)
            .map_err(|error| self.unusable(format!("key {key} holds no bootstrap plan: {error}")))
    }

    async fn write_plan(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError> {
        let key = self.latch_key();
        let value = serde_json::to_vec(plan)
            .map_err(|error| self.unusable(format!("the plan cannot be written: {error}")))?;
        // cas=0: only if there is no such key.
        let write = SetKeyRequest {
            key: key.clone(),
            value,
            cas: Some(0),
            ..SetKeyRequest::default()
        };
        let won = self.connection().call(write).await?;
        let holds = self.read_plan().await?.ok_or_else(|| {
            self.unusable(format!(
                "key {key} is gone right after it was written; try again"
            ))
        })?;
        tracing::info!(key, won, cluster_id = holds.cluster_id, "bootstrap_latched");
        Ok(holds)
    }

    fn unusable(&self, reason: String) -> DiscoveryError {
        let address = self.connection().address().to_string();
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
        let wanted = Registration::new(&self.settings, me)?;
        // Noted before it is tried: a registration whose answer is lost is withdrawn as well.
        self.registered_as.get_or_init(|| wanted.id().to_string());
        self.within_deadline(self.register_if_needed(&wanted)).await
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
        let request = DeregisterServiceRequest {
            id: id.clone(),
            ..Default::default()
        };
        self.within_deadline(async {
            match self.connection().call_raw(request).await {
                // Newer agents answer so for what they do not know, older ones with success.
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(()),
            }
        })
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
            ConsulError::Address { .. } | ConsulError::Token { .. } | ConsulError::Name { .. } => {
                Self::Settings {
                    service,
                    reason: error.to_string(),
                }
            }
        }
    }
}

/// One registration of the agent. consulrs has this one, and cannot parse its answer.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/{self.id}", response = "HeldService")]
struct HeldServiceRequest {
    #[endpoint(skip)]
    id: String,
}

impl FeaturedEndpoint for HeldServiceRequest {
    fn features(&self) -> Option<Features> {
        None
    }
}

/// The agent's checks, by their ids.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/checks", response = "HashMap<String, HeldCheck>")]
struct HeldChecksRequest {
    #[endpoint(query)]
    filter: String,
}

impl FeaturedEndpoint for HeldChecksRequest {
    fn features(&self) -> Option<Features> {
        None
    }
}
