//! `lockstep members` and `lockstep leader`.

use clap::Args;
use lockstep_client::Member;
use serde_json::json;

use super::{Context, Failure, output};

/// Show the members of the cluster, as reported by the leader if it can be reached
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep members
  lockstep members -o json | jq '.members | length'")]
pub(super) struct Members {}

impl Members {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let view = context.target.client()?.view().await?;
        let leads = |member: &Member| view.leader_id == Some(member.id);
        let json = || {
            json!({
                "cluster_id": view.cluster_id,
                "term": view.term,
                "leader_id": view.leader_id.map(|id| id.to_string()),
                "members": view.members,
            })
        };
        Ok(context.show(json, || {
            output::table(
                ["NODE", "ID", "VOTER", "LEADER", "GRPC", "HTTP", "MATCHED"],
                view.members.iter().map(|member| {
                    [
                        output::filled(&member.name),
                        member.id.to_string(),
                        yes_or_no(member.voter),
                        yes_or_no(leads(member)),
                        output::filled(&member.grpc_address),
                        output::filled(&member.http_address),
                        output::or_dash(member.matched_index),
                    ]
                }),
            )
        }))
    }
}

/// Show the leader of the cluster; waits during an election
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep leader
  lockstep leader -o json | jq -r .leader.grpc_address")]
pub(super) struct Leader {}

impl Leader {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let leader = context.target.client()?.leader().await?;
        let member = &leader.member;
        Ok(context.show(
            || json!(leader),
            || {
                let row = [
                    output::filled(&member.name),
                    member.id.to_string(),
                    leader.term.to_string(),
                    output::filled(&member.grpc_address),
                    output::filled(&member.http_address),
                ];
                output::table(["NODE", "ID", "TERM", "GRPC", "HTTP"], [row])
            },
        ))
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}
