//! `lockstep members` and `lockstep leader`.

use clap::Args;
use lockstep_client::Member;
use lockstep_machine::Unit;
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
        let client = context.target.client()?;
        let (view, members) = (client.view().await?, client.members().await?);
        let role = |member: &Member| {
            let report = member.report.as_ref();
            report.map_or("unreachable".to_owned(), |it| it.role().to_string())
        };
        let leader = members.iter().find(|it| role(it) == "leader");
        let json = || {
            json!({
                "cluster_id": view.cluster_id,
                "term": view.term,
                "leader_id": view.leader_id.map(|id| id.to_string()),
                "members": members,
            })
        };
        Ok(context.show(json, || {
            let last = leader
                .and_then(|it| it.report.as_ref())
                .map(|it| it.log_last_index);
            let lag = |member: &Member| {
                let own = member.report.as_ref()?.log_last_index;
                Some(last?.saturating_sub(own))
            };
            // To the mebibyte.
            let size = |bytes: u64| Unit::Bytes.show(bytes >> 20 << 20);
            output::columns!(&members, |member| {
                "NODE": output::filled(&member.name),
                "ID": member.id,
                "ROLE": role(member),
                "VOTER": yes_or_no(member.voter),
                "VERSION": output::or_dash(member.report.as_ref().map(|it| &it.version)),
                "LEVEL": output::or_dash(member.report.as_ref().map(|it| it.feature_level_max)),
                "APPLIED": output::or_dash(member.report.as_ref().map(|it| it.applied_index)),
                "LAG": output::or_dash(lag(member)),
                "CONTACT": output::or_dash(member.contact_ms.map(|ms| format!("{ms} ms"))),
                "DISK FREE": output::or_dash(member.report.as_ref().map(|it| size(it.disk_free_bytes))),
                "MEMORY": output::or_dash(member.report.as_ref().map(|it| size(it.memory_bytes))),
                "GRPC": output::filled(&member.grpc_address),
                "HTTP": output::filled(&member.http_address),
            })
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
        let table = || {
            output::columns!([&leader.member], |member| {
                "NODE": output::filled(&member.name),
                "ID": member.id,
                "TERM": leader.term,
                "GRPC": output::filled(&member.grpc_address),
                "HTTP": output::filled(&member.http_address),
            })
        };
        Ok(context.show(|| json!(leader), table))
    }
}

fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
