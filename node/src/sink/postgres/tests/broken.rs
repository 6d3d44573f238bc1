//! Servers that crash, hang or lose their tables; and checks.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::fixtures::{Fixture, config};
use crate::sink::check::check;
use crate::sink::postgres::Postgres;
use crate::sink::tests::fixtures::*;
use crate::sink::{CheckStep, Destination, SinkError, StoredCheckpoint};

fn unavailable<T: std::fmt::Debug>(ended: Result<T, SinkError>) -> String {
    match ended {
        Err(SinkError::Unavailable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn delivery_continues_after_a_killed_server_returns() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [created(1, "order/1")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    fixture.server.kill9().await?;
    let events = [moved(2, "order/1", "paid")];
    let next = batch(checkpoint(1, 0, 0), &events);
    unavailable(fixture.sink.write(&next).await);
    let reason = unavailable(fixture.sink.open(&claim(1)).await);
    assert!(reason.contains("refused"), "{reason}");
    fixture.server.restart().await?;
    fixture.client = fixture.server.client().await?;
    let stored = StoredCheckpoint::At(checkpoint(1, 0, 0));
    assert_eq!(fixture.sink.open(&claim(1)).await?, stored);
    fixture.sink.write(&next).await?;
    assert_eq!(fixture.history().await?, [(1, 0), (2, 0)]);
    Ok(())
}

#[tokio::test]
async fn a_paused_server_times_out() -> Result<()> {
    let mut fixture = Fixture::started().await?;
    let mut config = config(
        &fixture.server.address(),
        lockstep_tests::postgres::PASSWORD,
    );
    // A long timeout, since it creates the tables.
    let mut sink = Postgres::new(config.clone());
    sink.open(&claim(1)).await?;
    sink.finish_backfill(&backfill(0, None, 0)).await?;
    config.timeout = Duration::from_secs(2);
    let mut sink = Postgres::new(config.clone());
    sink.open(&claim(1)).await?;
    fixture.server.pause()?;
    let events = [created(1, "order/1")];
    let next = batch(checkpoint(0, 0, 0), &events);
    let reason = unavailable(sink.write(&next).await);
    assert!(reason.contains("no answer within 2s"), "{reason}");
    unavailable(sink.open(&claim(1)).await);
    fixture.server.resume()?;
    // The statement may have been executed all the same; the checkpoint shows it.
    config.timeout = Duration::from_secs(10);
    let mut sink = Postgres::new(config);
    if sink.open(&claim(1)).await? == StoredCheckpoint::At(checkpoint(0, 0, 0)) {
        sink.write(&next).await?;
    }
    assert_eq!(fixture.history().await?, [(1, 0)]);
    Ok(())
}

#[tokio::test]
async fn a_restored_server_reports_its_older_checkpoint() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    fixture.server.stop().await?;
    fixture.server.save()?;
    fixture.server.restart().await?;
    fixture.sink.open(&claim(1)).await?;
    let events = [created(1, "order/1")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    fixture.server.stop().await?;
    fixture.server.restore()?;
    fixture.server.restart().await?;
    fixture.client = fixture.server.client().await?;
    let stored = StoredCheckpoint::At(checkpoint(0, 0, 0));
    assert_eq!(fixture.sink.open(&claim(1)).await?, stored);
    assert_eq!(fixture.history().await?, []);
    Ok(())
}

#[tokio::test]
async fn dropped_tables_are_created_again() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [created(1, "order/1")];
    let from = checkpoint(0, 0, 0);
    for drop in [
        "SCHEMA lockstep CASCADE",
        "TABLE lockstep.history",
        "TABLE lockstep.instances",
    ] {
        fixture
            .client
            .batch_execute(&format!("DROP {drop}"))
            .await?;
        unavailable(fixture.sink.write(&batch(from, &events)).await);
        // Lost tables need a backfill even if the checkpoint is not lost.
        assert_eq!(
            fixture.sink.open(&claim(1)).await?,
            StoredCheckpoint::Empty,
            "{drop}"
        );
        fixture.sink.finish_backfill(&backfill(0, None, 0)).await?;
    }
    fixture
        .client
        .batch_execute("DROP TABLE lockstep.seeds")
        .await?;
    assert_eq!(
        fixture.sink.open(&claim(1)).await?,
        StoredCheckpoint::At(from)
    );
    fixture
        .client
        .batch_execute("DELETE FROM lockstep.sinks")
        .await?;
    assert_eq!(
        fixture.sink.write(&batch(from, &events)).await,
        Err(SinkError::Moved)
    );
    assert_eq!(fixture.sink.open(&claim(1)).await?, StoredCheckpoint::Empty);
    Ok(())
}

fn steps(steps: &[CheckStep]) -> Vec<(&str, bool)> {
    let steps = steps.iter();
    steps
        .map(|it| (it.step.as_str(), it.outcome().is_ok()))
        .collect()
}

#[tokio::test]
async fn a_check_leaves_nothing_behind() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let seen = check(&mut fixture.sink).await;
    let names = ["connect", "create a table", "insert 3", "find one", "drop"];
    assert_eq!(steps(&seen), names.map(|name| (name, true)), "{seen:?}");
    assert_eq!(seen[3].outcome(), Ok("found two"));
    let left = "SELECT count(*) AS tables FROM pg_tables WHERE tablename LIKE 'check%'";
    assert_eq!(fixture.rows(left).await?, [json!({"tables": 0})]);
    // It takes no claim and blocks no writer.
    let events = [created(1, "order/1")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_check_ends_with_the_step_that_failed_and_drops_its_table() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    // Every new table gets a trigger that rejects rows.
    let refuse = "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'no rows today'; END $$; \
         CREATE FUNCTION public.guard() RETURNS event_trigger LANGUAGE plpgsql AS $$ \
         DECLARE made record; BEGIN \
           FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP \
             IF made.object_type = 'table' THEN \
               EXECUTE 'CREATE TRIGGER no BEFORE INSERT ON ' || made.object_identity || \
                 ' EXECUTE FUNCTION public.refuse()'; \
             END IF; \
           END LOOP; END $$; \
         CREATE EVENT TRIGGER guard ON ddl_command_end WHEN TAG IN ('CREATE TABLE') \
         EXECUTE FUNCTION public.guard()";
    let administrator = fixture.server.administrator().await?;
    administrator.batch_execute(refuse).await?;
    let seen = check(&mut fixture.sink).await;
    let expected = [
        ("connect", true),
        ("create a table", true),
        ("insert 3", false),
    ];
    assert_eq!(steps(&seen), expected, "{seen:?}");
    let reason = seen[2].outcome().unwrap_err();
    assert!(reason.contains("no rows today"), "{reason}");
    let left = "SELECT count(*) AS tables FROM pg_tables WHERE tablename LIKE 'check%'";
    assert_eq!(fixture.rows(left).await?, [json!({"tables": 0})]);

    fixture.server.stop().await?;
    let seen = check(&mut fixture.sink).await;
    assert_eq!(steps(&seen), [("connect", false)], "{seen:?}");
    Ok(())
}
