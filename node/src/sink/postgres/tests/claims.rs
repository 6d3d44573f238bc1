//! Who may write, and to whose tables.

use anyhow::Result;
use lockstep_tests::postgres::PASSWORD;
use serde_json::json;

use super::given::*;
use crate::config::Secret;
use crate::sink::postgres::Postgres;
use crate::sink::{Claim, Place, Sink, SinkError};

#[tokio::test]
async fn what_was_written_is_found_by_the_next_who_opens() -> Result<()> {
    let mut given = Given::seeded().await?;
    let events = [created(1, "order/1"), moved(2, "order/1", "paid")];
    given
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    let place = Place::At(checkpoint(2, 0, 0));
    assert_eq!(given.sink.open(&claim(1)).await?, place, "once more");
    let mut next = sink(&given.server.address());
    assert_eq!(next.open(&claim(2)).await?, place, "by the next leader");
    Ok(())
}

#[tokio::test]
async fn a_leader_of_an_older_term_changes_nothing() -> Result<()> {
    let mut given = Given::seeded().await?;
    let mut next = sink(&given.server.address());
    next.open(&claim(5)).await?;
    let events = [created(1, "order/1")];
    let fenced = Err(SinkError::Fenced { term: 5 });
    let from = checkpoint(0, 0, 0);
    assert_eq!(given.sink.write(&batch(from, &events)).await, fenced);
    assert_eq!(given.sink.open(&claim(4)).await.map(drop), fenced);

    // Nor by any other of its calls.
    let mut old = sink(&given.server.address());
    for call in 0..3 {
        next.open(&claim(5 + 2 * call)).await?;
        old.open(&claim(6 + 2 * call)).await?;
        let term = 7 + 2 * call;
        next.open(&claim(term)).await?;
        let page = [instance("order/1", "paid")];
        let ended = match call {
            0 => old.seed(&seed(9, None, 9), &page).await,
            1 => old.seeded(&seed(9, None, 9)).await,
            _ => {
                let current = Some(&page[0].1);
                old.replay(&events[0], current, events[0].revision).await
            }
        };
        assert_eq!(ended, Err(SinkError::Fenced { term }), "call {call}");
    }
    assert_eq!(given.history().await?, []);
    assert_eq!(given.states().await?, []);
    assert_eq!(next.open(&claim(20)).await?, Place::At(from));
    Ok(())
}

#[tokio::test]
async fn a_statement_of_an_earlier_connection_of_the_same_leader_changes_nothing() -> Result<()> {
    let mut given = Given::seeded().await?;
    let mut again = sink(&given.server.address());
    again.open(&claim(1)).await?;
    let page = [instance("order/1", "paid")];
    let late = given.sink.seed(&seed(9, None, 9), &page).await;
    assert_eq!(late, Err(SinkError::Moved));
    assert_eq!(given.states().await?, []);
    Ok(())
}

#[tokio::test]
async fn tables_of_another_cluster_or_sink_are_left_alone() -> Result<()> {
    let mut given = Given::seeded().await?;
    let before = given.rows("SELECT * FROM lockstep.sinks").await?;
    let mut other = sink(&given.server.address());
    let of_cluster = Claim {
        cluster: "c2".to_owned(),
        ..claim(9)
    };
    let reason = misconfigured(other.open(&of_cluster).await);
    assert!(reason.contains("sink reports of cluster c1"), "{reason}");
    let of_sink = Claim {
        sink: "audit".to_owned(),
        ..claim(9)
    };
    let reason = misconfigured(other.open(&of_sink).await);
    assert!(reason.contains("sink reports of this cluster"), "{reason}");
    assert_eq!(given.rows("SELECT * FROM lockstep.sinks").await?, before);
    let events = [created(1, "order/1")];
    given
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_said_and_the_mended_file_read() -> Result<()> {
    let given = Given::started().await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "wrong\n")?;
    let (config, mut postgres) = config(&given.server.address(), "");
    postgres.password = Some(Secret::File(file.path().to_owned()));
    let mut sink = Postgres::new(&config, &postgres);
    let reason = misconfigured(sink.open(&claim(1)).await);
    assert!(
        reason.contains("password authentication failed"),
        "{reason}"
    );
    assert!(
        reason.contains(&given.server.port().to_string()),
        "{reason}"
    );
    assert!(!reason.contains("wrong"), "{reason}");
    std::fs::write(file.path(), format!("{PASSWORD}\n"))?;
    assert_eq!(sink.open(&claim(1)).await?, Place::Nothing);
    Ok(())
}

#[tokio::test]
async fn a_host_without_an_address_is_absent() {
    let mut sink = sink("postgres://lockstep@nobody.invalid/lockstep");
    let host = "nobody.invalid".to_owned();
    assert_eq!(sink.open(&claim(1)).await, Err(SinkError::Absent { host }));
}

#[tokio::test]
async fn tls_that_the_server_does_not_speak_is_a_fault_of_the_configuration() -> Result<()> {
    let given = Given::started().await?;
    let mut sink = sink(&format!("{}?sslmode=verify-full", given.server.address()));
    let reason = misconfigured(sink.open(&claim(1)).await);
    assert!(reason.contains("does not support TLS"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_user_without_rights_is_told_so() -> Result<()> {
    let mut given = Given::started().await?;
    let administrator = given.server.administrator().await?;
    administrator
        .batch_execute("REVOKE CREATE ON DATABASE lockstep FROM lockstep; ALTER DATABASE lockstep OWNER TO postgres")
        .await?;
    let reason = misconfigured(given.sink.open(&claim(1)).await);
    assert!(reason.contains("permission denied"), "{reason}");
    // A schema that is there already is all that it takes.
    administrator
        .batch_execute("CREATE SCHEMA lockstep AUTHORIZATION lockstep")
        .await?;
    assert_eq!(given.sink.open(&claim(1)).await?, Place::Nothing);
    Ok(())
}

#[tokio::test]
async fn tables_of_a_newer_version_and_strangers_tables_are_refused() -> Result<()> {
    let mut given = Given::seeded().await?;
    let newer = "INSERT INTO lockstep.migrations (version) VALUES (99)";
    given.client.batch_execute(newer).await?;
    let reason = misconfigured(given.sink.open(&claim(1)).await);
    assert!(reason.contains("newer Lockstep"), "{reason}");

    let strangers = "DROP SCHEMA lockstep CASCADE; CREATE SCHEMA lockstep; \
                     CREATE TABLE lockstep.history (machine text, instance text, revision text)";
    given.client.batch_execute(strangers).await?;
    misconfigured(given.sink.open(&claim(1)).await);
    let left = given
        .rows("SELECT count(*) AS tables FROM pg_tables WHERE schemaname = 'lockstep'")
        .await?;
    assert_eq!(left, [json!({"tables": 1})], "nothing is made halfway");
    Ok(())
}
