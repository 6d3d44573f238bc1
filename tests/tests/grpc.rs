//! The gRPC interface, with the generated client, on real processes.

mod faults;
mod machines;
mod watches;
mod writes;

use std::time::Duration;

use anyhow::Result;
use lockstep_proto::v1;
use lockstep_proto::v1::machines_client::MachinesClient;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::grpc::{self, asking};
use tonic::transport::Channel;

/// For what nothing hinders.
const DEADLINE: Duration = Duration::from_secs(30);

/// The outcome of a write, if it is of the expected kind; otherwise fails with the outcome.
macro_rules! done {
    ($answer:expr, $module:ident, $kind:ident) => {{
        let answer = $answer.await?.into_inner();
        match answer.outcome {
            Some(lockstep_proto::v1::$module::Outcome::$kind(it)) => {
                (it, answer.written.unwrap_or_default())
            }
            other => anyhow::bail!("{other:?}"),
        }
    }};
}
pub(crate) use done;

/// A client for each node.
fn clients(cluster: &Cluster) -> Result<Vec<MachinesClient<Channel>>> {
    cluster.nodes.iter().map(grpc::machines).collect()
}

async fn one_node(plan: Plan) -> Result<Cluster> {
    Cluster::start_as(Plan { size: 1, ..plan }).await
}

async fn define(client: &mut MachinesClient<Channel>, yaml: &str) -> Result<v1::Defined> {
    let request = v1::DefineRequest {
        document: Some(v1::define_request::Document::Yaml(yaml.to_owned())),
        ..Default::default()
    };
    let (defined, _) = done!(client.define(asking(request)), define_response, Defined);
    Ok(defined)
}

fn create(id: impl Into<String>) -> v1::CreateInstanceRequest {
    v1::CreateInstanceRequest {
        id: id.into(),
        ..Default::default()
    }
}

fn by_event(id: &str, event: &str) -> v1::TransitionRequest {
    v1::TransitionRequest {
        id: id.to_owned(),
        trigger: Some(v1::transition_request::Trigger::Event(event.to_owned())),
        ..Default::default()
    }
}

fn to_state(id: &str, state: &str) -> v1::TransitionRequest {
    v1::TransitionRequest {
        id: id.to_owned(),
        trigger: Some(v1::transition_request::Trigger::To(state.to_owned())),
        ..Default::default()
    }
}

fn transaction(
    operations: impl IntoIterator<Item = v1::operation::Operation>,
) -> v1::TransactRequest {
    let operation = |it| v1::Operation {
        operation: Some(it),
    };
    v1::TransactRequest {
        operations: operations.into_iter().map(operation).collect(),
        idempotency_key: None,
    }
}
