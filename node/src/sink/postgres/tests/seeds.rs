//! Current states written as a whole.

use anyhow::Result;
use lockstep_machine::{Event, Timestamp};
use serde_json::json;

use super::given::*;
use crate::sink::{Place, Sink, SinkError};

#[tokio::test]
async fn a_seed_replaces_what_is_there_and_forgets_what_is_no_more() -> Result<()> {
    let mut given = Given::seeded().await?;
    let events = [created(1, "order/1"), created(2, "order/2")];
    given
        .sink
        .write(&batch(checkpoint(0, 0, 0), &events))
        .await?;

    let compacted = seed(50, Some(at(2, 0)), 45);
    let (built_in, mut first) = instance("machine/first", "second");
    first.created_at = Timestamp(0);
    given.sink.seed(&compacted, &[(built_in, first)]).await?;
    let page = [instance("order/2", "paid"), instance("order/3", "open")];
    given.sink.seed(&compacted, &page).await?;
    // As after an answer that was lost.
    given.sink.seed(&compacted, &page).await?;
    assert_eq!(
        given.states().await?.len(),
        4,
        "none is forgotten before the end"
    );
    given.sink.seeded(&compacted).await?;

    let sql = "SELECT instance, state, created_at, metadata, revision FROM lockstep.instances \
               ORDER BY instance";
    let at_creation = "2023-11-14T22:13:20+00:00";
    let by = json!({"by": "eve"});
    let expected = [
        json!({"instance": "2", "state": "paid", "created_at": at_creation, "metadata": by, "revision": 50}),
        json!({"instance": "3", "state": "open", "created_at": at_creation, "metadata": by, "revision": 50}),
        json!({"instance": "first", "state": "second", "created_at": null, "metadata": by, "revision": 50}),
    ];
    assert_eq!(given.rows(sql).await?, expected);
    assert_eq!(given.history().await?, [(1, 0), (2, 0)]);
    let place = Place::At(checkpoint(45, 0, 50));
    assert_eq!(given.sink.open(&claim(1)).await?, place);
    Ok(())
}

#[tokio::test]
async fn a_seed_undoes_what_somebody_wrote_by_hand_however_new_it_looks() -> Result<()> {
    let mut given = Given::seeded().await?;
    let from = checkpoint(0, 0, 0);
    given
        .sink
        .write(&batch(from, &[created(1, "order/1")]))
        .await?;
    let tampering = "UPDATE lockstep.instances SET state = 'made up', revision = 1000; \
         INSERT INTO lockstep.instances \
         SELECT machine, '2', state, 1, 1, now(), now(), '{}', 1000 FROM lockstep.instances";
    given.client.batch_execute(tampering).await?;
    let asked = seed(50, Some(at(1, 0)), 50);
    given
        .sink
        .seed(&asked, &[instance("order/1", "open")])
        .await?;
    given.sink.seeded(&asked).await?;
    let expected = [("order/1".to_owned(), "open".to_owned())];
    assert_eq!(given.states().await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_state_that_was_refused_is_written_later_and_is_no_event() -> Result<()> {
    let mut given = Given::seeded().await?;
    let positive = "ALTER TABLE lockstep.instances ADD CONSTRAINT c CHECK (state <> 'paid')";
    given.client.batch_execute(positive).await?;
    let begun = seed(50, None, 50);
    let page = [instance("order/1", "open"), instance("order/2", "paid")];
    let refused = given.sink.seed(&begun, &page).await;
    assert!(
        matches!(refused, Err(SinkError::Refused { event: None, .. })),
        "{refused:?}"
    );
    given.sink.seed(&begun, &page[..1]).await?;
    given.sink.seeded(&begun).await?;
    given
        .client
        .batch_execute("ALTER TABLE lockstep.instances DROP CONSTRAINT c")
        .await?;
    let (id, refused) = &page[1];
    let aside = Event::seeded((begun.revision, begun.at), 1, id, refused);
    given
        .sink
        .replay(&aside, Some(refused), begun.revision)
        .await?;
    let expected = [("order/1", "open"), ("order/2", "paid")];
    let expected = expected.map(|(id, state)| (id.to_owned(), state.to_owned()));
    assert_eq!(given.states().await?, expected);
    assert_eq!(given.history().await?, []);
    Ok(())
}

#[tokio::test]
async fn however_many_states_are_forgotten() -> Result<()> {
    let mut given = Given::seeded().await?;
    let many = "INSERT INTO lockstep.instances \
         SELECT 'order', number::text, 'open', 1, 0, now(), now(), '{}', 1 \
         FROM generate_series(1, 40001) AS number";
    given.client.batch_execute(many).await?;
    given.sink.seeded(&seed(50, Some(at(0, 0)), 50)).await?;
    assert_eq!(given.states().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_seed_tells_which_events_are_missing() -> Result<()> {
    let mut given = Given::started().await?;
    given.sink.open(&claim(1)).await?;
    given.sink.seeded(&seed(7, None, 3)).await?;
    given.sink.seeded(&seed(50, Some(at(9, 1)), 45)).await?;
    given.sink.seeded(&seed(60, Some(at(55, 0)), 55)).await?;
    let sql = "SELECT revision, reason, missing_after_revision AS r, missing_after_position AS p, \
               missing_to_revision AS tr, missing_to_position AS tp FROM lockstep.seeds ORDER BY number";
    let expected = [
        json!({"revision": 7, "reason": "first", "r": 0, "p": 0, "tr": 3, "tp": 0}),
        json!({"revision": 50, "reason": "compacted", "r": 9, "p": 1, "tr": 45, "tp": 0}),
        json!({"revision": 60, "reason": "compacted", "r": null, "p": null, "tr": null, "tp": null}),
    ];
    assert_eq!(given.rows(sql).await?, expected);
    Ok(())
}

#[tokio::test]
async fn events_up_to_the_seed_change_no_state() -> Result<()> {
    let mut given = Given::started().await?;
    given.sink.open(&claim(1)).await?;
    let first = seed(10, None, 5);
    given
        .sink
        .seed(&first, &[instance("order/1", "paid")])
        .await?;
    given.sink.seeded(&first).await?;
    let events = [
        created(6, "order/2"),
        moved(7, "order/1", "open"),
        deleted(9, "order/1"),
        moved(10, "order/2", "paid"),
    ];
    given
        .sink
        .write(&batch(checkpoint(5, 0, 10), &events))
        .await?;
    assert_eq!(
        given.states().await?,
        [("order/1".to_owned(), "paid".to_owned())]
    );
    assert_eq!(given.history().await?, [(6, 0), (7, 0), (9, 0), (10, 0)]);
    let events = [moved(11, "order/1", "sent")];
    given
        .sink
        .write(&batch(checkpoint(10, 0, 10), &events))
        .await?;
    assert_eq!(
        given.states().await?,
        [("order/1".to_owned(), "sent".to_owned())]
    );
    Ok(())
}
