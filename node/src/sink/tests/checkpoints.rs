//! Checkpoints.

use lockstep_machine::{EventCursor, GlobalRevision, Limits, MachineName};

use super::harness::Harness;
use crate::config::Follow;
use crate::sink::{Checkpoint, Phase};

#[tokio::test]
async fn the_cluster_stores_the_checkpoint_of_a_destination_that_stores_none() {
    let mut harness = Harness::new();
    harness.destination.lock().keeps_checkpoint = false;
    harness.create_all("before", 3).await;
    harness.lead(1);
    harness.caught_up().await;
    // Only new events, as configured.
    assert_eq!(harness.written(), []);
    harness.create_all("a", 5).await;
    harness.caught_up().await;
    assert_eq!(harness.written().len(), 5);
    let kept = |harness: &Harness| {
        harness
            .service
            .peek(|state| state.sink("shelf")?.checkpoint)
    };
    let last = harness.status().cursor.map(EventCursor::from);
    harness
        .until("the checkpoint is not stored", |_| {
            kept(&harness).map(|it| it.cursor) == last
        })
        .await;
    harness.stop();
    harness.create_all("b", 5).await;
    harness.lead(2);
    harness.caught_up().await;
    let state = harness.destination.lock();
    assert_eq!(
        (state.history.len(), state.repeated, state.backfills.len()),
        (10, 0, 0)
    );
}

#[tokio::test]
async fn the_checkpoint_advances_over_events_that_are_filtered_out() {
    let follow = Follow {
        machine: MachineName::new("triad").unwrap(),
        prefix: Some("b".to_owned()),
    };
    let mut harness = Harness::with(Limits::default(), vec![follow]);
    harness.lead(1);
    harness.create_all("a", 40).await;
    harness.create_all("b", 3).await;
    harness.create_all("a-late", 40).await;
    harness.caught_up().await;
    let state = harness.destination.lock();
    assert_eq!(state.history.len(), 3);
    assert_eq!(
        state.states.keys().collect::<Vec<_>>(),
        ["triad/b0", "triad/b1", "triad/b2"]
    );
}

#[tokio::test]
async fn a_destination_that_is_ahead_of_the_cluster_is_not_written() {
    let mut harness = Harness::new();
    let ahead = Checkpoint {
        cursor: EventCursor::after(GlobalRevision(1000)),
        seeded: GlobalRevision(1),
    };
    harness.destination.lock().checkpoint = Some(ahead);
    harness.lead(1);
    harness
        .until_status("no fault is shown", |status| {
            status.phase() == Phase::Failing
        })
        .await;
    harness.create("a").await;
    assert_eq!(harness.destination.lock().checkpoint, Some(ahead));
    assert!(harness.status().reason.unwrap().contains("revision 1000"));
}
