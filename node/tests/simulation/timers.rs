//! Clients that create instances with a timeout, which the maintenance loop must fire: once, and not early.

use std::time::Duration;

use lockstep_machine::{
    Command, Create, InstanceId, Limits, Metadata, Outcome, Rejection, State, Timestamp,
};
use openraft_rt_sim::SimRuntime;

use super::chance::{nap, sleep_ms};
use super::cluster::Cluster;
use lockstep_raft::Deadline;

const TIMEOUT_MS: u64 = 1000;
const LEASE: &str = r#"{"name": "lease", "initial": "held", "states": {
    "held": {"timeout": {"after": "1s", "to": "over"}}, "over": {"final": true}},
    "transitions": [{"from": "held", "to": "over"}]}"#;

fn deadline() -> Deadline<SimRuntime> {
    Deadline::after(Duration::from_secs(1))
}

/// A client that creates instances on any node until the cluster is to stop.
pub async fn create_for_ever(cluster: Cluster) {
    let lease = lockstep_document::parse_json(LEASE, &Limits::default());
    let define = Command::Define(lease.expect("the literal is valid").into());
    while !cluster.quiet() && send(&cluster, define.clone()).await.is_none() {
        sleep_ms(50).await;
    }
    for number in 0_u64.. {
        nap(Duration::from_millis(400)).await;
        if cluster.quiet() {
            return;
        }
        let instance = InstanceId::new("lease", format!("{number}")).expect("it is valid");
        let create = Command::Create(Create {
            instance: instance.clone(),
            version: None,
            metadata: Metadata::default(),
        });
        match send(&cluster, create).await {
            Some(Outcome::Created(_)) => cluster.oracle().created(instance),
            Some(Outcome::Rejected(Rejection::InstanceExists { .. })) | None => {}
            Some(other) => cluster
                .oracle()
                .violated(format!("{instance} could not be created: {other:?}")),
        }
    }
}

async fn send(cluster: &Cluster, command: Command) -> Option<Outcome> {
    let router = cluster.router(cluster.any_node())?;
    let reply = router.submit(command, None, deadline()).await.ok()?;
    Some(reply.outcome)
}

/// Why an instance that was created is not as its timeout should have left it by now.
pub fn fault(state: &State, id: &InstanceId) -> Option<String> {
    let Some(instance) = state.instance(id) else {
        return Some(format!("{id} was created and is missing"));
    };
    let due = Timestamp(instance.created_at.0 + TIMEOUT_MS);
    let (reached, revision) = (instance.state.as_str(), instance.revision.0);
    match (reached, revision) {
        ("held", 0) => Some(format!("the timeout of {id} did not fire")),
        ("over", 1) if instance.changed_at >= due => None,
        ("over", 1) => Some(format!(
            "the timeout of {id} fired at {:?}, and was due at {due:?}",
            instance.changed_at
        )),
        _ => Some(format!("{id} is in {reached} at revision {revision}")),
    }
}
