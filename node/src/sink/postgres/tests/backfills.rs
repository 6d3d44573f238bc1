//! Backfills.

use anyhow::Result;
use lockstep_machine::{Event, Timestamp};
use serde_json::json;

use super::fixtures::Fixture;
use crate::sink::tests::fixtures::*;
use crate::sink::{Current, Destination, SinkError, StoredCheckpoint};

#[tokio::test]
async fn a_backfill_replaces_stored_states_and_removes_the_rest() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let events = [created(1, "order/1"), created(2, "order/2")];
    fixture
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;

    let compacted = backfill(50, Some(at(2, 0)), 45);
    let (built_in, mut first) = instance("machine/first", "second");
    first.created_at = Timestamp(0);
    let first = Current::of(&built_in, &first, compacted.revision);
    fixture.sink.backfill_page(&compacted, &[first]).await?;
    let page = [
        current("order/2", "paid", 50),
        current("order/3", "open", 50),
    ];
    fixture.sink.backfill_page(&compacted, &page).await?;
    // As after a lost answer.
    fixture.sink.backfill_page(&compacted, &page).await?;
    assert_eq!(
        fixture.states().await?.len(),
        4,
        "none is removed before the end"
    );
    fixture.sink.finish_backfill(&compacted).await?;

    let sql = "SELECT instance, state, created_at, metadata, revision FROM lockstep.instances \
               ORDER BY instance";
    let at_creation = "2023-11-14T22:13:20+00:00";
    let by = json!({"by": "eve"});
    let expected = [
        json!({"instance": "2", "state": "paid", "created_at": at_creation, "metadata": by, "revision": 50}),
        json!({"instance": "3", "state": "open", "created_at": at_creation, "metadata": by, "revision": 50}),
        json!({"instance": "first", "state": "second", "created_at": null, "metadata": by, "revision": 50}),
    ];
    assert_eq!(fixture.rows(sql).await?, expected);
    assert_eq!(fixture.history().await?, [(1, 0), (2, 0)]);
    let stored = StoredCheckpoint::At(checkpoint(45, 0, 50));
    assert_eq!(fixture.sink.open(&claim(1)).await?, stored);
    Ok(())
}

#[tokio::test]
async fn a_backfill_undoes_manual_changes_of_any_revision() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let from = checkpoint(0, 0, 0);
    fixture
        .sink
        .write(&batch(from, &[created(1, "order/1")]))
        .await?;
    let tampering = "UPDATE lockstep.instances SET state = 'made up', revision = 1000; \
         INSERT INTO lockstep.instances \
         SELECT machine, '2', state, 1, 1, now(), now(), '{}', 1000 FROM lockstep.instances";
    fixture.client.batch_execute(tampering).await?;
    let asked = backfill(50, Some(at(1, 0)), 50);
    fixture
        .sink
        .backfill_page(&asked, &[current("order/1", "open", 50)])
        .await?;
    fixture.sink.finish_backfill(&asked).await?;
    let expected = [("order/1".to_owned(), "open".to_owned())];
    assert_eq!(fixture.states().await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_rejected_state_is_replayed_later_and_is_not_an_event() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let positive = "ALTER TABLE lockstep.instances ADD CONSTRAINT c CHECK (state <> 'paid')";
    fixture.client.batch_execute(positive).await?;
    let begun = backfill(50, None, 50);
    let page = [
        current("order/1", "open", 50),
        current("order/2", "paid", 50),
    ];
    let refused = fixture.sink.backfill_page(&begun, &page).await;
    assert!(
        matches!(refused, Err(SinkError::Rejected { event: None, .. })),
        "{refused:?}"
    );
    fixture.sink.backfill_page(&begun, &page[..1]).await?;
    fixture.sink.finish_backfill(&begun).await?;
    fixture
        .client
        .batch_execute("ALTER TABLE lockstep.instances DROP CONSTRAINT c")
        .await?;
    let (id, refused) = instance("order/2", "paid");
    let dead_letter = Event::seeded((begun.revision, begun.at), 1, &id, &refused);
    fixture
        .sink
        .replay(&dead_letter, now("order/2", "paid", 50))
        .await?;
    let expected = [("order/1", "open"), ("order/2", "paid")];
    let expected = expected.map(|(id, state)| (id.to_owned(), state.to_owned()));
    assert_eq!(fixture.states().await?, expected);
    assert_eq!(fixture.history().await?, []);
    Ok(())
}

#[tokio::test]
async fn any_number_of_states_is_removed() -> Result<()> {
    let mut fixture = Fixture::backfilled().await?;
    let many = "INSERT INTO lockstep.instances \
         SELECT 'order', number::text, 'open', 1, 0, now(), now(), '{}', 1 \
         FROM generate_series(1, 40001) AS number";
    fixture.client.batch_execute(many).await?;
    fixture
        .sink
        .finish_backfill(&backfill(50, Some(at(0, 0)), 50))
        .await?;
    assert_eq!(fixture.states().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_backfill_records_which_events_are_missing() -> Result<()> {
    let mut fixture = Fixture::started().await?;
    fixture.sink.open(&claim(1)).await?;
    fixture.sink.finish_backfill(&backfill(7, None, 3)).await?;
    fixture
        .sink
        .finish_backfill(&backfill(50, Some(at(9, 1)), 45))
        .await?;
    fixture
        .sink
        .finish_backfill(&backfill(60, Some(at(55, 0)), 55))
        .await?;
    let sql = "SELECT revision, reason, missing_after_revision AS r, missing_after_position AS p, \
               missing_to_revision AS tr, missing_to_position AS tp FROM lockstep.seeds ORDER BY number";
    let expected = [
        json!({"revision": 7, "reason": "first", "r": 0, "p": 0, "tr": 3, "tp": 0}),
        json!({"revision": 50, "reason": "compacted", "r": 9, "p": 1, "tr": 45, "tp": 0}),
        json!({"revision": 60, "reason": "compacted", "r": null, "p": null, "tr": null, "tp": null}),
    ];
    assert_eq!(fixture.rows(sql).await?, expected);
    Ok(())
}

#[tokio::test]
async fn events_up_to_a_backfill_change_no_state() -> Result<()> {
    let mut fixture = Fixture::started().await?;
    fixture.sink.open(&claim(1)).await?;
    let first = backfill(10, None, 5);
    fixture
        .sink
        .backfill_page(&first, &[current("order/1", "paid", 10)])
        .await?;
    fixture.sink.finish_backfill(&first).await?;
    let events = [
        created(6, "order/2"),
        moved(7, "order/1", "open"),
        deleted(9, "order/1"),
        moved(10, "order/2", "paid"),
    ];
    fixture
        .sink
        .write(&batch(checkpoint(5, 0, 10), &events))
        .await?;
    assert_eq!(
        fixture.states().await?,
        [("order/1".to_owned(), "paid".to_owned())]
    );
    assert_eq!(fixture.history().await?, [(6, 0), (7, 0), (9, 0), (10, 0)]);
    let events = [moved(11, "order/1", "sent")];
    fixture
        .sink
        .write(&batch(checkpoint(10, 0, 10), &events))
        .await?;
    assert_eq!(
        fixture.states().await?,
        [("order/1".to_owned(), "sent".to_owned())]
    );
    Ok(())
}
