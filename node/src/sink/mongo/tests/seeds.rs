//! The current states written as a whole.

use super::super::super::{Checkpoint, Place, Sink};
use super::far::{
    Far, claim, created, deleted, event, instance, moved, seed, seeded_at, shown, write,
};
use lockstep_machine::{Event, EventCursor, EventKind, GlobalRevision};

#[tokio::test]
async fn a_seed_replaces_what_is_there_and_forgets_the_rest() {
    let far = Far::start().await;
    let (mut sink, _) = far.opened(1).await;
    let events: Vec<_> = (1..=1500)
        .map(|n| created(n, &format!("i{n:04}")))
        .collect();
    write(&mut sink, Checkpoint::default(), &events)
        .await
        .unwrap();

    let begun = seed(2000, Some(1500));
    let pages = [[instance("i0001", "paid")], [instance("new", "sent")]];
    for page in &pages {
        sink.seed(&begun, page).await.unwrap();
    }
    sink.seeded(&begun).await.unwrap();
    let seen = shown([("i0001", "paid", 2000), ("new", "sent", 2000)]);
    assert_eq!(far.instances().await, seen);
    let revision = GlobalRevision(2000);
    let place = Checkpoint {
        cursor: EventCursor::after(revision),
        seeded: revision,
    };
    assert_eq!(sink.open(&claim(1)).await, Ok(Place::At(place)));
    let note = far.document("seeds", "instances/1500-0").await.unwrap();
    assert_eq!(note.get_str("reason").unwrap(), "compacted");
    assert_eq!(far.history().await.len(), 1500);
    far.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_state_that_was_left_out_is_written_later_and_is_no_event() {
    let far = Far::start().await;
    let (mut sink, _) = far.opened(1).await;
    let from = Checkpoint::default();
    write(&mut sink, from, &[created(1, "a"), created(2, "b")])
        .await
        .unwrap();
    let begun = seed(2, Some(2));
    sink.seed(&begun, &[instance("a", "paid")]).await.unwrap();
    sink.seeded(&begun).await.unwrap();
    assert_eq!(far.instances().await, shown([("a", "paid", 2)]));

    let (id, left_out) = instance("b", "sent");
    let aside = Event::seeded((begun.revision, begun.at), 1, &id, &left_out);
    // As of the seed's own revision, as there was no change since.
    sink.replay(&aside, Some(&left_out), begun.revision)
        .await
        .unwrap();
    let both = shown([("a", "paid", 2), ("b", "sent", 2)]);
    assert_eq!(far.instances().await, both);
    assert_eq!(far.places().await, ["1-0", "2-0"]);
    far.server.leave().await.unwrap();
}

#[tokio::test]
async fn events_up_to_a_seed_belong_into_the_history_only() {
    let far = Far::start().await;
    let (mut sink, _) = far.opened(1).await;
    let mut begun = seed(10, None);
    begun.then = EventCursor::default();
    sink.seed(&begun, &[instance("a", "paid")]).await.unwrap();
    sink.seeded(&begun).await.unwrap();
    let place = Checkpoint {
        cursor: EventCursor::default(),
        seeded: GlobalRevision(10),
    };
    assert_eq!(sink.open(&claim(1)).await, Ok(Place::At(place)));
    let events = [
        created(3, "a"),
        created(4, "b"),
        moved(5, "a", "lost"),
        deleted(6, "b"),
        moved(11, "a", "sent"),
    ];
    let from = write(&mut sink, place, &events).await.unwrap();
    assert_eq!(from, seeded_at(11, 10));
    assert_eq!(far.places().await.len(), 5);
    assert_eq!(far.instances().await, shown([("a", "sent", 11)]));
    assert!(far.document("seeds", "instances/nothing").await.is_some());
    far.server.leave().await.unwrap();
}

#[tokio::test]
async fn a_late_page_of_an_earlier_seed_changes_no_instance() {
    let far = Far::start().await;
    let (old, _) = far.opened(1).await;
    let (mut new, _) = far.opened(2).await;
    let later = seed(20, None);
    new.seed(&later, &[instance("a", "paid"), instance("c", "paid")])
        .await
        .unwrap();
    new.seeded(&later).await.unwrap();
    let place = Checkpoint {
        cursor: later.then,
        seeded: later.revision,
    };
    let migrated = event(21, EventKind::Migrated, "a", Some("sent"));
    write(&mut new, place, &[migrated, deleted(22, "c")])
        .await
        .unwrap();

    let open = old.open.unwrap();
    let late = ["a", "c"].map(|name| {
        let (id, instance) = instance(name, "new");
        let current = super::super::Current::of(&instance, GlobalRevision(10));
        super::super::Statement::seeded(&id, &current)
    });
    open.link.put(late.into()).await.unwrap();
    assert_eq!(far.instances().await, shown([("a", "sent", 21)]));
    far.server.leave().await.unwrap();
}
