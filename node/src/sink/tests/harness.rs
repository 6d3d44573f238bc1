//! A cluster of one with a sink, and the steps that tests take there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{
    Command, Create, DeadLetter, Delete, EventCursor, Instance, InstanceId, Limits, Metadata,
    Operation, SinkChange, SinkName, Transaction, Transition, Trigger,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::destination::{MemoryDestination, MemoryState};
use super::fixtures;
use crate::config::{self, Follow, SinkKind};
use crate::service::Service;
use crate::sink::runner::Runner;
use crate::sink::status::ConfiguredSink;
use crate::sink::{Phase, SinkStatus, ledger};
use crate::telemetry::Metrics;

pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// A cluster of one, and a sink that follows it.
pub(super) struct Harness {
    pub(super) service: Arc<Service>,
    pub(super) destination: MemoryDestination,
    pub(super) lead: watch::Sender<Option<u64>>,
    pub(super) sink: Arc<ConfiguredSink>,
    running: Option<JoinHandle<()>>,
}

fn create(name: &str) -> Create {
    Create {
        instance: InstanceId::new("triad", name).unwrap(),
        version: None,
        metadata: Metadata::default(),
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Harness {
    /// With a destination that stores its checkpoint.
    pub(super) fn new() -> Self {
        Self::with(Limits::default(), vec![])
    }

    pub(super) fn with(limits: Limits, follows: Vec<Follow>) -> Self {
        let config = config::Sink {
            name: SinkName::new("shelf").unwrap(),
            machines: follows,
            batch_events_max: 4,
            retry_max: Duration::from_millis(50),
            // Only `start` matters to the destination in memory.
            ..fixtures::config(SinkKind::Webhook, "http://nowhere.invalid")
        };
        let destination = MemoryDestination::default();
        destination.lock().keeps_checkpoint = true;
        Self {
            service: Arc::new(Service::lone(limits)),
            destination,
            lead: watch::channel(None).0,
            sink: Arc::new(ConfiguredSink::new(config, Metrics::new().unwrap())),
            running: None,
        }
    }

    /// The sink's configuration, before it runs.
    pub(super) fn config(&mut self) -> &mut config::Sink {
        &mut Arc::get_mut(&mut self.sink).unwrap().config
    }

    /// Runs the sink on the leader of a term.
    pub(super) fn lead(&mut self, term: u64) {
        self.lead.send_replace(Some(term));
        if self.running.is_none() {
            let runner = Runner {
                sink: self.sink.clone(),
                destination: Box::new(self.destination.clone()),
                service: self.service.clone(),
            };
            self.running = Some(tokio::spawn(runner.run(self.lead.subscribe())));
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    async fn execute(&self, command: Command) {
        let reply = self.service.execute(command, None, TIMEOUT).await.unwrap();
        assert!(
            !matches!(reply.outcome, lockstep_machine::Outcome::Rejected(_)),
            "{reply:?}"
        );
    }

    pub(super) async fn create(&self, name: &str) {
        self.execute(Command::Create(create(name))).await;
    }

    /// Creates several instances in one revision.
    pub(super) async fn create_at_once(&self, names: [&str; 5]) {
        let operations = names.map(|name| Operation::Create(create(name))).into();
        self.execute(Command::Transaction(Transaction { operations }))
            .await;
    }

    pub(super) async fn go(&self, name: &str, to: &str) {
        self.execute(Command::Transition(Transition {
            instance: InstanceId::new("triad", name).unwrap(),
            trigger: Trigger::To(lockstep_machine::StateName::new(to).unwrap()),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }))
        .await;
    }

    pub(super) async fn delete(&self, name: &str) {
        self.execute(Command::Delete(Delete {
            instance: InstanceId::new("triad", name).unwrap(),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }))
        .await;
    }

    /// Creates `count` instances, numbered from 0.
    pub(super) async fn create_all(&self, prefix: &str, count: usize) {
        for n in 0..count {
            self.create(&format!("{prefix}{n}")).await;
        }
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&MemoryState) -> bool) {
        let wait = async {
            while !holds(&self.destination.lock()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(TIMEOUT, wait).await;
        let status = self.status();
        waited.unwrap_or_else(|_| panic!("{what}: {status:?}"));
    }

    pub(super) async fn until_status(&self, what: &str, holds: impl Fn(&SinkStatus) -> bool) {
        let wait = async {
            while !holds(&self.status()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(TIMEOUT, wait).await;
        let status = self.status();
        waited.unwrap_or_else(|_| panic!("{what}: {status:?}"));
    }

    /// All events are delivered.
    pub(super) async fn caught_up(&self) {
        self.until_status("not caught up", |status| {
            status.phase() == Phase::Following && status.lag_events == 0
        })
        .await;
    }

    pub(super) fn status(&self) -> SinkStatus {
        self.service.peek(|state| self.sink.status(state))
    }

    pub(super) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.service.peek(|state| {
            let record = state.sink("shelf");
            record.map_or(vec![], |record| record.letters().cloned().collect())
        })
    }

    /// An operator's request. How many dead letters it affects.
    pub(super) async fn request(&self, change: SinkChange) -> u64 {
        let name = SinkName::new("shelf").unwrap();
        let done = ledger::execute(&self.service, name, change, TIMEOUT).await;
        done.unwrap().unwrap()
    }

    /// The cursors of all events of the cluster.
    pub(super) fn events(&self) -> Vec<EventCursor> {
        self.service.peek(|state| {
            let all = state.events_after(EventCursor::default(), usize::MAX);
            all.unwrap().iter().map(|event| event.cursor()).collect()
        })
    }

    pub(super) fn written(&self) -> Vec<EventCursor> {
        self.destination.lock().history.keys().copied().collect()
    }

    /// The destination has the states of the cluster.
    pub(super) fn assert_states(&self) {
        let ours: BTreeMap<String, String> = self.service.peek(|state| {
            let own = |(id, it): (InstanceId, &Instance)| (id.to_string(), it.state.to_string());
            state.instances().map(own).collect()
        });
        let state = self.destination.lock();
        let theirs = state.states.iter();
        let theirs: BTreeMap<_, _> = theirs
            .map(|(id, (_, it))| (id.clone(), it.clone()))
            .collect();
        assert_eq!(ours, theirs);
    }
}
