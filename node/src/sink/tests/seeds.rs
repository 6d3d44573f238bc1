//! States that are written as a whole.

use std::sync::Arc;

use lockstep_machine::{EventCursor, GlobalRevision, Limits, SinkChange};
use tokio::sync::Semaphore;

use super::stage::Stage;
use crate::config::{SinkKind, Start};
use crate::sink::{Phase, SeedReason};

#[tokio::test]
async fn an_empty_far_side_gets_the_states_and_the_history_as_far_as_it_is_kept() {
    let mut stage = Stage::new();
    stage.create_all("a", 10).await;
    stage.delete("a3").await;
    stage.lead(1);
    stage.go("a1", "second").await;
    stage.caught_up().await;
    assert_eq!(stage.written(), stage.events());
    stage.assert_states();
    let shelf = stage.far.lock();
    assert_eq!(shelf.seeds[0].reason, SeedReason::First);
    assert_eq!((shelf.seeds.len(), shelf.repeated), (1, 0));
}

#[tokio::test]
async fn a_far_side_that_the_events_do_not_reach_back_to_gets_the_states_anew() {
    let limits = Limits {
        events_max: 8,
        ..Limits::default()
    };
    let mut stage = Stage::with(limits, vec![]);
    stage.lead(1);
    stage.create_all("a", 6).await;
    stage.caught_up().await;
    let last = stage.status().cursor;
    stage.lead.send_replace(None);
    stage
        .until_status("runs on", |status| status.phase == Phase::Elsewhere)
        .await;
    stage.delete("a2").await;
    stage.create_all("b", 20).await;
    stage.lead(2);
    stage.caught_up().await;
    stage.assert_states();
    let shelf = stage.far.lock();
    let seed = shelf.seeds[1];
    assert_eq!((seed.reason, seed.was), (SeedReason::Compacted, last));
    // The gap ends where the events that are kept begin.
    let kept = stage.service.peek(|state| state.oldest_event().0);
    assert_eq!(seed.then, EventCursor::after(GlobalRevision(kept - 1)));
    assert_eq!(
        shelf.history.keys().filter(|at| **at > seed.then).count(),
        8
    );
}

#[tokio::test]
async fn events_that_go_while_the_states_are_written_do_not_have_them_written_again() {
    let limits = Limits {
        events_max: 16,
        ..Limits::default()
    };
    let mut stage = Stage::with(limits, vec![]);
    stage.create_all("a", 20).await;
    let gate = Arc::new(Semaphore::new(0));
    stage.far.lock().gate = Some(gate.clone());
    stage.lead(1);
    stage
        .until_status("does not seed", |status| {
            matches!(status.phase, Phase::Seeding { .. })
        })
        .await;
    stage.create_all("b", 6).await;
    gate.add_permits(100);
    stage.caught_up().await;
    stage.assert_states();
    let shelf = stage.far.lock();
    assert_eq!(shelf.seeds.len(), 1, "{:?}", shelf.seeds);
    // Some went meanwhile: a quarter of those that are kept is left out, lest they go, too.
    assert_eq!(shelf.history.len(), 12);
}

#[tokio::test]
async fn an_outage_in_the_midst_of_a_seed_has_only_its_page_told_again() {
    let mut stage = Stage::new();
    stage.far.lock().keeps_place = false;
    stage.far.lock().lost_page = Some(2);
    if let SinkKind::Webhook(webhook) = &mut stage.config.kind {
        webhook.start = Start::Everything;
    }
    stage.create_all("a", 9).await;
    stage.lead(1);
    stage
        .until("not told", |shelf| shelf.seeds.len() == 1)
        .await;
    stage.caught_up().await;
    stage.assert_states();
    let shelf = stage.far.lock();
    assert_eq!((shelf.pages, shelf.told.len()), (4, 10));
}

#[tokio::test]
async fn states_are_written_anew_when_an_operator_asks() {
    let mut stage = Stage::new();
    stage.lead(1);
    stage.create_all("a", 6).await;
    stage.caught_up().await;
    {
        let mut shelf = stage.far.lock();
        shelf.states.clear();
        let lie = (GlobalRevision(1), "third".to_owned());
        shelf.states.insert("triad/nobody".to_owned(), lie);
    }
    assert_eq!(stage.wish(SinkChange::Seed).await, 1);
    stage.until("no seed", |shelf| shelf.seeds.len() == 2).await;
    stage.caught_up().await;
    stage.assert_states();
    assert_eq!(stage.written(), stage.events());
    // Once.
    stage.create("b").await;
    stage.caught_up().await;
    assert_eq!(stage.far.lock().seeds.len(), 2);
}
