//! The runner, against a far side in memory that fails as it is told to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use lockstep_machine::{
    Command, Create, DeadLetter, Delete, Limits, MachineName, Metadata, SinkName, Transition,
    Trigger,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::board::Board;
use super::runner::Runner;
use super::*;
use crate::config::{Follow, Start, WebhookSink};
use crate::service::Service;
use crate::telemetry::Metrics;

const PATIENCE: Duration = Duration::from_secs(20);

/// A far side in memory.
#[derive(Default)]
struct Shelf {
    keeps_place: bool,
    term: u64,
    place: Option<Checkpoint>,
    /// By place, what happened.
    history: BTreeMap<EventCursor, String>,
    /// By id, the state.
    states: BTreeMap<String, (GlobalRevision, String)>,
    seeds: Vec<Seed>,
    /// Instances that are refused for good.
    poisoned: Vec<String>,
    /// What the next calls come to, before anything is written.
    failing: Vec<SinkError>,
    /// How often events were given that were there already.
    repeated: usize,
    opened: usize,
}

#[derive(Clone, Default)]
struct FarSide(Arc<Mutex<Shelf>>);

impl FarSide {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap()
    }
}

impl Shelf {
    fn fail(&mut self) -> Result<(), SinkError> {
        match self.failing.pop() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn refuses(&self, event: &Event) -> bool {
        let id = event.instance().map(|id| id.to_string());
        id.is_some_and(|id| self.poisoned.contains(&id))
    }

    fn keep(&mut self, event: &Event) {
        let text = match (event.instance(), &event.to) {
            (Some(id), Some(to)) => format!("{id} {to}"),
            (Some(id), None) => format!("{id} gone"),
            (None, _) => event.machine.to_string(),
        };
        let again = self.history.insert(event.cursor(), text);
        self.repeated += usize::from(again.is_some());
    }
}

fn refused() -> SinkError {
    SinkError::Refused {
        event: None,
        reason: "poisoned".to_owned(),
    }
}

#[async_trait]
impl Sink for FarSide {
    async fn open(&mut self, claim: &Claim) -> Result<Place, SinkError> {
        let mut shelf = self.lock();
        shelf.opened += 1;
        shelf.fail()?;
        if claim.term < shelf.term {
            return Err(SinkError::Fenced { term: shelf.term });
        }
        shelf.term = claim.term;
        Ok(match (shelf.keeps_place, shelf.place) {
            (false, _) => Place::NotKept,
            (true, None) => Place::Nothing,
            (true, Some(place)) => Place::At(place),
        })
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let mut shelf = self.lock();
        shelf.fail()?;
        if shelf.keeps_place && shelf.place != Some(batch.from) {
            return Err(SinkError::Moved);
        }
        if batch.events.iter().any(|event| shelf.refuses(event)) {
            return Err(refused());
        }
        for event in batch.events {
            assert!(event.cursor() > batch.from.cursor && event.cursor() <= batch.to);
            shelf.keep(event);
        }
        for (id, change) in changes(batch.events, batch.from.seeded) {
            match change {
                Change::Is(is) => {
                    let state = (is.revision, is.state.to_string());
                    shelf.states.insert(id.to_string(), state);
                }
                Change::Gone { .. } => drop(shelf.states.remove(&id.to_string())),
            }
        }
        shelf.place = Some(Checkpoint {
            cursor: batch.to,
            ..batch.from
        });
        Ok(())
    }

    async fn seed(
        &mut self,
        seed: &Seed,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let mut shelf = self.lock();
        shelf.fail()?;
        for (id, instance) in page {
            let state = (seed.revision, instance.state.to_string());
            shelf.states.insert(id.to_string(), state);
        }
        Ok(())
    }

    async fn seeded(&mut self, seed: &Seed) -> Result<(), SinkError> {
        let mut shelf = self.lock();
        shelf.fail()?;
        shelf
            .states
            .retain(|_, (revision, _)| *revision >= seed.revision);
        shelf.seeds.push(*seed);
        shelf.place = Some(Checkpoint {
            cursor: seed.then,
            seeded: seed.revision,
        });
        Ok(())
    }

    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let mut shelf = self.lock();
        if shelf.refuses(event) {
            return Err(refused());
        }
        shelf.keep(event);
        if let (Some(id), Some(is)) = (event.instance(), current) {
            let state = (revision, is.state.to_string());
            shelf.states.insert(id.to_string(), state);
        }
        Ok(())
    }

    async fn check(&mut self) -> Vec<CheckStep> {
        vec![]
    }
}

/// A cluster of one, and a sink that follows it.
struct Stage {
    service: Arc<Service>,
    far: FarSide,
    lead: watch::Sender<Option<u64>>,
    board: Arc<Board>,
    nudge: Arc<Notify>,
    config: config::Sink,
    running: Option<JoinHandle<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stage {
    /// With the built-in instance, in an earlier life of a far side that keeps its place.
    fn new() -> Self {
        Self::with(Limits::default(), vec![])
    }

    fn with(limits: Limits, follows: Vec<Follow>) -> Self {
        let config = config::Sink {
            name: "shelf".to_owned(),
            follows,
            batch_events_max: 4,
            timeout: PATIENCE,
            retry_max: Duration::from_millis(50),
            optional: false,
            ca_file: None,
            // What is configured does not matter to a far side of one's own, but where to start.
            kind: SinkKind::Webhook(WebhookSink {
                address: "http://nowhere.invalid".to_owned(),
                secret: config::Secret::Text(String::new()),
                concurrency_max: 1,
                attempts_max: 1,
                allow_local: true,
                start: Start::Now,
            }),
        };
        let far = FarSide::default();
        far.lock().keeps_place = true;
        Self {
            service: Arc::new(Service::lone(limits)),
            far,
            lead: watch::channel(None).0,
            board: Arc::new(Board::new(&config, Metrics::new().unwrap())),
            nudge: Arc::default(),
            config,
            running: None,
        }
    }

    /// Runs the sink on the leader of a term.
    fn lead(&mut self, term: u64) {
        self.lead.send_replace(Some(term));
        if self.running.is_none() {
            let runner = Runner::new(
                self.config.clone(),
                SinkName::new("shelf").unwrap(),
                Box::new(self.far.clone()),
                self.service.clone(),
                self.board.clone(),
                self.nudge.clone(),
            );
            self.running = Some(tokio::spawn(runner.run(self.lead.subscribe())));
        }
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    async fn execute(&self, command: Command) {
        let reply = self.service.execute(command, None, PATIENCE).await.unwrap();
        assert!(
            !matches!(reply.outcome, lockstep_machine::Outcome::Rejected(_)),
            "{reply:?}"
        );
    }

    async fn create(&self, name: &str) {
        self.execute(Command::Create(Create {
            instance: InstanceId::new("triad", name).unwrap(),
            version: None,
            metadata: Metadata::default(),
        }))
        .await;
    }

    async fn go(&self, name: &str, to: &str) {
        self.execute(Command::Transition(Transition {
            instance: InstanceId::new("triad", name).unwrap(),
            trigger: Trigger::To(lockstep_machine::StateName::new(to).unwrap()),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }))
        .await;
    }

    async fn delete(&self, name: &str) {
        self.execute(Command::Delete(Delete {
            instance: InstanceId::new("triad", name).unwrap(),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }))
        .await;
    }

    /// Creates as many as `names` says.
    async fn create_all(&self, prefix: &str, count: usize) {
        for n in 0..count {
            self.create(&format!("{prefix}{n}")).await;
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Shelf) -> bool) {
        let wait = async {
            while !holds(&self.far.lock()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        let status = self.status();
        waited.unwrap_or_else(|_| panic!("{what}: {status:?}"));
    }

    async fn until_status(&self, what: &str, holds: impl Fn(&SinkStatus) -> bool) {
        let wait = async {
            while !holds(&self.status()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        let status = self.status();
        waited.unwrap_or_else(|_| panic!("{what}: {status:?}"));
    }

    /// All that happened is written.
    async fn caught_up(&self) {
        self.until_status("not caught up", |status| {
            status.phase == Phase::Following && status.lag_events == 0
        })
        .await;
    }

    fn status(&self) -> SinkStatus {
        self.service.peek(|state| self.board.status(state))
    }

    fn letters(&self) -> Vec<DeadLetter> {
        self.service.peek(|state| {
            let record = state.sink("shelf");
            record.map_or(vec![], |record| record.letters().cloned().collect())
        })
    }

    /// The cluster's own record of what happened.
    fn events(&self) -> Vec<EventCursor> {
        self.service.peek(|state| {
            let all = state.events_after(EventCursor::default(), usize::MAX);
            all.unwrap().iter().map(|event| event.cursor()).collect()
        })
    }

    fn written(&self) -> Vec<EventCursor> {
        self.far.lock().history.keys().copied().collect()
    }

    /// The far side has the states that the cluster has.
    fn assert_states(&self) {
        let ours: BTreeMap<String, String> = self.service.peek(|state| {
            let own = |(id, it): (InstanceId, &Instance)| (id.to_string(), it.state.to_string());
            state.instances().map(own).collect()
        });
        let shelf = self.far.lock();
        let theirs = shelf.states.iter();
        let theirs: BTreeMap<_, _> = theirs
            .map(|(id, (_, it))| (id.clone(), it.clone()))
            .collect();
        assert_eq!(ours, theirs);
    }
}

fn unavailable() -> SinkError {
    SinkError::Unavailable {
        reason: "the cable is out".to_owned(),
        retry_after: None,
    }
}

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

    let wish = |change| {
        let (service, name) = (stage.service.clone(), SinkName::new("shelf").unwrap());
        async move { ledger::execute(&service, name, change, PATIENCE).await }
    };
    let replay = || wish(lockstep_machine::SinkChange::Replay { which: None });
    // Still refused: it stays, and says how often it was tried.
    assert_eq!(replay().await.unwrap(), Ok(1));
    let tried = |stage: &Stage| stage.letters().first().is_some_and(|it| it.attempts == 2);
    stage.until("not tried again", |_| tried(&stage)).await;
    stage.far.lock().poisoned.clear();
    assert_eq!(replay().await.unwrap(), Ok(1));
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
    let name = SinkName::new("shelf").unwrap();
    let wish = lockstep_machine::SinkChange::Seed;
    ledger::execute(&stage.service, name, wish, PATIENCE)
        .await
        .unwrap()
        .unwrap();
    stage.until("no seed", |shelf| shelf.seeds.len() == 2).await;
    stage.caught_up().await;
    stage.assert_states();
    assert_eq!(stage.written(), stage.events());
    // Once.
    stage.create("b").await;
    stage.caught_up().await;
    assert_eq!(stage.far.lock().seeds.len(), 2);
}

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
