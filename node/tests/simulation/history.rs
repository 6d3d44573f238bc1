//! One history: a cluster, its clients, and everything that goes wrong.

use std::future::ready;
use std::time::Duration;

use futures::future::Either;
use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use super::bugs::Bug;
use super::chance::sleep_ms;
use super::cluster::{Cluster, FOUNDERS};
use super::counts::Counts;
use super::seeds::{self, End};
use super::{faults, members, timers, workload};

/// How long things go wrong in each history, in virtual time.
const TROUBLE: Duration = Duration::from_secs(20);
const WRITERS_PER_NODE: u64 = 4;
const READERS_PER_NODE: u64 = 2;

/// One history: perhaps with changes of the membership, and perhaps with a planted bug.
pub async fn history(changes_members: bool, bug: Option<Bug>) -> Counts {
    let cluster = Cluster::new(bug);
    cluster.found().await;
    for seat in 0..FOUNDERS {
        for client in 0..WRITERS_PER_NODE {
            let client = seat * 100 + client;
            drop(SimRuntime::spawn(workload::write_for_ever(
                cluster.clone(),
                seat as usize,
                client,
            )));
        }
        for _ in 0..READERS_PER_NODE {
            let reads = workload::read_for_ever(cluster.clone(), seat as usize);
            drop(SimRuntime::spawn(reads));
        }
    }
    drop(SimRuntime::spawn(timers::create_for_ever(cluster.clone())));
    sleep_ms(1000).await;
    let founders = members::founders(&cluster);
    let changes = match changes_members {
        true => Either::Left(members::change(cluster.clone())),
        false => Either::Right(ready(founders)),
    };
    let changes = SimRuntime::spawn(changes);
    faults::trouble(&cluster, TROUBLE).await;
    let changes = async { changes.await.expect("the task does not end before") };
    cluster.must_heal(changes).await;
    cluster.oracle().counts()
}

/// Members change in every other history.
pub fn run(seed: u64) -> End<Counts> {
    seeds::run(seed, || history(seed.is_multiple_of(2), None))
}
