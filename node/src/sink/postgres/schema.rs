//! The tables: their names, their migrations, their owner.

use tokio_postgres::{Client, Error};

use super::connect::Connection;
use super::errors::{Operation, classify};
use crate::config::Sink;
use crate::sink::{Claim, SinkError};

/// In order; each can be run again.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/1.sql")];

/// The placeholders in SQL, and the names that replace them: quoted, and with their schema where they have
/// one.
#[derive(Debug, Clone)]
pub(super) struct Names([(&'static str, String); 8]);

impl Names {
    pub(super) fn new(sink: &Sink) -> Self {
        let Sink {
            schema,
            history,
            instances,
            ..
        } = sink;
        let table = |name: &str| format!("\"{schema}\".\"{name}\"");
        Self([
            ("{schema}", format!("\"{schema}\"")),
            ("{migrations}", table("migrations")),
            ("{seeds}", table("seeds")),
            ("{sinks}", table("sinks")),
            ("{history}", table(history)),
            ("{instances}", table(instances)),
            (
                "{history_by_instance}",
                format!("\"{history}_by_instance\""),
            ),
            ("{instances_by_state}", format!("\"{instances}_by_state\"")),
        ])
    }

    /// SQL with `{sinks}` and the like replaced by the names.
    pub(super) fn fill(&self, sql: &str) -> String {
        let fill = |sql: String, (from, to): &(&str, String)| sql.replace(from, to);
        self.0.iter().fold(sql.to_owned(), fill)
    }
}

/// Creates what is missing, unless the tables belong to another sink.
pub(super) async fn prepare(
    connection: &Connection,
    names: &Names,
    claim: &Claim,
) -> Result<(), SinkError> {
    let client = &connection.client;
    let failed = |error: Error| classify(Operation::Opening, &error);
    let missing = missing(client, names).await.map_err(failed)?;
    if !missing.contains(&names.fill("{sinks}"))
        && let Some(owner) = owner(client, names).await.map_err(failed)?
    {
        claim.follows(&owner, "the tables")?;
    }
    let version = match missing.is_empty() {
        true => version(client, names).await.map_err(failed)?,
        false => 0,
    };
    if version > MIGRATIONS.len() {
        return Err(SinkError::misconfigured(format!(
            "the tables in schema {} have version {version}, created by a newer Lockstep; this one \
             supports versions up to {}: upgrade this node",
            names.fill("{schema}"),
            MIGRATIONS.len()
        )));
    }
    for migration in &MIGRATIONS[version..] {
        let migration = names.fill(migration);
        client.batch_execute(&migration).await.map_err(failed)?;
    }
    Ok(())
}

async fn missing(client: &Client, names: &Names) -> Result<Vec<String>, Error> {
    let sql = "SELECT name FROM unnest(ARRAY['{migrations}', '{seeds}', '{sinks}', '{history}', \
               '{instances}']) AS own (name) WHERE to_regclass(name) IS NULL";
    let rows = client.query(&names.fill(sql), &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn version(client: &Client, names: &Names) -> Result<usize, Error> {
    let sql = names.fill("SELECT coalesce(max(version), 0) FROM {migrations}");
    let version: i32 = client.query_one(&sql, &[]).await?.try_get(0)?;
    Ok(usize::try_from(version).unwrap_or(0))
}

/// The last claim of the tables; `None` if no sink has claimed them yet.
pub(super) async fn owner(client: &Client, names: &Names) -> Result<Option<Claim>, Error> {
    let sql = names.fill("SELECT cluster, sink, term FROM {sinks}");
    let Some(row) = client.query_opt(&sql, &[]).await? else {
        return Ok(None);
    };
    Ok(Some(Claim {
        cluster: row.try_get(0)?,
        sink: row.try_get(1)?,
        term: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::statements;
    use super::*;

    #[test]
    fn every_name_in_the_sql_is_known() {
        let names = Names::new(&super::super::tests::config("", ""));
        let statements = [
            statements::CLAIM,
            statements::WRITE,
            statements::REMOVE_OLDER,
            statements::FINISH_BACKFILL,
        ];
        for sql in MIGRATIONS.iter().chain(&statements) {
            let filled = names.fill(sql).replace("'{}'", "");
            assert!(!filled.contains(['{', '}']), "{filled}");
        }
    }
}
