//! No message about a public message that cannot be read has a word of a library.

use lockstep_machine::{
    Create, Delete, DeleteDefinition, Event, IdempotencyKey, Migrate, Transaction, Transition,
    library_words,
};
use lockstep_proto::v1;
use prost::Message;

type Keyed<T> = (T, Option<IdempotencyKey>);

/// The fault of a message as what it stands for. For bytes that are no message, the interface has words of its own.
fn fault<M: Message + Default, T: TryFrom<M>>(bytes: &[u8]) -> Option<String>
where
    T::Error: std::fmt::Display,
{
    let message = M::decode(bytes).ok()?;
    T::try_from(message).err().map(|it| it.to_string())
}

/// The bytes cut short anywhere, and with each byte changed to some others.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
    let changed = (0..bytes.len()).flat_map(move |at| {
        [
            0x00, 0x08, 0x0a, 0x12, 0x20, 0x21, 0x2f, 0x7f, 0x80, 0xc3, 0xff,
        ]
        .map(|with| {
            let mut bytes = bytes.to_vec();
            bytes[at] = with;
            bytes
        })
    });
    cut.chain(changed)
}

fn check<M: Message + Default + std::fmt::Debug, T: TryFrom<M>>(good: &M)
where
    T::Error: std::fmt::Display,
{
    let mut faults = 0;
    for bytes in damaged(&good.encode_to_vec()).chain([vec![]]) {
        if let Some(message) = fault::<M, T>(&bytes) {
            assert_eq!(library_words(&message), None, "{message}");
            faults += 1;
        }
    }
    assert!(faults > 10, "{good:?}: {faults}");
}

#[test]
fn no_fault_of_a_public_message_has_a_word_of_a_library() {
    let metadata = [("by".to_owned(), "ann".to_owned())];
    let transition = v1::TransitionRequest {
        id: "order/42".to_owned(),
        trigger: Some(v1::transition_request::Trigger::To("paid".to_owned())),
        expect_state: Some("open".to_owned()),
        expect_revision: Some(3),
        idempotency_key: Some("once".to_owned()),
        metadata: metadata.clone().into(),
    };
    check::<_, Keyed<Transition>>(&transition);
    let create = v1::CreateInstanceRequest {
        id: "order/42".to_owned(),
        metadata: metadata.clone().into(),
        idempotency_key: Some("once".to_owned()),
        ..Default::default()
    };
    check::<_, Keyed<Create>>(&create);
    let delete = v1::DeleteInstanceRequest {
        id: "order/42".to_owned(),
        expect_state: Some("open".to_owned()),
        ..Default::default()
    };
    check::<_, Keyed<Delete>>(&delete);
    let migrate = v1::MigrateInstanceRequest {
        id: "order/42".to_owned(),
        states: [("open".to_owned(), "paid".to_owned())].into(),
        ..Default::default()
    };
    check::<_, Keyed<Migrate>>(&migrate);
    let machine = v1::DeleteMachineRequest {
        machine: "order".to_owned(),
        version: Some(2),
        ..Default::default()
    };
    check::<_, Keyed<DeleteDefinition>>(&machine);
    let operation = |kind| v1::Operation {
        operation: Some(kind),
    };
    let transact = v1::TransactRequest {
        operations: vec![
            operation(v1::operation::Operation::Transition(transition)),
            operation(v1::operation::Operation::Create(create)),
            operation(v1::operation::Operation::Delete(delete)),
        ],
        ..Default::default()
    };
    check::<_, Keyed<Transaction>>(&transact);
    let event = v1::Event {
        cursor: Some(v1::EventCursor {
            revision: 7,
            position: 0,
        }),
        kind: v1::EventKind::Created.into(),
        machine: "order".to_owned(),
        id: Some("order/42".to_owned()),
        version: 1,
        to: Some("open".to_owned()),
        metadata: metadata.into(),
        ..Default::default()
    };
    check::<_, Event>(&event);
}
