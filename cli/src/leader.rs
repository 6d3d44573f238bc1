//! `lockstep leader`.

use clap::Args;
use serde_json::json;

use super::Context;
use super::failure::Failure;
use super::members::member_json;
use super::output::{self, Format};

/// Show who leads the cluster, waiting while there is nobody
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
        Ok(match context.output {
            Format::Table | Format::Yaml => output::table(
                ["NODE", "ID", "TERM", "GRPC", "HTTP"],
                [[
                    output::filled(&member.name),
                    member.id.to_string(),
                    leader.term.to_string(),
                    output::filled(&member.grpc_address),
                    output::filled(&member.http_address),
                ]],
            ),
            Format::Json => {
                output::json(&json!({ "term": leader.term, "leader": member_json(member) }))
            }
        })
    }
}
