//! A claimed connection, and the writes through it.

use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision, Instance, InstanceId};
use tokio_postgres::{Client, Error, Row, Statement};

use super::connect::Connection;
use super::errors::{Operation, classify};
use super::rows::{DeletedRows, HistoryRows, Parameter, StateRows, Time, bigint, split};
use super::schema::{Names, owner};
use super::statements;
use crate::sink::{
    Backfill, Batch, Change, Checkpoint, Claim, Current, SinkError, StoredCheckpoint, changes,
};

/// Writes under one claim.
pub(super) struct PostgresWriter {
    connection: Connection,
    names: Names,
    /// The claim's term.
    term: i64,
    /// The number of the claim.
    claims: i64,
    write: Statement,
    remove_older: Statement,
    finish_backfill: Statement,
}

impl PostgresWriter {
    /// Claims the tables, and reads their checkpoint.
    pub(super) async fn claim(
        connection: Connection,
        names: &Names,
        claim: &Claim,
    ) -> Result<(Self, StoredCheckpoint), SinkError> {
        let client = connection.client();
        let failed = |error: Error| classify(Operation::Opening, &error);
        let term =
            bigint(claim.term).map_err(|error| SinkError::misconfigured(error.to_string()))?;
        let sql = [
            statements::write(names),
            statements::remove_older(names),
            statements::finish_backfill(names),
        ];
        // Before the claim, so that a statement that does not fit the tables fails without one.
        let (write, remove_older, finish_backfill) = futures::try_join!(
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
            return Err(claim_error(client, names, claim).await);
        };
        let (claims, checkpoint) = read_claim(&row)?;
        let writer = Self {
            connection,
            names: names.clone(),
            term,
            claims,
            write,
            remove_older,
            finish_backfill,
        };
        Ok((writer, checkpoint))
    }

    /// The connection, if it is still alive.
    pub(super) fn into_connection(self) -> Option<Connection> {
        Some(self.connection).filter(Connection::is_alive)
    }

    /// Writes a batch.
    pub(super) async fn write(&self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let history = HistoryRows::of(batch.events.iter().map(AsRef::as_ref))?;
        let changes = changes(batch.events, batch.from.seeded);
        let (deleted, states) = split(&changes)?;
        let from = Expected {
            cursor: Some(numbers(batch.from.cursor)?),
            seeded: Some(bigint(batch.from.seeded.0)?),
        };
        let to = Some(numbers(batch.to)?);
        self.execute(from, to, false, &history, &deleted, &states)
            .await
    }

    /// Writes states of a backfill.
    pub(super) async fn backfill_page(
        &self,
        backfill: &Backfill,
        page: &[(InstanceId, Instance)],
    ) -> Result<(), SinkError> {
        let changes: Vec<_> = page
            .iter()
            .map(|(_, instance)| Change::Is(Current::of(instance, backfill.revision)))
            .collect();
        let (deleted, states) = split(page.iter().map(|(id, _)| id).zip(&changes))?;
        let history = HistoryRows::default();
        self.execute(Expected::ANY, None, true, &history, &deleted, &states)
            .await
    }

    /// Writes the event of a dead letter, and the current state of its instance.
    pub(super) async fn replay(
        &self,
        event: &Event,
        current: Option<&Instance>,
        revision: GlobalRevision,
    ) -> Result<(), SinkError> {
        let event_row = (event.kind != EventKind::Seeded).then_some(event);
        let history = HistoryRows::of(event_row)?;
        let change = match current {
            Some(instance) => Change::Is(Current::of(instance, revision)),
            None => Change::Deleted { revision },
        };
        let id = event.instance();
        let (deleted, states) = split(id.iter().map(|id| (id, &change)))?;
        self.execute(Expected::ANY, None, false, &history, &deleted, &states)
            .await
    }

    /// Removes some of the states that a backfill did not contain. Whether there may be more.
    pub(super) async fn remove_older(&self, backfill: &Backfill) -> Result<bool, SinkError> {
        let revision = bigint(backfill.revision.0)?;
        let parameters: [Parameter<'_>; 3] = [&self.term, &self.claims, &revision];
        let rows = self.client().query(&self.remove_older, &parameters).await;
        let row = self.check_claim(rows).await?;
        let removed: i64 = row
            .try_get(1)
            .map_err(|error| classify(Operation::Writing, &error))?;
        Ok(removed == statements::REMOVE_MAX)
    }

    /// Ends a backfill, after the removals.
    pub(super) async fn finish_backfill(&self, backfill: &Backfill) -> Result<(), SinkError> {
        let previous = backfill.previous.unwrap_or_default();
        let missing = previous < backfill.resume_at;
        let (after, to) = (numbers(previous)?, numbers(backfill.resume_at)?);
        let (after, until) = (missing.then_some(after), missing.then_some(to));
        let rows = self
            .client()
            .query(
                &self.finish_backfill,
                &[
                    &self.term,
                    &self.claims,
                    &to.0,
                    &to.1,
                    &bigint(backfill.revision.0)?,
                    &Time::new(backfill.at),
                    &backfill.reason.name(),
                    &after.map(|it| it.0),
                    &after.map(|it| it.1),
                    &until.map(|it| it.0),
                    &until.map(|it| it.1),
                ],
            )
            .await;
        self.check_claim(rows).await.map(drop)
    }

    async fn execute(
        &self,
        from: Expected,
        to: Option<(i64, i64)>,
        backfilling: bool,
        history: &HistoryRows<'_>,
        deleted: &DeletedRows<'_>,
        states: &StateRows<'_>,
    ) -> Result<(), SinkError> {
        let (from_revision, from_position) =
            (from.cursor.map(|it| it.0), from.cursor.map(|it| it.1));
        let (to_revision, to_position) = (to.map(|it| it.0), to.map(|it| it.1));
        let checkpoint: [Parameter<'_>; statements::CHECKPOINT] = [
            &self.term,
            &self.claims,
            &from_revision,
            &from_position,
            &from.seeded,
            &to_revision,
            &to_position,
            &backfilling,
        ];
        let (history, deleted, states) = (
            history.parameters(),
            deleted.parameters(),
            states.parameters(),
        );
        let parameters: Vec<Parameter<'_>> =
            [&checkpoint[..], &history, &deleted, &states].concat();
        let rows = self.client().query(&self.write, &parameters).await;
        self.check_claim(rows).await.map(drop)
    }

    /// The statement's answer if the claim held; otherwise why it did not.
    async fn check_claim(&self, answer: Result<Vec<Row>, Error>) -> Result<Row, SinkError> {
        let writing = |error: Error| classify(Operation::Writing, &error);
        let mut rows = answer.map_err(writing)?;
        let row = rows
            .pop()
            .ok_or_else(|| SinkError::unavailable("the server returned no row"))?;
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

/// The checkpoint that a write expects; `ANY` if only the claim matters.
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

/// Why a claim failed.
async fn claim_error(client: &Client, names: &Names, claim: &Claim) -> SinkError {
    match owner(client, names).await {
        Ok(Some(owner)) => match owner.must_be(claim) {
            Ok(()) => SinkError::Fenced { term: owner.term },
            Err(error) => error,
        },
        Ok(None) => SinkError::unavailable("its `sinks` table was emptied concurrently"),
        Err(error) => classify(Operation::Opening, &error),
    }
}

/// The claim's number, and the checkpoint.
fn read_claim(row: &Row) -> Result<(i64, StoredCheckpoint), SinkError> {
    let failed = |error: Error| classify(Operation::Opening, &error);
    let claims = row.try_get(0).map_err(failed)?;
    let number = |column| row.try_get::<_, Option<i64>>(column).map_err(failed);
    let (revision, position, seeded) = (number(1)?, number(2)?, number(3)?);
    let (Some(revision), Some(position), Some(seeded)) = (revision, position, seeded) else {
        return Ok((claims, StoredCheckpoint::Empty));
    };
    let checkpoint = (|| {
        let cursor = EventCursor {
            revision: GlobalRevision(revision.try_into().ok()?),
            position: position.try_into().ok()?,
        };
        let seeded = GlobalRevision(seeded.try_into().ok()?);
        Some(StoredCheckpoint::At(Checkpoint { cursor, seeded }))
    })();
    checkpoint
        .map(|checkpoint| (claims, checkpoint))
        .ok_or_else(|| SinkError::misconfigured(
            "its `sinks` table holds a checkpoint that is out of range; restore the table or drop the schema",
        ))
}
