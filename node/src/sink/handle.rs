//! The sinks of a node, for the edges: what they are doing, and what operators ask of them.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{DeadLetter, EventCursor, Rejection, SinkChange, SinkName, State};
use lockstep_proto::ErrorCode;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::board::Board;
use super::runner::{Leading, Runner};
use super::status::SinkStatus;
use super::{CheckStep, ledger, make};
use crate::config;
use crate::service::{Consistency, Freshness, Service, ServiceError};
use crate::telemetry::Metrics;

/// Between two looks at the metrics that change by themselves.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// A check's steps, all together.
const CHECK_PATIENCE: Duration = Duration::from_secs(60);

/// The sinks that are configured on this node.
#[derive(Clone)]
pub struct Sinks {
    service: Arc<Service>,
    /// In order of name.
    entries: Arc<[Entry]>,
}

struct Entry {
    config: config::Sink,
    name: SinkName,
    board: Arc<Board>,
    nudge: Arc<Notify>,
}

/// Why an operator's request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinksError {
    /// No sink has that name.
    #[error("there is no sink {name:?}; configured are: {}", list(known))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// That event was not put aside.
    #[error("sink {sink} has put no event {}-{} aside", cursor.revision, cursor.position)]
    UnknownDeadLetter {
        /// The sink.
        sink: String,
        /// The event's place.
        cursor: EventCursor,
    },
    /// The cluster gave no answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The state machine refused.
    #[error("{0}")]
    Rejected(Box<Rejection>),
}

impl SinksError {
    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            SinksError::Unknown { .. } => ErrorCode::UnknownSink,
            SinksError::UnknownDeadLetter { .. } => ErrorCode::UnknownDeadLetter,
            SinksError::Service(error) => error.code(),
            SinksError::Rejected(rejection) => (&**rejection).into(),
        }
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

impl Sinks {
    /// The sinks of a node, at rest until [`run`](Self::run).
    pub fn new(configs: &[config::Sink], service: Arc<Service>, metrics: &Arc<Metrics>) -> Self {
        let entry = |config: &config::Sink| {
            // The configuration's rule for names is the state machine's.
            let name = SinkName::new(&config.name).ok()?;
            Some(Entry {
                config: config.clone(),
                name,
                board: Arc::new(Board::new(config, metrics.clone())),
                nudge: Arc::default(),
            })
        };
        let entries = configs.iter().filter_map(entry).collect();
        Self { service, entries }
    }

    /// No sinks, beside a cluster of one.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self {
            service: Arc::new(Service::lone(lockstep_machine::Limits::default())),
            entries: Arc::default(),
        }
    }

    /// Runs them whenever this node leads, until dropped.
    pub async fn run(self, leading: Leading) {
        let mut runners = JoinSet::new();
        for entry in self.entries.iter() {
            let runner = Runner::new(
                entry.config.clone(),
                entry.name.clone(),
                make(&entry.config),
                self.service.clone(),
                entry.board.clone(),
                entry.nudge.clone(),
            );
            runners.spawn(runner.run(leading.clone()));
        }
        loop {
            tokio::time::sleep(MEASURE_EVERY).await;
            self.service.peek(|state| {
                for entry in self.entries.iter() {
                    entry.board.measure(state);
                }
            });
        }
    }

    /// What they are doing on this node, by name.
    pub fn list(&self) -> Vec<SinkStatus> {
        self.service.peek(|state| {
            let status = |entry: &Entry| entry.board.status(state);
            self.entries.iter().map(status).collect()
        })
    }

    /// Goes through a far side from this node, on a connection of its own, whatever the sink does.
    pub async fn check(&self, name: &str) -> Result<Vec<CheckStep>, SinksError> {
        let entry = self.entry(name)?;
        let mut sink = make(&entry.config);
        let began = tokio::time::Instant::now();
        let steps = match tokio::time::timeout(CHECK_PATIENCE, sink.check()).await {
            Ok(steps) => steps,
            Err(_) => vec![CheckStep {
                step: "check".to_owned(),
                took: began.elapsed(),
                result: Err(format!("not done after {} s", CHECK_PATIENCE.as_secs())),
            }],
        };
        if steps.iter().all(|step| step.result.is_ok()) {
            entry.nudge.notify_one();
        }
        Ok(steps)
    }

    /// Has the current states written as a whole.
    pub async fn reseed(&self, name: &str, patience: Duration) -> Result<(), SinksError> {
        self.entry(name)?;
        self.change(name, SinkChange::Seed, patience).await?;
        Ok(())
    }

    /// A page of the events put aside behind `after`, oldest first, and where the next one begins.
    pub async fn dead_letters(
        &self,
        name: &str,
        after: Option<EventCursor>,
        limit: usize,
        patience: Duration,
    ) -> Result<(Vec<DeadLetter>, Option<EventCursor>), SinksError> {
        let name = self.kept(name)?;
        let freshness = Freshness {
            consistency: Consistency::Linearizable,
            min_revision: None,
        };
        let view = self.service.view(freshness, patience).await?;
        let Some(record) = view.state.sink(name.as_str()) else {
            return Ok((vec![], None));
        };
        let mut behind = record.letters_after(after);
        let page: Vec<_> = behind.by_ref().take(limit.max(1)).cloned().collect();
        let next = match behind.next() {
            Some(_) => page.last().map(|letter| letter.event.cursor()),
            None => None,
        };
        Ok((page, next))
    }

    /// Has one event put aside written again, or all; how many that are.
    pub async fn replay(
        &self,
        name: &str,
        which: Option<EventCursor>,
        patience: Duration,
    ) -> Result<u64, SinksError> {
        self.entry(name)?;
        self.change(name, SinkChange::Replay { which }, patience)
            .await
    }

    /// Forgets one event put aside, or all; how many that were. Of a sink that is configured no more,
    /// all is everything that is kept of it.
    pub async fn discard(
        &self,
        name: &str,
        which: Option<EventCursor>,
        patience: Duration,
    ) -> Result<u64, SinksError> {
        if which.is_none() && self.entry(name).is_err() {
            let letters = |state: &State| state.sink(name).map_or(0, |kept| kept.letters().len());
            let forgotten = self.service.peek(letters) as u64;
            self.change(name, SinkChange::Forget, patience).await?;
            return Ok(forgotten);
        }
        self.change(name, SinkChange::Discard { which }, patience)
            .await
    }

    async fn change(
        &self,
        name: &str,
        change: SinkChange,
        patience: Duration,
    ) -> Result<u64, SinksError> {
        let kept = self.kept(name)?;
        let changed = ledger::execute(&self.service, kept, change, patience).await?;
        if let Ok(entry) = self.entry(name) {
            entry.nudge.notify_one();
        }
        changed.map_err(|rejection| match rejection {
            Rejection::UnknownDeadLetter { cursor, .. } => SinksError::UnknownDeadLetter {
                sink: name.to_owned(),
                cursor,
            },
            other => SinksError::Rejected(Box::new(other)),
        })
    }

    /// The name of a sink that is configured, or was and left something behind.
    fn kept(&self, name: &str) -> Result<SinkName, SinksError> {
        let unknown = match self.entry(name) {
            Ok(entry) => return Ok(entry.name.clone()),
            Err(unknown) => unknown,
        };
        let known = self.service.peek(|state| state.sink(name).is_some());
        SinkName::new(name).ok().filter(|_| known).ok_or(unknown)
    }

    fn entry(&self, name: &str) -> Result<&Entry, SinksError> {
        let found = self.entries.iter().find(|entry| entry.config.name == name);
        found.ok_or_else(|| SinksError::Unknown {
            name: name.to_owned(),
            known: (self.entries.iter().map(|entry| entry.config.name.clone())).collect(),
        })
    }
}
