//! The form of slots in sled, and of the entries of a log of format 2: parts that fit into sled's pages.
//! Checksums show whether a part, and the record it belongs to, is complete.
//!
//! ```text
//! log key   group u32 | index u64 | part u16
//! slot key  "<group>/<name>"
//! value     format u8 | parts u16 | record length u32 | record crc u32 | part crc u32 | bytes
//! ```
//!
//! All numbers are big-endian. The part crc covers the key and everything but itself. The record
//! crc covers the index and the whole record, so that parts of different records that had the same
//! index are never joined.
//!
//! The format byte and the part crc keep their position in every later format. So corruption of the format
//! byte can be distinguished from a newer format: in the latter, the crc is valid.
//! Format 1 had no group in its keys.

use super::{GROUP, StoreError};

/// The largest value put into sled. Larger ones may become blob files, which sled never syncs.
pub(super) const VALUE_BYTES_MAX: usize = 7 * 1024;

/// The largest record: what fits the part number and the length.
pub(super) const RECORD_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) const FORMAT: u8 = 2;
const HEADER_BYTES: usize = 15;
const CHUNK_BYTES_MAX: usize = VALUE_BYTES_MAX - HEADER_BYTES;

/// A key of the log: big-endian, so that keys sort by group, index and part.
pub(super) type Key = [u8; 14];

/// The length of a key in format 1, which had no group.
const KEY_BYTES_FORMAT_1: usize = 10;

/// The key of one part of a log entry.
pub(super) fn key(index: u64, part: u16) -> Key {
    let mut key = [0; 14];
    key[..4].copy_from_slice(&GROUP.to_be_bytes());
    key[4..12].copy_from_slice(&index.to_be_bytes());
    key[12..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Index and part of a key.
pub(super) fn split_key(key: &[u8]) -> Result<(u64, u16), StoreError> {
    let split = || {
        let (group, rest) = key.split_first_chunk::<4>()?;
        let (index, part) = rest.split_first_chunk::<8>()?;
        let part: [u8; 2] = part.try_into().ok()?;
        (*group == GROUP.to_be_bytes())
            .then(|| (u64::from_be_bytes(*index), u16::from_be_bytes(part)))
    };
    split().ok_or_else(|| match key.len() {
        KEY_BYTES_FORMAT_1 => StoreError::format("the log", 1, super::legacy::LOG_FORMAT),
        _ => StoreError::damaged(
            "log",
            format!("key {key:02x?}"),
            "it is not a key of the log",
        ),
    })
}

/// The key of a slot.
pub(super) fn slot_key(name: &str) -> String {
    format!("{GROUP}/{name}")
}

/// One part, with its checksum verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// How many parts the record has.
    pub parts: u16,
    /// How many bytes the record has.
    pub length: u32,
    /// The record's checksum.
    pub record_crc: u32,
    /// This part's bytes.
    pub bytes: &'a [u8],
}

/// The checksum over a whole record.
pub(super) fn record_crc(index: u64, bytes: &[u8]) -> u32 {
    crc(&[&index.to_be_bytes(), bytes])
}

/// The parts of a log entry in format 2, first part first.
#[cfg(test)]
pub(super) fn encode(index: u64, bytes: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
    StoreError::check_size(
        format_args!("log entry {index}"),
        bytes.len() as u64,
        RECORD_BYTES_MAX,
    )?;
    let crc = record_crc(index, bytes);
    let count = bytes.len().div_ceil(CHUNK_BYTES_MAX).max(1) as u16;
    let parts = (0..count).map(|part| {
        let start = usize::from(part) * CHUNK_BYTES_MAX;
        let end = bytes.len().min(start + CHUNK_BYTES_MAX);
        let key = key(index, part);
        let part = Part {
            parts: count,
            length: bytes.len() as u32,
            record_crc: crc,
            bytes: &bytes[start..end],
        };
        (key, seal(&key, part))
    });
    Ok(parts.collect())
}

/// A slot's value in sled: one part, sealed under the slot's key.
pub(super) fn encode_slot(key: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    StoreError::check_size(
        format_args!("slot {key}"),
        bytes.len() as u64,
        CHUNK_BYTES_MAX as u64,
    )?;
    Ok(seal(
        key.as_bytes(),
        Part {
            parts: 1,
            length: bytes.len() as u32,
            record_crc: 0,
            bytes,
        },
    ))
}

/// A slot's value, verified.
pub(super) fn decode_slot<'a>(key: &str, value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let part = unseal(key.as_bytes(), value, "slot", || key.to_owned())?;
    if part.bytes.len() != part.length as usize {
        let reason = format!(
            "the length is {}, expected {}",
            part.bytes.len(),
            part.length
        );
        return Err(StoreError::damaged("slot", key, reason));
    }
    Ok(part.bytes)
}

/// Verifies one part against its key. `what` it is a part of, and its `place`, are for error messages.
pub(super) fn unseal<'a>(
    key: &[u8],
    value: &'a [u8],
    what: &'static str,
    place: impl Fn() -> String,
) -> Result<Part<'a>, StoreError> {
    let (header, bytes) = checked(key, value, what, &place)?;
    if header[0] != FORMAT {
        let what = format!("{what} {}", place());
        return Err(StoreError::format(what, header[0].into(), FORMAT));
    }
    let parts = u16::from_be_bytes([header[1], header[2]]);
    Ok(Part {
        parts,
        length: number(header, 3),
        record_crc: number(header, 7),
        bytes,
    })
}

/// The format of a part, verified against its key.
pub(super) fn format_of(
    key: &[u8],
    value: &[u8],
    what: &'static str,
    place: impl Fn() -> String,
) -> Result<u8, StoreError> {
    checked(key, value, what, &place).map(|(header, _)| header[0])
}

/// A part without content, in another format than the one here.
pub(super) fn seal_empty(key: &[u8], format: u8) -> Vec<u8> {
    let mut value = seal(
        key,
        Part {
            parts: 1,
            length: 0,
            record_crc: 0,
            bytes: &[],
        },
    );
    renumber(key, &mut value, format);
    value
}

fn checked<'a>(
    key: &[u8],
    value: &'a [u8],
    what: &'static str,
    place: &impl Fn() -> String,
) -> Result<(&'a [u8; HEADER_BYTES], &'a [u8]), StoreError> {
    let damaged = |reason: String| StoreError::damaged(what, place(), reason);
    let Some((header, bytes)) = value.split_first_chunk::<HEADER_BYTES>() else {
        let length = value.len();
        return Err(damaged(format!(
            "{length} bytes are too short for a header"
        )));
    };
    let (found, computed) = (number(header, 11), crc(&[key, &header[..11], bytes]));
    match found == computed {
        true => Ok((header, bytes)),
        false => Err(damaged(format!(
            "the checksum is {computed:08x}, expected {found:08x}"
        ))),
    }
}

fn number(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn seal(key: &[u8], part: Part<'_>) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + part.bytes.len());
    value.push(FORMAT);
    value.extend_from_slice(&part.parts.to_be_bytes());
    value.extend_from_slice(&part.length.to_be_bytes());
    value.extend_from_slice(&part.record_crc.to_be_bytes());
    let crc = crc(&[key, &value, part.bytes]);
    value.extend_from_slice(&crc.to_be_bytes());
    value.extend_from_slice(part.bytes);
    value
}

/// Gives a sealed value another format, with the checksum that belongs to it.
pub(super) fn renumber(key: &[u8], value: &mut [u8], format: u8) {
    value[0] = format;
    let crc = crc(&[key, &value[..11], &value[HEADER_BYTES..]]);
    value[11..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
}

fn crc(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Result<Part<'a>, StoreError> {
        unseal(key, value, "part", String::new)
    }

    #[test]
    fn no_value_is_larger_than_sled_keeps_in_its_pages() {
        for length in [0, 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 1 << 20] {
            let bytes = vec![7; length];
            let parts = encode(3, &bytes).unwrap();
            assert!(
                parts
                    .iter()
                    .all(|(_, value)| value.len() <= VALUE_BYTES_MAX)
            );
            let joined: Vec<u8> = parts
                .iter()
                .flat_map(|(key, value)| unsealed(key, value).unwrap().bytes.to_vec())
                .collect();
            assert_eq!(joined, bytes);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, value) = encode(9, b"state").unwrap().remove(0);
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let fault = unsealed(&key, &damaged).unwrap_err();
            assert!(
                matches!(fault, StoreError::Damaged { .. }),
                "bit {bit}: {fault}"
            );
        }
    }

    #[test]
    fn a_value_under_another_key_is_noticed() {
        let (_, value) = encode(9, b"state").unwrap().remove(0);
        assert!(unsealed(&key(10, 0), &value).is_err());
    }
}
