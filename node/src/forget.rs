//! `lockstepd forget-cluster`: deletes the bootstrap plan of a cluster that is gone, so that another can be
//! bootstrapped.

use std::io::{self, BufRead, Write};

use lockstep_node::cluster::forget::{self, ForgetError};
use lockstep_node::discovery::Discovery;
use lockstep_raft::store::BootstrapPlan;

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum ForgetClusterError {
    #[error(transparent)]
    Forget(#[from] ForgetError),
    #[error("cannot ask for confirmation: {0}; repeat with --yes")]
    Ask(#[from] io::Error),
    #[error("nothing was forgotten")]
    Declined,
}

/// Checks that no node of the cluster answers, asks unless `yes`, and deletes the plan.
pub async fn run(discovery: &dyn Discovery, yes: bool) -> Result<String, ForgetClusterError> {
    let plan = forget::forgettable(discovery).await?;
    if !yes && !confirmed(&plan)? {
        return Err(ForgetClusterError::Declined);
    }
    forget::forget(discovery, &plan).await?;
    Ok(format!(
        "forgot cluster {}: the waiting nodes will bootstrap a new cluster\n",
        plan.cluster_id
    ))
}

fn confirmed(plan: &BootstrapPlan) -> io::Result<bool> {
    let names: Vec<&str> = (plan.members.iter())
        .map(|it| it.member.name.as_str())
        .collect();
    write!(
        io::stderr(),
        "Discovery holds the bootstrap plan of cluster {}, of {}. None of them answers.\n\
        If they are only down, start them instead: another cluster has none of their data.\n\
        Type the cluster's id to forget it: ",
        plan.cluster_id,
        names.join(", ")
    )?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == plan.cluster_id)
}
