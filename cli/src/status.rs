//! `lockstep status`.

use clap::Args;
use lockstep_client::{Address, Error, NodeStatus};
use serde_json::{Value, json};

use super::Context;
use super::failure::{Failure, explain, short};
use super::output;

/// Show how each endpoint sees the cluster
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep status
  lockstep status --hash    equal hashes mean equal states")]
pub(super) struct Status {
    /// Also hash the state; the hash is equal on all nodes that have applied the same entries
    #[arg(long)]
    hash: bool,
}

type Answer = (Address, Result<NodeStatus, Error>);

impl Status {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let answers = context.target.client()?.statuses(self.hash).await?;
        let json = || json!({ "nodes": answers.iter().map(node_json).collect::<Vec<_>>() });
        let text = context.show(json, || {
            explain(&answers);
            table(&answers, self.hash)
        });
        if answers.iter().all(|(_, answer)| answer.is_err()) {
            return Err(Failure::unavailable("no endpoint answered").with_partial(text));
        }
        Ok(text)
    }
}

fn table(answers: &[Answer], with_hash: bool) -> String {
    let mut header = vec![
        "ENDPOINT",
        "NODE",
        "ID",
        "ROLE",
        "TERM",
        "LEADER",
        "APPLIED",
        "COMMITTED",
        "LOG",
        "SNAPSHOT",
    ];
    if with_hash {
        header.push("STATE HASH");
    }
    let rows = answers.iter().map(|(endpoint, answer)| match answer {
        Ok(status) => {
            let mut row = vec![
                endpoint.to_string(),
                output::or_dash(status.node.as_ref().map(|node| &node.name)),
                output::or_dash(status.node.as_ref().map(|node| node.id)),
                status.role().to_string(),
                status.term.to_string(),
                output::or_dash(leader_name(status)),
                status.applied_index.to_string(),
                status.committed_index.to_string(),
                format!("{}-{}", status.log_first_index, status.log_last_index),
                output::or_dash(Some(status.snapshot_index).filter(|index| *index > 0)),
            ];
            if with_hash {
                row.push(output::or_dash(status.state_hash.as_ref()));
            }
            row
        }
        Err(_) => header
            .iter()
            .map(|column| match *column {
                "ENDPOINT" => endpoint.to_string(),
                "ROLE" => "unreachable".to_owned(),
                _ => "-".to_owned(),
            })
            .collect(),
    });
    output::table(header.clone(), rows)
}

/// The leader by name; by id when it is not among the members.
fn leader_name(status: &NodeStatus) -> Option<String> {
    let id = status.leader_id?.to_string();
    Some(status.leader().map_or(id, |leader| leader.name.clone()))
}

fn node_json((endpoint, answer): &Answer) -> Value {
    let mut body = match answer {
        Ok(status) => json!(status),
        Err(error) => json!({ "error": short(error) }),
    };
    body["endpoint"] = endpoint.as_str().into();
    body["reachable"] = answer.is_ok().into();
    body
}
