//! Batches, replays and rejections.

use std::sync::Arc;

use anyhow::Result;
use lockstep_machine::{Cause, Event, EventKind, Timestamp, Version};
use serde_json::json;

use super::fixtures::Fixture;
use crate::sink::tests::fixtures::*;
use crate::sink::{Batch, Destination, SinkError, StoredCheckpoint};

#[tokio::test]
async fn an_event_is_written_with_all_its_fields() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let event = Event {
        from: Some(state("open")),
        event: Some("expire".parse()?),
        from_version: Some(Version(1)),
        version: Version(u32::MAX),
        position: u32::MAX - 1,
        cause: Cause::Timeout { late_ms: 7 },
        metadata: created(1, "order/1").metadata.clone(),
        ..event(5, "order/1", EventKind::Transitioned, Some("expired"))
    };
    let events = [Arc::new(event), Arc::new(event_of_definition())];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    let expected = [
        json!({
            "revision": 5, "position": u32::MAX - 1, "kind": "transitioned", "machine": "order",
            "instance": "1", "version": u32::MAX, "from_version": 1, "from_state": "open",
            "to_state": "expired", "event": "expire", "instance_revision": 5,
            "at": "2023-11-14T22:13:20.005+00:00", "cause": "timeout", "late_ms": 7,
            "metadata": {"by": "ann"},
        }),
        json!({
            "revision": 6, "position": 0, "kind": "defined", "machine": "order",
            "instance": null, "version": 1, "from_version": null, "from_state": null,
            "to_state": null, "event": null, "instance_revision": 6,
            "at": "2023-11-14T22:13:20.006+00:00", "cause": "request", "late_ms": null,
            "metadata": {},
        }),
    ];
    let sql = "SELECT * FROM lockstep.history ORDER BY revision";
    assert_eq!(fixture.rows(sql).await?, expected);
    Ok(())
}

fn event_of_definition() -> Event {
    Event {
        name: None,
        ..event(6, "order/1", EventKind::Defined, None)
    }
}

#[tokio::test]
async fn a_change_keeps_the_metadata_of_the_creation() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [created(1, "order/1")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    let events = [moved(2, "order/1", "paid"), moved(3, "order/2", "paid")];
    fixture
        .sink
        .write(&batch(checkpoint(1, 0, 0), &events))
        .await?;
    let expected = [
        json!({
            "machine": "order", "instance": "1", "state": "paid", "version": 1,
            "instance_revision": 2, "created_at": "2023-11-14T22:13:20.001+00:00",
            "changed_at": "2023-11-14T22:13:20.002+00:00", "metadata": {"by": "ann"}, "revision": 2,
        }),
        json!({
            "machine": "order", "instance": "2", "state": "paid", "version": 1,
            "instance_revision": 3, "created_at": null,
            "changed_at": "2023-11-14T22:13:20.003+00:00", "metadata": null, "revision": 3,
        }),
    ];
    let sql = "SELECT * FROM lockstep.instances ORDER BY instance";
    assert_eq!(fixture.rows(sql).await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_repeated_batch_is_not_written_again() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let from = checkpoint(0, 0, 0);
    let events = [created(1, "order/1"), moved(2, "order/1", "paid")];
    fixture.sink.write(&batch(from, &events)).await?;
    assert_eq!(
        fixture.sink.write(&batch(from, &events)).await,
        Err(SinkError::Moved)
    );

    // As after a lost checkpoint: stored rows stay as they are.
    let lose = "UPDATE lockstep.sinks SET revision = 0; UPDATE lockstep.history SET cause = 'seen'";
    fixture.client.batch_execute(lose).await?;
    assert_eq!(
        fixture.sink.open(&claim(1)).await?,
        StoredCheckpoint::At(from)
    );
    let events = [
        events[0].clone(),
        events[1].clone(),
        moved(3, "order/1", "sent"),
    ];
    fixture.sink.write(&batch(from, &events)).await?;
    assert_eq!(fixture.history().await?, [(1, 0), (2, 0), (3, 0)]);
    let seen = "SELECT count(*) AS seen FROM lockstep.history WHERE cause = 'seen'";
    assert_eq!(fixture.rows(seen).await?, [json!({"seen": 2})]);
    assert_eq!(
        fixture.states().await?,
        [("order/1".to_owned(), "sent".to_owned())]
    );
    Ok(())
}

#[tokio::test]
async fn a_changed_checkpoint_is_noticed() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [created(3, "order/1")];
    for change in [
        "revision = 2",
        "revision = 0, position = 1",
        "position = 0, seeded = 1",
    ] {
        let sql = format!("UPDATE lockstep.sinks SET {change}");
        fixture.client.batch_execute(&sql).await?;
        fixture.sink.open(&claim(1)).await?;
        let ended = fixture
            .sink
            .write(&batch(checkpoint(0, 0, 0), &events))
            .await;
        assert_eq!(ended, Err(SinkError::Moved), "{change}");
    }
    assert_eq!(fixture.history().await?, []);
    assert_eq!(fixture.states().await?, []);
    Ok(())
}

#[tokio::test]
async fn only_the_checkpoint_advances_if_no_event_is_followed() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let far = Batch {
        from: checkpoint(0, 0, 0),
        to: at(40, u32::MAX),
        events: &[],
    };
    fixture.sink.write(&far).await?;
    let stored = StoredCheckpoint::At(checkpoint(40, u32::MAX, 0));
    assert_eq!(fixture.sink.open(&claim(1)).await?, stored);
    Ok(())
}

#[tokio::test]
async fn an_instance_may_be_created_and_deleted_within_one_batch() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [
        created(1, "order/1"),
        deleted(2, "order/1"),
        created(3, "order/1"),
        moved(4, "order/1", "paid"),
        created(5, "order/2"),
        deleted(6, "order/2"),
    ];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    assert_eq!(
        fixture.states().await?,
        [("order/1".to_owned(), "paid".to_owned())]
    );
    let sql = "SELECT created_at FROM lockstep.instances";
    let at = json!({"created_at": "2023-11-14T22:13:20.003+00:00"});
    assert_eq!(fixture.rows(sql).await?, [at]);
    let events = [deleted(7, "order/1")];
    fixture
        .sink
        .write(&batch(checkpoint(6, 0, 0), &events))
        .await?;
    assert_eq!(fixture.states().await?, []);
    assert_eq!(fixture.history().await?.len(), 7);
    Ok(())
}

#[tokio::test]
async fn a_rejected_event_is_reported_and_nothing_of_its_batch_is_written() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let raise = "ALTER TABLE lockstep.history ADD CHECK (instance <> 'poison'); \
         CREATE FUNCTION lockstep.raise() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'not %', NEW.instance; END $$; \
         CREATE TRIGGER no BEFORE INSERT ON lockstep.instances FOR EACH ROW \
         WHEN (NEW.instance = 'raise') EXECUTE FUNCTION lockstep.raise()";
    fixture.client.batch_execute(raise).await?;
    let far = Event {
        at: Timestamp(u64::MAX),
        ..event(2, "order/far", EventKind::Created, Some("open"))
    };
    let huge = Event {
        cause: Cause::Timeout { late_ms: u64::MAX },
        ..event(2, "order/huge", EventKind::Created, Some("open"))
    };
    let cases = [
        (created(2, "order/poison"), "check constraint"),
        (created(2, "order/raise"), "not raise (SQLSTATE P0001)"),
        // JSON has no form for it.
        (Arc::new(far), "null value in column \"at\""),
        (Arc::new(huge), "bigint"),
    ];
    let from = checkpoint(0, 0, 0);
    for (poisoned, why) in cases {
        let events = [created(1, "order/1"), poisoned];
        let ended = fixture.sink.write(&batch(from, &events)).await;
        let Err(SinkError::Rejected {
            event: None,
            reason,
        }) = ended
        else {
            panic!("{why}: {ended:?}");
        };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(fixture.history().await?, [], "{why}");
    }
    // The connection is still usable.
    fixture
        .sink
        .write(&batch(from, &[created(1, "order/1")]))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_replayed_event_joins_the_history_with_the_current_state() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [created(1, "order/1"), created(3, "order/3")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;
    let late = moved(2, "order/2", "sent");
    for _ in 0..2 {
        let paid = now("order/2", "paid", 9);
        fixture.sink.replay(&late, paid).await?;
    }
    let removed = gone("order/3", 9);
    fixture.sink.replay(&deleted(2, "order/3"), removed).await?;
    fixture.sink.replay(&event_of_definition(), None).await?;
    // Older than the stored state, which stays.
    let open = now("order/2", "open", 8);
    fixture.sink.replay(&late, open).await?;
    fixture.sink.replay(&late, gone("order/2", 8)).await?;
    let expected = [("order/1", "open"), ("order/2", "paid")];
    let expected = expected.map(|(id, state)| (id.to_owned(), state.to_owned()));
    assert_eq!(fixture.states().await?, expected);
    assert_eq!(fixture.history().await?, [(1, 0), (2, 0), (3, 0), (6, 0)]);
    let stored = StoredCheckpoint::At(checkpoint(3, 0, 0));
    assert_eq!(fixture.sink.open(&claim(1)).await?, stored, "where it was");
    Ok(())
}
