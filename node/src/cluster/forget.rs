//! Forgetting a cluster that is gone: the bootstrap plan that discovery holds of it keeps all nodes waiting.

use futures::future::join_all;

use super::identify::identify;
use crate::discovery::{Discovery, DiscoveryError};
use lockstep_raft::store::BootstrapPlan;

/// Why a plan was not forgotten.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what it is")]
pub enum ForgetError {
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("discovery ({kind}) holds no bootstrap plan: there is nothing to forget")]
    NoPlan { kind: &'static str },
    #[error(
        "cluster {cluster} still exists: its node {name:?} answers at {address}; nothing was forgotten"
    )]
    Answers {
        cluster: String,
        name: String,
        address: String,
    },
    #[error(
        "the bootstrap plan of cluster {cluster} was replaced or deleted meanwhile; nothing was forgotten"
    )]
    Changed { cluster: String },
}

/// The plan that discovery holds, if none of the cluster's nodes answers, neither where the plan has it nor where
/// discovery lists one.
pub async fn forgettable(discovery: &dyn Discovery) -> Result<BootstrapPlan, ForgetError> {
    let kind = discovery.kind();
    let plan = discovery.latched().await?;
    let plan = plan.ok_or(ForgetError::NoPlan { kind })?;
    let listed = discovery.peers().await?.into_iter();
    let planned = plan.members.iter().map(|it| it.member.grpc_address.clone());
    let mut addresses: Vec<String> = planned.chain(listed.map(|it| it.grpc_address)).collect();
    addresses.sort();
    addresses.dedup();
    let asked = addresses.iter().map(|address| identify(address, None));
    for (address, answer) in addresses.iter().zip(join_all(asked).await) {
        let Ok(answer) = answer else { continue };
        let is_planned = plan.members.iter().any(|it| it.node_id == answer.node_id);
        if is_planned || answer.cluster_id == plan.cluster_id {
            return Err(ForgetError::Answers {
                cluster: plan.cluster_id,
                name: answer.name,
                address: address.clone(),
            });
        }
    }
    Ok(plan)
}

/// Deletes a plan from discovery, if it still holds this one and still none of the nodes answers.
pub async fn forget(discovery: &dyn Discovery, plan: &BootstrapPlan) -> Result<(), ForgetError> {
    let changed = || ForgetError::Changed {
        cluster: plan.cluster_id.clone(),
    };
    if forgettable(discovery).await? != *plan || !discovery.unlatch(plan).await? {
        return Err(changed());
    }
    Ok(())
}
