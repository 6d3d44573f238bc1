//! How far the far side is.

use lockstep_machine::{EventCursor, GlobalRevision, Limits, MachineName};

use super::stage::Stage;
use crate::config::Follow;
use crate::sink::{Checkpoint, Phase};

#[tokio::test]
async fn the_cluster_keeps_the_place_of_a_far_side_that_does_not() {
    let mut stage = Stage::new();
    stage.far.lock().keeps_place = false;
    stage.create_all("before", 3).await;
    stage.lead(1);
    stage.caught_up().await;
    // From now on, as configured.
    assert_eq!(stage.written(), []);
    stage.create_all("a", 5).await;
    stage.caught_up().await;
    assert_eq!(stage.written().len(), 5);
    let kept = |stage: &Stage| stage.service.peek(|state| state.sink("shelf")?.checkpoint);
    let last = stage.status().cursor;
    stage
        .until("the place is not kept", |_| {
            kept(&stage).map(|it| it.cursor) == last
        })
        .await;
    stage.stop();
    stage.create_all("b", 5).await;
    stage.lead(2);
    stage.caught_up().await;
    let shelf = stage.far.lock();
    assert_eq!(
        (shelf.history.len(), shelf.repeated, shelf.seeds.len()),
        (10, 0, 0)
    );
}

#[tokio::test]
async fn a_filter_leaves_out_and_the_place_still_moves_on() {
    let follow = Follow {
        machine: MachineName::new("triad").unwrap(),
        prefix: Some("b".to_owned()),
    };
    let mut stage = Stage::with(Limits::default(), vec![follow]);
    stage.lead(1);
    stage.create_all("a", 40).await;
    stage.create_all("b", 3).await;
    stage.create_all("a-late", 40).await;
    stage.caught_up().await;
    let shelf = stage.far.lock();
    assert_eq!(shelf.history.len(), 3);
    assert_eq!(
        shelf.states.keys().collect::<Vec<_>>(),
        ["triad/b0", "triad/b1", "triad/b2"]
    );
}

#[tokio::test]
async fn a_far_side_that_is_ahead_of_the_cluster_is_not_written_to() {
    let mut stage = Stage::new();
    let ahead = Checkpoint {
        cursor: EventCursor::after(GlobalRevision(1000)),
        seeded: GlobalRevision(1),
    };
    stage.far.lock().place = Some(ahead);
    stage.lead(1);
    stage
        .until_status("no fault is shown", |status| status.phase == Phase::Failing)
        .await;
    stage.create("a").await;
    assert_eq!(stage.far.lock().place, Some(ahead));
    assert!(stage.status().reason.unwrap().contains("revision 1000"));
}
