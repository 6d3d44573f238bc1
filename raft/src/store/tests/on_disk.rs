//! Changes the log of a closed store behind its back.

use std::fs;
use std::path::PathBuf;

use super::*;

const HEADER_BYTES: usize = 44;
const RECORD_HEADER_BYTES: usize = 16;

/// The files of the log's segments, oldest first.
pub(super) fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("log")).unwrap();
    let mut found: Vec<PathBuf> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "segment"))
        .collect();
    found.sort();
    found
}

/// Changes the bytes of a segment from a record on.
pub(super) fn change_from(dir: &Path, index: u64, change: impl FnOnce(&mut [u8])) {
    for path in segments(dir) {
        let mut bytes = fs::read(&path).unwrap();
        let mut at = HEADER_BYTES;
        while let Some(header) = bytes.get(at..at + RECORD_HEADER_BYTES) {
            let length = u32::from_be_bytes(header[4..8].try_into().unwrap()) as usize;
            let found = u64::from_be_bytes(header[8..16].try_into().unwrap());
            if header == [0; RECORD_HEADER_BYTES] {
                break;
            }
            if found == index {
                change(&mut bytes[at..]);
                return fs::write(&path, bytes).unwrap();
            }
            at += RECORD_HEADER_BYTES + length;
        }
    }
    panic!("there is no entry {index}");
}

/// Flips a bit of a record's last byte.
pub(super) fn flip(dir: &Path, index: u64) {
    change_from(dir, index, |bytes| {
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        bytes[RECORD_HEADER_BYTES + length - 1] ^= 1;
    });
}

/// Makes the last segment end before a record, as if no more had been written.
pub(super) fn end_before(dir: &Path, index: u64) {
    change_from(dir, index, |bytes| bytes.fill(0));
}

/// Leaves only so many bytes of a record, and nothing behind it.
pub(super) fn tear(dir: &Path, index: u64, kept: usize) {
    change_from(dir, index, |bytes| bytes[kept..].fill(0));
}
