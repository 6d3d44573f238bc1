//! The lateness of timeouts.

use std::time::Duration;

use lockstep_machine::{Cause, EventCursor, GlobalRevision, Outcome, Reply, State};

/// The lateness of each timeout that fired with this reply, from its event in the state after it.
/// Where more fired at once than events are kept, only the largest, which is part of the outcome.
pub(super) fn of_each(reply: &Reply, state: &State) -> Vec<Duration> {
    let expired = match &reply.outcome {
        Outcome::Expired(expired) if expired.fired > 0 => expired,
        _ => return Vec::new(),
    };
    let before = EventCursor::after(GlobalRevision(reply.revision.0.saturating_sub(1)));
    match state.events_after(before, expired.fired as usize) {
        Ok(events) => {
            let late = events.iter().filter_map(|event| match event.cause {
                Cause::Timeout { late_ms } => Some(Duration::from_millis(late_ms)),
                _ => None,
            });
            late.collect()
        }
        Err(_) => vec![Duration::from_millis(expired.late_ms_max)],
    }
}

#[cfg(test)]
mod tests {
    use lockstep_machine::{
        Batch, Command, Create, InstanceId, Limits, Metadata, Origin, Request, SessionId, Timestamp,
    };

    use super::*;

    const LEASE: &str = r#"{"name": "lease", "initial": "held", "states": {
        "held": {"timeout": {"after": "1s", "to": "over"}}, "over": {"final": true}},
        "transitions": [{"from": "held", "to": "over"}]}"#;

    /// Applies the command with this sequence number.
    fn apply(state: &mut State, stamp: u64, sequence: u64, command: Command) -> Reply {
        let origin = Origin {
            session: SessionId(1),
            sequence,
            answered_below: 1,
        };
        let request = Request {
            origin,
            key: None,
            command,
        };
        let batch = Batch {
            stamp: Timestamp(stamp),
            requests: vec![request],
        };
        state.apply(&batch).remove(0)
    }

    /// The lateness of two leases, due at 1000 and 1030 ms, that expire together at 1200 ms.
    fn two_expire(limits: Limits) -> Vec<Duration> {
        let mut state = State::new(limits);
        let definition = lockstep_document::parse_json(LEASE, &limits).unwrap();
        let defined = apply(&mut state, 0, 1, Command::Define(definition.into()));
        assert!(of_each(&defined, &state).is_empty());
        for (sequence, at) in [(2, 0), (3, 30)] {
            let create = Create {
                instance: InstanceId::new("lease", format!("{at}")).unwrap(),
                version: None,
                metadata: Metadata::default(),
            };
            apply(&mut state, at, sequence, Command::Create(create));
        }
        let due = state.due(Timestamp(1200), 10);
        let expired = apply(&mut state, 1200, 4, Command::Expire(due.clone()));
        let late = of_each(&expired, &state);
        // They do not fire again when proposed again.
        let again = apply(&mut state, 1300, 5, Command::Expire(due));
        assert!(of_each(&again, &state).is_empty());
        late
    }

    #[test]
    fn each_timeout_counts_once_with_its_own_lateness() {
        assert_eq!(
            two_expire(Limits::default()),
            [200, 170].map(Duration::from_millis)
        );
    }

    #[test]
    fn without_events_only_the_largest_lateness_is_known() {
        let limits = Limits {
            events_max: 0,
            ..Limits::default()
        };
        assert_eq!(two_expire(limits), [Duration::from_millis(200)]);
    }
}
