//! A cluster whose sink `far` writes into a destination, over a cable.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use lockstep_client::{
    Client, CreateCall, Error, Event, Freshness, GlobalRevision, ListCall, WatchCall, Watched,
};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{Destination, States, Written};
use crate::cable::Cable;
use crate::cluster::{Cluster, Plan};
use crate::http::{Answer, Api, answer};
use crate::wait::wait_for;

/// For the destination to hold everything once faults are healed.
const CAUGHT_UP_DEADLINE: Duration = Duration::from_secs(90);
/// For a status to change.
const STATUS_DEADLINE: Duration = Duration::from_secs(30);

/// A cluster and a destination.
pub struct Stage<F> {
    /// The cluster.
    pub cluster: Cluster,
    /// The destination of its sink `far`.
    pub destination: F,
    /// Between the two.
    pub cable: Cable,
}

impl<F: Destination> Stage<F> {
    /// Three nodes, with time-outs that suit a test.
    pub async fn start(destination: F) -> Result<Self> {
        Self::start_as(destination, Plan::default()).await
    }

    /// As `plan` says.
    pub async fn start_as(destination: F, mut plan: Plan) -> Result<Self> {
        let cable = Cable::to(destination.address()).await?;
        let waits = [
            ("LOCKSTEP_SINK_FAR_TIMEOUT", "2s".to_owned()),
            ("LOCKSTEP_SINK_FAR_RETRY_MAX", "500ms".to_owned()),
        ];
        // What the test sets wins.
        let settings = waits
            .into_iter()
            .chain(destination.settings(cable.address()));
        plan.settings = settings.chain(plan.settings).collect();
        let cluster = Cluster::start_as(plan).await?;
        let stage = Self {
            cluster,
            destination,
            cable,
        };
        // An empty destination gets the current states first; the test begins after that.
        stage.following().await?;
        Ok(stage)
    }

    /// The nodes that run.
    pub fn apis(&self) -> Vec<Api> {
        self.cluster
            .running()
            .map(|node| node.api().clone())
            .collect()
    }

    fn api(&self) -> Result<&Api> {
        Ok(self.cluster.running().next().context("no node runs")?.api())
    }

    /// The status of the sink, as any node reports it.
    pub async fn status(&self) -> Result<Value> {
        let answer = self.api()?.get("/v1/sinks/far").await?;
        answer.expect(StatusCode::OK)?.json()
    }

    /// Posts a command to the sink: `reseed`, `check`, `dead-letters/replay`, ...
    pub async fn ask(&self, what: &str) -> Result<Answer> {
        let path = format!("/v1/sinks/far/{what}");
        answer(self.api()?.request(Method::POST, &path)).await
    }

    /// Waits until `holds` accepts the sink's status.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(what, STATUS_DEADLINE, async || {
            let status = self.status().await?;
            ensure!(holds(&status), "it is {status}");
            Ok(status)
        })
        .await
    }

    /// Waits until the sink reports a problem.
    pub async fn troubled(&self) -> Result<Value> {
        self.until("the sink to have trouble", |status| {
            status["phase"] == "retrying" || status["phase"] == "failing"
        })
        .await
    }

    /// Waits until the sink follows.
    pub async fn following(&self) -> Result<Value> {
        self.until("the sink to follow", |status| {
            status["phase"] == "following"
        })
        .await
    }

    /// Kills the leader, and starts it again once another one leads.
    pub async fn kill_the_leader(&mut self) -> Result<()> {
        let leader = self.cluster.leader().await?;
        self.cluster.nodes[leader].kill9()?;
        self.cluster.leader().await?;
        self.cluster.nodes[leader].restart().await
    }

    /// Waits until the destination holds everything, and compares the states and the events one by one with
    /// the cluster's own record, which goes back as far as the cluster keeps events and the destination's
    /// history is complete; how many those were.
    pub async fn compare(&mut self) -> Result<usize> {
        let (mut ours, states) = self.record().await?;
        self.wait_for_last(&ours).await?;
        let first = ours.first().map(|event| event.place);
        let mut theirs = self.destination.history().await?;
        theirs.retain(|event| Some(event.place) >= first);
        let (ours_complete, theirs_complete) = {
            let behind = self.destination.complete_behind();
            let complete = |events: &mut Vec<Written>| {
                events.split_off(events.partition_point(|event| event.place.0 <= behind))
            };
            (complete(&mut ours), complete(&mut theirs))
        };
        compare(&ours_complete, &theirs_complete)?;
        // Of older events the destination may lack some, but has no others.
        ours.retain(|our| theirs.iter().any(|their| their.place == our.place));
        compare(&ours, &theirs)?;
        self.compare_states(&states).await?;
        Ok(ours_complete.len())
    }

    /// The same, for at least this many events.
    pub async fn compare_at_least(&mut self, changes: usize) -> Result<()> {
        let compared = self.compare().await?;
        ensure!(
            compared >= changes,
            "{compared} events for {changes} changes"
        );
        Ok(())
    }

    async fn wait_for_last(&mut self, ours: &[Written]) -> Result<()> {
        let last = ours.last().map_or(0, |event| event.place.0);
        let reached = wait_for("the sink to catch up", CAUGHT_UP_DEADLINE, async || {
            let status = self.status().await?;
            let reached = status["revision"].as_u64().unwrap_or_default();
            ensure!(
                status["phase"] == "following" && status["lag_events"] == 0 && reached >= last,
                "it is {status}, and the cluster at {last}"
            );
            Ok(())
        });
        reached.await
    }

    async fn compare_states(&mut self, ours: &States) -> Result<()> {
        let theirs = self.destination.states().await?;
        for (id, state) in ours {
            let their = theirs.get(id);
            ensure!(
                their == Some(state),
                "{id} is {state:?} here and {their:?} there"
            );
        }
        let more = theirs.keys().find(|id| !ours.contains_key(*id));
        ensure!(more.is_none(), "{more:?} is there and not here");
        Ok(())
    }

    /// The cluster's own record: every event that it keeps, and the states as of the last.
    async fn record(&self) -> Result<(Vec<Written>, States)> {
        let addresses = self
            .cluster
            .running()
            .map(|node| node.grpc_address().to_string());
        let client = Client::builder().endpoints(addresses).build()?;
        // The last change: a destination that has it has all.
        let marker = format!("triad/marker-{:016x}", rand::random::<u64>()).parse()?;
        let last = client.create(CreateCall::new(&marker)).await?.revision;
        let mut states = States::new();
        for machine in client.machines(Freshness::default()).await?.found {
            let mut all = client.all_instances(ListCall::of(&machine.machine.parse()?));
            while let Some(instance) = all.next().await {
                let it = instance?;
                states.insert(it.id.to_string(), (it.state.to_string(), it.revision.0));
            }
        }
        let events = match events(&client, GlobalRevision(1), last).await {
            Err(Error::Compacted { oldest, .. }) => events(&client, oldest, last).await,
            other => other,
        };
        Ok((events?, states))
    }
}

/// The events of the revisions from `first` to `last`, of which the last has but one.
async fn events(
    client: &Client,
    first: GlobalRevision,
    last: GlobalRevision,
) -> Result<Vec<Written>, Error> {
    let mut events = vec![];
    let mut watch = client.watch(WatchCall::all().from_revision(first)).await?;
    while let Some(watched) = watch.next().await {
        if let Watched::Event(event) = watched? {
            events.push(written(&event));
            if event.revision == last {
                break;
            }
        }
    }
    Ok(events)
}

fn written(event: &Event) -> Written {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Written {
        place: (event.revision.0, event.position),
        kind: event.kind.name().to_owned(),
        machine: event.machine.to_string(),
        instance: event.name.as_ref().map(ToString::to_string),
        from: event.from.as_ref().map(ToString::to_string),
        to: event.to.as_ref().map(ToString::to_string),
        instance_revision: event.instance_revision.0,
        at_ms: event.at.0,
        metadata: event.metadata.iter().map(own).collect(),
    }
}

fn compare(ours: &[Written], theirs: &[Written]) -> Result<()> {
    for (our, their) in ours.iter().zip(theirs) {
        ensure!(our == their, "here {our:?}, there {their:?}");
    }
    ensure!(
        ours.len() == theirs.len(),
        "{} events here, {} there",
        ours.len(),
        theirs.len()
    );
    Ok(())
}
