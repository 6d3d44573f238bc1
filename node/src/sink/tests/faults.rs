//! What goes wrong.

use lockstep_machine::{EventCursor, GlobalRevision};

use super::far::unavailable;
use super::stage::Stage;
use crate::sink::{Checkpoint, Phase, SinkError};

#[tokio::test]
async fn what_fails_is_tried_again_from_where_the_far_side_is() {
    let mut stage = Stage::new();
    stage.lead(1);
    stage.create_all("a", 3).await;
    stage.caught_up().await;
    {
        let mut shelf = stage.far.lock();
        shelf.failing = vec![SinkError::Moved, unavailable(), unavailable()];
    }
    stage.create_all("b", 9).await;
    stage.caught_up().await;
    assert_eq!(stage.written(), stage.events());
    assert_eq!(stage.far.lock().repeated, 0);
    assert!(stage.status().errors >= 3);
    // Restored from an earlier day: what is missing is written again.
    {
        let mut shelf = stage.far.lock();
        let earlier = stage.service.peek(|state| state.revision().0) - 5;
        let cursor = EventCursor::after(GlobalRevision(earlier));
        shelf.history.retain(|at, _| *at <= cursor);
        shelf.place = Some(Checkpoint {
            cursor,
            ..shelf.place.unwrap()
        });
    }
    stage.create("c").await;
    stage.caught_up().await;
    assert_eq!(stage.written(), stage.events());
    stage.assert_states();
}

#[tokio::test]
async fn a_fault_that_people_must_mend_is_shown_with_its_reason() {
    let mut stage = Stage::new();
    let reason = "password refused".to_owned();
    let wrong = SinkError::Misconfigured {
        reason: reason.clone(),
    };
    stage.far.lock().failing = vec![wrong; 1000];
    stage.lead(1);
    stage
        .until_status("no fault is shown", |status| {
            status.phase == Phase::Failing && status.reason.as_ref() == Some(&reason)
        })
        .await;
    stage.far.lock().failing.clear();
    stage.caught_up().await;
    assert_eq!(stage.status().reason, None);
}

#[tokio::test]
async fn an_optional_sink_waits_for_its_host_without_complaint() {
    let mut stage = Stage::new();
    stage.config.optional = true;
    let host = "db".to_owned();
    stage.far.lock().failing = vec![SinkError::Absent { host }];
    stage.lead(1);
    stage
        .until_status("not absent", |status| status.phase == Phase::Absent)
        .await;
    assert_eq!(stage.status().errors, 0);
    stage.nudge.notify_one();
    stage.caught_up().await;
}
