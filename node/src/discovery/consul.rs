//! Discovery through Consul.
//!
//! A node registers itself with its agent, with a health check against `/livez`, and finds the others
//! through the agent's health endpoint, which lists those that pass. The bootstrap plan is the value
//! of the key `lockstep/<service>/bootstrap`, created once and read back linearizably: JSON with the
//! number of its format.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_consul::{Directory, NODE_TAG, Registered, Registration, check_meta, check_name};
use serde::{Deserialize, Serialize};

use super::{Announcement, Discovery, DiscoveryError, FoundPeer};
use crate::config;
use lockstep_raft::store::BootstrapPlan;

/// How long a call may take; it may need several requests.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The format of the bootstrap plan in Consul.
const FORMAT: u64 = 1;

/// Discovery through a Consul agent.
#[derive(Debug)]
pub struct ConsulDiscovery {
    settings: config::Consul,
    directory: Directory,
    /// The id this node registers under, from its first announcement on.
    registered_as: OnceLock<String>,
}

impl ConsulDiscovery {
    /// Discovery through the configured agent. Connects with the first call.
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

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, DiscoveryError>>,
    ) -> Result<T, DiscoveryError> {
        let answer = tokio::time::timeout(CALL_TIMEOUT, call).await;
        answer.unwrap_or_else(|_| {
            Err(DiscoveryError::Timeout {
                address: self.directory.address().to_string(),
                timeout: CALL_TIMEOUT,
            })
        })
    }

    fn registration(&self, me: &Announcement) -> Registration {
        let settings = &self.settings;
        Registration {
            service: settings.service.clone(),
            name: me.member.name.clone(),
            node_id: me.node_id,
            cluster_id: me.cluster_id.clone(),
            grpc_address: me.member.grpc_address.clone(),
            http_address: me.member.http_address.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            tags: settings.tags.clone(),
            meta: settings.meta.clone(),
            check_interval: settings.check_interval,
            deregister_after: settings.deregister_after,
        }
    }

    async fn read_plan(&self) -> Result<Option<BootstrapPlan>, DiscoveryError> {
        let value = self.directory.read_key(&self.latch_key()).await?;
        let plan = value.map(|value| decode(&value));
        plan.transpose().map_err(|fault| self.unreadable(fault))
    }

    async fn write_plan(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError> {
        let key = self.latch_key();
        let value = encode(plan).map_err(|fault| self.unreadable(fault))?;
        let won = self.directory.create_key(&key, value).await?;
        let latched = self.read_plan().await?.ok_or_else(|| {
            let reason = "it was deleted right after it was created; the node will try again";
            self.unreadable(UnreadablePlan::Malformed(reason.to_string()))
        })?;
        tracing::info!(
            key,
            won,
            cluster_id = latched.cluster_id,
            "bootstrap_latched"
        );
        Ok(latched)
    }

    fn unreadable(&self, fault: UnreadablePlan) -> DiscoveryError {
        DiscoveryError::Plan {
            address: self.directory.address().to_string(),
            key: self.latch_key(),
            fault,
        }
    }
}

/// Why a bootstrap plan cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadablePlan {
    /// It is not a plan.
    #[error("is unusable: {0}")]
    Malformed(String),
    /// Another release wrote it, in this format; 0 from before formats had numbers.
    #[error(
        "has format {0}; this build reads format {FORMAT}: run the release that wrote it, or a later one"
    )]
    Format(u64),
}

impl From<serde_json::Error> for UnreadablePlan {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(lockstep_machine::json::explain(&error.to_string()))
    }
}

/// The plan as it stands in Consul.
#[derive(Serialize, Deserialize)]
struct LatchedPlan<T> {
    #[serde(default)]
    format: u64,
    #[serde(flatten)]
    plan: T,
}

fn encode(plan: &BootstrapPlan) -> Result<Vec<u8>, UnreadablePlan> {
    let format = FORMAT;
    Ok(serde_json::to_vec(&LatchedPlan { format, plan })?)
}

/// The format comes first: a plan of another one is not malformed.
fn decode(value: &[u8]) -> Result<BootstrapPlan, UnreadablePlan> {
    #[derive(Deserialize)]
    struct Any {}
    match serde_json::from_slice::<LatchedPlan<Any>>(value)?.format {
        FORMAT => Ok(serde_json::from_slice::<LatchedPlan<BootstrapPlan>>(value)?.plan),
        other => Err(UnreadablePlan::Format(other)),
    }
}

#[async_trait]
impl Discovery for ConsulDiscovery {
    fn kind(&self) -> &'static str {
        "consul"
    }

    async fn announce(&self, me: &Announcement) -> Result<(), DiscoveryError> {
        let wanted = self.registration(me);
        // Set before the request: a registration whose answer is lost is withdrawn as well.
        let id = self.registered_as.get_or_init(|| wanted.id());
        self.in_time(async {
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
        self.in_time(async {
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
        self.in_time(self.read_plan()).await
    }

    async fn latch(&self, plan: &BootstrapPlan) -> Result<BootstrapPlan, DiscoveryError> {
        self.in_time(self.write_plan(plan)).await
    }

    async fn unlatch(&self, plan: &BootstrapPlan) -> Result<bool, DiscoveryError> {
        self.in_time(async {
            let key = self.latch_key();
            let Some(value) = self.directory.read_key(&key).await? else {
                return Ok(false);
            };
            if decode(&value).map_err(|fault| self.unreadable(fault))? != *plan {
                return Ok(false);
            }
            Ok(self.directory.delete_key(&key, &value).await?)
        })
        .await
    }

    fn stale_plan(&self, plan: &BootstrapPlan) -> String {
        format!(
            "cluster {} was bootstrapped without this node, and none of its nodes answers; if they are only down, start them; if that cluster is gone for good, delete its plan, the key {} in Consul, to bootstrap another: lockstepd forget-cluster --config FILE, with this node's settings",
            plan.cluster_id,
            self.latch_key()
        )
    }

    fn bootstrap_node(&self) -> Option<&str> {
        // The key decides between proposals.
        None
    }

    async fn withdraw(&self) -> Result<(), DiscoveryError> {
        let Some(id) = self.registered_as.get() else {
            return Ok(());
        };
        self.in_time(async { Ok(self.directory.deregister(id).await?) })
            .await?;
        tracing::info!(id, "consul_deregistered");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_raft::store::{Member, PlannedMember};

    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/consul-bootstrap-plan-1.json");

    fn plan() -> BootstrapPlan {
        let member = |number: u64| PlannedMember {
            node_id: number,
            member: Member {
                name: format!("node{number}"),
                grpc_address: format!("10.0.0.{number}:4333"),
                http_address: format!("10.0.0.{number}:3333"),
                learner: false,
            },
        };
        BootstrapPlan {
            cluster_id: "9f0c2a51d3b87e46".to_string(),
            members: (1..=3).map(member).collect(),
        }
    }

    #[test]
    fn every_committed_plan_is_read() {
        assert_eq!(
            decode(GOLDEN).ok(),
            Some(plan()),
            "a plan that an earlier release latched must stay readable: add optional fields only, \
             with a new golden file; for any other change raise FORMAT and read both"
        );
        let written: serde_json::Value = serde_json::from_slice(&encode(&plan()).unwrap()).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(GOLDEN).unwrap();
        assert_eq!(written, golden);
    }

    #[test]
    fn another_format_is_not_damage() {
        let text = String::from_utf8(GOLDEN.to_vec()).unwrap();
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        assert_eq!(decode(newer.as_bytes()), Err(UnreadablePlan::Format(2)));
        let unnumbered = text.replace("\"format\": 1,", "");
        assert_eq!(
            decode(unnumbered.as_bytes()),
            Err(UnreadablePlan::Format(0))
        );
        assert!(matches!(
            decode(b"{\"format\": 1}"),
            Err(UnreadablePlan::Malformed(_))
        ));
        assert!(matches!(
            decode(b"garbage"),
            Err(UnreadablePlan::Malformed(_))
        ));
    }

    #[test]
    fn no_unreadable_plan_has_a_word_of_a_library() {
        let good = String::from_utf8(GOLDEN.to_vec()).unwrap();
        let good = good.trim_end();
        let mut values: Vec<_> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
        for wrong in ["null", "-1", "1.5", "\"x\"", "[]", "{}", "true"] {
            values.push(wrong.to_owned());
            for (at, found) in good.match_indices(": ") {
                let at = at + found.len();
                let end = good[at..]
                    .find([',', '}', '\n'])
                    .map_or(good.len(), |it| at + it);
                values.push(format!("{}{wrong}{}", &good[..at], &good[end..]));
            }
        }
        let mut faults = 0;
        for value in values {
            if let Err(fault) = decode(value.as_bytes()) {
                let said = fault.to_string();
                let word = lockstep_machine::library_words(&said);
                assert_eq!(word, None, "{value}: {said}");
                faults += 1;
            }
        }
        assert!(faults > good.len(), "{faults}");
    }
}
