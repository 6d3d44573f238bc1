//! No message about bytes that cannot be read has a word of a library.

mod fixtures;

use fixtures::{batch, outcomes};
use lockstep_machine::codec::CodecError;
use lockstep_machine::*;

/// The bytes cut short anywhere, and with each byte changed to some others.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
    let changed = (0..bytes.len()).flat_map(move |at| {
        [
            0x00, 0x18, 0x40, 0x60, 0x7f, 0x81, 0x9f, 0xa1, 0xf4, 0xfb, 0xff,
        ]
        .map(|with| {
            let mut bytes = bytes.to_vec();
            bytes[at] = with;
            bytes
        })
    });
    cut.chain(changed)
}

fn check<T>(read: Result<T, CodecError>) -> usize {
    match read {
        Ok(_) => 0,
        Err(error) => {
            let message = error.to_string();
            assert_eq!(library_words(&message), None, "{message}");
            1
        }
    }
}

#[test]
fn no_fault_of_a_request_or_an_outcome_has_a_word_of_a_library() {
    let mut faults = 0;
    for request in batch().requests {
        for body in damaged(&request.encode().body) {
            faults += check(RequestBody::validate(&body));
        }
    }
    for bytes in damaged(&batch().encode()) {
        faults += check(DecodedBatch::decode(&bytes));
    }
    for outcome in outcomes() {
        for bytes in damaged(&OUTCOME_FORMAT.encode(&outcome)) {
            faults += check(OUTCOME_FORMAT.decode::<Outcome>(&bytes));
        }
    }
    assert!(faults > 1000, "{faults}");
}

#[test]
fn no_fault_of_a_snapshot_has_a_word_of_a_library() {
    let mut state = State::default();
    state.apply(&batch());
    let records: Vec<_> = state.records().collect();
    for (at, record) in records.iter().enumerate() {
        for bytes in damaged(record) {
            let mut restore = Restore::new();
            let before = records[..at].iter();
            let pushed = before.chain([&bytes]).try_for_each(|it| restore.push(it));
            if let Err(error) = pushed {
                let message = error.to_string();
                assert_eq!(library_words(&message), None, "{message}");
            }
        }
    }
}
