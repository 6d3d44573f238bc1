//! `lockstepd rejoin`: discards a data folder, so that the node joins its cluster as a new member.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_raft::store::{self, StoreError};

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

/// Why nothing, or not everything, was discarded.
#[derive(Debug, thiserror::Error)]
pub enum RejoinError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot ask for confirmation: {0}; repeat with --yes")]
    Ask(#[from] io::Error),
    #[error("nothing was discarded")]
    Declined,
}

impl Rejoin {
    /// Asks, discards the folder, and says what comes next.
    pub fn run(&self) -> Result<String, RejoinError> {
        if !self.yes && !confirmed(&self.data_dir)? {
            return Err(RejoinError::Declined);
        }
        store::discard(&self.data_dir)?;
        Ok(format!(
            "discarded {}: the node that starts there draws a new id and joins its cluster as a new member\n",
            self.data_dir.display()
        ))
    }
}

fn confirmed(dir: &Path) -> Result<bool, RejoinError> {
    let holds = match store::read_identity(dir) {
        Ok(identity) => format!(
            "node {}{}",
            identity.node_id,
            match &identity.cluster_id {
                Some(cluster) => format!(", a member of cluster {cluster}"),
                None => ", which belongs to no cluster".to_owned(),
            }
        ),
        Err(error) => format!("a node that cannot be told: {error}"),
    };
    write!(
        io::stderr(),
        "{} holds the log and the snapshots of {holds}.\n\
        They are deleted. What only this node has is lost: make sure that a quorum of the other members is up.\n\
        Type yes to go on: ",
        dir.display()
    )?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
