use super::*;
use crate::testing::*;
use crate::{Command, Restore};

fn state() -> State {
    let mut driver = Driver::with_order(crate::Limits::default());
    driver.run(Command::Create(create("order/a")));
    driver.run(Command::Transition(to("order/a", "paid")));
    driver.state
}

fn header(state: &State) -> BackupHeader {
    BackupHeader {
        cluster_id: "c1".to_owned(),
        node: "node1".to_owned(),
        build: "0.1.0".to_owned(),
        ..BackupHeader::of(state, 42, 3)
    }
}

fn file(state: &State) -> Vec<u8> {
    backup_pieces(&header(state), state).flatten().collect()
}

/// Reads a file that comes in pieces of `step` bytes.
fn read(bytes: &[u8], step: usize) -> Result<(BackupHeader, State, BackupTotals), BackupError> {
    let mut decoder = BackupDecoder::new();
    let (mut header, mut restore) = (None, Restore::new());
    for piece in bytes.chunks(step) {
        decoder.push(piece);
        while let Some(part) = decoder.next_part()? {
            match part {
                BackupPart::Header(it) => header = Some(*it),
                BackupPart::Record(record) => restore.push(&record).unwrap(),
            }
        }
    }
    let totals = decoder.finish()?;
    Ok((header.unwrap(), restore.finish().unwrap(), totals))
}

#[test]
fn a_backup_is_read_as_it_was_written_whatever_the_pieces() {
    let state = state();
    let bytes = file(&state);
    for step in [1, 7, 100, bytes.len()] {
        let (found, restored, totals) = read(&bytes, step).unwrap();
        assert_eq!(found, header(&state));
        assert_eq!(restored.hash(), state.hash());
        assert_eq!(totals.bytes, bytes.len() as u64);
        assert_eq!(totals.records, state.records().count() as u64);
    }
}

#[test]
fn every_altered_byte_is_refused() {
    let bytes = file(&state());
    for at in 0..bytes.len() {
        for flip in [1, 0x80] {
            let mut altered = bytes.clone();
            altered[at] ^= flip;
            let error = read(&altered, altered.len()).unwrap_err();
            match at {
                0..8 => assert_eq!(error, BackupError::Foreign),
                // A longer length waits for bytes that never come.
                _ => assert!(
                    matches!(
                        error,
                        BackupError::Damaged { .. } | BackupError::Incomplete { .. }
                    ),
                    "byte {at}: {error}"
                ),
            }
        }
    }
}

#[test]
fn every_truncated_backup_is_incomplete() {
    let bytes = file(&state());
    for length in 0..bytes.len() {
        let error = read(&bytes[..length], 1000).unwrap_err();
        let expected = BackupError::Incomplete {
            bytes: length as u64,
        };
        assert_eq!(error, expected);
    }
}

#[test]
fn bytes_after_the_trailer_are_refused() {
    let mut bytes = file(&state());
    bytes.push(0);
    for step in [1, bytes.len()] {
        let error = read(&bytes, step).unwrap_err().to_string();
        assert!(error.contains("1 bytes follow its trailer"), "{error}");
    }
}

#[test]
fn a_record_that_was_removed_or_moved_is_noticed() {
    let state = state();
    let records: Vec<Vec<u8>> = state.records().map(|it| frame(&it)).collect();
    let whole = file(&state);
    let head = head(&header(&state));
    let trailer = &whole[whole.len() - TRAILER_BYTES..];
    let without = |removed: usize| {
        let kept = records.iter().enumerate().filter(|(at, _)| *at != removed);
        let kept = kept.flat_map(|(_, record)| record.clone());
        [&head[..], &kept.collect::<Vec<_>>(), trailer].concat()
    };
    let bytes = without(2);
    let mut decoder = BackupDecoder::new();
    decoder.push(&bytes);
    let error = loop {
        match decoder.next_part() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was not noticed"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("of the whole file"), "{error}");
}

#[test]
fn something_else_is_foreign_and_another_format_names_both() {
    for foreign in [&b"PK"[..], b"{\"id\":\"order/a\"}", &[0; 4096]] {
        assert_eq!(read(foreign, 4096).unwrap_err(), BackupError::Foreign);
    }
    let mut newer = file(&state());
    newer[..PREAMBLE_BYTES].copy_from_slice(&preamble(BACKUP_FORMAT + 1));
    let error = read(&newer, 4096).unwrap_err().to_string();
    let expected = "the backup has format 2; this build reads format 1";
    assert!(error.starts_with(expected), "{error}");
}
