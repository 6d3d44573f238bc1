//! Which sinks there are, and how they fare.

use std::time::Duration;

use lockstep_machine::{EventCursor, GlobalRevision, Timestamp};
use lockstep_proto::v1;

use crate::answer::Verdict;
use crate::call::Effect;
use crate::client::Client;
use crate::error::{Error, Rejected};
use crate::wire::event::cursor;

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkPhase {
    /// Another node leads, and runs it.
    Elsewhere,
    /// Its host has no address, and it is optional: it is waited for.
    Absent,
    /// It is connecting.
    Opening,
    /// It writes the current states as a whole.
    Seeding {
        /// Instances written.
        done: u64,
        /// Instances there are.
        total: u64,
    },
    /// It follows.
    Following,
    /// The far side cannot be reached or is not able; it is tried again by itself.
    Retrying,
    /// The far side will not have us; it is tried again, and somebody must mend that.
    Failing,
    /// There is no room for another dead letter: somebody must replay or discard some.
    Halted,
    /// Something this client does not know.
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
        let v1::SeedProgress { done, total } = wire.seeding.unwrap_or_default();
        match v1::SinkPhase::try_from(wire.phase) {
            Ok(v1::SinkPhase::Elsewhere) => SinkPhase::Elsewhere,
            Ok(v1::SinkPhase::Absent) => SinkPhase::Absent,
            Ok(v1::SinkPhase::Opening) => SinkPhase::Opening,
            Ok(v1::SinkPhase::Seeding) => SinkPhase::Seeding { done, total },
            Ok(v1::SinkPhase::Following) => SinkPhase::Following,
            Ok(v1::SinkPhase::Retrying) => SinkPhase::Retrying,
            Ok(v1::SinkPhase::Failing) => SinkPhase::Failing,
            Ok(v1::SinkPhase::Halted) => SinkPhase::Halted,
            Ok(v1::SinkPhase::Unspecified) | Err(_) => SinkPhase::Unknown,
        }
    }
}

/// A sink as the node sees it that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `postgres`, `mongo` or `webhook`.
    pub kind: String,
    /// Where it writes, without secrets.
    pub address: String,
    /// What it follows: `machine` or `machine/prefix`; everything if empty.
    pub follows: Vec<String>,
    /// What it is doing.
    pub phase: SinkPhase,
    /// Why it is not following, in a sentence.
    pub reason: Option<String>,
    /// Since when it has been doing that, by the node's clock.
    pub since: Timestamp,
    /// The last event that the far side took care of.
    pub cursor: Option<EventCursor>,
    /// The revision at which the current states were last written as a whole.
    pub seeded: Option<GlobalRevision>,
    /// Events behind its place, of those that are kept.
    pub lag_events: u64,
    /// How old the oldest of them is.
    pub lag: Duration,
    /// Events written since it began to run on that node.
    pub events: u64,
    /// Errors since it began to run on that node.
    pub errors: u64,
    /// Events that the far side refused for good.
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
            cursor: wire.cursor.map(cursor),
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
#[non_exhaustive]
pub struct SinkList {
    /// In order of name.
    pub sinks: Vec<SinkStatus>,
    /// The node that runs them, and whose account this is.
    pub node: String,
}

impl SinkList {
    /// The sink of a name.
    ///
    /// # Errors
    /// [`Error::Rejected`] with `unknown_sink` and those that are known, as of a node that is asked
    /// about a sink that is not configured.
    pub fn find(&self, name: &str) -> Result<&SinkStatus, Error> {
        let found = self.sinks.iter().find(|sink| sink.name == name);
        found.ok_or_else(|| {
            let known: Vec<_> = self.sinks.iter().map(|sink| sink.name.clone()).collect();
            Error::Rejected(Box::new(Rejected {
                code: "unknown_sink".to_owned(),
                message: format!("no sink {name:?} is configured on {}", self.node),
                known,
                ..Rejected::default()
            }))
        })
    }
}

impl Client {
    /// Every sink that is configured, as the leader sees it: whichever node is asked asks the leader.
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
    /// [`Error::Unavailable`] when no node could answer in time, be it for want of a leader.
    pub async fn sinks(&self) -> Result<SinkList, Error> {
        let understand = |answer: v1::ListSinksResponse| {
            let sinks = answer.sinks.into_iter().map(SinkStatus::from).collect();
            let node = answer.node;
            Ok::<_, Verdict>(SinkList { sinks, node })
        };
        self.ask(Effect::None, v1::ListSinksRequest {}, understand)
            .await
    }
}
