//! Events that are put aside.

use lockstep_machine::{EventKind, InstanceId, Limits, SinkChange};

use super::stage::{PATIENCE, Stage};
use crate::sink::{Phase, Sinks, SinksError};
use crate::telemetry::Metrics;

const REPLAY: SinkChange = SinkChange::Replay { which: None };

#[tokio::test]
async fn a_poisoned_event_is_put_aside_alone_and_can_be_written_later() {
    let mut stage = Stage::new();
    stage.lead(1);
    stage.caught_up().await;
    stage.far.lock().poisoned = vec!["triad/a2".to_owned()];
    stage.create_all("a", 7).await;
    stage.caught_up().await;
    let letters = stage.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "poisoned");
    assert_eq!(stage.status().dead_letters, 1);
    let missing = letters[0].event.cursor();
    let others: Vec<_> = stage
        .events()
        .into_iter()
        .filter(|at| *at != missing)
        .collect();
    assert_eq!(stage.written(), others);

    // Still refused: it stays, and says how often it was tried.
    assert_eq!(stage.wish(REPLAY).await, 1);
    let tried = |stage: &Stage| stage.letters().first().is_some_and(|it| it.attempts == 2);
    stage.until("not tried again", |_| tried(&stage)).await;
    stage.far.lock().poisoned.clear();
    assert_eq!(stage.wish(REPLAY).await, 1);
    stage
        .until("not written", |shelf| shelf.history.contains_key(&missing))
        .await;
    stage
        .until("not settled", |_| stage.letters().is_empty())
        .await;
    assert_eq!(stage.written(), stage.events());
    stage.assert_states();
}

#[tokio::test]
async fn a_poisoned_state_is_put_aside_until_the_states_are_written_again() {
    let mut stage = Stage::new();
    stage.create_all("a", 11).await;
    stage.far.lock().poisoned = ["triad/a3", "triad/a9"].map(str::to_owned).into();
    stage.lead(1);
    // The events of before the seed belong into the history only, and are refused as well.
    stage.caught_up().await;
    let of_states = |stage: &Stage| -> Vec<_> {
        let letters = stage.letters().into_iter();
        let states = letters.filter(|it| it.event.kind == EventKind::Seeded);
        states
            .map(|it| (it.event.instance(), it.attempts))
            .collect()
    };
    let id = |name| InstanceId::new("triad", name).ok();
    assert_eq!(of_states(&stage), [(id("a3"), 1), (id("a9"), 1)]);
    assert_eq!(stage.letters().len(), 4);
    assert_eq!(stage.far.lock().states.len(), 10);

    // Tried again with all others: one is refused still, the other one is taken.
    stage.far.lock().poisoned.pop();
    assert_eq!(stage.wish(SinkChange::Seed).await, 1);
    stage
        .until("not written again", |shelf| shelf.seeds.len() == 2)
        .await;
    stage.caught_up().await;
    assert_eq!(of_states(&stage), [(id("a3"), 1)]);

    stage.far.lock().poisoned.clear();
    assert_eq!(stage.wish(REPLAY).await, 3);
    stage
        .until("not settled", |_| stage.letters().is_empty())
        .await;
    assert_eq!(stage.written(), stage.events());
    stage.assert_states();
}

#[tokio::test]
async fn with_no_room_for_another_event_put_aside_it_halts_and_loses_nothing() {
    let limits = Limits {
        dead_letters_max: 2,
        ..Limits::default()
    };
    let mut stage = Stage::with(limits, vec![]);
    stage.lead(1);
    stage.caught_up().await;
    stage.far.lock().poisoned = (0..4).map(|n| format!("triad/a{n}")).collect();
    stage.create_all("a", 6).await;
    stage
        .until_status("does not halt", |status| status.phase == Phase::Halted)
        .await;
    assert_eq!(stage.letters().len(), 2);
    stage.far.lock().poisoned.clear();
    stage.caught_up().await;
    let aside: Vec<_> = stage.letters().iter().map(|it| it.event.cursor()).collect();
    let others = stage.events().into_iter().filter(|at| !aside.contains(at));
    assert_eq!(stage.written(), others.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_sink_left_behind_that_is_configured_no_more_can_be_seen_and_forgotten() {
    let mut stage = Stage::new();
    stage.lead(1);
    stage.caught_up().await;
    stage.far.lock().poisoned = vec!["triad/a0".to_owned()];
    stage.create("a0").await;
    stage
        .until("not put aside", |_| !stage.letters().is_empty())
        .await;
    stage.stop();
    let metrics = Metrics::new().unwrap();
    let sinks = Sinks::new(&[], stage.service.clone(), &metrics);
    let (letters, next) = sinks
        .dead_letters("shelf", None, 10, PATIENCE)
        .await
        .unwrap();
    assert_eq!((letters.len(), next), (1, None));
    let unknown = |name: &str| SinksError::Unknown {
        name: name.to_owned(),
        known: vec![],
    };
    let replayed = sinks.replay("shelf", None, PATIENCE).await;
    assert_eq!(replayed, Err(unknown("shelf")));
    assert_eq!(sinks.discard("shelf", None, PATIENCE).await, Ok(1));
    let gone = sinks.dead_letters("shelf", None, 10, PATIENCE).await;
    assert_eq!(gone.unwrap_err(), unknown("shelf"));
}
