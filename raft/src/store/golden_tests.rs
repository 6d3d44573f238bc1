//! One value per form that the store writes, for the golden files.
#![cfg(test)]

use std::io;

use lockstep_machine::State;

use super::{
    BootstrapPlan, Identity, Member, PlannedMember, Record, catalogue, codec, identity, legacy,
    log, segment, slots, snapshot, watermark,
};
use crate::golden_tests::Form;

pub(crate) fn forms() -> Vec<Form> {
    let one_part = b"an entry that fits".to_vec();
    let parts: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    vec![
        log_parts("log-part", one_part),
        log_parts("log-parts", parts),
        slot("slot-vote", "vote"),
        slot("slot-committed", "committed"),
        slot("slot-purged", "purged"),
        slot("slot-snapshot", "snapshot"),
        slot("slot-owner", "owner"),
        slot_of_segment("slot-segment", None),
        slot_of_segment("slot-segment-sealed", Some((99, 4096))),
        log_segment(),
        watermark_place(),
        snapshot_file(),
        snapshot_records(),
        identity_file("identity", None, false, None),
        identity_file("identity-named", Some("node1"), false, None),
        identity_file("identity-bound", Some("node1"), true, None),
        identity_file("identity-differs", Some("node1"), false, Some(8192)),
    ]
}

/// Keys and values as the tree of a log of format 2 holds them, each behind its length.
fn log_parts(name: &'static str, entry: Vec<u8>) -> Form {
    const INDEX: u64 = 17;
    fn join(parts: Vec<(codec::Key, Vec<u8>)>) -> Vec<u8> {
        let part = |(key, value): (codec::Key, Vec<u8>)| {
            [&key[..], &(value.len() as u32).to_be_bytes(), &value].concat()
        };
        parts.into_iter().flat_map(part).collect()
    }
    fn split(mut bytes: &[u8]) -> Vec<(codec::Key, Vec<u8>)> {
        let mut parts = Vec::new();
        while let Some((key, rest)) = bytes.split_first_chunk() {
            let (length, rest) = rest.split_first_chunk().unwrap();
            let (value, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            parts.push((*key, value.to_vec()));
            bytes = rest;
        }
        parts
    }
    Form {
        name,
        format: codec::FORMAT.into(),
        bytes: join(codec::encode(INDEX, &entry).unwrap()),
        rewrite: Box::new(|bytes| {
            let dir = tempfile::tempdir()?;
            let db = sled::open(dir.path())?;
            let (tree, meta) = (db.open_tree("log")?, db.open_tree("meta")?);
            for (key, value) in split(bytes) {
                tree.insert(key, value)?;
            }
            let slots = slots::Slots::open(meta)?;
            legacy::move_entries(&tree, dir.path(), 9, &slots)?;
            let log = log::Log::open(dir.path(), 9, &slots)?;
            let record = log.read(INDEX, INDEX + 1, usize::MAX)?.remove(0);
            Ok(join(codec::encode(record.index, &record.bytes)?))
        }),
        renumber: Box::new(|bytes, format| {
            let mut parts = split(bytes);
            for (key, value) in &mut parts {
                codec::renumber(key, value, format as u8);
            }
            *bytes = join(parts);
        }),
    }
}

fn slot(name: &'static str, slot: &'static str) -> Form {
    let key = codec::slot_key(slot);
    let (read, renumbered) = (key.clone(), key.clone());
    Form {
        name,
        format: codec::FORMAT.into(),
        bytes: codec::encode_slot(&key, slot.as_bytes()).unwrap(),
        rewrite: Box::new(move |bytes| {
            let value = codec::decode_slot(&read, bytes)?;
            Ok(codec::encode_slot(&read, value)?)
        }),
        renumber: Box::new(move |bytes, format| {
            codec::renumber(renumbered.as_bytes(), bytes, format as u8);
        }),
    }
}

/// An entry of the log's catalogue.
fn slot_of_segment(name: &'static str, sealed: Option<(u64, u64)>) -> Form {
    let key = slots::SlotName::Segment(7).key();
    let renumbered = key.clone();
    let listed = catalogue::Listed {
        first: 17,
        sealed: sealed.map(|(last, end)| catalogue::Sealed { last, end }),
    };
    let written = {
        let key = key.clone();
        move |listed: catalogue::Listed| {
            codec::encode_slot(&key, &catalogue::encode(7, listed).unwrap()).unwrap()
        }
    };
    Form {
        name,
        format: codec::FORMAT.into(),
        bytes: written(listed),
        rewrite: Box::new(move |bytes| {
            let value = codec::decode_slot(&key, bytes)?;
            Ok(written(catalogue::decode(7, value)?))
        }),
        renumber: Box::new(move |bytes, format| {
            codec::renumber(renumbered.as_bytes(), bytes, format as u8);
        }),
    }
}

/// A segment with two entries and some zeros.
fn log_segment() -> Form {
    const ID: segment::SegmentId = segment::SegmentId {
        node_id: 9,
        number: 7,
        first: 17,
    };
    fn written(records: &[Record]) -> Vec<u8> {
        let mut bytes = segment::header(ID).to_vec();
        for record in records {
            segment::encode(record, &mut bytes).unwrap();
        }
        bytes.extend_from_slice(&[0; 100]);
        bytes
    }
    let record = |index, bytes: &'static [u8]| Record {
        index,
        bytes: bytes.into(),
    };
    Form {
        name: "log-segment",
        format: segment::FORMAT,
        bytes: written(&[record(17, b"an entry"), record(18, b"")]),
        rewrite: Box::new(|bytes| {
            let dir = tempfile::tempdir()?;
            std::fs::write(segment::path(dir.path(), ID.number), bytes)?;
            let mut scan = segment::Scan::open(dir.path(), ID, None)?;
            let mut records = Vec::new();
            while let Some(record) = scan.next()? {
                records.push(record);
            }
            Ok(written(&records))
        }),
        renumber: Box::new(|bytes, format| {
            bytes[8..12].copy_from_slice(&format.to_be_bytes());
            segment::seal(bytes);
        }),
    }
}

/// One of the two places in the file.
fn watermark_place() -> Form {
    let mark = watermark::Mark {
        number: 5,
        node_id: 9,
        last: Some(watermark::Entry {
            index: 17,
            crc: 0xc0ff_ee00,
        }),
        purged: Some(3),
        vote: Some(b"vote".to_vec().into()),
    };
    Form {
        name: "watermark",
        format: watermark::FORMAT,
        bytes: watermark::encode(&mark).unwrap().to_vec(),
        rewrite: Box::new(|bytes| {
            let mark = watermark::decode(bytes.try_into().unwrap())?;
            Ok(watermark::encode(&mark)?.to_vec())
        }),
        renumber: Box::new(|bytes, format| {
            bytes[8..12].copy_from_slice(&format.to_be_bytes());
            watermark::seal(bytes);
        }),
    }
}

fn write_snapshot(state: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot::format::write(&mut bytes, 17, b"meta", state).unwrap();
    bytes
}

/// Opens a snapshot as a node does, restores its state, and writes that again.
fn rewrite_snapshot(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("0-17.snapshot");
    std::fs::write(&path, bytes)?;
    let file = snapshot::SnapshotFile::open(path)?;
    Ok(write_snapshot(snapshot::restore(&file)?.records()))
}

fn snapshot_file() -> Form {
    Form {
        name: "snapshot-file",
        format: snapshot::format::FORMAT,
        bytes: write_snapshot(State::default().records()),
        rewrite: Box::new(rewrite_snapshot),
        renumber: Box::new(|bytes, format| {
            bytes[8..12].copy_from_slice(&format.to_be_bytes());
            let crc = crc32fast::hash(&bytes[..12]);
            bytes[12..16].copy_from_slice(&crc.to_be_bytes());
        }),
    }
}

/// The records in a sound file: the state machine's own format.
fn snapshot_records() -> Form {
    Form {
        name: "snapshot-records",
        format: lockstep_machine::SNAPSHOT_FORMAT.into(),
        bytes: write_snapshot(State::default().records()),
        rewrite: Box::new(rewrite_snapshot),
        renumber: Box::new(|bytes, format| {
            let records = State::default().records().enumerate();
            *bytes = write_snapshot(records.map(|(number, mut record)| {
                if number == 0 {
                    record[0] = format as u8;
                }
                record
            }));
        }),
    }
}

fn identity_file(
    form: &'static str,
    name: Option<&str>,
    bound: bool,
    differs_at: Option<u64>,
) -> Form {
    let member = PlannedMember {
        node_id: 9,
        member: Member {
            name: "node1".to_owned(),
            grpc_address: "10.0.0.1:4333".to_owned(),
            http_address: "10.0.0.1:3333".to_owned(),
            learner: false,
        },
    };
    let identity = Identity {
        format: identity::FORMAT,
        node_id: 9,
        cluster_id: Some("c1".to_owned()),
        plan: Some(BootstrapPlan {
            cluster_id: "c1".to_owned(),
            members: vec![member],
        }),
        bound,
        name: name.map(str::to_owned),
        differs_at,
    };
    fn written(identity: &Identity) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("identity.json");
        identity::write(&path, identity)?;
        std::fs::read(&path)
    }
    fn read(bytes: &[u8]) -> io::Result<Identity> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("identity.json");
        std::fs::write(&path, bytes)?;
        Ok(identity::read(&path)?)
    }
    Form {
        name: form,
        format: identity::FORMAT,
        bytes: written(&identity).unwrap(),
        rewrite: Box::new(|bytes| written(&read(bytes)?)),
        renumber: Box::new(move |bytes, format| {
            let identity = Identity {
                format,
                ..identity.clone()
            };
            *bytes = written(&identity).unwrap();
        }),
    }
}
