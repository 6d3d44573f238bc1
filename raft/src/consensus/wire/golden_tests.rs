//! One value per form that the consensus writes, for the golden files.

use super::*;
use crate::golden_tests::Form;

fn form(
    name: &'static str,
    bytes: Bytes,
    rewrite: impl Fn(Bytes) -> io::Result<Bytes> + 'static,
) -> Form {
    Form {
        name,
        format: FORMAT.into(),
        bytes: bytes.to_vec(),
        rewrite: Box::new(move |bytes| Ok(rewrite(Bytes::copy_from_slice(bytes))?.to_vec())),
        renumber: Box::new(|bytes, format| bytes[0] = format as u8),
    }
}

fn stored<T: 'static, M: prost::Message + Default + 'static>(
    name: &'static str,
    stored: Stored<T, M>,
    value: &T,
) -> Form {
    let bytes = stored.encode(value);
    form(name, bytes, move |bytes| {
        Ok(stored.encode(&stored.decode(bytes)?))
    })
}

pub(crate) fn forms() -> Vec<Form> {
    let member = |name: &str| Member {
        name: name.to_owned(),
        grpc_address: "10.0.0.1:4333".to_owned(),
        http_address: "10.0.0.1:3333".to_owned(),
        learner: false,
    };
    let membership = Membership::new(
        vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
        BTreeMap::from([1, 2, 3].map(|id| (id, member("node")))),
    )
    .unwrap();
    let log_id = LogId::new_term_index(3, 17);
    let meta = SnapshotMeta {
        last_log_id: Some(log_id),
        last_membership: StoredMembership::new(Some(log_id), membership.clone()),
    };
    let batch = Payload(Bytes::from_static(b"batch"));
    let entry = |name, payload| {
        let bytes = ENTRY.encode(&Entry { log_id, payload });
        form(name, bytes, |bytes| {
            Ok(ENTRY.encode(&decode_entry(bytes, 17)?))
        })
    };
    vec![
        stored("vote", VOTE, &Vote::new_committed(3, 9)),
        stored("purged", PURGED, &log_id),
        stored("committed", COMMITTED, &log_id),
        stored("snapshot-meta", SNAPSHOT_META, &meta),
        entry("entry-blank", EntryPayload::Blank),
        entry("entry-batch", EntryPayload::Normal(batch)),
        entry("entry-membership", EntryPayload::Membership(membership)),
    ]
}
