//! Deterministic simulation: three nodes on one thread, in virtual time, under faults. A seed determines the
//! whole run.
//!
//! Router, batcher, log, state machine and openraft are the production code; disk, network and clock are
//! simulated. A failure reports its seed; to repeat the run:
//!
//! ```text
//! LOCKSTEP_TEST_SEED=<seed> LOCKSTEP_TEST_SEEDS=1 cargo test -p lockstep-node --test simulation
//! ```

mod simulation {
    pub mod chance;
    pub mod cluster;
    pub mod disk;
    pub mod faults;
    pub mod network;
    pub mod oracle;
    pub mod seeds;
    pub mod workload;
}

use std::time::Duration;

use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use simulation::chance::{sleep_ms, up_to};
use simulation::cluster::{Cluster, NODES};
use simulation::oracle::Counts;
use simulation::seeds::{self, End};
use simulation::{faults, workload};

/// How long things go wrong in each history, in virtual time.
const TROUBLE: Duration = Duration::from_secs(20);
const WRITERS_PER_NODE: u64 = 4;
const READERS_PER_NODE: u64 = 2;

/// One history. `plant` may break the cluster before it starts.
async fn history(plant: fn(&Cluster)) -> Counts {
    let cluster = Cluster::new();
    for id in NODES {
        cluster
            .disk(id)
            .set_flush_max(Duration::from_micros(500 + up_to(20_000)));
    }
    plant(&cluster);
    cluster.found().await;
    for node in NODES {
        for client in 0..WRITERS_PER_NODE {
            drop(SimRuntime::spawn(workload::write_for_ever(
                cluster.clone(),
                node,
                node * 100 + client,
            )));
        }
        for _ in 0..READERS_PER_NODE {
            drop(SimRuntime::spawn(workload::read_for_ever(
                cluster.clone(),
                node,
            )));
        }
    }
    sleep_ms(1000).await;
    faults::trouble(&cluster, TROUBLE).await;
    cluster.must_heal().await;
    let stale = cluster.network().stale_snapshots();
    cluster
        .oracle()
        .count(|counts| counts.snapshots_stale = stale);
    cluster.oracle().counts()
}

#[test]
fn nothing_acknowledged_is_lost_whatever_fails() {
    let (first, count) = seeds::wanted(50);
    let (mut total, mut void) = (Counts::default(), 0);
    for seed in first..first + count {
        match seeds::run(seed, || history(|_| ())) {
            End::Held(counts) => total += counts,
            End::Void => void += 1,
            End::Failed(what) => panic!("{}", seeds::failure(seed, &what)),
        }
    }
    println!("{count} histories, {void} void: {total:?}");
    assert!(
        void * 10 <= count,
        "{void} of {count} histories were void: too few were looked at"
    );
    // Checks that the simulation really exercises faults.
    if count >= 50 {
        assert!(
            total.acknowledged > 100 * count,
            "too few writes: {total:?}"
        );
        assert!(
            total.reads > 10 * count && total.hashes_compared > count,
            "too little was compared: {total:?}"
        );
        assert!(
            total.snapshots_installed > 0 && total.crashes > count && total.transfers > 0,
            "{total:?}"
        );
        assert!(total.unknown > 0 && total.replayed > 0, "{total:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let (seed, _) = seeds::wanted(1);
    let twice = [(); 2].map(|()| seeds::run(seed, || history(|_| ())));
    assert_eq!(twice[0], twice[1]);
}

/// The first of some histories with a planted bug in which it is found.
fn found(plant: fn(&Cluster)) -> Option<String> {
    (1..=20).find_map(|seed| match seeds::run(seed, || history(plant)) {
        End::Failed(what) => Some(what),
        End::Held(_) | End::Void => None,
    })
}

#[test]
fn a_disk_that_acknowledges_before_it_flushes_is_found_out() {
    let what = found(|cluster| {
        NODES
            .iter()
            .for_each(|id| cluster.disk(*id).plant_acks_before_flush())
    });
    println!("found: {what:?}");
    assert!(what.is_some(), "the simulation did not notice lost writes");
}

#[test]
fn a_follower_that_reads_without_asking_the_leader_is_found_out() {
    let what = found(|cluster| cluster.network().plant_unconfirmed_reads());
    println!("found: {what:?}");
    assert!(
        what.is_some_and(|what| what.contains("a read on node")),
        "the simulation did not notice stale reads"
    );
}

#[test]
fn a_leader_that_restarts_in_its_old_term_is_found_out() {
    let what = found(Cluster::plant_leader_restore);
    println!("found: {what:?}");
    assert!(
        what.is_some(),
        "the simulation did not notice log ids given out twice"
    );
}
