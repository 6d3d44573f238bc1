//! What must hold after all faults have ended.

use std::future::Future;
use std::time::Duration;

use lockstep_machine::Outcome;
use openraft_rt::Instant as _;
use openraft_rt_sim::{SimInstant, SimRuntime};

use super::chance::sleep_ms;
use super::cluster::Cluster;
use super::members::{Intended, are_the_members};
use super::timers;
use super::tokens::Token;
use super::workload::{a_move, triad};
use lockstep_raft::Deadline;
use lockstep_raft::consensus::NodeId;

/// Maximum time after healing until every node serves reads and writes, and all have the same state.
const HEALED_WITHIN: Duration = Duration::from_secs(20);
const ATTEMPT: Duration = Duration::from_millis(500);
/// No other client has this number.
const CLIENT: u64 = 1_000_000;

impl Cluster {
    /// After all faults have ended: membership changes complete, removed nodes stop, every member serves reads
    /// and writes, timeouts fire, and all members become equal.
    pub async fn must_heal(&self, changes: impl Future<Output = Intended> + Send) {
        self.stop_clients();
        let healing = SimInstant::now();
        let changed = Deadline::<SimRuntime>::after(HEALED_WITHIN)
            .bound(changes)
            .await;
        let Some(intended) = changed else {
            return self.not_healed("a membership change is not complete");
        };
        while self.nodes().into_iter().ne(intended.keys().copied()) {
            let what = format!("the members are {:?}, and other nodes run", intended.keys());
            self.must_heal_in_time(healing, &what).await;
        }
        for id in intended.keys() {
            let mut request = 0;
            while !self.writes(*id, Token::new(CLIENT + id, request)).await {
                request += 1;
                let what = format!("node {id} serves no writes");
                self.must_heal_in_time(healing, &what).await;
            }
        }
        while let Some(what) = self.unlike(&intended).await {
            self.must_heal_in_time(healing, &what).await;
        }
        for (id, consensus) in self.running() {
            let applied = consensus.state().read();
            let instance = applied.state.instance(&triad());
            let revision = instance
                .unwrap_or_else(|| panic!("node {id} lost the instance"))
                .revision;
            self.oracle().ended(revision.0);
        }
        self.check().await;
    }

    fn not_healed(&self, what: &str) {
        let places: Vec<_> = self.running().iter().map(|(_, c)| c.standing()).collect();
        panic!("{HEALED_WITHIN:?} after the last fault, {what}: {places:#?}");
    }

    async fn must_heal_in_time(&self, healing: SimInstant, what: &str) {
        self.check().await;
        if healing.elapsed() > HEALED_WITHIN {
            self.not_healed(what);
        }
        sleep_ms(50).await;
    }

    /// Tries a write on a node; whether it was executed.
    async fn writes(&self, id: NodeId, token: Token) -> bool {
        let Some(router) = self.router(id) else {
            return false;
        };
        let known = self.oracle().known_revision();
        if router.confirm(Deadline::after(ATTEMPT)).await.is_err() {
            return false;
        }
        let state = {
            let applied = router.consensus().state().read();
            let instance = applied.state.instance(&triad());
            instance.map(|it| it.state.clone())
        };
        let Some(state) = state else {
            return false;
        };
        let command = a_move(&state, None, &token);
        match router.submit(command, None, Deadline::after(ATTEMPT)).await {
            Ok(reply) if matches!(reply.outcome, Outcome::Transitioned(_)) => {
                self.oracle()
                    .acknowledged(&token, known, &reply, None, None);
                true
            }
            _ => false,
        }
    }

    /// What is not as it should be: every member confirms a read, knows the membership, and all have applied the
    /// same log. Equal states are checked.
    async fn unlike(&self, intended: &Intended) -> Option<String> {
        for id in intended.keys() {
            let Some(router) = self.router(*id) else {
                return Some(format!("node {id} does not run"));
            };
            if router.confirm(Deadline::after(ATTEMPT)).await.is_err() {
                return Some(format!("node {id} serves no reads"));
            }
            if !are_the_members(router.consensus(), intended) {
                return Some(format!("node {id} does not know the members {intended:?}"));
            }
            let state = router.consensus().state().read().state.clone();
            let created = self.oracle().all_created();
            if let Some(what) = created.iter().find_map(|it| timers::fault(&state, it)) {
                return Some(what);
            }
        }
        let places: Vec<_> = self
            .running()
            .iter()
            .map(|(_, consensus)| {
                let last = consensus.standing().log_last_index;
                let applied = consensus.state().read();
                (applied.index(), last, applied.state.hash())
            })
            .collect();
        let (index, last, hash) = places[0];
        let equal = |place: &(u64, u64, _)| (place.0, place.1) == (index, last);
        if index != last || !places.iter().all(equal) {
            return Some("the nodes have not applied the same log".to_owned());
        }
        if places.iter().any(|place| place.2 != hash) {
            self.oracle()
                .violated(format!("at log index {index} the nodes differ: {places:?}"));
        }
        None
    }
}
