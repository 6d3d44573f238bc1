//! How a log entry or a slot lies in sled: as parts small enough to stay inside sled's pages, each
//! carrying what is needed to tell whether it, and the record it belongs to, is whole.
//!
//! A part is `format u8 | parts u16 | record length u32 | record crc u32 | part crc u32 | bytes`, all
//! big-endian. The part crc covers the key and everything but itself; the record crc covers the
//! first eight bytes of the key (the index) and the whole record, so parts of different records
//! that once had the same index cannot be taken for one.

use super::StoreError;

/// The largest value put into sled. Larger ones may become blob files, which sled never syncs.
pub(super) const VALUE_BYTES_MAX: usize = 7 * 1024;

/// The largest record: what fits the part number and the length.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024 * 1024;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 15;
const CHUNK_BYTES_MAX: usize = VALUE_BYTES_MAX - HEADER_BYTES;

/// A key of the log: index and part, both big-endian, so that keys sort as the log does.
pub(super) type Key = [u8; 10];

/// The key of one part of a log entry. The only place that knows the layout, with [`split_key`].
pub(super) fn key(index: u64, part: u16) -> Key {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Index and part of a key, unless it is not a key of the log.
pub(super) fn split_key(key: &[u8]) -> Option<(u64, u16)> {
    let (index, part) = key.split_first_chunk::<8>()?;
    let part: [u8; 2] = part.try_into().ok()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(part)))
}

/// One part, found whole.
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

/// The parts of a log entry, first part first.
pub(super) fn encode(index: u64, bytes: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(too_large(
            format!("log entry {index}"),
            bytes.len(),
            RECORD_BYTES_MAX,
        ));
    }
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

/// A slot's value as it lies in sled: one part.
pub(super) fn encode_slot(name: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    if bytes.len() > CHUNK_BYTES_MAX {
        return Err(too_large(
            format!("slot {name}"),
            bytes.len(),
            CHUNK_BYTES_MAX,
        ));
    }
    Ok(seal(
        name.as_bytes(),
        Part {
            parts: 1,
            length: bytes.len() as u32,
            record_crc: 0,
            bytes,
        },
    ))
}

/// A slot's value, checked.
pub(super) fn decode_slot<'a>(name: &str, value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let damaged = |reason| StoreError::Damaged {
        what: "slot",
        place: name.to_owned(),
        reason,
    };
    let part = unseal(name.as_bytes(), value).map_err(damaged)?;
    if part.bytes.len() != part.length as usize {
        return Err(damaged(format!(
            "{} bytes where {} were written",
            part.bytes.len(),
            part.length
        )));
    }
    Ok(part.bytes)
}

/// Checks one part against its key; what is wrong with it, if anything.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<Part<'a>, String> {
    let Some((header, bytes)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(format!("{} bytes are fewer than a header has", value.len()));
    };
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (found, computed) = (number(11), crc(&[key, &header[..11], bytes]));
    if found != computed {
        return Err(format!(
            "checksum is {computed:08x} where {found:08x} was written"
        ));
    }
    if header[0] != FORMAT {
        return Err(format!(
            "format {} is not known to this build, which reads format {FORMAT}",
            header[0]
        ));
    }
    let parts = u16::from_be_bytes([header[1], header[2]]);
    Ok(Part {
        parts,
        length: number(3),
        record_crc: number(7),
        bytes,
    })
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

fn crc(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

fn too_large(what: String, bytes: usize, bytes_max: usize) -> StoreError {
    StoreError::TooLarge {
        what,
        bytes: bytes as u64,
        bytes_max: bytes_max as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                .flat_map(|(key, value)| unseal(key, value).unwrap().bytes.to_vec())
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
            assert!(unseal(&key, &damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_under_another_key_is_noticed() {
        let (_, value) = encode(9, b"state").unwrap().remove(0);
        assert!(unseal(&key(10, 0), &value).is_err());
    }
}
