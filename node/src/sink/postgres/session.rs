//! A claimed connection, and what is written through it.

use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId};
use tokio_postgres::{Client, Error, Row, Statement};

use super::connect::Connection;
use super::fault::{Doing, fault, misconfigured, unavailable};
use super::rows::{GoneRows, HistoryRows, Parameter, StateRows, Time, bigint, split};
use super::schema::{Names, owner};
use super::statements;
use crate::sink::{Batch, Change, Checkpoint, Claim, Current, Place, Seed, SinkError, changes};

/// Writes for one claim.
pub(super) struct Session {
    connection: Connection,
    names: Names,
    /// The claim's term.
    term: i64,
    /// The number of the claim among all that there were.
    claims: i64,
    write: Statement,
    forget: Statement,
    seeded: Statement,
}

impl Session {
    /// Claims the tables through a connection, and says how far they are.
    pub(super) async fn claim(
        connection: Connection,
        names: &Names,
        claim: &Claim,
    ) -> Result<(Self, Place), SinkError> {
        let client = connection.client();
        let failed = |error: Error| fault(Doing::Opening, &error);
        let term = bigint(claim.term).map_err(|error| misconfigured(error.to_string()))?;
        let sql = [
            statements::write(names),
            statements::forget(names),
            statements::seeded(names),
        ];
        // Before the claim: after it nothing may fail that is known to.
        let (write, forget, seeded) = futures::try_join!(
            client.prepare(&sql[0]),
            client.prepare(&sql[1]),
            client.prepare(&sql[2])
        )
        .map_err(failed)?;
        let sql = statements::claim(names);
        let claimed = client
            .query_opt(&sql, &[&claim.cluster, &claim.sink, &term])
            .await
            .map_err(failed)?;
        let Some(row) = claimed else {
            return Err(refused(client, names, claim).await);
        };
        let (claims, place) = read_claim(&row)?;
        let session = Self {
            connection,
            names: names.clone(),
            term,
            claims,
            write,
            forget,
            seeded,
        };
        Ok((session, place))
    }

    /// The connection, if it is still alive.
    pub(super) fn into_connection(self) -> Option<Connection> {
        Some(self.connection).filter(Connection::is_alive)
    }

    /// Writes a batch.
    pub(super) async fn write(&self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let history = HistoryRows::of(batch.events.iter().map(AsRef::as_ref))?;
        let changes = changes(batch.events, batch.from.seeded);
        let (gone, states) = split(&changes)?;
        let from = Expected {
            cursor: Some(numbers(batch.from.cursor)?),
            seeded: Some(bigint(batch.from.seeded.0)?),
        };
        let to = Some(numbers(batch.to)?);
        self.execute(from, to, false, &history, &gone, &states)
            .await
    }

    /// Writes states of a seed.
    pub(super) async fn seed(
        &self,
        seed: &Seed,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let changes: Vec<_> = page
            .iter()
            .map(|(_, instance)| Change::Is(Current::of(instance, seed.revision)))
            .collect();
        let (gone, states) = split(page.iter().map(|(id, _)| id).zip(&changes))?;
        let history = HistoryRows::default();
        self.execute(Expected::ANY, None, true, &history, &gone, &states)
            .await
    }

    /// Writes an event that was put aside, and what has become of its instance.
    pub(super) async fn replay(
        &self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let told = (event.kind != EventKind::Seeded).then_some(event);
        let history = HistoryRows::of(told)?;
        let change = match current {
            Some(instance) => Change::Is(Current::of(instance, revision)),
            None => Change::Gone { revision },
        };
        let id = event.instance();
        let (gone, states) = split(id.iter().map(|id| (id, &change)))?;
        self.execute(Expected::ANY, None, false, &history, &gone, &states)
            .await
    }

    /// Forgets some of the states that were not in a seed. Whether there may be more of them.
    pub(super) async fn forget(&self, seed: &Seed) -> Result<bool, SinkError> {
        let revision = bigint(seed.revision.0)?;
        let parameters: [Parameter<'_>; 3] = [&self.term, &self.claims, &revision];
        let rows = self.client().query(&self.forget, &parameters).await;
        let row = self.held(rows).await?;
        let gone: i64 = row
            .try_get(1)
            .map_err(|error| fault(Doing::Writing, &error))?;
        Ok(gone == statements::FORGET_MAX)
    }

    /// Ends a seed, when all that was not in it is forgotten.
    pub(super) async fn seeded(&self, seed: &Seed) -> Result<(), SinkError> {
        let was = seed.was.unwrap_or_default();
        let missing = was < seed.then;
        let (after, to) = (numbers(was)?, numbers(seed.then)?);
        let (after, until) = (missing.then_some(after), missing.then_some(to));
        let rows = self
            .client()
            .query(
                &self.seeded,
                &[
                    &self.term,
                    &self.claims,
                    &to.0,
                    &to.1,
                    &bigint(seed.revision.0)?,
                    &Time::new(seed.at),
                    &seed.reason.name(),
                    &after.map(|it| it.0),
                    &after.map(|it| it.1),
                    &until.map(|it| it.0),
                    &until.map(|it| it.1),
                ],
            )
            .await;
        self.held(rows).await.map(drop)
    }

    async fn execute(
        &self,
        from: Expected,
        to: Option<(i64, i64)>,
        seeding: bool,
        history: &HistoryRows<'_>,
        gone: &GoneRows<'_>,
        states: &StateRows<'_>,
    ) -> Result<(), SinkError> {
        let (from_revision, from_position) =
            (from.cursor.map(|it| it.0), from.cursor.map(|it| it.1));
        let (to_revision, to_position) = (to.map(|it| it.0), to.map(|it| it.1));
        let place: [Parameter<'_>; statements::PLACE] = [
            &self.term,
            &self.claims,
            &from_revision,
            &from_position,
            &from.seeded,
            &to_revision,
            &to_position,
            &seeding,
        ];
        let (history, gone, states) =
            (history.parameters(), gone.parameters(), states.parameters());
        let parameters: Vec<Parameter<'_>> = [&place[..], &history, &gone, &states].concat();
        let rows = self.client().query(&self.write, &parameters).await;
        self.held(rows).await.map(drop)
    }

    /// The statement's answer if it found its claim as it was; if not, why.
    async fn held(&self, answer: Result<Vec<Row>, Error>) -> Result<Row, SinkError> {
        let writing = |error: Error| fault(Doing::Writing, &error);
        let mut rows = answer.map_err(writing)?;
        let row = rows.pop().ok_or_else(|| unavailable("it gave no answer"))?;
        if row.try_get(0).map_err(writing)? {
            return Ok(row);
        }
        let owner = owner(self.client(), &self.names).await.map_err(writing)?;
        let own = self.term.unsigned_abs();
        match owner {
            Some(owner) if owner.term > own => Err(SinkError::Fenced { term: owner.term }),
            _ => Err(SinkError::Moved),
        }
    }

    fn client(&self) -> &Client {
        self.connection.client()
    }
}

/// What a write expects of the place; nothing if it goes by the claim alone.
struct Expected {
    cursor: Option<(i64, i64)>,
    seeded: Option<i64>,
}

impl Expected {
    const ANY: Self = Self {
        cursor: None,
        seeded: None,
    };
}

fn numbers(cursor: EventCursor) -> Result<(i64, i64), SinkError> {
    Ok((bigint(cursor.revision.0)?, cursor.position.into()))
}

/// Why a claim was not granted.
async fn refused(client: &Client, names: &Names, claim: &Claim) -> SinkError {
    match owner(client, names).await {
        Ok(Some(owner)) => match owner.must_be(claim) {
            Ok(()) => SinkError::Fenced { term: owner.term },
            Err(error) => error,
        },
        Ok(None) => unavailable("somebody empties its table of sinks"),
        Err(error) => fault(Doing::Opening, &error),
    }
}

/// The claim's number, and the place.
fn read_claim(row: &Row) -> Result<(i64, Place), SinkError> {
    let failed = |error: Error| fault(Doing::Opening, &error);
    let claims = row.try_get(0).map_err(failed)?;
    let number = |column| row.try_get::<_, Option<i64>>(column).map_err(failed);
    let (revision, position, seeded) = (number(1)?, number(2)?, number(3)?);
    let (Some(revision), Some(position), Some(seeded)) = (revision, position, seeded) else {
        return Ok((claims, Place::Nothing));
    };
    let place = (|| {
        let cursor = EventCursor {
            revision: GlobalRevision(revision.try_into().ok()?),
            position: position.try_into().ok()?,
        };
        let seeded = GlobalRevision(seeded.try_into().ok()?);
        Some(Place::At(Checkpoint { cursor, seeded }))
    })();
    place
        .map(|place| (claims, place))
        .ok_or_else(|| misconfigured("its table of sinks holds a place that no sink wrote"))
}
