//! Tests the database with a table of its own.

use tokio_postgres::Error;

use super::connect::{Connection, PostgresSettings, connect};
use super::errors::{Operation, classify};
use super::schema::Names;
use super::within;
use crate::sink::{CheckStep, CheckSteps, SinkError};

/// What the scratch tables are called, before a random number.
const SCRATCH: &str = "check_";

/// Takes the steps until one fails. A table that was created is dropped in any case.
pub(super) async fn check(
    settings: &PostgresSettings,
    names: &Result<Names, String>,
) -> Vec<CheckStep> {
    let mut steps = CheckSteps::default();
    let connecting = async {
        let names = names.as_ref().map_err(SinkError::misconfigured)?;
        Ok((names, connect(settings).await?))
    };
    let connected = |_: &_| "connected".to_owned();
    let Some((names, connection)) = steps.take("connect", connecting, connected).await else {
        return steps.0;
    };
    let table = names.table(&format!("{SCRATCH}{:016x}", rand::random::<u64>()));
    let passed = use_table(&mut steps, settings, &connection, names, &table).await;
    if passed.is_none() {
        clean_up(settings, connection, &table).await;
    }
    steps.0
}

/// The steps with a table. `None` if one failed.
async fn use_table(
    steps: &mut CheckSteps,
    settings: &PostgresSettings,
    connection: &Connection,
    names: &Names,
    table: &str,
) -> Option<()> {
    let run = |sql| within(settings.timeout, run(connection, sql));
    let created = |(): &()| format!("created {table}");
    let creating = run(create(names, table));
    steps.take("create a table", creating, created).await?;
    let sql = format!("INSERT INTO {table} VALUES (1, 'one'), (2, 'two'), (3, 'three')");
    let inserted = |(): &()| "3 rows".to_owned();
    steps.take("insert 3", run(sql), inserted).await?;
    let sql = format!("SELECT name FROM {table} WHERE number = 2");
    let finding = within(settings.timeout, find(connection, sql));
    let found = |name: &String| format!("found {name}");
    steps.take("find one", finding, found).await?;
    let dropping = run(format!("DROP TABLE {table}"));
    let dropped = |(): &()| format!("dropped {table}");
    steps.take("drop", dropping, dropped).await
}

/// Creates the table, and the schema if it is missing. The sink itself may create the schema at the same
/// time, so this takes the same lock.
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
    classify(Operation::Opening, &error)
}

/// Drops the table if it exists, on a new connection if the old one fails. The step that failed is
/// reported already.
async fn clean_up(settings: &PostgresSettings, connection: Connection, table: &str) {
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
        tracing::warn!(table, %error, "a scratch table could not be dropped");
    }
}
