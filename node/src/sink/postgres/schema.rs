//! The tables: their names, their migrations, their owner.

use std::fmt::Write;

use tokio_postgres::{Client, Error};

use super::connect::Connection;
use super::errors::{Operation, classify};
use crate::sink::{Claim, SinkError};

/// In order; each can be run again.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/1.sql")];

/// The longest name that PostgreSQL does not truncate, in bytes.
const NAME_LEN_MAX: usize = 63;

/// The names of tables that cannot be configured.
const OWN: [&str; 3] = ["migrations", "seeds", "sinks"];

/// The names in SQL: quoted, and with their schema where they have one.
#[derive(Debug, Clone)]
pub(super) struct Names {
    schema: String,
    migrations: String,
    seeds: String,
    sinks: String,
    history: String,
    instances: String,
    history_by_instance: String,
    instances_by_state: String,
}

impl Names {
    /// Checks the configured names.
    ///
    /// # Errors
    ///
    /// A reason, if one of them cannot be used.
    pub(super) fn new(schema: &str, history: &str, instances: &str) -> Result<Self, String> {
        for name in [schema, history, instances] {
            check(name)?;
        }
        for name in [history, instances] {
            if OWN.contains(&name) {
                return Err(format!(
                    "the table name {name} is reserved for the sink's own use; configure another one"
                ));
            }
        }
        if history == instances {
            return Err(format!(
                "history and instances are both the table {history}; configure two different tables"
            ));
        }
        let table = |name: &str| format!("\"{schema}\".\"{name}\"");
        Ok(Self {
            schema: format!("\"{schema}\""),
            migrations: table("migrations"),
            seeds: table("seeds"),
            sinks: table("sinks"),
            history: table(history),
            instances: table(instances),
            history_by_instance: format!("\"{history}_by_instance\""),
            instances_by_state: format!("\"{instances}_by_state\""),
        })
    }

    /// A table in the schema, quoted.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.\"{name}\"", self.schema)
    }

    /// The schema, quoted.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// SQL with `{sinks}` and the like replaced by the names.
    pub(super) fn fill(&self, sql: &str) -> String {
        let names = [
            ("{schema}", &self.schema),
            ("{migrations}", &self.migrations),
            ("{seeds}", &self.seeds),
            ("{sinks}", &self.sinks),
            ("{history}", &self.history),
            ("{instances}", &self.instances),
            ("{history_by_instance}", &self.history_by_instance),
            ("{instances_by_state}", &self.instances_by_state),
        ];
        names
            .into_iter()
            .fold(sql.to_owned(), |sql, (from, to)| sql.replace(from, to))
    }

    fn tables(&self) -> [&str; 5] {
        let Self {
            migrations,
            seeds,
            sinks,
            history,
            instances,
            ..
        } = self;
        [migrations, seeds, sinks, history, instances]
    }
}

/// Only names that need no quotes, so that users' queries need none either.
fn check(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let goes_on = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if begins && name.chars().all(goes_on) && name.len() <= NAME_LEN_MAX {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not a valid table or schema name: use small letters, digits and '_', \
         no digit first, at most {NAME_LEN_MAX} characters"
    ))
}

/// Creates what is missing, unless the tables belong to another sink.
pub(super) async fn prepare(
    connection: &Connection,
    names: &Names,
    claim: &Claim,
) -> Result<(), SinkError> {
    let client = connection.client();
    let failed = |error: Error| classify(Operation::Opening, &error);
    let missing = missing(client, names).await.map_err(failed)?;
    if !missing.contains(&names.sinks)
        && let Some(owner) = owner(client, names).await.map_err(failed)?
    {
        owner.must_be(claim)?;
    }
    let version = match missing.is_empty() {
        true => version(client, names).await.map_err(failed)?,
        false => 0,
    };
    if version > MIGRATIONS.len() {
        return Err(SinkError::misconfigured(format!(
            "the tables in schema {} have version {version}, created by a newer Lockstep; this one \
             supports versions up to {}: upgrade this node",
            names.schema,
            MIGRATIONS.len()
        )));
    }
    for migration in &MIGRATIONS[version..] {
        let migration = names.fill(migration);
        client.batch_execute(&migration).await.map_err(failed)?;
    }
    Ok(())
}

/// The tables that do not exist.
async fn missing(client: &Client, names: &Names) -> Result<Vec<String>, Error> {
    let sql = "SELECT name FROM unnest($1::text[]) AS own (name) WHERE to_regclass(name) IS NULL";
    let rows = client.query(sql, &[&names.tables().as_slice()]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn version(client: &Client, names: &Names) -> Result<usize, Error> {
    let sql = names.fill("SELECT coalesce(max(version), 0) FROM {migrations}");
    let version: i32 = client.query_one(&sql, &[]).await?.try_get(0)?;
    Ok(usize::try_from(version).unwrap_or(0))
}

/// The sink that owns the tables.
pub(super) struct Owner {
    cluster: String,
    sink: String,
    /// The term of the last claim.
    pub(super) term: u64,
}

/// `None` if no sink has claimed the tables yet.
pub(super) async fn owner(client: &Client, names: &Names) -> Result<Option<Owner>, Error> {
    let sql = names.fill("SELECT cluster, sink, term FROM {sinks}");
    let Some(row) = client.query_opt(&sql, &[]).await? else {
        return Ok(None);
    };
    Ok(Some(Owner {
        cluster: row.try_get(0)?,
        sink: row.try_get(1)?,
        term: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0),
    }))
}

impl Owner {
    /// Fails unless the claim is the owner's.
    pub(super) fn must_be(&self, claim: &Claim) -> Result<(), SinkError> {
        let mut other = String::new();
        if self.cluster != claim.cluster {
            // Writing into a String does not fail.
            let _ = write!(other, "sink {} of cluster {}", self.sink, self.cluster);
        } else if self.sink != claim.sink {
            let _ = write!(other, "sink {} of this cluster", self.sink);
        } else {
            return Ok(());
        }
        Err(SinkError::misconfigured(format!(
            "the tables belong to {other}: configure another schema for sink {}, \
             or drop these tables if they are no longer in use",
            claim.sink
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_quotes_or_are_reserved_are_rejected() {
        assert!(Names::new("lockstep", "history", "instances").is_ok());
        assert!(Names::new("_1", "a", "b").is_ok());
        let long = "x".repeat(NAME_LEN_MAX + 1);
        let cases = [
            ("", "history", "instances", "\"\""),
            ("Lockstep", "history", "instances", "Lockstep"),
            ("lockstep", "1st", "instances", "1st"),
            ("lockstep", "history", "a\"b", "small letters"),
            ("lockstep", &long, "instances", "63"),
            ("lockstep", "sinks", "instances", "sinks"),
            ("lockstep", "same", "same", "both"),
        ];
        for (schema, history, instances, reason) in cases {
            let refused = Names::new(schema, history, instances).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn every_name_in_the_migrations_is_known() {
        let names = Names::new("one", "two", "three").unwrap();
        for migration in MIGRATIONS {
            let filled = names.fill(migration);
            assert!(!filled.contains(['{', '}']), "{filled}");
        }
    }
}
