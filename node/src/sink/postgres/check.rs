//! Tests the database with a table of its own.

use std::time::Duration;

use super::Postgres;
use super::connect::{Connection, connect};
use super::errors::{Operation, classify};
use super::schema::Names;
use crate::sink::connect::within;
use crate::sink::{CheckSteps, SinkError};

/// What the scratch tables are called, before a random number.
const SCRATCH: &str = "check_";

/// Takes the steps until one fails. A table that was created is dropped in any case.
pub(super) async fn check(destination: &Postgres, steps: &mut CheckSteps) -> Option<()> {
    let connecting = connect(&destination.sink);
    let connected = |_: &Connection| "connected".to_owned();
    let connection = steps.take("connect", connecting, connected).await?;
    let table = format!("{{schema}}.\"{SCRATCH}{:016x}\"", rand::random::<u64>());
    let table = destination.names.fill(&table);
    let passed = use_table(steps, destination, &connection, &table).await;
    if passed.is_none() {
        clean_up(destination, connection, &table).await;
    }
    passed
}

/// The steps with a table. `None` if one failed.
async fn use_table(
    steps: &mut CheckSteps,
    destination: &Postgres,
    connection: &Connection,
    table: &str,
) -> Option<()> {
    let timeout = destination.sink.timeout;
    let run = |sql| run(connection, timeout, sql);
    let created = |(): &()| format!("created {table}");
    let creating = run(create(&destination.names, table));
    steps.take("create a table", creating, created).await?;
    let sql = format!("INSERT INTO {table} VALUES (1, 'one'), (2, 'two'), (3, 'three')");
    let inserted = |(): &()| "3 rows".to_owned();
    steps.take("insert 3", run(sql), inserted).await?;
    let sql = format!("SELECT name FROM {table} WHERE number = 2");
    let finding = within(timeout, async {
        let row = connection.client.query_one(&sql, &[]).await;
        let name = row.and_then(|row| row.try_get(0));
        name.map_err(|error| classify(Operation::Opening, &error))
    });
    let found = |name: &String| format!("found {name}");
    steps.take("find one", finding, found).await?;
    let dropping = run(format!("DROP TABLE {table}"));
    let dropped = |(): &()| format!("dropped {table}");
    steps.take("drop", dropping, dropped).await
}

/// Creates the table, and the schema if it is missing. The sink itself may create the schema at the same
/// time, so this takes the same lock.
fn create(names: &Names, table: &str) -> String {
    let schema = "DO $lockstep$ BEGIN \
           PERFORM pg_advisory_xact_lock(hashtextextended('lockstep {schema}', 0)); \
           IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF; \
         END $lockstep$;";
    let schema = names.fill(schema);
    format!("{schema} CREATE TABLE {table} (number integer PRIMARY KEY, name text NOT NULL)")
}

async fn run(connection: &Connection, timeout: Duration, sql: String) -> Result<(), SinkError> {
    within(timeout, async {
        let ran = connection.client.batch_execute(&sql).await;
        ran.map_err(|error| classify(Operation::Opening, &error))
    })
    .await
}

/// Drops the table if it exists, on a new connection if the old one fails. The step that failed is
/// reported already.
async fn clean_up(destination: &Postgres, connection: Connection, table: &str) {
    let sql = format!("DROP TABLE IF EXISTS {table}");
    let timeout = destination.sink.timeout;
    if run(&connection, timeout, sql.clone()).await.is_ok() {
        return;
    }
    drop(connection);
    let again = async {
        let connection = connect(&destination.sink).await?;
        run(&connection, timeout, sql).await
    };
    if let Err(error) = again.await {
        tracing::warn!(table, %error, "cannot drop a scratch table");
    }
}
