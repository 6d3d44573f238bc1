use super::*;
use crate::StateName;
use crate::command::{Transition, Trigger};
use crate::ids::{GlobalRevision, IdempotencyKey, Revision};
use crate::request::SessionId;
use crate::{Batch, Request};

const HOUR_MS: u64 = 60 * 60 * 1000;

fn default() -> InstanceId {
    InstanceId::new("triad", "default").unwrap()
}

fn name(state: &str) -> StateName {
    StateName::new(state).unwrap()
}

fn to(state: &str) -> Transition {
    let trigger = Trigger::To(name(state));
    Transition {
        instance: default(),
        trigger,
        expect_state: None,
        expect_revision: None,
        metadata: Metadata::default(),
    }
}

fn origin(session: u64, sequence: u64, answered_below: u64) -> Origin {
    Origin {
        session: SessionId(session),
        sequence,
        answered_below,
    }
}

/// Applies one request under a stamp.
fn send(state: &mut State, stamp: u64, origin: Origin, key: Option<&str>, it: Transition) -> Reply {
    let key = key.map(|key| IdempotencyKey::new(key).unwrap());
    let request = Request {
        origin,
        key,
        command: Command::Transition(it),
    };
    let mut replies = state.apply(&Batch {
        stamp: Timestamp(stamp),
        requests: vec![request],
    });
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

/// The code of a rejection, or "moved".
fn code(reply: &Reply) -> &'static str {
    match &reply.outcome {
        Outcome::Transitioned(_) => "moved",
        other => other.kind(),
    }
}

fn at(state: &State) -> (String, u64) {
    let instance = state.instance(&default()).unwrap();
    (instance.state.to_string(), instance.revision.0)
}

fn key_limits(keys_max: u64, key_retention_ms: u64) -> State {
    State::new(Limits {
        keys_max,
        key_retention_ms,
        ..Limits::default()
    })
}

#[test]
fn the_built_in_instance_walks_its_graph_and_nothing_else() {
    let legal = ["first second", "first third", "second third", "third first"];
    for from in ["first", "second", "third"] {
        for target in ["first", "second", "third"] {
            let mut state = State::default();
            if from != "first" {
                send(&mut state, 1, origin(1, 1, 1), None, to(from));
            }
            assert_eq!(at(&state).0, from);
            let reply = send(&mut state, 1, origin(1, 2, 1), None, to(target));
            let moved = legal.contains(&format!("{from} {target}").as_str());
            assert_eq!(
                code(&reply),
                if moved { "moved" } else { "illegal_transition" }
            );
            assert_eq!(at(&state).0, if moved { target } else { from });
        }
    }
}

#[test]
fn a_move_tells_where_from_and_when_and_a_state_where_to() {
    let mut state = State::default();
    let reply = send(&mut state, 7, origin(1, 1, 1), None, to("second"));
    let expected = Outcome::Transitioned(crate::outcome::Transitioned {
        instance: default(),
        version: Version(1),
        from: name("first"),
        to: name("second"),
        event: None,
        revision: Revision(1),
        at: Timestamp(7),
    });
    assert_eq!(
        reply,
        Reply {
            outcome: expected,
            replayed: false,
            revision: GlobalRevision(1)
        }
    );
    let moved = state.instance(&default()).unwrap();
    assert_eq!(state.view(&default(), moved).allowed, [name("third")]);
    assert_eq!(moved.changed_at, Timestamp(7));
}

#[test]
fn expectations_are_checked_before_the_target() {
    let mut state = State::default();
    let nowhere = || to("nowhere");
    let both = Transition {
        expect_state: Some(name("x")),
        expect_revision: Some(Revision(9)),
        ..nowhere()
    };
    let revision = Transition {
        expect_revision: Some(Revision(9)),
        ..nowhere()
    };
    let met = Transition {
        expect_state: Some(name("first")),
        expect_revision: Some(Revision(0)),
        ..nowhere()
    };
    let stranger = Transition {
        instance: InstanceId::new("triad", "x").unwrap(),
        ..both.clone()
    };
    let nothing = Transition {
        instance: InstanceId::new("x", "x").unwrap(),
        ..both.clone()
    };
    let codes: Vec<_> = [nothing, stranger, both, revision, met]
        .into_iter()
        .enumerate()
        .map(|(i, it)| code(&send(&mut state, 1, origin(1, i as u64 + 1, 1), None, it)))
        .collect();
    assert_eq!(
        codes,
        [
            "unknown_machine",
            "unknown_instance",
            "state_mismatch",
            "revision_mismatch",
            "unknown_state"
        ]
    );
    assert_eq!(at(&state), ("first".to_owned(), 0));
}

#[test]
fn time_never_goes_back() {
    let mut state = State::default();
    for (stamp, now) in [(10, 10), (4, 10), (11, 11)] {
        state.apply(&Batch {
            stamp: Timestamp(stamp),
            requests: vec![],
        });
        assert_eq!(state.now(), Timestamp(now));
    }
}

#[test]
fn a_request_sent_twice_is_executed_once() {
    let mut state = State::default();
    let first = send(&mut state, 1, origin(1, 1, 1), None, to("second"));
    assert_eq!(code(&first), "moved");
    let hash = state.hash();
    assert_eq!(
        send(&mut state, 1, origin(1, 1, 1), None, to("second")),
        first
    );
    assert_eq!(at(&state), ("second".to_owned(), 1));
    assert_ne!(
        state.hash(),
        hash,
        "the session's last use is part of the state"
    );
}

#[test]
fn what_is_answered_is_forgotten_and_never_runs_again() {
    let mut state = State::default();
    send(&mut state, 1, origin(1, 1, 1), None, to("second"));
    send(&mut state, 1, origin(1, 2, 1), None, to("third"));
    assert_eq!(state.remembered(), (0, 2));
    send(&mut state, 1, origin(1, 3, 3), None, to("first"));
    assert_eq!(state.remembered(), (0, 1));
    // A late duplicate with a lower `answered_below` does not lower the stored one.
    assert_eq!(
        code(&send(&mut state, 1, origin(1, 2, 1), None, to("second"))),
        "request_expired"
    );
    assert_eq!(at(&state), ("first".to_owned(), 3));
}

#[test]
fn the_session_idle_for_longest_is_forgotten_and_cannot_run_its_old_requests() {
    let mut state = State::new(Limits {
        sessions_max: 2,
        ..Limits::default()
    });
    send(&mut state, 1, origin(1, 1, 1), None, to("second"));
    send(&mut state, 1, origin(2, 1, 1), None, to("third"));
    send(&mut state, 1, origin(1, 2, 2), None, to("first"));
    send(&mut state, 1, origin(3, 1, 1), None, to("second"));
    assert_eq!(
        state.remembered(),
        (0, 2),
        "sessions 1 and 3, one reply each"
    );
    assert_eq!(
        code(&send(&mut state, 1, origin(2, 2, 2), None, to("third"))),
        "request_expired"
    );
    assert_eq!(
        code(&send(&mut state, 1, origin(1, 3, 3), None, to("third"))),
        "moved"
    );
}

#[test]
fn the_same_key_returns_the_first_outcome_even_a_rejection() {
    let mut state = State::default();
    let refused = send(&mut state, 1, origin(1, 1, 1), Some("k"), to("first"));
    assert_eq!(code(&refused), "illegal_transition");
    send(&mut state, 1, origin(1, 2, 1), None, to("third"));
    let again = send(&mut state, 9, origin(2, 1, 1), Some("k"), to("first"));
    assert_eq!(
        again,
        Reply {
            outcome: refused.outcome,
            replayed: true,
            revision: GlobalRevision(0)
        }
    );
    // A duplicate of the duplicate gets the same reply.
    assert_eq!(
        send(&mut state, 9, origin(2, 1, 1), Some("k"), to("first")),
        again
    );
    assert_eq!(at(&state), ("third".to_owned(), 1));
}

#[test]
fn a_key_used_for_a_different_request_is_rejected() {
    let mut state = State::default();
    send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
    let other = Transition {
        expect_revision: Some(Revision(1)),
        ..to("second")
    };
    assert_eq!(
        code(&send(&mut state, 1, origin(1, 2, 1), Some("k"), other)),
        "idempotency_key_reused"
    );
    assert_eq!(
        code(&send(
            &mut state,
            1,
            origin(1, 3, 1),
            Some("k"),
            to("second")
        )),
        "moved"
    );
    assert_eq!(state.remembered().0, 1);
}

#[test]
fn a_key_is_remembered_for_its_retention_and_not_longer() {
    let mut state = key_limits(10, HOUR_MS);
    send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
    let last = send(
        &mut state,
        1 + HOUR_MS,
        origin(1, 2, 1),
        Some("k"),
        to("second"),
    );
    assert!(last.replayed);
    let after = send(
        &mut state,
        2 + HOUR_MS,
        origin(1, 3, 1),
        Some("k"),
        to("second"),
    );
    assert_eq!(
        (code(&after), after.replayed),
        ("illegal_transition", false)
    );
}

#[test]
fn the_oldest_key_makes_room_for_a_new_one() {
    let mut state = key_limits(2, HOUR_MS);
    for (sequence, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
        send(
            &mut state,
            1,
            origin(1, sequence, sequence),
            Some(key),
            to("second"),
        );
    }
    assert_eq!(state.remembered().0, 2);
    assert!(send(&mut state, 1, origin(1, 5, 5), Some("b"), to("second")).replayed);
    assert!(!send(&mut state, 1, origin(1, 6, 6), Some("a"), to("second")).replayed);
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut state = State::default();
    let (before, hash) = (state.clone(), state.hash());
    send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
    assert_eq!(before.hash(), hash);
    assert_ne!(state.hash(), hash);
}

#[test]
fn limits_of_zero_remember_nothing_they_need_not() {
    let mut state = State::new(Limits {
        keys_max: 0,
        key_retention_ms: 0,
        sessions_max: 0,
        ..Limits::default()
    });
    let first = send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second"));
    assert_eq!(
        send(&mut state, 1, origin(1, 1, 1), Some("k"), to("second")),
        first
    );
    assert_eq!(state.remembered(), (0, 1));
}
