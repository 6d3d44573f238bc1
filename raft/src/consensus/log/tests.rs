//! How the log is read.

use openraft::EntryPayload;
use openraft_rt_tokio::TokioRuntime;

use super::super::types::Payload;
use super::*;
use crate::store::{DiskStore, IdentityFile, StoreOptions};

type Raft = Types<TokioRuntime>;

#[tokio::test]
async fn a_long_range_to_apply_is_read_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        cache_bytes: 1 << 20,
        reserve_bytes: 0,
        free_bytes_min: 0,
    };
    let mut identity = IdentityFile::open(folder.path()).unwrap();
    let store = DiskStore::open(&mut identity, options, Arc::new(())).unwrap();
    let mut log = LogStore::open(store, 0).await.unwrap();
    let entry = |index| Entry {
        log_id: LogId::new_term_index(1, index),
        payload: EntryPayload::Normal(Payload(vec![7; READ_BYTES_MAX / 4].into())),
    };
    let (flushed, done) = tokio::sync::oneshot::channel();
    let entries: Vec<Entry> = (1..=20).map(entry).collect();
    let records = entries.iter().map(|entry| Record {
        index: entry.log_id.index,
        bytes: wire::ENTRY.encode(entry),
    });
    let records = records.collect();
    log.inner
        .storage
        .append(records, Box::new(|done| drop(flushed.send(done))));
    done.await.unwrap().unwrap();
    log.inner.recent.lock().last = entries.last().map(|last| last.log_id);

    let mut reader = log.clone();
    let stream = RaftLogReader::<Raft>::entries_stream(&mut reader, 1..=20).await;
    let mut stream = Box::pin(stream);
    assert_eq!(stream.try_next().await.unwrap().unwrap(), entries[0]);
    // What is removed now was not read in advance.
    let kept = LogId::new_term_index(1, 10);
    RaftLogStorage::<Raft>::truncate_after(&mut log, Some(kept))
        .await
        .unwrap();
    let rest: Vec<Entry> = stream.try_collect().await.unwrap();
    assert_eq!(rest, entries[1..10]);
}
