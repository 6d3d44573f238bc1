//! Dead letters.

use lockstep_machine::{EventKind, InstanceId, Limits, SinkChange};

use std::sync::Arc;

use super::harness::{Harness, TIMEOUT};
use crate::service::peers::GrpcPeers;
use crate::sink::{Phase, Sinks, SinksError};
use crate::telemetry::Metrics;

const REPLAY: SinkChange = SinkChange::Replay { which: None };

#[tokio::test]
async fn only_the_rejected_event_becomes_a_dead_letter_and_can_be_replayed() {
    let mut harness = Harness::new();
    harness.lead(1);
    harness.caught_up().await;
    harness.destination.lock().rejected_ids = vec!["triad/a2".to_owned()];
    harness.create_all("a", 7).await;
    harness.caught_up().await;
    let letters = harness.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "poisoned");
    assert_eq!(harness.status().dead_letters, 1);
    let missing = letters[0].event.cursor();
    let others: Vec<_> = harness
        .events()
        .into_iter()
        .filter(|at| *at != missing)
        .collect();
    assert_eq!(harness.written(), others);

    // Still rejected: it stays, with its number of attempts.
    assert_eq!(harness.request(REPLAY).await, 1);
    let tried = |harness: &Harness| {
        harness
            .dead_letters()
            .first()
            .is_some_and(|it| it.attempts == 2)
    };
    harness.until("not tried again", |_| tried(&harness)).await;
    harness.destination.lock().rejected_ids.clear();
    assert_eq!(harness.request(REPLAY).await, 1);
    harness
        .until("not written", |state| state.history.contains_key(&missing))
        .await;
    harness
        .until("not settled", |_| harness.dead_letters().is_empty())
        .await;
    assert_eq!(harness.written(), harness.events());
    harness.assert_states();
}

#[tokio::test]
async fn a_rejected_state_stays_a_dead_letter_until_the_next_backfill() {
    let mut harness = Harness::new();
    harness.create_all("a", 11).await;
    harness.destination.lock().rejected_ids = ["triad/a3", "triad/a9"].map(str::to_owned).into();
    harness.lead(1);
    // Events from before the backfill are written to the history only, and are rejected as well.
    harness.caught_up().await;
    let of_states = |harness: &Harness| -> Vec<_> {
        let letters = harness.dead_letters().into_iter();
        let states = letters.filter(|it| it.event.kind == EventKind::Seeded);
        states
            .map(|it| (it.event.instance(), it.attempts))
            .collect()
    };
    let id = |name| InstanceId::new("triad", name).ok();
    assert_eq!(of_states(&harness), [(id("a3"), 1), (id("a9"), 1)]);
    assert_eq!(harness.dead_letters().len(), 4);
    assert_eq!(harness.destination.lock().states.len(), 10);

    // The next backfill writes both again: one is still rejected, the other is accepted.
    harness.destination.lock().rejected_ids.pop();
    assert_eq!(harness.request(SinkChange::Seed).await, 1);
    harness
        .until("not written again", |state| state.backfills.len() == 2)
        .await;
    harness.caught_up().await;
    assert_eq!(of_states(&harness), [(id("a3"), 1)]);

    harness.destination.lock().rejected_ids.clear();
    assert_eq!(harness.request(REPLAY).await, 3);
    harness
        .until("not settled", |_| harness.dead_letters().is_empty())
        .await;
    assert_eq!(harness.written(), harness.events());
    harness.assert_states();
}

#[tokio::test]
async fn with_no_room_for_another_dead_letter_the_sink_halts_and_loses_nothing() {
    let limits = Limits {
        dead_letters_max: 2,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, vec![]);
    harness.lead(1);
    harness.caught_up().await;
    harness.destination.lock().rejected_ids = (0..4).map(|n| format!("triad/a{n}")).collect();
    harness.create_all("a", 6).await;
    harness
        .until_status("does not halt", |status| status.phase() == Phase::Halted)
        .await;
    assert_eq!(harness.dead_letters().len(), 2);
    harness.destination.lock().rejected_ids.clear();
    harness.caught_up().await;
    let dead_letter: Vec<_> = harness
        .dead_letters()
        .iter()
        .map(|it| it.event.cursor())
        .collect();
    let others = harness
        .events()
        .into_iter()
        .filter(|at| !dead_letter.contains(at));
    assert_eq!(harness.written(), others.collect::<Vec<_>>());
}

#[tokio::test]
async fn dead_letters_of_a_removed_sink_can_be_listed_and_discarded() {
    let mut harness = Harness::new();
    harness.lead(1);
    harness.caught_up().await;
    harness.destination.lock().rejected_ids = vec!["triad/a0".to_owned()];
    harness.create("a0").await;
    harness
        .until("no dead letter", |_| !harness.dead_letters().is_empty())
        .await;
    harness.stop();
    let metrics = Metrics::new().unwrap();
    let sinks = Sinks::new(
        &[],
        harness.service.clone(),
        GrpcPeers::new(Arc::default()),
        &metrics,
    );
    let (letters, next) = sinks
        .dead_letters("shelf", None, 10, TIMEOUT)
        .await
        .unwrap();
    assert_eq!((letters.len(), next), (1, None));
    let unknown = |name: &str| SinksError::Unknown {
        name: name.to_owned(),
        known: vec![],
    };
    let replayed = sinks.replay("shelf", None, TIMEOUT).await;
    assert_eq!(replayed, Err(unknown("shelf")));
    assert_eq!(sinks.discard("shelf", None, TIMEOUT).await, Ok(1));
    let gone = sinks.dead_letters("shelf", None, 10, TIMEOUT).await;
    assert_eq!(gone.unwrap_err(), unknown("shelf"));
}
