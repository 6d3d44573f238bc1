//! The maintenance loop: the leader proposes state timeouts that are due.
//!
//! Every node runs the loop; only the leader proposes. A proposal that is late, repeated or made by
//! an old leader does no harm: the state machine checks again when it applies the proposal.

use std::time::Duration;

use lockstep_machine::{Command, State, Timestamp};

use super::Router;
use lockstep_raft::Deadline;
use lockstep_raft::consensus::Runtime;
use lockstep_raft::store::Storage;

/// The interval of the loop, and so the most that it delays a timeout.
const CHECK_EVERY: Duration = Duration::from_millis(20);
/// Maximum number of timeouts in one proposal; further ones follow immediately.
const EXPIRATIONS_MAX: usize = 1024;
/// Timeout of one proposal. Whatever was not applied by then is proposed again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until dropped.
pub async fn maintain<RT: Runtime, S: Storage>(router: Router<RT, S>) {
    loop {
        RT::sleep(CHECK_EVERY).await;
        // Proposes without a pause, but only after the previous proposal was applied, so that nothing is
        // proposed twice.
        while propose_next(&router).await {}
    }
}

/// Proposes what is due, if this node leads. Returns whether more is due.
async fn propose_next<RT: Runtime, S: Storage>(router: &Router<RT, S>) -> bool {
    let consensus = router.consensus();
    if !consensus.leads() {
        return false;
    }
    let wanted = wanted(&consensus.state().read().state, consensus.now());
    let Some((command, more)) = wanted else {
        return false;
    };
    // After a failure the next round proposes it again.
    router
        .submit(command, None, Deadline::after(TIMEOUT))
        .await
        .is_ok()
        && more
}

/// The command that is due at `now`, by the clock of this node, and whether more is due.
fn wanted(state: &State, now: Timestamp) -> Option<(Command, bool)> {
    // Cluster time may be ahead of this clock, because the clock of an earlier leader was; in that case cluster
    // time counts.
    let due = state.due(now.max(state.now()), EXPIRATIONS_MAX);
    let more = due.len() == EXPIRATIONS_MAX;
    (!due.is_empty()).then_some((Command::Expire(due), more))
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{
        Batch, Create, InstanceId, Limits, Metadata, Origin, Request, SessionId,
    };

    use super::*;

    const LEASE: &str = r#"{"name": "lease", "initial": "held", "states": {
        "held": {"timeout": {"after": "1s", "to": "over"}}, "over": {"final": true}},
        "transitions": [{"from": "held", "to": "over"}]}"#;

    fn apply(state: &mut State, at: u64, commands: impl IntoIterator<Item = Command>) {
        let requests = commands.into_iter().zip(1..).map(|(command, sequence)| {
            let origin = Origin {
                session: SessionId(at),
                sequence,
                answered_below: 1,
            };
            Request {
                origin,
                key: None,
                command,
            }
        });
        let requests = requests.collect();
        state.apply(&Batch {
            stamp: Timestamp(at),
            requests,
        });
    }

    /// So many leases that are due at 1100 ms.
    fn leases(count: usize) -> State {
        let mut state = State::default();
        let definition = lockstep_document::parse_json(LEASE, &Limits::default()).unwrap();
        apply(&mut state, 99, [Command::Define(definition.into())]);
        let create = |n| {
            Command::Create(Create {
                instance: InstanceId::new("lease", format!("{n}")).unwrap(),
                version: None,
                metadata: Metadata::default(),
            })
        };
        apply(&mut state, 100, (0..count).map(create));
        state
    }

    /// How many timeouts are proposed, and whether more follow.
    fn proposed(state: &State, now: u64) -> Option<(usize, bool)> {
        match wanted(state, Timestamp(now))? {
            (Command::Expire(due), more) => Some((due.len(), more)),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_proposed_before_it_is_due() {
        let state = leases(2);
        assert_eq!(proposed(&state, 1099), None);
        assert_eq!(proposed(&state, 1100), Some((2, false)));
    }

    #[test]
    fn what_does_not_fit_into_one_proposal_follows_at_once() {
        let mut state = leases(EXPIRATIONS_MAX + 5);
        let (first, more) = wanted(&state, Timestamp(1200)).unwrap();
        assert!(more);
        apply(&mut state, 1200, [first]);
        assert_eq!(proposed(&state, 1200), Some((5, false)));
    }

    #[test]
    fn a_leader_whose_clock_is_behind_goes_by_cluster_time() {
        let mut state = leases(1);
        apply(&mut state, 5000, []);
        assert_eq!(proposed(&state, 200), Some((1, false)));
    }
}
