//! Watches and timeouts at scale, on three real processes that die meanwhile: every event once, in
//! order, and every timeout once, never early. `bench/scale` does the same with larger numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bulk::{
    Acknowledged, Creation, Entrances, OPERATIONS, create, numbered, transition,
};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::http::{Api, after};
use lockstep_tests::machines::order;
use lockstep_tests::timeouts::{Fired, changes};
use lockstep_tests::wait::wait_for;
use lockstep_tests::watcher::{Seen, Watcher};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// For everything that only takes its time.
const DEADLINE: Duration = Duration::from_secs(120);

/// Writers that move a hundred instances of their own at once, in one transaction.
const GROUPS: usize = 8;
const GROUP_ROUNDS: usize = 120;
/// Writers that move one instance of their own at a time.
const SINGLES: usize = 16;
const SINGLE_ROUNDS: usize = 250;
const MOVES: usize = GROUPS * GROUP_ROUNDS * OPERATIONS + SINGLES * SINGLE_ROUNDS;
const INSTANCES: usize = GROUPS * OPERATIONS + SINGLES;

/// Running writers. They pause at set points, so that faults are injected while they are in the middle of
/// their work, however fast they are.
struct Writers {
    /// How much of their way they may go, in percent.
    allowed: watch::Sender<usize>,
    moved: Arc<AtomicUsize>,
    tasks: JoinSet<Result<Vec<Acknowledged>>>,
}

impl Writers {
    fn start(nodes: &[Api]) -> Self {
        let (allowed, _) = watch::channel(0);
        let mut writers = Self {
            allowed,
            moved: Arc::default(),
            tasks: JoinSet::new(),
        };
        for writer in 0..GROUPS + SINGLES {
            let (size, rounds) = match writer < GROUPS {
                true => (OPERATIONS, GROUP_ROUNDS),
                false => (1, SINGLE_ROUNDS),
            };
            let ids = (0..size).map(|n| format!("triad/{writer:02}-{n:03}"));
            let course = Course {
                writer,
                ids: ids.collect(),
                rounds,
                entrances: Entrances::new(nodes, writer),
                allowed: writers.allowed.subscribe(),
                moved: writers.moved.clone(),
            };
            writers.tasks.spawn(course.run());
        }
        writers
    }

    /// Lets them go so far, and waits until they have come to `wanted`: at least one write of each
    /// is still ahead.
    async fn reach(&self, wanted: usize, allowed: usize) -> Result<()> {
        self.allowed.send_replace(allowed);
        let goal = MOVES * wanted / 100;
        wait_for(format!("{goal} moves"), DEADLINE, async || {
            let moved = self.moved.load(Ordering::Acquire);
            ensure!(moved >= goal, "{moved} so far");
            Ok(())
        })
        .await
    }

    /// Lets them finish: all that was acknowledged, in the order of the cluster's revisions.
    async fn finish(mut self) -> Result<Vec<Acknowledged>> {
        self.allowed.send_replace(100);
        let mut all = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            all.extend(done.context("a writer panicked")??);
        }
        all.sort_by_key(|it| it.revision);
        Ok(all)
    }
}

struct Course {
    writer: usize,
    ids: Vec<String>,
    rounds: usize,
    entrances: Entrances,
    allowed: watch::Receiver<usize>,
    moved: Arc<AtomicUsize>,
}

impl Course {
    async fn run(mut self) -> Result<Vec<Acknowledged>> {
        let created: Vec<_> = self.ids.iter().map(|id| create(id)).collect();
        let key = format!("{}-create", self.writer);
        let mut acknowledged = vec![self.entrances.commit(Some(&key), &created).await?];
        let mut state = "first";
        for round in 0..self.rounds {
            let rounds = self.rounds;
            self.allowed
                .wait_for(|allowed| round * 100 < allowed * rounds)
                .await?;
            state = after(state);
            let key = Some(format!("{}-{round}", self.writer));
            let done = match &self.ids[..] {
                [id] => self.entrances.transition(id, state, key.as_deref()).await?,
                ids => {
                    let moves: Vec<_> = ids.iter().map(|id| transition(id, state)).collect();
                    self.entrances.commit(key.as_deref(), &moves).await?
                }
            };
            acknowledged.push(done);
            self.moved.fetch_add(self.ids.len(), Ordering::AcqRel);
        }
        Ok(acknowledged)
    }
}

/// The part of a change that both a response and an event contain: cursor, instance, from, to, revision.
type Change = (String, String, Option<String>, String, u64);

fn text(value: &Value, field: &str) -> Result<String> {
    let text = value[field].as_str();
    Ok(text
        .with_context(|| format!("no {field} in {value}"))?
        .to_owned())
}

fn acknowledged_changes(acknowledged: &[Acknowledged]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for Acknowledged { revision, results } in acknowledged {
        for (position, result) in results.iter().enumerate() {
            let place = format!("{revision}-{position}");
            let (made, created) = (&result["transitioned"], &result["created"]);
            changes.push(match created.is_null() {
                true => {
                    let instance_revision = made["revision"].as_u64().context("a revision")?;
                    let from = Some(text(made, "from")?);
                    let (id, to) = (text(made, "id")?, text(made, "to")?);
                    (place, id, from, to, instance_revision)
                }
                false => (
                    place,
                    text(created, "id")?,
                    None,
                    text(created, "state")?,
                    0,
                ),
            });
        }
    }
    Ok(changes)
}

fn seen_change(event: &Seen) -> Result<Change> {
    let data = &event.data;
    // The id also names the cluster.
    let (cursor, _) = event.id.rsplit_once('-').context("a cluster")?;
    Ok((
        cursor.to_owned(),
        text(data, "id")?,
        data["from"].as_str().map(str::to_owned),
        text(data, "to")?,
        data["instance_revision"].as_u64().context("a revision")?,
    ))
}

/// What was seen is what was acknowledged: one by one, in order, nothing twice, nothing else.
fn assert_same(seen: &[Seen], acknowledged: &[Change]) -> Result<()> {
    for (n, (event, expected)) in seen.iter().zip(acknowledged).enumerate() {
        assert_eq!(&seen_change(event)?, expected, "event {n}: {event:?}");
    }
    assert_eq!(seen.len(), acknowledged.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_each_of_100_000_transitions_once_and_in_order_while_nodes_die() -> Result<()>
{
    let mut cluster = Cluster::start().await?;
    let (leader, watched) = cluster.leader_and_follower().await?;
    let api = |node: usize| cluster.nodes[node].api().clone();
    let others: Vec<_> = (0..3).filter(|node| *node != watched).map(api).collect();
    let path = "/v1/watch?machine=triad&from_revision=1";
    // One waits for its node to come back, the other goes on wherever it is answered.
    let faithful = Watcher::start(vec![api(watched)], path, MOVES + INSTANCES);
    let everywhere: Vec<_> = [api(watched)].into_iter().chain(others.clone()).collect();
    let mobile = Watcher::start(everywhere, path, MOVES + INSTANCES);

    let writers = Writers::start(&others);
    writers.reach(20, 45).await?;
    cluster.nodes[leader].kill9()?;
    writers.reach(40, 60).await?;
    cluster.nodes[leader].restart().await?;
    writers.reach(55, 85).await?;
    cluster.nodes[watched].kill9()?;
    cluster.nodes[watched].restart().await?;
    let acknowledged = acknowledged_changes(&writers.finish().await?)?;
    ensure!(acknowledged.len() == MOVES + INSTANCES);

    for watcher in [faithful, mobile] {
        watcher
            .wait_for((MOVES + INSTANCES) as u64, DEADLINE)
            .await?;
        assert!(watcher.connections() > 1, "it never had to go on");
        assert_same(&watcher.finish(DEADLINE).await?, &acknowledged)?;
    }
    cluster.agree().await
}

/// The timeout is long enough for all orders to be there before the first one fires.
const AFTER: Duration = Duration::from_secs(4);
#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_timeouts_fire_once_and_never_early_when_the_leader_is_killed() -> Result<()>
{
    const ORDERS: usize = 5000;
    const LAST: usize = 1000;
    let mut cluster = Cluster::start().await?;
    let (leader, follower) = cluster.leader_and_follower().await?;
    let apis = cluster.apis();
    apis[follower]
        .define(order("4s"))
        .await?
        .expect(StatusCode::CREATED)?;
    let watcher = Watcher::start(
        vec![apis[follower].clone()],
        "/v1/machines/order/watch?from_revision=1",
        // The definition, and each order's beginning and end.
        1 + 2 * ORDERS,
    );
    let creation = |numbers| Creation {
        machine: "order".to_owned(),
        numbers,
        writers: 4,
        window: Duration::ZERO,
        keyed: true,
        moved_to: None,
    };
    creation(0..ORDERS - LAST).run(&apis).await?;
    watcher
        .wait_for((1 + ORDERS - LAST + 100) as u64, DEADLINE)
        .await?;
    // Some have fired. These will not have, so that the next leader has something to do.
    creation(ORDERS - LAST..ORDERS).run(&apis).await?;
    cluster.nodes[leader].kill9()?;

    let seen = watcher.finish(DEADLINE).await?;
    let fired = Fired::of(&seen, AFTER)?;
    assert_eq!(fired.len(), ORDERS);
    for number in 0..ORDERS {
        let id = numbered("order", number);
        assert!(fired.contains(&id), "{id} never fired");
    }
    for number in (0..ORDERS).step_by(50) {
        let history = changes(&apis[follower], &numbered("order", number)).await?;
        assert_eq!(history.len(), 1, "{history:?}");
        assert_eq!(history[0]["cause"], "timeout");
    }
    let machine = apis[follower].read("/v1/machines/order").await?;
    assert_eq!(machine["states"]["expired"], ORDERS);
    cluster.nodes[leader].restart().await?;
    cluster.agree().await
}
