//! `lockstep version`.

use clap::Args;
use lockstep_client::{Address, Error, NodeStatus};
use serde_json::{Value, json};

use super::Context;
use super::failure::{Failure, explain, short};
use super::output;

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
        let json = || {
            json!({
                "client": { "version": OWN, "build_date": BUILD_DATE },
                "servers": servers.iter().map(server_json).collect::<Vec<_>>(),
            })
        };
        Ok(context.show(json, || {
            explain(&servers);
            let own = ["lockstep", "-", OWN, BUILD_DATE].map(str::to_owned);
            let rows = std::iter::once(own).chain(servers.iter().map(row));
            output::table(["ENDPOINT", "NODE", "VERSION", "BUILT"], rows)
        }))
    }
}

type Server = (Address, Result<NodeStatus, Error>);

fn row((endpoint, answer): &Server) -> [String; 4] {
    let [name, version, built] = match answer {
        Ok(status) => [
            output::filled(name(status)),
            output::filled(&status.version),
            output::filled(&status.build_date),
        ],
        Err(_) => ["-", "unreachable", "-"].map(str::to_owned),
    };
    [endpoint.to_string(), name, version, built]
}

fn server_json((endpoint, answer): &Server) -> Value {
    match answer {
        Ok(status) => json!({
            "endpoint": endpoint.as_str(),
            "reachable": true,
            "name": name(status),
            "version": status.version,
            "build_date": status.build_date,
        }),
        Err(error) => {
            json!({ "endpoint": endpoint.as_str(), "reachable": false, "error": short(error) })
        }
    }
}

fn name(status: &NodeStatus) -> &str {
    status.node.as_ref().map_or("", |node| &node.name)
}
