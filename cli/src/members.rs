//! `lockstep members`.

use clap::Args;
use lockstep_client::Member;
use serde_json::{Value, json};

use super::Context;
use super::failure::Failure;
use super::output::{self, Format};

/// Show the members of the cluster, by the leader's account where it can be had
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
        Ok(match context.output {
            Format::Table | Format::Yaml => output::table(
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
            ),
            Format::Json => output::json(&json!({
                "cluster_id": view.cluster_id,
                "term": view.term,
                "leader_id": view.leader_id.map(|id| id.to_string()),
                "members": view.members.iter().map(member_json).collect::<Vec<_>>(),
            })),
        })
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// Ids are text: they have 63 bits, and JSON's readers keep 53.
pub(super) fn member_json(member: &Member) -> Value {
    json!({
        "id": member.id.to_string(),
        "name": member.name,
        "grpc_address": member.grpc_address,
        "http_address": member.http_address,
        "voter": member.voter,
        "matched_index": member.matched_index,
    })
}
