//! What the nodes say of themselves: `lockstep status` and `lockstep version`.

use std::iter;

use clap::Args;
use lockstep_client::{Address, Error, NodeStatus};
use serde_json::{Value, json};

use super::{Context, Failure, output};

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
        let json = || json!({ "nodes": bodies(&answers, |status| json!(status)) });
        let text = context.show(json, || {
            explain(&answers);
            let columns = STATUS.len() - usize::from(!self.hash);
            table(&STATUS[..columns], None, &answers)
        });
        if answers.iter().all(|(_, answer)| answer.is_err()) {
            return Err(Failure::unavailable("no endpoint answered").with_partial(text));
        }
        Ok(text)
    }
}

/// A column after the endpoint: its header, and its cell for a node that answered.
type Column = (&'static str, fn(&NodeStatus) -> String);

const STATUS: [Column; 11] = [
    ("NODE", |it| output::filled(name(it))),
    ("ID", |it| {
        output::or_dash(it.node.as_ref().map(|node| node.id))
    }),
    ("ROLE", |it| it.role().to_string()),
    ("TERM", |it| it.term.to_string()),
    ("LEADER", |it| output::or_dash(leader_name(it))),
    ("APPLIED", |it| it.applied_index.to_string()),
    ("COMMITTED", |it| it.committed_index.to_string()),
    ("LOG", |it| {
        format!("{}-{}", it.log_first_index, it.log_last_index)
    }),
    ("SNAPSHOT", |it| {
        output::or_dash(Some(it.snapshot_index).filter(|index| *index > 0))
    }),
    ("LEVEL", |it| {
        output::or_dash(Some(it.feature_level).filter(|level| *level > 0))
    }),
    ("STATE HASH", |it| output::or_dash(it.state_hash.as_ref())),
];

const VERSION: [Column; 3] = [
    ("NODE", |it| output::filled(name(it))),
    ("VERSION", |it| output::filled(&it.version)),
    ("BUILT", |it| output::filled(&it.build_date)),
];

/// A table of what the nodes answered, below another row if there is one.
fn table(columns: &[Column], first: Option<Vec<String>>, answers: &[Answer]) -> String {
    let headers = columns.iter().map(|(header, _)| *header);
    let header: Vec<_> = iter::once("ENDPOINT").chain(headers).collect();
    let rows = answers.iter().map(|(endpoint, answer)| {
        let cells = columns
            .iter()
            .map(|(header, cell)| match (answer, *header) {
                (Ok(status), _) => cell(status),
                (Err(_), "ROLE" | "VERSION") => "unreachable".to_owned(),
                (Err(_), _) => "-".to_owned(),
            });
        iter::once(endpoint.to_string()).chain(cells).collect()
    });
    output::table(header, first.into_iter().chain(rows))
}

/// The leader by name; by id when it is not among the members.
fn leader_name(status: &NodeStatus) -> Option<String> {
    let id = status.leader_id?.to_string();
    Some(status.leader().map_or(id, |leader| leader.name.clone()))
}

/// Each node's answer in JSON.
fn bodies(answers: &[Answer], shown: impl Fn(&NodeStatus) -> Value) -> Value {
    let body = |(endpoint, answer): &Answer| {
        let mut body = match answer {
            Ok(status) => shown(status),
            Err(error) => json!({ "error": short(error) }),
        };
        body["endpoint"] = endpoint.as_str().into();
        body["reachable"] = answer.is_ok().into();
        body
    };
    answers.iter().map(body).collect()
}

/// This program's version.
pub(super) const OWN: &str = match option_env!("LOCKSTEP_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Set by the build script.
const BUILD_DATE: &str = env!("LOCKSTEP_BUILD_DATE");

/// Show this program's version and those of the nodes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep version
  lockstep version -o json | jq -r '.servers[].version'")]
pub(super) struct Version {}

impl Version {
    /// Succeeds even if no node answers, because the program's own version is known.
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let servers = context
            .target
            .client()?
            .statuses(false)
            .await
            .unwrap_or_else(|error| {
                output::say(&format!("lockstep: {error}"));
                Vec::new()
            });
        let server = |it: &NodeStatus| json!({ "name": name(it), "version": it.version, "build_date": it.build_date });
        let json = || {
            json!({
                "client": { "version": OWN, "build_date": BUILD_DATE },
                "servers": bodies(&servers, server),
            })
        };
        Ok(context.show(json, || {
            explain(&servers);
            let own = ["lockstep", "-", OWN, BUILD_DATE].map(str::to_owned);
            table(&VERSION, Some(own.to_vec()), &servers)
        }))
    }
}

fn name(status: &NodeStatus) -> &str {
    status.node.as_ref().map_or("", |node| &node.name)
}

/// The cause at one endpoint, where the line already names the endpoint.
fn short(error: &Error) -> String {
    match error {
        Error::Unavailable { tried, .. } if tried.len() == 1 => {
            tried.iter().map(|tried| tried.cause.as_str()).collect()
        }
        error => error.to_string(),
    }
}

/// Prints to stderr why endpoints did not answer.
fn explain(answers: &[Answer]) {
    for (endpoint, answer) in answers {
        if let Err(error) = answer {
            output::say(&format!("lockstep: {endpoint}: {}", short(error)));
        }
    }
}
