//! Sinks: the databases and webhooks that follow the cluster's events.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, Timestamp};
use lockstep_proto::{Malformed, v1};
use tokio::time::Instant;

use crate::answer::judge;
use crate::builder::TIMEOUT_MAX;
use crate::call::{self, Attempt, Effect};
use crate::client::{Client, required};
use crate::endpoints::Slot;
use crate::error::{Error, Rejected};
use crate::service::Unary;

/// How long a check may take unless the caller says otherwise: as long as a node allows.
pub const CHECK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkPhase {
    /// Another node leads, and runs it.
    Elsewhere,
    /// It is optional, and its host has no address yet.
    Absent,
    /// It is connecting.
    Opening,
    /// It backfills: it writes the current states of all instances.
    Seeding {
        /// Instances written.
        done: u64,
        /// Instances in all.
        total: u64,
    },
    /// It follows.
    Following,
    /// The destination cannot be reached or is not able to write; the sink keeps retrying.
    Retrying,
    /// The destination rejects the sink, which keeps retrying; an operator must fix the cause.
    Failing,
    /// The limit of dead letters is reached: an operator must replay or discard some.
    Halted,
    /// A phase that this client does not know.
    Unknown,
}

impl SinkPhase {
    /// In lower case: `elsewhere`, `absent`, `opening`, `seeding`, `following`, `retrying`, `failing`,
    /// `halted`, `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            SinkPhase::Elsewhere => "elsewhere",
            SinkPhase::Absent => "absent",
            SinkPhase::Opening => "opening",
            SinkPhase::Seeding { .. } => "seeding",
            SinkPhase::Following => "following",
            SinkPhase::Retrying => "retrying",
            SinkPhase::Failing => "failing",
            SinkPhase::Halted => "halted",
            SinkPhase::Unknown => "unknown",
        }
    }

    fn of(wire: &v1::SinkStatus) -> Self {
        match wire.phase() {
            v1::SinkPhase::Elsewhere => SinkPhase::Elsewhere,
            v1::SinkPhase::Absent => SinkPhase::Absent,
            v1::SinkPhase::Opening => SinkPhase::Opening,
            v1::SinkPhase::Seeding => {
                let v1::SeedProgress { done, total } = wire.seeding.unwrap_or_default();
                SinkPhase::Seeding { done, total }
            }
            v1::SinkPhase::Following => SinkPhase::Following,
            v1::SinkPhase::Retrying => SinkPhase::Retrying,
            v1::SinkPhase::Failing => SinkPhase::Failing,
            v1::SinkPhase::Halted => SinkPhase::Halted,
            v1::SinkPhase::Unspecified => SinkPhase::Unknown,
        }
    }
}

/// A sink, as reported by the node that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `postgres`, `mongo` or `webhook`.
    pub kind: String,
    /// The destination's address, without secrets.
    pub address: String,
    /// What it follows: `machine` or `machine/prefix`; everything if empty.
    pub follows: Vec<String>,
    /// What it is doing.
    pub phase: SinkPhase,
    /// Why it is not following, in a sentence.
    pub reason: Option<String>,
    /// Since when it has been in this phase, by the node's clock.
    pub since: Timestamp,
    /// Its checkpoint: the last event that the destination acknowledged.
    pub cursor: Option<EventCursor>,
    /// The revision of the last backfill.
    pub seeded: Option<GlobalRevision>,
    /// Retained events after its checkpoint.
    pub lag_events: u64,
    /// The age of the oldest of them.
    pub lag: Duration,
    /// Events written since it started on that node.
    pub events: u64,
    /// Errors since it started on that node.
    pub errors: u64,
    /// Dead letters: events that the destination rejected for good.
    pub dead_letters: u64,
    /// When it last wrote something, by the node's clock.
    pub written_at: Option<Timestamp>,
}

impl From<v1::SinkStatus> for SinkStatus {
    fn from(wire: v1::SinkStatus) -> Self {
        Self {
            phase: SinkPhase::of(&wire),
            name: wire.name,
            kind: wire.kind,
            address: wire.address,
            follows: wire.follows,
            reason: wire.reason,
            since: Timestamp(wire.since_ms),
            cursor: wire.cursor.map(Into::into),
            seeded: wire.seeded_revision.map(GlobalRevision),
            lag_events: wire.lag_events,
            lag: Duration::from_millis(wire.lag_ms),
            events: wire.events,
            errors: wire.errors,
            dead_letters: wire.dead_letters,
            written_at: wire.written_at_ms.map(Timestamp),
        }
    }
}

/// Every sink that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkList {
    /// In order of name.
    pub sinks: Vec<SinkStatus>,
    /// The node that runs them, and reports this.
    pub node: String,
}

impl SinkList {
    /// The sink with a name.
    ///
    /// # Errors
    /// [`Error::Rejected`] with `unknown_sink` and the names of those that are configured.
    pub fn find(&self, name: &str) -> Result<&SinkStatus, Error> {
        let found = self.sinks.iter().find(|sink| sink.name == name);
        found.ok_or_else(|| {
            let known = self.sinks.iter().map(|sink| sink.name.clone());
            Error::Rejected(Box::new(Rejected {
                code: "unknown_sink".to_owned(),
                message: format!("no sink {name:?} is configured on {}", self.node),
                known: known.collect(),
                ..Rejected::default()
            }))
        })
    }
}

/// A round trip through the destination of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCheck {
    /// In order; nothing follows a step that failed.
    pub steps: Vec<CheckStep>,
    /// The node that made it.
    pub node: String,
}

impl SinkCheck {
    /// The step that failed; none if all succeeded.
    pub fn failed(&self) -> Option<&CheckStep> {
        self.steps.iter().find(|step| step.result.is_err())
    }
}

/// One step of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStep {
    /// What was done, in a few words: `connect`, `insert 3`, `find one`, `drop`.
    pub step: String,
    /// How long it took.
    pub took: Duration,
    /// What was seen, or what went wrong.
    pub result: Result<String, String>,
}

impl TryFrom<v1::CheckSinkResponse> for SinkCheck {
    type Error = Malformed;

    fn try_from(wire: v1::CheckSinkResponse) -> Result<Self, Malformed> {
        use v1::check_step::Result as Wire;
        if wire.steps.is_empty() {
            return Err(Malformed::new("steps", "there are none"));
        }
        let step = |it: v1::CheckStep| {
            Ok(CheckStep {
                step: it.step,
                took: Duration::from_micros(it.took_us),
                result: match required("steps.result", it.result)? {
                    Wire::Seen(seen) => Ok(seen),
                    Wire::Failed(failed) => Err(failed),
                },
            })
        };
        Ok(Self {
            steps: wire.steps.into_iter().map(step).collect::<Result<_, _>>()?,
            node: wire.node,
        })
    }
}

impl Client {
    /// Every sink that is configured, as the leader reports it; any node can be asked.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// for sink in client.sinks().await?.sinks {
    ///     println!("{} is {}, {} events behind", sink.name, sink.phase.as_str(), sink.lag_events);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node could answer in time, or there is no leader.
    pub async fn sinks(&self) -> Result<SinkList, Error> {
        self.ask(Effect::None, v1::ListSinksRequest {}, |answer| {
            let sinks = answer.sinks.into_iter().map(SinkStatus::from).collect();
            let node = answer.node;
            Ok(SinkList { sinks, node })
        })
        .await
    }

    /// Makes a round trip through the destination of a sink, from the leader, in a table or
    /// collection of its own: inserts several, finds one, drops them. The sink is not disturbed.
    ///
    /// `timeout` replaces the client's: a destination may be slow. A node allows
    /// [`CHECK_TIMEOUT_DEFAULT`] at most.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::CHECK_TIMEOUT_DEFAULT;
    ///
    /// let check = client.check_sink("reports", CHECK_TIMEOUT_DEFAULT).await?;
    /// for step in &check.steps {
    ///     println!("{} took {:?}: {:?}", step.step, step.took, step.result);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink, [`Error::Unavailable`] when no node could
    /// answer in time. A step that fails is no error: [`SinkCheck::failed`] returns it.
    pub async fn check_sink(&self, sink: &str, timeout: Duration) -> Result<SinkCheck, Error> {
        let message = v1::CheckSinkRequest {
            sink: sink.to_owned(),
        };
        let send = async |attempt: Attempt| {
            let request = attempt.request(message.clone());
            let answer = Unary::send(request, attempt.channel).await.map_err(judge)?;
            Ok(SinkCheck::try_from(answer.into_inner())?)
        };
        // One attempt has all the time there is: another node would only start the work again. A
        // lost node is noticed by its connection.
        let timeout = timeout.min(TIMEOUT_MAX);
        let deadline = Instant::now() + timeout;
        let once = async |slot: Arc<Slot>, _| call::attempt(&slot, deadline, &send).await;
        call::run_each(&self.endpoints, timeout, Effect::None, once).await
    }

    /// Starts a backfill: the sink writes the current states of all instances again, as soon as
    /// its destination is available. [`sinks`](Self::sinks) shows the progress.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink, [`Error::Unavailable`] when nothing was
    /// changed, [`Error::Unanswered`] when it may have been.
    pub async fn reseed_sink(&self, sink: &str) -> Result<(), Error> {
        let sink = sink.to_owned();
        let asked = self.change(v1::ReseedSinkRequest { sink }).await;
        asked.map(|v1::SeedAsked { .. }| ())
    }
}
