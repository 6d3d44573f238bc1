//! Who may write.

use super::stage::Stage;
use crate::sink::Phase;

#[tokio::test]
async fn only_the_leader_writes_and_the_next_one_goes_on() {
    let mut stage = Stage::new();
    stage.lead(1);
    stage.create_all("a", 5).await;
    stage.caught_up().await;
    stage.lead.send_replace(None);
    stage
        .until_status("runs on", |status| status.phase == Phase::Elsewhere)
        .await;
    let before = stage.written();
    stage.create_all("b", 5).await;
    assert_eq!(stage.written(), before);
    stage.lead(3);
    stage.caught_up().await;
    assert_eq!(stage.written(), stage.events());
    let shelf = stage.far.lock();
    assert_eq!((shelf.repeated, shelf.seeds.len(), shelf.term), (0, 1, 3));
}

#[tokio::test]
async fn a_leader_of_a_later_term_is_left_alone() {
    let mut stage = Stage::new();
    stage.far.lock().term = 9;
    stage.lead(8);
    stage.create("a").await;
    stage
        .until_status("writes", |status| status.reason.is_some())
        .await;
    assert_eq!(stage.written(), []);
    assert!(stage.status().reason.unwrap().contains("term 9"));
}
