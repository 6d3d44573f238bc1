//! `lockstep cluster add|remove|replace|promote|demote|transfer-leader`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use lockstep_client::{AddMember, Client, Member, MemberChange, QuorumChange};
use serde_json::json;

use super::{Context, Failure, output};

/// For a new member to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum ChangeMembers {
    /// Add a node that belongs to no cluster; it votes once it has caught up
    #[command(after_help = "\
The node must run, with an empty data folder. A node that finds the cluster by discovery joins by itself.

Examples:
  lockstep cluster add 10.0.0.4:4333
  lockstep cluster add 10.0.0.5:4333 --learner")]
    Add {
        /// host:port of its gRPC interface
        #[arg(value_name = "ADDRESS")]
        address: String,

        /// Keep it a learner: it receives the log, serves reads, and does not vote
        #[arg(long)]
        learner: bool,
    },

    /// Remove a member; its node stops
    #[command(after_help = "\
Examples:
  lockstep cluster remove node3
  lockstep cluster remove 4611686018427387904")]
    Remove(Forced),

    Replace(Replace),

    /// Let a learner become a voter, once it has caught up
    Promote {
        /// Its name, or its id
        #[arg(value_name = "NODE")]
        node: String,
    },

    /// Make a voter a learner, which it stays until it is promoted
    Demote(Forced),

    /// Hand leadership over to another voter
    TransferLeader {
        /// Its name, or its id [default: the voter with the longest log]
        #[arg(value_name = "NODE")]
        node: Option<String>,
    },
}

/// A change that the quorum may not survive.
#[derive(Debug, Args)]
pub(super) struct Forced {
    /// Its name, or its id
    #[arg(value_name = "NODE")]
    node: String,

    /// Make the change even if too few voters would answer to form a quorum: the cluster then accepts no
    /// writes until enough of them return
    #[arg(long)]
    force_unsafe: bool,
}

/// Add a node, wait until it votes, then remove another
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lockstep cluster replace node3 10.0.0.7:4333")]
pub(super) struct Replace {
    /// Name or id of the member to remove
    #[arg(value_name = "NODE")]
    node: String,

    /// host:port of the new node's gRPC interface
    #[arg(value_name = "ADDRESS")]
    address: String,
}

impl ChangeMembers {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let (member_change, force) = match self {
            Self::Add { address, learner } => (added(address, learner), false),
            Self::Remove(it) => (MemberChange::Remove(it.node), it.force_unsafe),
            Self::Promote { node } => (MemberChange::Promote(node), false),
            Self::Demote(it) => (MemberChange::Demote(it.node), it.force_unsafe),
            Self::Replace(replace) => return replace.run(context).await,
            Self::TransferLeader { node } => return transfer_leader(context, node).await,
        };
        change(context, member_change, force).await
    }
}

fn added(grpc_address: String, learner: bool) -> MemberChange {
    MemberChange::Add(AddMember {
        grpc_address,
        learner,
    })
}

impl Replace {
    async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let before = client.members().await?;
        let add = added(self.address.clone(), false);
        client.change_members(add, false).await?;
        let added = self.promoted(&client, &before).await?;
        output::say(&format!("{} votes; removing {}", added.name, self.node));
        // A member of the new node's name was removed with its promotion.
        let members = client.members().await?;
        let old = members
            .iter()
            .find(|it| it.id != added.id && self.replaces(it));
        match old {
            Some(old) => {
                let remove = MemberChange::Remove(old.id.to_string());
                change(context, remove, false).await
            }
            None => Ok(context.show(
                || json!({ "replaced": self.node }),
                || format!("{} was replaced by {}\n", self.node, added.id),
            )),
        }
    }

    /// Whether a member is the one to be removed.
    fn replaces(&self, member: &Member) -> bool {
        member.name == self.node || member.id.to_string() == self.node
    }

    /// Waits until the member that was added votes. It may have done so before, if the command is repeated.
    async fn promoted(&self, client: &Client, before: &[Member]) -> Result<Member, Failure> {
        let began = Instant::now();
        let voted = |it: &Member| before.iter().any(|old| old.id == it.id && old.voter);
        let is_repeated = |it: &Member| it.grpc_address == self.address && !self.replaces(it);
        loop {
            let members = client.members().await?;
            let is_new = |it: &&Member| it.voter && (!voted(it) || is_repeated(it));
            if let Some(new) = members.iter().find(is_new) {
                return Ok(new.clone());
            }
            if began.elapsed() > CATCH_UP_TIMEOUT {
                let message = format!(
                    "the node at {} was added, but did not catch up within {} minutes; nothing was removed",
                    self.address,
                    CATCH_UP_TIMEOUT.as_secs() / 60
                );
                return Err(Failure::unavailable(message));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn transfer_leader(context: &Context, to: Option<String>) -> Result<String, Failure> {
    let client = context.target.client()?;
    let leader = client.transfer_leadership(to.as_deref()).await?;
    let json = || json!({ "leader": leader });
    Ok(context.show(json, || format!("{} leads\n", output::filled(&leader.name))))
}

async fn change(context: &Context, change: MemberChange, force: bool) -> Result<String, Failure> {
    let client = context.target.client()?;
    let changed = client.change_members(change, force).await?;
    Ok(context.show(|| json!(changed), || quorum(&changed)))
}

fn quorum(changed: &QuorumChange) -> String {
    format!(
        "voters {} -> {}, quorum {} -> {}; {} of the {} answer\n",
        changed.voters_before,
        changed.voters_after,
        changed.quorum_before,
        changed.quorum_after,
        changed.answering_after,
        changed.voters_after
    )
}
