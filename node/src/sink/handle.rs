//! The sinks of a node: their status, and the operations that operators call.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{DeadLetter, EventCursor, Rejection, SinkChange, SinkName, State};
use lockstep_proto::ErrorCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::destination::make;
use super::runner::{Leading, Runner};
use super::status::ConfiguredSink;
use super::{CHECK_MAX, CheckStep, SinkStatus, check, ledger};
use crate::config;
use crate::service::peers::GrpcPeers;
use crate::service::{Freshness, Service, ServiceError, Standing};
use crate::telemetry::Metrics;

/// Maximum number of concurrent checks; others wait.
const CHECKS_MAX: usize = 4;
/// How often the gauges are updated.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The sinks that are configured on this node. Cheap to clone.
#[derive(Clone)]
pub struct Sinks {
    pub(super) service: Arc<Service>,
    pub(super) peers: GrpcPeers,
    pub(super) standing: Arc<dyn Fn() -> Standing + Send + Sync>,
    /// One permit per running check.
    pub(super) checks: Arc<Semaphore>,
    /// In order of name.
    pub(super) sinks: Arc<[Arc<ConfiguredSink>]>,
}

/// Why an operator's request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinksError {
    #[error("there is no sink {name:?}; configured sinks: {}", list(known))]
    Unknown { name: String, known: Vec<String> },
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(
        "the check did not finish within {} ms: the destination is very slow or does not answer",
        waited.as_millis()
    )]
    CheckTimeout { waited: Duration },
    #[error("{0}")]
    Rejected(Box<Rejection>),
}

impl SinksError {
    pub fn code(&self) -> ErrorCode {
        match self {
            SinksError::Unknown { .. } => ErrorCode::UnknownSink,
            SinksError::Service(error) => error.code(),
            SinksError::CheckTimeout { .. } => ErrorCode::SinkCheckTimeout,
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
    /// The sinks of a node. They do nothing until [`run`](Self::run). `peers` are used to reach the leader.
    pub fn new(
        configs: &[config::Sink],
        service: Arc<Service>,
        peers: GrpcPeers,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let sink =
            |config: &config::Sink| Arc::new(ConfiguredSink::new(config.clone(), metrics.clone()));
        let status = service.clone();
        Self {
            service,
            peers,
            standing: Arc::new(move || status.status().standing),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            sinks: configs.iter().map(sink).collect(),
        }
    }

    /// Runs the sinks whenever this node leads, until dropped.
    pub async fn run(self, leading: Leading) {
        let mut runners = JoinSet::new();
        for sink in self.sinks.iter() {
            let runner = Runner {
                sink: sink.clone(),
                destination: make(sink.config.clone()),
                service: self.service.clone(),
            };
            runners.spawn(runner.run(leading.clone()));
        }
        loop {
            tokio::time::sleep(MEASURE_EVERY).await;
            self.service.peek(|state| {
                for sink in self.sinks.iter() {
                    sink.measure(state);
                }
            });
        }
    }

    /// The status of each sink on this node, by name.
    pub fn here(&self) -> Vec<SinkStatus> {
        self.service.peek(|state| {
            let sinks = self.sinks.iter();
            sinks.map(|sink| sink.status(state)).collect()
        })
    }

    /// Tests a destination from this node, on a connection of its own.
    pub(super) async fn check_destination(&self, name: &str) -> Result<Vec<CheckStep>, SinksError> {
        let sink = self.configured(name)?;
        let mut config = sink.config.clone();
        // So that several exchanges fit into the limit, and what a failed check has created is removed.
        config.timeout = config.timeout.min(CHECK_MAX / 6);
        let steps = check::check(make(config).as_mut()).await;
        if steps.iter().all(|step| step.outcome().is_ok()) {
            sink.wake.notify_one();
        }
        Ok(steps)
    }

    /// Requests a backfill.
    pub async fn reseed(&self, name: &str, timeout: Duration) -> Result<(), SinksError> {
        self.configured(name)?;
        self.change(name, SinkChange::Seed, timeout).await?;
        Ok(())
    }

    /// A page of the dead letters after a cursor, oldest first, and the cursor of the next page.
    pub async fn dead_letters(
        &self,
        name: &str,
        after: Option<EventCursor>,
        limit: usize,
        timeout: Duration,
    ) -> Result<(Vec<DeadLetter>, Option<EventCursor>), SinksError> {
        let name = self.configured_or_recorded(name)?;
        let view = self.service.view(Freshness::default(), timeout).await?;
        let Some(record) = view.state.sink(name.as_str()) else {
            return Ok((vec![], None));
        };
        let mut rest = record.letters_after(after);
        let page: Vec<_> = rest.by_ref().take(limit.max(1)).cloned().collect();
        let next = match rest.next() {
            Some(_) => page.last().map(|letter| letter.event.cursor()),
            None => None,
        };
        Ok((page, next))
    }

    /// Requests that one dead letter, or all, be delivered again. Returns their number.
    pub async fn replay(
        &self,
        name: &str,
        which: Option<EventCursor>,
        timeout: Duration,
    ) -> Result<u64, SinksError> {
        self.configured(name)?;
        self.change(name, SinkChange::Replay { which }, timeout)
            .await
    }

    /// Removes one dead letter, or all. How many that were. For a sink that is no longer configured,
    /// removing all removes its whole record.
    pub async fn discard(
        &self,
        name: &str,
        which: Option<EventCursor>,
        timeout: Duration,
    ) -> Result<u64, SinksError> {
        if which.is_none() && self.configured(name).is_err() {
            let letters = |state: &State| state.sink(name).map_or(0, |it| it.letters().len());
            let removed = self.service.peek(letters) as u64;
            self.change(name, SinkChange::Forget, timeout).await?;
            return Ok(removed);
        }
        self.change(name, SinkChange::Discard { which }, timeout)
            .await
    }

    async fn change(
        &self,
        name: &str,
        change: SinkChange,
        timeout: Duration,
    ) -> Result<u64, SinksError> {
        let sink = self.configured_or_recorded(name)?;
        let changed = ledger::execute(&self.service, sink, change, timeout).await?;
        if let Ok(sink) = self.configured(name) {
            sink.wake.notify_one();
        }
        changed.map_err(|rejection| SinksError::Rejected(Box::new(rejection)))
    }

    /// The name of a sink that is configured, or that was and still has a record in the cluster.
    fn configured_or_recorded(&self, name: &str) -> Result<SinkName, SinksError> {
        let unknown = match self.configured(name) {
            Ok(sink) => return Ok(sink.config.name.clone()),
            Err(unknown) => unknown,
        };
        let recorded = self.service.peek(|state| state.sink(name).is_some());
        SinkName::new(name).ok().filter(|_| recorded).ok_or(unknown)
    }

    fn configured(&self, name: &str) -> Result<&ConfiguredSink, SinksError> {
        let found = (self.sinks.iter()).find(|sink| sink.config.name.as_str() == name);
        found.map(AsRef::as_ref).ok_or_else(|| SinksError::Unknown {
            name: name.to_owned(),
            known: (self.sinks.iter().map(|sink| sink.config.name.to_string())).collect(),
        })
    }
}
