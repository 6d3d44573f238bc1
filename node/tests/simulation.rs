//! Deterministic simulation: the nodes of a cluster on one thread, in virtual time, under faults. A seed
//! determines the whole run, which is called a history.
//!
//! Router, batcher, log, state machine and openraft are the production code; disk, network and clock are
//! simulated. A failure reports its seed; to repeat the run:
//!
//! ```text
//! LOCKSTEP_TEST_SEED=<seed> LOCKSTEP_TEST_SEEDS=1 cargo test -p lockstep-node --test simulation
//! ```
//!
//! `simulation/planted.rs` checks that the simulation sees what it is meant to see: it plants bugs.

mod simulation {
    pub mod bugs;
    pub mod chance;
    pub mod clock;
    pub mod cluster;
    pub mod counts;
    pub mod disk;
    pub mod faults;
    pub mod heal;
    pub mod history;
    pub mod hunt;
    pub mod links;
    pub mod members;
    pub mod network;
    pub mod oracle;
    pub mod planted;
    pub mod process;
    pub mod seeds;
    pub mod storage;
    pub mod timers;
    pub mod tokens;
    pub mod workload;
}

use simulation::history::run;
use simulation::hunt::hunt;
use simulation::seeds;

#[test]
fn nothing_acknowledged_is_lost_whatever_fails() {
    let (first, count) = seeds::wanted(100);
    let report = hunt(first, count, run);
    println!("{report}");
    report.must_hold();
    // Checks that the simulation really exercises faults.
    if count >= 50 {
        for (what, at_least) in [
            ("acknowledged", 100 * count),
            ("reads", 10 * count),
            ("hashes compared", count),
            ("crashes", count),
            ("snapshots installed", 1),
            ("transfers", 1),
            ("outcome unknown", 1),
            ("replayed", 1),
            ("late messages", count),
            ("repeated messages", count),
        ] {
            let found = report.counts.of(what);
            assert!(found >= at_least, "{what}: fewer than {at_least}: {report}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let (seed, _) = seeds::wanted(1);
    for seed in [seed, seed + 1] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
