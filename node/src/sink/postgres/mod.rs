//! PostgreSQL: every event in one table, what each instance is now in another.
//!
//! A batch is one statement: it moves the sink's place, adds the events to the history and brings the
//! current states up to date, or does nothing of it. So no transaction is ever open while this node
//! thinks, or is paused, and no lock of an old leader is in a new one's way.
//!
//! The place stands in the table `sinks`, in one row, beside the term of the leader that writes and how
//! often it was claimed. Each statement begins by changing that row, on condition that it still bears
//! the numbers of the own claim: of two leaders one waits for the other there, and the older finds
//! that the row is no longer its own. The count of claims does the same for statements that were given
//! up on an earlier connection and that the server gets to only now.
//!
//! | file | holds |
//! |---|---|
//! | `connect` | a connection: address, password, TLS, the session's settings |
//! | `schema` | the tables, their migrations, whose they are |
//! | `statements` | the SQL of every write |
//! | `rows` | events and states as the arrays that these statements take |
//! | `session` | a claimed connection, and what is written through it |
//! | `fault` | what an error of the server means for the sink |
//! | `check` | the round trip for `lockstep sink check` |

mod check;
mod connect;
mod fault;
mod rows;
mod schema;
mod session;
mod statements;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_machine::{Event, GlobalRevision, Instance, InstanceId};

use super::{Batch, CheckStep, Claim, Place, Seed, Sink, SinkError};
use connect::Settings;
use schema::Names;
use session::Session;

/// The application name that the server shows for this connection.
const APPLICATION: &str = "lockstep";

/// A PostgreSQL database as a sink.
pub(crate) struct Postgres {
    settings: Settings,
    /// What the tables are called; or why they cannot be called that.
    names: Result<Names, String>,
    session: Option<Session>,
}

impl Postgres {
    /// Takes the configuration; connects when it is opened.
    pub(crate) fn new(
        config: &crate::config::Sink,
        postgres: &crate::config::PostgresSink,
    ) -> Self {
        Self {
            settings: Settings::new(config, postgres),
            names: Names::new(&postgres.schema, &postgres.history, &postgres.instances),
            session: None,
        }
    }

    fn names(&self) -> Result<&Names, SinkError> {
        self.names
            .as_ref()
            .map_err(|reason| SinkError::Misconfigured {
                reason: reason.clone(),
            })
    }

    /// The session, taken out: whoever is cancelled or fails with it does not put it back.
    fn take_session(&mut self) -> Result<Session, SinkError> {
        self.session
            .take()
            .ok_or_else(|| fault::unavailable("it is not connected"))
    }

    /// Puts the session back if it is still good after an exchange that ended so.
    fn keep(&mut self, session: Session, ended: Result<(), SinkError>) -> Result<(), SinkError> {
        if matches!(ended, Ok(()) | Err(SinkError::Refused { .. })) {
            self.session = Some(session);
        }
        ended
    }
}

#[async_trait]
impl Sink for Postgres {
    async fn open(&mut self, claim: &Claim) -> Result<Place, SinkError> {
        let timeout = self.settings.timeout;
        let alive = self.session.take().and_then(Session::into_connection);
        let names = self.names()?;
        let connection = match alive {
            Some(connection) => connection,
            None => connect::connect(&self.settings).await?,
        };
        within(timeout, schema::prepare(&connection, names, claim)).await?;
        let (session, place) = within(timeout, Session::claim(connection, names, claim)).await?;
        self.session = Some(session);
        Ok(place)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let session = self.take_session()?;
        let ended = within(self.settings.timeout, session.write(batch)).await;
        self.keep(session, ended)
    }

    async fn seed(
        &mut self,
        seed: &Seed,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let session = self.take_session()?;
        let ended = within(self.settings.timeout, session.seed(seed, page)).await;
        self.keep(session, ended)
    }

    async fn seeded(&mut self, seed: &Seed) -> Result<(), SinkError> {
        let session = self.take_session()?;
        let ended = end_seed(&session, seed, self.settings.timeout).await;
        self.keep(session, ended)
    }

    async fn replay(
        &mut self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let session = self.take_session()?;
        let replay = session.replay(event, current, revision);
        let ended = within(self.settings.timeout, replay).await;
        self.keep(session, ended)
    }

    async fn check(&mut self) -> Vec<CheckStep> {
        check::check(&self.settings, &self.names).await
    }
}

/// As many exchanges as there is to forget, and a last one.
async fn end_seed(session: &Session, seed: &Seed, timeout: Duration) -> Result<(), SinkError> {
    while within(timeout, session.forget(seed)).await? {}
    within(timeout, session.seeded(seed)).await
}

/// An exchange with the server, which must end in time.
async fn within<T>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, SinkError>> + Send,
) -> Result<T, SinkError> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(ended) => ended,
        Err(_) => Err(fault::unavailable(format!("no answer within {timeout:?}"))),
    }
}
