//! `lockstepd recover`: makes a new cluster of one node from what that node has, after the majority of its cluster
//! is lost.
//!
//! The node keeps its id, its state and every log entry. Its membership becomes the node alone, under a new cluster
//! id, so that the lost nodes cannot return into it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Error, Result, anyhow, bail, ensure};
use clap::Args;
use lockstep_machine::Timestamp;
use lockstep_node::cluster::identify;
use lockstep_raft::consensus::offline::{self, Remains};
use lockstep_raft::consensus::{Member, NodeId};
use lockstep_raft::store::{DiskStore, Identity, OfflineFolder, StoreOptions};

use crate::ask;

/// What the store takes for itself meanwhile. The log grows by one entry.
const OPTIONS: StoreOptions = StoreOptions {
    cache_bytes: 32 << 20,
    reserve_bytes: 0,
    free_bytes_min: 0,
};
/// An id that no node has: a leader answers since when this id is no member.
const NOBODY: NodeId = 0;
/// A node that heard from a leader longer ago than this does not follow one, milliseconds.
const HEARD_WITHIN_MS: u64 = 5000;

/// Flags of `recover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Use this only if a majority of the voters is lost for good; otherwise start them, or replace them one by one.
Choose the node whose log ends last: compare what this command shows before it asks. Writes that only the lost
nodes had are lost.

Examples:
  lockstepd recover --from /var/lib/lockstep
  lockstepd recover --from /var/lib/lockstep --cluster 3584844cf6683eb5")]
pub struct Recover {
    /// The data folder of a node that is not running
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The id of the cluster to abandon; without it, the command asks
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
}

impl Recover {
    /// Shows what the node has, asks, and makes the new cluster. Returns what to do next.
    pub async fn run(&self) -> Result<String> {
        let mut folder = OfflineFolder::take(&self.from)?;
        let identity = folder.identity().identity().clone();
        let dir = self.from.display();
        let Some(cluster) = identity.cluster_id.clone() else {
            bail!("the node of data folder {dir} belongs to no cluster; nothing was changed");
        };
        let failed = |error| anyhow!("{dir}: {error}");
        let store = DiskStore::open(folder.identity(), OPTIONS, Arc::new(()))?;
        let remains = offline::inspect(&store).await.map_err(failed)?;
        let answers = ask_members(&identity, &cluster, &remains).await?;
        say(&overview(
            &dir.to_string(),
            &identity,
            &cluster,
            &remains,
            &answers,
        ));
        let question = format!("Type the id of the cluster, {cluster}, to abandon it: ");
        let given = match &self.cluster {
            Some(given) => given.clone(),
            None => ask(&question, "--cluster")?,
        };
        ensure!(
            given == cluster,
            "the node belongs to cluster {cluster}, not to {given:?}; nothing was changed"
        );

        let new = format!("{:016x}", rand::random::<u64>());
        let member = own_member(&identity, &remains);
        folder.begin()?;
        let kept = offline::keep_only(&store, &remains, identity.node_id, member);
        kept.await.map_err(failed)?;
        drop(store);
        folder.finish(&new)?;
        Ok(format!(
            "the node of {dir} is now the only member of the new cluster {new}\n\
            Start it. Then start the other nodes with empty data folders (lockstepd rejoin): they join by themselves.\n"
        ))
    }
}

/// What each other member answers: that it does not, or that it does not lead.
async fn ask_members(
    identity: &Identity,
    cluster: &str,
    remains: &Remains,
) -> Result<Vec<(NodeId, String)>> {
    let others = remains.members.iter();
    let others = others.filter(|(id, ..)| *id != identity.node_id);
    let asked = others.map(|(id, member, _)| ask_member(*id, member, cluster));
    let answers = futures::future::try_join_all(asked).await?;
    // A leader that answered has said that it has no quorum. One that did not answer may have one.
    let has_answered = |leader| answers.iter().any(|it| it.answered == Some(leader));
    let follows = |it: &&Heard| it.leader.is_some_and(|leader| !has_answered(leader));
    if let Some(follower) = answers.iter().find(follows) {
        return Err(has_quorum(&follower.name, &follower.address, cluster));
    }
    Ok(answers.into_iter().map(|it| (it.id, it.text)).collect())
}

fn has_quorum(member: &str, address: &str, cluster: &str) -> Error {
    anyhow!(
        "{member} at {address} leads cluster {cluster} with a quorum, or is in contact with a leader that this command cannot reach; nothing was changed: start this node, or discard its folder with lockstepd rejoin; if that leader has no quorum, stop it first"
    )
}

/// What one member answered.
struct Heard {
    id: NodeId,
    name: String,
    address: String,
    text: String,
    /// The node of this cluster that answered: another one than the member, if that was replaced or has moved.
    answered: Option<NodeId>,
    /// The leader that it has just heard from.
    leader: Option<NodeId>,
}

async fn ask_member(id: NodeId, member: &Member, cluster: &str) -> Result<Heard> {
    let address = &member.grpc_address;
    let (text, answered, leader) = match identify(address, Some(NOBODY)).await {
        Err(silence) => (silence.to_string(), None, None),
        Ok(answer) if answer.cluster_id != cluster => {
            let text = "a node of another cluster is at its address".to_owned();
            (text, None, None)
        }
        Ok(answer) if answer.not_a_member_since.is_some() => {
            return Err(has_quorum(&member.name, address, cluster));
        }
        Ok(answer) => {
            let heard = answer
                .leader_contact_ms
                .is_some_and(|ago| ago <= HEARD_WITHIN_MS);
            let text = format!(
                "answers, but does not lead a quorum; its log ends at {}",
                answer.log_last_index
            );
            let text = match answer.node_id == id {
                true => text,
                false => format!("another node of the cluster is at its address: it {text}"),
            };
            let leader = answer.leader_id.filter(|_| heard);
            (text, Some(answer.node_id), leader)
        }
    };
    Ok(Heard {
        id,
        name: member.name.clone(),
        address: address.clone(),
        text,
        answered,
        leader,
    })
}

fn own_member(identity: &Identity, remains: &Remains) -> Member {
    let found = remains
        .members
        .iter()
        .find(|(id, ..)| *id == identity.node_id);
    let named = || Member {
        name: identity.name().unwrap_or_default().to_owned(),
        ..Member::default()
    };
    found.map_or_else(named, |(_, member, _)| member.clone())
}

/// What the node has, and what may be lost.
fn overview(
    dir: &str,
    identity: &Identity,
    cluster: &str,
    remains: &Remains,
    answers: &[(NodeId, String)],
) -> String {
    let Remains {
        committed_index: committed,
        last_index: last,
        ..
    } = remains;
    let mut text = format!(
        "{dir} is the data folder of node {} ({}) of cluster {cluster}\n\
        term           {}\n\
        applied        up to log index {}, in its snapshot; the start applies the rest\n\
        committed      at least up to log index {committed}\n\
        log            ends at log index {last}, term {}{}\n\
        members\n",
        identity.name().unwrap_or("-"),
        identity.node_id,
        remains.term,
        remains.snapshot_index,
        remains.last_term,
        age(remains.last_stamp),
    );
    let mut members: Vec<_> = remains.members.iter().collect();
    members.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    for (id, member, voter) in members {
        let answer = answers.iter().find(|(it, _)| it == id);
        let answer = answer.map_or("this node", |(_, answer)| answer);
        let kind = if *voter { "voter" } else { "learner" };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {} {kind} {}: {answer}",
            member.name, member.grpc_address
        );
    }
    if let Some(at) = identity.differs_at {
        let _ = writeln!(
            text,
            "warning: at log index {at}, most members had another state than this node: choose another node, if one is left"
        );
    }
    text + &format!(
        "Log entries after {committed} may have been acknowledged: all are kept, and committed.\n\
        Writes that were acknowledged without this node are lost. Nodes of the old cluster cannot join the new one:\n\
        stop those that run, and discard their data folders.\n"
    )
}

/// How long ago the last entry was proposed.
fn age(stamp: Option<Timestamp>) -> String {
    let Some(stamp) = stamp else {
        return String::new();
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let ago = now.saturating_sub(Duration::from_millis(stamp.0));
    let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
    let at = stamp.rfc3339().unwrap_or_default();
    format!("; the last request was at {at}, {ago} ago")
}

/// Writes to stderr. If that is closed, nothing can be shown.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
