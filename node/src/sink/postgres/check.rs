//! The round trip for an operator: connect, insert several rows, find one, drop them.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_postgres::Error;

use super::connect::{Connection, Settings, connect};
use super::fault::{Doing, fault, misconfigured};
use super::schema::Names;
use super::within;
use crate::sink::{CheckStep, SinkError};

/// What the scratch tables are called, with a random number behind.
const SCRATCH: &str = "check_";

/// Goes through the steps until one fails. A table that was made is dropped whatever came after.
pub(super) async fn check(settings: &Settings, names: &Result<Names, String>) -> Vec<CheckStep> {
    let mut check = Check {
        timeout: settings.timeout,
        steps: vec![],
    };
    let connecting = async {
        let names = names.as_ref().map_err(misconfigured)?;
        Ok((names, connect(settings).await?))
    };
    let seen = |_: &_| "connected".to_owned();
    let Some((names, connection)) = check.step("connect", connecting, seen).await else {
        return check.steps;
    };
    let table = names.table(&format!("{SCRATCH}{:016x}", rand::random::<u64>()));
    if !check.fill(&connection, names, &table).await {
        clean_up(settings, connection, &table).await;
        return check.steps;
    }
    let dropping = run(&connection, format!("DROP TABLE {table}"));
    let seen = |(): &()| format!("dropped {table}");
    if check.step("drop", dropping, seen).await.is_none() {
        clean_up(settings, connection, &table).await;
    }
    check.steps
}

struct Check {
    timeout: Duration,
    steps: Vec<CheckStep>,
}

impl Check {
    /// The steps with a table. Whether all went well.
    async fn fill(&mut self, connection: &Connection, names: &Names, table: &str) -> bool {
        let creating = run(connection, create(names, table));
        let seen = |(): &()| format!("made {table}");
        if self.step("create a table", creating, seen).await.is_none() {
            return false;
        }
        let sql = format!("INSERT INTO {table} VALUES (1, 'one'), (2, 'two'), (3, 'three')");
        let seen = |(): &()| "3 rows".to_owned();
        if self
            .step("insert 3", run(connection, sql), seen)
            .await
            .is_none()
        {
            return false;
        }
        let sql = format!("SELECT name FROM {table} WHERE number = 2");
        let seen = |name: &String| format!("found {name}");
        let finding = find(connection, sql);
        self.step("find one", finding, seen).await.is_some()
    }

    /// Does a step and notes it; its result, if it went well.
    async fn step<T>(
        &mut self,
        step: &str,
        doing: impl Future<Output = Result<T, SinkError>> + Send,
        seen: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let begun = Instant::now();
        let done = within(self.timeout, doing).await;
        let result = match &done {
            Ok(value) => Ok(seen(value)),
            Err(error) => Err(error.to_string()),
        };
        self.steps.push(CheckStep {
            step: step.to_owned(),
            took: begun.elapsed(),
            result,
        });
        done.ok()
    }
}

/// The schema too, if it is not there: it would be made when the sink is opened, which may be at this
/// very moment, so it waits for the same lock.
fn create(names: &Names, table: &str) -> String {
    let schema = names.schema();
    format!(
        "DO $lockstep$ BEGIN \
           PERFORM pg_advisory_xact_lock(hashtextextended('lockstep {schema}', 0)); \
           IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF; \
         END $lockstep$; \
         CREATE TABLE {table} (number integer PRIMARY KEY, name text NOT NULL)"
    )
}

async fn run(connection: &Connection, sql: String) -> Result<(), SinkError> {
    let ran = connection.client().batch_execute(&sql).await;
    ran.map_err(failed)
}

async fn find(connection: &Connection, sql: String) -> Result<String, SinkError> {
    let row = connection.client().query_one(&sql, &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(failed)
}

fn failed(error: Error) -> SinkError {
    fault(Doing::Opening, &error)
}

/// Drops the table if it is there, on a new connection if the old one will not do. The operator has
/// been told already what went wrong.
async fn clean_up(settings: &Settings, connection: Connection, table: &str) {
    let sql = format!("DROP TABLE IF EXISTS {table}");
    let dropped = within(settings.timeout, run(&connection, sql.clone())).await;
    if dropped.is_ok() {
        return;
    }
    drop(connection);
    let again = async {
        let connection = connect(settings).await?;
        within(settings.timeout, run(&connection, sql)).await
    };
    if let Err(error) = again.await {
        tracing::warn!(table, %error, "a scratch table is left behind");
    }
}
