//! Claims.

use super::harness::Harness;
use crate::sink::Phase;

#[tokio::test]
async fn only_the_leader_writes_and_the_next_one_continues() {
    let mut harness = Harness::new();
    harness.lead(1);
    harness.create_all("a", 5).await;
    harness.caught_up().await;
    harness.lead.send_replace(None);
    harness
        .until_status("still running", |status| status.phase() == Phase::Elsewhere)
        .await;
    let before = harness.written();
    harness.create_all("b", 5).await;
    assert_eq!(harness.written(), before);
    harness.lead(3);
    harness.caught_up().await;
    assert_eq!(harness.written(), harness.events());
    let state = harness.destination.lock();
    assert_eq!(
        (state.repeated, state.backfills.len(), state.term),
        (0, 1, 3)
    );
}

#[tokio::test]
async fn a_later_term_fences_the_sink() {
    let mut harness = Harness::new();
    harness.destination.lock().term = 9;
    harness.lead(8);
    harness.create("a").await;
    harness
        .until_status("writes", |status| status.reason.is_some())
        .await;
    assert_eq!(harness.written(), []);
    assert!(harness.status().reason.unwrap().contains("term 9"));
}
