//! `lockstepd rejoin`: discards a data folder, so that the node joins its cluster as a new member.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use lockstep_raft::store;

use crate::ask;

/// Flags of `rejoin`.
#[derive(Debug, Args)]
pub struct Rejoin {
    /// The data folder of a node that is not running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Rejoin {
    /// Asks, discards the folder, and says what comes next.
    pub fn run(&self) -> Result<String> {
        let dir = self.data_dir.display();
        let question = format!(
            "{dir} holds the log and the snapshots of {}.\n\
            They are deleted. What only this node has is lost: make sure that a quorum of the other members is up.\n\
            Type yes to go on: ",
            node_of(&self.data_dir)
        );
        ensure!(
            self.yes || ask(&question, "--yes")? == "yes",
            "nothing was discarded"
        );
        store::discard(&self.data_dir)?;
        Ok(format!(
            "discarded {dir}: the node that starts there gets a new id and joins its cluster as a new member\n"
        ))
    }
}

fn node_of(dir: &Path) -> String {
    let identity = match store::read_identity(dir) {
        Ok(identity) => identity,
        Err(error) => return format!("an unknown node ({error})"),
    };
    let cluster = match &identity.cluster_id {
        Some(cluster) => format!("a member of cluster {cluster}"),
        None => "which belongs to no cluster".to_owned(),
    };
    format!("node {}, {cluster}", identity.node_id)
}
