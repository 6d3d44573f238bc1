//! Damaged bytes as a public message: nothing panics.
//!
//! Past failures are in `fuzz.proptest-regressions` and run first; PROPTEST_CASES sets the number of cases.

use lockstep_machine::{IdempotencyKey, Transition};
use lockstep_proto::v1;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;
use prost::Message;

fn config() -> ProptestConfig {
    let found = FileFailurePersistence::Direct("tests/fuzz.proptest-regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(found)),
        ..ProptestConfig::default()
    }
}

/// What is done to good bytes.
fn damages() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        // Lengths and numbers as large as they can be written.
        select(vec![
            vec![0xff; 9],
            vec![0xff, 0xff, 0xff, 0xff, 0x0f],
            vec![0x80; 11],
            vec![0x80, 0x80, 0x80, 0x80, 0x10],
        ]),
    ];
    prop::collection::vec((any::<Index>(), 0..8usize, bytes), 1..5)
}

fn damaged(bytes: &[u8], damages: &[(Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, length, with) in damages {
        let at = at.index(bytes.len() + 1);
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.iter().copied());
    }
    bytes
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(request) = v1::TransitionRequest::decode(&*bytes) {
            let _ = <(Transition, Option<IdempotencyKey>)>::try_from(request);
        }
    }

    #[test]
    fn a_damaged_public_message_is_read_or_refused(damages in damages()) {
        let good = v1::TransitionRequest {
            id: "order/42".to_owned(),
            expect_state: Some("open".to_owned()),
            idempotency_key: Some("once".to_owned()),
            ..Default::default()
        };
        if let Ok(request) = v1::TransitionRequest::decode(&*damaged(&good.encode_to_vec(), &damages)) {
            let _ = <(Transition, Option<IdempotencyKey>)>::try_from(request);
        }
    }
}
