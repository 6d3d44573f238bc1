//! Failures.

use lockstep_machine::{EventCursor, GlobalRevision};

use super::destination::unavailable;
use super::harness::Harness;
use crate::sink::{Checkpoint, Phase, SinkError};

#[tokio::test]
async fn after_a_failure_delivery_continues_at_the_destinations_checkpoint() {
    let mut harness = Harness::new();
    harness.lead(1);
    harness.create_all("a", 3).await;
    harness.caught_up().await;
    {
        let mut state = harness.destination.lock();
        state.failing = vec![SinkError::Moved, unavailable(), unavailable()];
    }
    harness.create_all("b", 9).await;
    harness.caught_up().await;
    assert_eq!(harness.written(), harness.events());
    assert_eq!(harness.destination.lock().repeated, 0);
    assert!(harness.status().errors >= 3);
    // After a restore, the missing events are written again.
    {
        let mut state = harness.destination.lock();
        let earlier = harness.service.peek(|state| state.revision().0) - 5;
        let cursor = EventCursor::after(GlobalRevision(earlier));
        state.history.retain(|at, _| *at <= cursor);
        state.checkpoint = Some(Checkpoint {
            cursor,
            ..state.checkpoint.unwrap()
        });
    }
    harness.create("c").await;
    harness.caught_up().await;
    assert_eq!(harness.written(), harness.events());
    harness.assert_states();
}

#[tokio::test]
async fn a_misconfiguration_is_shown_with_its_reason() {
    let mut harness = Harness::new();
    let reason = "password refused".to_owned();
    let wrong = SinkError::Misconfigured {
        reason: reason.clone(),
    };
    harness.destination.lock().failing = vec![wrong; 1000];
    harness.lead(1);
    harness
        .until_status("no fault is shown", |status| {
            status.phase() == Phase::Failing && status.reason.as_ref() == Some(&reason)
        })
        .await;
    harness.destination.lock().failing.clear();
    harness.caught_up().await;
    assert_eq!(harness.status().reason, None);
}

#[tokio::test]
async fn an_optional_sink_waits_for_its_host_without_errors() {
    let mut harness = Harness::new();
    harness.config().optional = true;
    let host = "db".to_owned();
    harness.destination.lock().failing = vec![SinkError::Absent { host }];
    harness.lead(1);
    harness
        .until_status("not absent", |status| status.phase() == Phase::Absent)
        .await;
    assert_eq!(harness.status().errors, 0);
    harness.sink.wake.notify_one();
    harness.caught_up().await;
}
