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
        let bytes = encode_entry(&Entry { log_id, payload });
        form(name, bytes, |bytes| {
            Ok(encode_entry(&decode_entry(bytes, 17)?))
        })
    };
    let position = |name, stored: &'static Stored<pb::LogId>| {
        form(name, stored.encode(&log_id_out(&log_id)), |bytes| {
            Ok(stored.encode(&log_id_out(&stored.decode(bytes, log_id_read)?)))
        })
    };
    let vote = VOTE.encode(&vote_out(&Vote::new_committed(3, 9)));
    let meta = SNAPSHOT_META.encode(&snapshot_meta_out(&meta));
    vec![
        form("vote", vote, |bytes| {
            let vote = VOTE.decode(bytes, |vote| vote_in(Some(vote)))?;
            Ok(VOTE.encode(&vote_out(&vote)))
        }),
        position("purged", &PURGED),
        position("committed", &COMMITTED),
        form("snapshot-meta", meta, |bytes| {
            let meta = SNAPSHOT_META.decode(bytes, snapshot_meta_in)?;
            Ok(SNAPSHOT_META.encode(&snapshot_meta_out(&meta)))
        }),
        entry("entry-blank", EntryPayload::Blank),
        entry("entry-batch", EntryPayload::Normal(batch)),
        entry("entry-membership", EntryPayload::Membership(membership)),
    ]
}
