//! Backfills.

use std::sync::Arc;

use lockstep_machine::{EventCursor, GlobalRevision, Limits, SinkChange};
use tokio::sync::Semaphore;

use super::harness::Harness;
use crate::config::Start;
use crate::sink::{BackfillReason, Phase};

#[tokio::test]
async fn an_empty_destination_gets_the_states_and_the_kept_history() {
    let mut harness = Harness::new();
    harness.create_all("a", 10).await;
    harness.delete("a3").await;
    harness.lead(1);
    harness.go("a1", "second").await;
    harness.caught_up().await;
    assert_eq!(harness.written(), harness.events());
    harness.assert_states();
    let state = harness.destination.lock();
    assert_eq!(state.backfills[0].reason, BackfillReason::First);
    assert_eq!((state.backfills.len(), state.repeated), (1, 0));
}

#[tokio::test]
async fn a_checkpoint_before_the_oldest_event_causes_a_backfill() {
    let limits = Limits {
        events_max: 8,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, vec![]);
    harness.lead(1);
    harness.create_all("a", 6).await;
    harness.caught_up().await;
    let last = harness.status().cursor.map(EventCursor::from);
    harness.lead.send_replace(None);
    harness
        .until_status("still running", |status| status.phase() == Phase::Elsewhere)
        .await;
    harness.delete("a2").await;
    harness.create_all("b", 20).await;
    harness.lead(2);
    harness.caught_up().await;
    harness.assert_states();
    let state = harness.destination.lock();
    let backfill = state.backfills[1];
    assert_eq!(
        (backfill.reason, backfill.previous),
        (BackfillReason::Compacted, last)
    );
    // The gap ends at the oldest kept event.
    let kept = harness.service.peek(|state| state.oldest_event().0);
    assert_eq!(
        backfill.resume_at,
        EventCursor::after(GlobalRevision(kept - 1))
    );
    assert_eq!(
        state
            .history
            .keys()
            .filter(|at| **at > backfill.resume_at)
            .count(),
        8
    );
}

#[tokio::test]
async fn events_compacted_during_a_backfill_do_not_cause_another_one() {
    let limits = Limits {
        events_max: 16,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, vec![]);
    harness.create_all("a", 20).await;
    let gate = Arc::new(Semaphore::new(0));
    harness.destination.lock().gate = Some(gate.clone());
    harness.lead(1);
    harness
        .until_status("no backfill", |status| status.phase() == Phase::Seeding)
        .await;
    harness.create_all("b", 6).await;
    gate.add_permits(100);
    harness.caught_up().await;
    harness.assert_states();
    let state = harness.destination.lock();
    assert_eq!(state.backfills.len(), 1, "{:?}", state.backfills);
    // Some were compacted meanwhile: a quarter of the kept events is left out, since more will be.
    assert_eq!(state.history.len(), 12);
}

#[tokio::test]
async fn a_backfill_ends_though_only_a_part_of_the_newest_revision_is_kept() {
    let limits = Limits {
        events_max: 3,
        ..Limits::default()
    };
    let mut harness = Harness::with(limits, vec![]);
    harness.create_all("a", 4).await;
    let gate = Arc::new(Semaphore::new(0));
    harness.destination.lock().gate = Some(gate.clone());
    harness.lead(1);
    harness
        .until_status("no backfill", |status| status.phase() == Phase::Seeding)
        .await;
    harness.create_at_once(["b0", "b1", "b2", "b3", "b4"]).await;
    gate.add_permits(100);
    harness.caught_up().await;
    harness.assert_states();
    // The events after the first one were compacted meanwhile.
    assert_eq!(harness.destination.lock().backfills.len(), 2);
}

#[tokio::test]
async fn after_an_outage_during_a_backfill_only_the_failed_page_is_sent_again() {
    let mut harness = Harness::new();
    harness.destination.lock().keeps_checkpoint = false;
    harness.destination.lock().lost_page = Some(2);
    harness.config().start = Start::Everything;
    harness.create_all("a", 9).await;
    harness.lead(1);
    harness
        .until("not finished", |state| state.backfills.len() == 1)
        .await;
    harness.caught_up().await;
    harness.assert_states();
    let state = harness.destination.lock();
    assert_eq!((state.pages, state.received.len()), (4, 10));
}

#[tokio::test]
async fn an_operator_can_request_a_backfill() {
    let mut harness = Harness::new();
    harness.lead(1);
    harness.create_all("a", 6).await;
    harness.caught_up().await;
    {
        let mut state = harness.destination.lock();
        state.states.clear();
        let lie = (GlobalRevision(1), "third".to_owned());
        state.states.insert("triad/made-up".to_owned(), lie);
    }
    assert_eq!(harness.request(SinkChange::Seed).await, 1);
    harness
        .until("no backfill", |state| state.backfills.len() == 2)
        .await;
    harness.caught_up().await;
    harness.assert_states();
    assert_eq!(harness.written(), harness.events());
    // Once.
    harness.create("b").await;
    harness.caught_up().await;
    assert_eq!(harness.destination.lock().backfills.len(), 2);
}
