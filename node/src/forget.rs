//! `lockstepd forget-cluster`: deletes the bootstrap plan of a cluster that is gone, so that another can be
//! bootstrapped.

use anyhow::{Result, ensure};
use lockstep_node::cluster::forget;
use lockstep_node::discovery::Discovery;

use crate::ask;

/// Checks that no node of the cluster answers, asks unless `yes`, and deletes the plan.
pub async fn run(discovery: &dyn Discovery, yes: bool) -> Result<String> {
    let plan = forget::forgettable(discovery).await?;
    let id = &plan.cluster_id;
    let members = plan.members.iter();
    let names: Vec<&str> = members.map(|it| it.member.name.as_str()).collect();
    let question = format!(
        "Discovery holds the bootstrap plan of cluster {id}, of {}. None of them answers.\n\
        If they are only down, start them instead: another cluster has none of their data.\n\
        Type the cluster's id to forget it: ",
        names.join(", ")
    );
    ensure!(
        yes || ask(&question, "--yes")? == *id,
        "nothing was forgotten"
    );
    forget::forget(discovery, &plan).await?;
    Ok(format!(
        "forgot cluster {id}: the waiting nodes will bootstrap a new cluster\n"
    ))
}
