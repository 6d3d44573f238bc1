//! Claims, and the owner of the tables.

use anyhow::Result;
use lockstep_tests::postgres::PASSWORD;
use serde_json::json;

use super::fixtures::{Fixture, config, sink};
use crate::sink::postgres::Postgres;
use crate::sink::tests::fixtures::*;
use crate::sink::{Claim, Destination, SinkError, StoredCheckpoint};

#[tokio::test]
async fn the_next_claim_finds_the_checkpoint() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [created(1, "order/1"), moved(2, "order/1", "paid")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    let stored = StoredCheckpoint::At(checkpoint(2, 0, 0));
    assert_eq!(fixture.sink.open(&claim(1)).await?, stored, "once more");
    let mut next = sink(&fixture.server.address());
    assert_eq!(next.open(&claim(2)).await?, stored, "by the next leader");
    Ok(())
}

#[tokio::test]
async fn a_leader_of_an_older_term_changes_nothing() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let mut next = sink(&fixture.server.address());
    next.open(&claim(5)).await?;
    let events = [created(1, "order/1")];
    let fenced = Err(SinkError::Fenced { term: 5 });
    let from = checkpoint(0, 0, 0);
    assert_eq!(fixture.sink.write(&batch(from, &events)).await, fenced);
    assert_eq!(fixture.sink.open(&claim(4)).await.map(drop), fenced);

    // Nor by any other call.
    let mut old = sink(&fixture.server.address());
    for call in 0..3 {
        next.open(&claim(5 + 2 * call)).await?;
        old.open(&claim(6 + 2 * call)).await?;
        let term = 7 + 2 * call;
        next.open(&claim(term)).await?;
        let page = [current("order/1", "paid", 9)];
        let ended = match call {
            0 => old.backfill_page(&backfill(9, None, 9), &page).await,
            1 => old.finish_backfill(&backfill(9, None, 9)).await,
            _ => old.replay(&events[0], now("order/1", "paid", 1)).await,
        };
        assert_eq!(ended, Err(SinkError::Fenced { term }), "call {call}");
    }
    assert_eq!(fixture.history().await?, []);
    assert_eq!(fixture.states().await?, []);
    assert_eq!(next.open(&claim(20)).await?, StoredCheckpoint::At(from));
    Ok(())
}

#[tokio::test]
async fn a_statement_of_an_earlier_connection_of_the_same_leader_changes_nothing() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let mut again = sink(&fixture.server.address());
    again.open(&claim(1)).await?;
    let page = [current("order/1", "paid", 9)];
    let late = fixture
        .sink
        .backfill_page(&backfill(9, None, 9), &page)
        .await;
    assert_eq!(late, Err(SinkError::Moved));
    assert_eq!(fixture.states().await?, []);
    Ok(())
}

#[tokio::test]
async fn tables_of_another_cluster_or_sink_are_not_written() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let before = fixture.rows("SELECT * FROM lockstep.sinks").await?;
    let mut other = sink(&fixture.server.address());
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
    assert_eq!(fixture.rows("SELECT * FROM lockstep.sinks").await?, before);
    let events = [created(1, "order/1")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_reported_and_the_corrected_file_is_read() -> Result<()> {
    let fixture = Fixture::started().await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "wrong\n")?;
    let mut config = config(&fixture.server.address(), "");
    config.password = None;
    config.password_file = Some(file.path().to_owned());
    let mut sink = Postgres::new(config);
    let reason = misconfigured(sink.open(&claim(1)).await);
    assert!(
        reason.contains("password authentication failed"),
        "{reason}"
    );
    assert!(
        reason.contains(&fixture.server.port().to_string()),
        "{reason}"
    );
    assert!(!reason.contains("wrong"), "{reason}");
    std::fs::write(file.path(), format!("{PASSWORD}\n"))?;
    assert_eq!(sink.open(&claim(1)).await?, StoredCheckpoint::Empty);
    Ok(())
}

#[tokio::test]
async fn a_host_without_an_address_is_absent() {
    let mut sink = sink("postgres://lockstep@no-such-host.invalid/lockstep");
    let host = "no-such-host.invalid".to_owned();
    assert_eq!(sink.open(&claim(1)).await, Err(SinkError::Absent { host }));
}

#[tokio::test]
async fn tls_that_the_server_does_not_support_is_a_misconfiguration() -> Result<()> {
    let fixture = Fixture::started().await?;
    let mut sink = sink(&format!("{}?sslmode=verify-full", fixture.server.address()));
    let reason = misconfigured(sink.open(&claim(1)).await);
    assert!(reason.contains("does not support TLS"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn missing_permissions_are_reported() -> Result<()> {
    let mut fixture = Fixture::started().await?;
    let administrator = fixture.server.administrator().await?;
    administrator
        .batch_execute("REVOKE CREATE ON DATABASE lockstep FROM lockstep; ALTER DATABASE lockstep OWNER TO postgres")
        .await?;
    let reason = misconfigured(fixture.sink.open(&claim(1)).await);
    assert!(reason.contains("permission denied"), "{reason}");
    // An existing schema is enough.
    administrator
        .batch_execute("CREATE SCHEMA lockstep AUTHORIZATION lockstep")
        .await?;
    assert_eq!(fixture.sink.open(&claim(1)).await?, StoredCheckpoint::Empty);
    Ok(())
}

#[tokio::test]
async fn tables_of_a_newer_version_and_foreign_tables_are_rejected() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let newer = "INSERT INTO lockstep.migrations (version) VALUES (99)";
    fixture.client.batch_execute(newer).await?;
    let reason = misconfigured(fixture.sink.open(&claim(1)).await);
    assert!(reason.contains("newer Lockstep"), "{reason}");

    let strangers = "DROP SCHEMA lockstep CASCADE; CREATE SCHEMA lockstep; \
                     CREATE TABLE lockstep.history (machine text, instance text, revision text)";
    fixture.client.batch_execute(strangers).await?;
    misconfigured(fixture.sink.open(&claim(1)).await);
    let left = fixture
        .rows("SELECT count(*) AS tables FROM pg_tables WHERE schemaname = 'lockstep'")
        .await?;
    assert_eq!(left, [json!({"tables": 1})], "nothing is made halfway");
    Ok(())
}
