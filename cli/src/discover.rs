//! `lockstep discover`.

use clap::Args;
use lockstep_client::TIMEOUT_DEFAULT;
use serde_json::json;

use super::target::Registry;
use super::{Context, Failure, output};

/// Show the nodes in Consul that pass their health checks
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep discover --consul http://127.0.0.1:8500
  lockstep discover --consul http://127.0.0.1:8500 --service orders --tag blue")]
pub(super) struct Discover {}

impl Discover {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Registry {
            directory,
            service,
            tag,
        } = context.target.registry()?;
        let timeout = context.target.timeout.unwrap_or(TIMEOUT_DEFAULT);
        let found = tokio::time::timeout(timeout, directory.services(&service, tag.as_deref()))
            .await
            .map_err(|_| {
                let address = directory.address();
                Failure::unavailable(format!(
                    "consul at {address} has not answered in {timeout:?}"
                ))
            })?
            .map_err(Failure::unavailable)?;
        let json = || json!({ "services": found });
        Ok(context.show(json, || {
            output::columns!(&found, |entry| {
                "NAME": output::filled(&entry.name),
                "ID": output::or_dash(entry.node_id),
                "CLUSTER": output::or_dash(entry.cluster_id.as_ref()),
                "GRPC": output::filled(&entry.grpc_address),
                "HTTP": output::or_dash(entry.http_address.as_ref()),
                "TAGS": output::list(&entry.tags),
            })
        }))
    }
}
