//! A claimed connection, and the statements through it.

use std::fmt::Debug;
use std::time::Duration;

use lockstep_machine::{Event, EventCursor, GlobalRevision};
use serde::Serialize;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, Error, Row, Statement};

use super::connect::Connection;
use super::errors::{Operation, classify};
use super::schema::{Names, owner};
use super::statements;
use crate::sink::connect::within;
use crate::sink::{Backfill, Checkpoint, Claim, SinkError, StoredCheckpoint, signed};

/// Writes under one claim.
pub(super) struct Claimed {
    connection: Connection,
    names: Names,
    timeout: Duration,
    term: i64,
    claims: i64,
    write: Statement,
    remove_older: Statement,
    finish_backfill: Statement,
}

impl Claimed {
    /// Claims the tables, and reads their checkpoint.
    pub(super) async fn claim(
        connection: Connection,
        names: &Names,
        claim: &Claim,
        timeout: Duration,
    ) -> Result<(Self, StoredCheckpoint), SinkError> {
        let client = &connection.client;
        let failed = |error: Error| classify(Operation::Opening, &error);
        let term = signed(claim.term);
        let sql = [
            statements::WRITE,
            statements::REMOVE_OLDER,
            statements::FINISH_BACKFILL,
        ]
        .map(|sql| names.fill(sql));
        // Before the claim, so that a statement that does not fit the tables fails without one.
        let (write, remove_older, finish_backfill) = futures::try_join!(
            client.prepare(&sql[0]),
            client.prepare(&sql[1]),
            client.prepare(&sql[2])
        )
        .map_err(failed)?;
        let claiming = names.fill(statements::CLAIM);
        let claimed = client
            .query_opt(&claiming, &[&claim.cluster, &claim.sink, &term])
            .await
            .map_err(failed)?;
        let Some(row) = claimed else {
            return Err(claim_error(client, names, claim).await);
        };
        let (claims, checkpoint) = read_claim(&row)?;
        let claimed = Self {
            connection,
            names: names.clone(),
            timeout,
            term,
            claims,
            write,
            remove_older,
            finish_backfill,
        };
        Ok((claimed, checkpoint))
    }

    /// Writes events and states, if the checkpoint is `from`, and advances it, each if given. The states
    /// of a backfill replace any other.
    pub(super) async fn write(
        &self,
        from: Option<Checkpoint>,
        to: Option<EventCursor>,
        backfilling: bool,
        events: &[&Event],
        states: &[impl Serialize + Debug + Sync],
    ) -> Result<(), SinkError> {
        let (from_revision, from_position) = numbers(from.map(|it| it.cursor));
        let seeded = from.map(|it| signed(it.seeded.0));
        let (to_revision, to_position) = numbers(to);
        let parameters: [&(dyn ToSql + Sync); _] = [
            &self.term,
            &self.claims,
            &from_revision,
            &from_position,
            &seeded,
            &to_revision,
            &to_position,
            &backfilling,
            &Json(events),
            &Json(states),
        ];
        self.run(&self.write, &parameters).await.map(drop)
    }

    /// Removes some of the states that a backfill did not contain. Whether there may be more.
    pub(super) async fn remove_older(&self, backfill: &Backfill) -> Result<bool, SinkError> {
        const REMOVE_MAX: i64 = 20_000;
        let revision = signed(backfill.revision.0);
        let parameters: [&(dyn ToSql + Sync); _] =
            [&self.term, &self.claims, &revision, &REMOVE_MAX];
        let row = self.run(&self.remove_older, &parameters).await?;
        let removed: i64 = row
            .try_get(1)
            .map_err(|error| classify(Operation::Writing, &error))?;
        Ok(removed == REMOVE_MAX)
    }

    /// Ends a backfill, after the removals.
    pub(super) async fn finish_backfill(&self, backfill: &Backfill) -> Result<(), SinkError> {
        let previous = backfill.previous.unwrap_or_default();
        let missing = previous < backfill.resume_at;
        let (revision, position) = numbers(Some(backfill.resume_at));
        let (after_revision, after_position) = numbers(missing.then_some(previous));
        let (until_revision, until_position) = numbers(missing.then_some(backfill.resume_at));
        let parameters: [&(dyn ToSql + Sync); _] = [
            &self.term,
            &self.claims,
            &revision,
            &position,
            &signed(backfill.revision.0),
            &signed(backfill.at.0),
            &backfill.reason.name(),
            &after_revision,
            &after_position,
            &until_revision,
            &until_position,
        ];
        self.run(&self.finish_backfill, &parameters).await.map(drop)
    }

    /// Runs a statement. Its row, if the claim held; otherwise why it did not.
    async fn run(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, SinkError> {
        let writing = |error: Error| classify(Operation::Writing, &error);
        let client = &self.connection.client;
        let exchange = async {
            let row = client.query_one(statement, parameters).await;
            let row = row.map_err(writing)?;
            if row.try_get(0).map_err(writing)? {
                return Ok(row);
            }
            let owner = owner(client, &self.names).await.map_err(writing)?;
            match owner {
                Some(owner) if owner.term > self.term.unsigned_abs() => {
                    Err(SinkError::Fenced { term: owner.term })
                }
                Some(_) | None => Err(SinkError::Moved),
            }
        };
        within(self.timeout, exchange).await
    }
}

/// The revision and the position of a cursor, each null without one.
fn numbers(cursor: Option<EventCursor>) -> (Option<i64>, Option<i64>) {
    let revision = cursor.map(|it| signed(it.revision.0));
    (revision, cursor.map(|it| it.position.into()))
}

async fn claim_error(client: &Client, names: &Names, claim: &Claim) -> SinkError {
    match owner(client, names).await {
        Ok(Some(owner)) => match claim.follows(&owner, "the tables") {
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
