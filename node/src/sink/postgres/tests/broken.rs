//! Servers that die, stop, lose their tables; and the round trip through them.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::given::*;
use crate::sink::postgres::Postgres;
use crate::sink::{CheckStep, Place, Sink, SinkError};

fn unavailable<T: std::fmt::Debug>(ended: Result<T, SinkError>) -> String {
    match ended {
        Err(SinkError::Unavailable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_killed_server_is_gone_on_with_when_it_is_back() -> Result<()> {
    let mut given = Given::seeded().await?;
    let events = [created(1, "order/1")];
    given
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    given.server.kill9().await?;
    let events = [moved(2, "order/1", "paid")];
    let next = batch(checkpoint(1, 0, 0), &events);
    unavailable(given.sink.write(&next).await);
    let reason = unavailable(given.sink.open(&claim(1)).await);
    assert!(reason.contains("refused"), "{reason}");
    given.server.restart().await?;
    given.client = given.server.client().await?;
    let place = Place::At(checkpoint(1, 0, 0));
    assert_eq!(given.sink.open(&claim(1)).await?, place);
    given.sink.write(&next).await?;
    assert_eq!(given.history().await?, [(1, 0), (2, 0)]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_in_time() -> Result<()> {
    let mut given = Given::started().await?;
    let (mut config, postgres) =
        config(&given.server.address(), lockstep_tests::postgres::PASSWORD);
    // Patient, since it makes the tables.
    let mut sink = Postgres::new(&config, &postgres);
    sink.open(&claim(1)).await?;
    sink.seeded(&seed(0, None, 0)).await?;
    config.timeout = Duration::from_secs(2);
    let mut sink = Postgres::new(&config, &postgres);
    sink.open(&claim(1)).await?;
    given.server.pause()?;
    let events = [created(1, "order/1")];
    let next = batch(checkpoint(0, 0, 0), &events);
    let reason = unavailable(sink.write(&next).await);
    assert!(reason.contains("no answer within 2s"), "{reason}");
    unavailable(sink.open(&claim(1)).await);
    given.server.resume()?;
    // The statement may have been carried out all the same: whichever it was, it is said.
    config.timeout = Duration::from_secs(10);
    let mut sink = Postgres::new(&config, &postgres);
    if sink.open(&claim(1)).await? == Place::At(checkpoint(0, 0, 0)) {
        sink.write(&next).await?;
    }
    assert_eq!(given.history().await?, [(1, 0)]);
    Ok(())
}

#[tokio::test]
async fn a_server_restored_from_yesterday_says_so() -> Result<()> {
    let mut given = Given::seeded().await?;
    given.server.stop().await?;
    given.server.save()?;
    given.server.restart().await?;
    given.sink.open(&claim(1)).await?;
    let events = [created(1, "order/1")];
    given
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    given.server.stop().await?;
    given.server.restore()?;
    given.server.restart().await?;
    given.client = given.server.client().await?;
    let place = Place::At(checkpoint(0, 0, 0));
    assert_eq!(given.sink.open(&claim(1)).await?, place);
    assert_eq!(given.history().await?, []);
    Ok(())
}

#[tokio::test]
async fn tables_that_somebody_dropped_are_made_again() -> Result<()> {
    let mut given = Given::seeded().await?;
    let events = [created(1, "order/1")];
    let from = checkpoint(0, 0, 0);
    for drop in [
        "SCHEMA lockstep CASCADE",
        "TABLE lockstep.history",
        "TABLE lockstep.instances",
    ] {
        given.client.batch_execute(&format!("DROP {drop}")).await?;
        unavailable(given.sink.write(&batch(from, &events)).await);
        // What is lost must be written as a whole again, even if the place is not lost.
        assert_eq!(given.sink.open(&claim(1)).await?, Place::Nothing, "{drop}");
        given.sink.seeded(&seed(0, None, 0)).await?;
    }
    given
        .client
        .batch_execute("DROP TABLE lockstep.seeds")
        .await?;
    assert_eq!(given.sink.open(&claim(1)).await?, Place::At(from));
    given
        .client
        .batch_execute("DELETE FROM lockstep.sinks")
        .await?;
    assert_eq!(
        given.sink.write(&batch(from, &events)).await,
        Err(SinkError::Moved)
    );
    assert_eq!(given.sink.open(&claim(1)).await?, Place::Nothing);
    Ok(())
}

fn steps(steps: &[CheckStep]) -> Vec<(&str, bool)> {
    let steps = steps.iter();
    steps
        .map(|it| (it.step.as_str(), it.result.is_ok()))
        .collect()
}

#[tokio::test]
async fn the_round_trip_leaves_nothing_behind() -> Result<()> {
    let mut given = Given::seeded().await?;
    let seen = given.sink.check().await;
    let names = ["connect", "create a table", "insert 3", "find one", "drop"];
    assert_eq!(steps(&seen), names.map(|name| (name, true)), "{seen:?}");
    assert_eq!(seen[3].result, Ok("found two".to_owned()));
    let left = "SELECT count(*) AS tables FROM pg_tables WHERE tablename LIKE 'check%'";
    assert_eq!(given.rows(left).await?, [json!({"tables": 0})]);
    // It claims nothing and is in nobody's way.
    let events = [created(1, "order/1")];
    given
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_round_trip_ends_with_the_step_that_failed_and_drops_its_table() -> Result<()> {
    let mut given = Given::seeded().await?;
    // Every new table gets a trigger that refuses rows.
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
    let administrator = given.server.administrator().await?;
    administrator.batch_execute(refuse).await?;
    let seen = given.sink.check().await;
    let expected = [
        ("connect", true),
        ("create a table", true),
        ("insert 3", false),
    ];
    assert_eq!(steps(&seen), expected, "{seen:?}");
    let reason = seen[2].result.clone().unwrap_err();
    assert!(reason.contains("no rows today"), "{reason}");
    let left = "SELECT count(*) AS tables FROM pg_tables WHERE tablename LIKE 'check%'";
    assert_eq!(given.rows(left).await?, [json!({"tables": 0})]);

    given.server.stop().await?;
    let seen = given.sink.check().await;
    assert_eq!(steps(&seen), [("connect", false)], "{seen:?}");
    Ok(())
}
