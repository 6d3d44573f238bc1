//! The store as a whole, over real folders.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use lockstep_machine::{
    Batch, Command, Create, Metadata, Origin, Request, SessionId, State, Timestamp,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::database::Database;
use super::log_writer::SEGMENT_BYTES;
use super::snapshot::Snapshots;
use super::*;

mod binding;
mod damage;
mod legacy;
mod on_disk;
#[cfg(target_os = "linux")]
mod power_cuts;
mod sample;
mod watermark;

const OPTIONS: StoreOptions = StoreOptions {
    cache_bytes: 8 << 20,
    reserve_bytes: 1 << 20,
    free_bytes_min: 0,
};

/// Opens the store of a node that is a member of a cluster from then on.
fn open(dir: &Path) -> Result<DiskStore, StoreError> {
    open_observed(dir, Arc::new(()))
}

fn open_observed(dir: &Path, observer: Arc<dyn StoreObserver>) -> Result<DiskStore, StoreError> {
    let mut identity = IdentityFile::open(dir)?;
    let store = DiskStore::open(&mut identity, OPTIONS, observer)?;
    if identity.identity().cluster_id.is_none() {
        identity.update(|identity| identity.cluster_id = Some("c1".into()))?;
    }
    Ok(store)
}

/// Waits for one operation.
fn wait(operation: impl FnOnce(Done)) -> io::Result<()> {
    let (answer, answered) = mpsc::channel();
    operation(Box::new(move |result| answer.send(result).unwrap()));
    answered.recv().unwrap()
}

fn read(store: &DiskStore, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Record>> {
    runtime().block_on(store.read(from, to, bytes_max))
}

fn record(index: u64, bytes: impl Into<Bytes>) -> Record {
    Record {
        index,
        bytes: bytes.into(),
    }
}

fn append(store: &DiskStore, records: Vec<Record>) -> io::Result<()> {
    wait(|done| store.append(records, done))
}

/// Appends `indexes`, each with a few bytes that name it.
fn fill(store: &DiskStore, indexes: std::ops::RangeInclusive<u64>) {
    append(
        store,
        indexes
            .map(|index| record(index, format!("entry {index}")))
            .collect(),
    )
    .unwrap();
}

/// Changes a closed store behind its back.
fn tamper(dir: &Path, change: impl FnOnce(&Database)) {
    let database = database::open(&dir.join("log"), OPTIONS.cache_bytes).unwrap();
    change(&database);
    database.meta.flush().unwrap();
}

fn refusal(dir: &Path) -> String {
    let error = open(dir).err().expect("the store must not open");
    let text = error.to_string();
    if let StoreError::Damaged { .. } = error {
        assert!(text.contains(&dir.display().to_string()), "{text}");
    }
    text.replace(&format!(" in {}", dir.display()), "")
}

#[test]
fn a_log_of_format_1_is_refused_and_left_as_it_is() {
    let old_part = |key: &[u8], bytes: &[u8]| {
        let mut value = vec![1, 0, 1];
        value.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        value.extend_from_slice(&[0; 4]);
        let mut crc = crc32fast::Hasher::new();
        for piece in [key, &value, bytes] {
            crc.update(piece);
        }
        value.extend_from_slice(&crc.finalize().to_be_bytes());
        value.extend_from_slice(bytes);
        value
    };
    let log_key = [&7u64.to_be_bytes()[..], &[0, 0]].concat();
    let dir = tempfile::tempdir().unwrap();
    IdentityFile::open(dir.path())
        .and_then(|mut it| it.update(|identity| identity.cluster_id = Some("c1".into())))
        .unwrap();
    tamper(dir.path(), |on_disk| {
        let value = old_part(b"purged", &9u64.to_be_bytes());
        on_disk.meta.insert("purged", value).unwrap();
    });
    assert_eq!(
        refusal(dir.path()),
        "slot purged has format 1; this build reads format 2: run the release that wrote it"
    );
    tamper(dir.path(), |on_disk| {
        on_disk.meta.remove("purged").unwrap();
        let value = old_part(&log_key, b"entry");
        on_disk.log.insert(log_key.as_slice(), value).unwrap();
    });
    assert_eq!(
        refusal(dir.path()),
        "the log has format 1; this build reads format 3: run the release that wrote it"
    );
    tamper(dir.path(), |on_disk| assert_eq!(on_disk.log.len(), 1));
}

#[test]
fn a_reopened_store_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(store.bounds().unwrap(), None);
    assert_eq!(store.load(Slot::Vote).unwrap(), None);
    fill(&store, 1..=10);
    wait(|done| store.save(Slot::Vote, "me".into(), done)).unwrap();
    wait(|done| store.save(Slot::Committed, "7".into(), done)).unwrap();
    wait(|done| store.purge(3, "three".into(), done)).unwrap();
    drop(store);

    let store = open(dir.path()).unwrap();
    assert_eq!(store.bounds().unwrap(), Some((4, 10)));
    assert_eq!(store.load(Slot::Vote).unwrap(), Some("me".into()));
    assert_eq!(store.load(Slot::Committed).unwrap(), Some("7".into()));
    assert_eq!(store.load(Slot::Purged).unwrap(), Some("three".into()));
    let found = read(&store, 0, 100, usize::MAX).unwrap();
    assert_eq!(
        found,
        (4..=10)
            .map(|index| record(index, format!("entry {index}")))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_read_stops_at_its_limit_but_gives_at_least_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    append(
        &store,
        (1..=4).map(|index| record(index, vec![0; 100])).collect(),
    )
    .unwrap();
    let count = |from, to, max| read(&store, from, to, max).unwrap().len();
    assert_eq!(
        (
            count(1, 5, 1),
            count(1, 5, 250),
            count(1, 3, 999),
            count(2, 2, 9),
            count(5, 9, 9)
        ),
        (1, 2, 2, 0, 0)
    );
}

#[test]
fn an_entry_larger_than_a_segment_has_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut bytes = |length: u64| -> Vec<u8> { (0..length).map(|_| random.random()).collect() };
    let records: Vec<Record> = (1..=6)
        .map(|index| record(index, bytes((index % 2) * 2 * SEGMENT_BYTES + index)))
        .collect();
    let store = open(dir.path()).unwrap();
    append(&store, records.clone()).unwrap();
    assert_eq!(read(&store, 1, 7, usize::MAX).unwrap(), records);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(read(&store, 1, 7, usize::MAX).unwrap(), records);
    assert_eq!(read(&store, 4, 6, usize::MAX).unwrap(), records[3..5]);
}

/// Appends entries, 10,000 bytes each, from `first` on, until the log consists of so many segments.
fn fill_segments(store: &DiskStore, dir: &Path, first: u64, count: usize) -> u64 {
    let mut next = first;
    while on_disk::segments(dir).len() < count {
        append(store, vec![record(next, vec![7; 10_000])]).unwrap();
        next += 1;
    }
    next
}

#[test]
fn segments_are_removed_once_all_of_their_entries_are_purged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let next = fill_segments(&store, dir.path(), 1, 4);
    wait(|done| store.purge(next - 2, "p".into(), done)).unwrap();
    drop(store);
    assert_eq!(on_disk::segments(dir.path()).len(), 1);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.bounds().unwrap(), Some((next - 1, next - 1)));
    // All of it.
    wait(|done| store.purge(next - 1, "p".into(), done)).unwrap();
    drop(store);
    assert_eq!(on_disk::segments(dir.path()).len(), 0);
    let store = open(dir.path()).unwrap();
    fill(&store, next..=next);
}

#[test]
fn truncated_entries_are_removed_and_the_log_continues_in_another_segment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill_segments(&store, dir.path(), 1, 4);
    wait(|done| store.truncate_after(Some(5), done)).unwrap();
    assert_eq!(store.bounds().unwrap(), Some((1, 5)));
    fill(&store, 6..=9);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.bounds().unwrap(), Some((1, 9)));
    assert_eq!(on_disk::segments(dir.path()).len(), 2);
    wait(|done| store.truncate_after(None, done)).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).unwrap().bounds().unwrap(), None);
}

#[test]
fn sizes_and_tails_are_known_to_a_few_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let next = fill_segments(&store, dir.path(), 1, 3);
    let precision = (64 << 10) + 10_016;
    let check = |store: &DiskStore| {
        for index in 0..next {
            let exact = (next - 1 - index) * 10_016;
            let found = store.log_bytes_after(index);
            assert!(
                (exact..=exact + precision).contains(&found),
                "{index}: {found}"
            );
            let tail = store.log_tail(exact).unwrap();
            let bytes = (next - tail) * 10_016;
            assert!(bytes <= exact.max(precision), "{index}: {tail}");
            assert!(bytes + precision >= exact, "{index}: {tail}");
        }
        assert_eq!(store.log_bytes_after(next), 0);
        assert_eq!(store.log_tail(u64::MAX), Some(1));
    };
    check(&store);
    drop(store);
    check(&open(dir.path()).unwrap());
}

#[test]
fn random_histories_match_a_model_across_reopening() {
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        let mut store = open(dir.path()).unwrap();
        let mut model: BTreeMap<u64, Bytes> = BTreeMap::new();
        let mut end = 0; // the last index there is, or was when it was purged
        for step in 0..150 {
            match random.random_range(0..10) {
                0..5 => {
                    let records: Vec<Record> = (0..random.random_range(1..20))
                        .map(|n| {
                            record(
                                end + 1 + n,
                                vec![random.random(); random.random_range(0..20_000)],
                            )
                        })
                        .collect();
                    model.extend(
                        records
                            .iter()
                            .map(|record| (record.index, record.bytes.clone())),
                    );
                    end += records.len() as u64;
                    append(&store, records).unwrap();
                }
                5 => {
                    let first = model.keys().next().copied().unwrap_or(end + 1);
                    let kept = random.random_range(first - 1..=end);
                    model.split_off(&(kept + 1));
                    end = kept;
                    wait(|done| store.truncate_after(Some(kept), done)).unwrap();
                }
                6 => {
                    let upto = random
                        .random_range(end.saturating_sub(30)..=end + u64::from(step % 50 == 0) * 5);
                    model = model.split_off(&(upto + 1));
                    end = end.max(upto);
                    wait(|done| store.purge(upto, upto.to_be_bytes().to_vec().into(), done))
                        .unwrap();
                }
                7 => {
                    drop(store);
                    store = open(dir.path()).unwrap();
                }
                _ => {}
            }
            let found = read(&store, 0, u64::MAX, usize::MAX).unwrap();
            let found: BTreeMap<u64, Bytes> = found
                .into_iter()
                .map(|record| (record.index, record.bytes))
                .collect();
            assert_eq!(found, model, "seed {seed} step {step}");
            let first = model.first_key_value().map(|(index, _)| *index);
            let last = model.last_key_value().map(|(index, _)| *index);
            let expected = first.zip(last);
            assert_eq!(store.bounds().unwrap(), expected, "seed {seed} step {step}");
        }
    }
}

#[test]
fn after_a_purge_beyond_the_end_the_log_continues_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill(&store, 1..=5);
    wait(|done| store.purge(100, "100".into(), done)).unwrap();
    assert_eq!(store.bounds().unwrap(), None);
    fill(&store, 101..=102);
    drop(store);
    assert_eq!(
        open(dir.path()).unwrap().bounds().unwrap(),
        Some((101, 102))
    );
}

#[test]
fn an_interrupted_purge_is_finished_when_opening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let next = fill_segments(&store, dir.path(), 1, 3);
    let before = sample::copy_of(dir.path());
    wait(|done| store.purge(next - 2, "p".into(), done)).unwrap();
    drop(store);
    // The files are back, in the catalogue or not.
    for path in on_disk::segments(before.path()) {
        let to = dir.path().join("log").join(path.file_name().unwrap());
        std::fs::copy(path, to).unwrap();
    }
    let store = open(dir.path()).unwrap();
    assert_eq!(store.bounds().unwrap(), Some((next - 1, next - 1)));
    drop(store);
    assert_eq!(on_disk::segments(dir.path()).len(), 1);
}

#[test]
fn a_purged_segment_has_left_the_catalogue_before_its_file_goes() {
    let dir = tempfile::tempdir().unwrap();
    let open_slots = |dir: &Path| {
        // Nothing is written but by a flush.
        let config = sled::Config::new().path(dir).flush_every_ms(None);
        slots::Slots::open(config.open().unwrap().open_tree("meta").unwrap()).unwrap()
    };
    let slots = open_slots(dir.path());
    let sealed = Some(catalogue::Sealed { last: 5, end: 100 });
    catalogue::save(&slots, 0, catalogue::Listed { first: 1, sealed }).unwrap();
    slots.save_purge_point(100, b"100").unwrap();
    slots.flush().unwrap();
    let log = log::Log::open(dir.path(), 9, &slots).unwrap();
    let _writer = log_writer::LogWriter::new(log, slots).unwrap();
    let crashed = sample::copy_of(dir.path());
    assert_eq!(open_slots(crashed.path()).segments().unwrap(), [0; 0]);
}

#[test]
fn an_append_that_leaves_a_gap_is_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill(&store, 1..=2);
    let error = append(&store, vec![record(4, "")]).unwrap_err().to_string();
    assert!(
        error.contains("log entry 4 appended out of order: entry 3 is next"),
        "{error}"
    );
    assert!(append(&store, vec![record(3, "")]).is_err());
}

#[test]
fn a_damaged_entry_is_refused_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let next = fill_segments(&store, dir.path(), 1, 2);
    drop(store);
    // In a segment that is complete, and in the last one.
    for index in [2, next - 1] {
        let damaged = sample::copy_of(dir.path());
        on_disk::flip(damaged.path(), index);
        let error = refusal(damaged.path());
        let expected = format!("log entry {index}: the checksum is");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn damage_that_appears_while_running_is_reported_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill(&store, 1..=3);
    on_disk::flip(dir.path(), 2);
    let error = read(&store, 1, 4, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("log entry 2: the checksum is"), "{error}");
    on_disk::end_before(dir.path(), 2);
    let error = read(&store, 1, 4, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("log entry 2: it is missing"), "{error}");
}

#[test]
fn a_segment_that_is_missing_truncated_or_replaced_by_another_is_refused_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill_segments(&store, dir.path(), 1, 3);
    drop(store);
    let refused = |change: &dyn Fn(&[std::path::PathBuf]), expected: &str| {
        let damaged = sample::copy_of(dir.path());
        change(&on_disk::segments(damaged.path()));
        let error = refusal(damaged.path());
        assert!(error.contains(expected), "{error}");
    };
    let shorten = |path: &Path, bytes: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(path);
        file.unwrap().set_len(bytes).unwrap();
    };
    refused(
        &|files| std::fs::remove_file(&files[1]).unwrap(),
        "log segment 1: its file is missing",
    );
    refused(
        &|files| shorten(&files[0], 1000),
        "log segment 0: it has 1000 bytes, expected",
    );
    refused(
        &|files| shorten(&files[2], 20),
        "log segment 2: 20 bytes are too short",
    );
    refused(
        &|files| {
            std::fs::copy(&files[0], &files[1]).unwrap();
        },
        "log segment 1: its file is that of another segment",
    );
}

/// A closed store with entry 1 and `later` ones; and the watermark from before these.
fn written_after_mark(later: Vec<Record>) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()).unwrap(), vec![record(1, "small")]).unwrap();
    let mark = std::fs::read(dir.path().join("watermark")).unwrap();
    append(&open(dir.path()).unwrap(), later).unwrap();
    (dir, mark)
}

#[test]
fn an_entry_that_a_crash_left_unfinished_is_not_taken_for_damage() {
    let later = vec![record(2, vec![7; 30_000]), record(3, "small")];
    let (dir, mark) = written_after_mark(later);
    for kept in [1, 15, 16, 17, 20_000, 30_015] {
        let crashed = sample::copy_of(dir.path());
        std::fs::write(crashed.path().join("watermark"), &mark).unwrap();
        on_disk::tear(crashed.path(), 2, kept);
        let store = open(crashed.path()).unwrap();
        assert_eq!(store.bounds().unwrap(), Some((1, 1)), "{kept}");
        fill(&store, 2..=2);
        drop(store);
        let store = open(crashed.path()).unwrap();
        assert_eq!(store.bounds().unwrap(), Some((1, 2)), "{kept}");
        assert_eq!(read(&store, 2, 3, 100).unwrap(), [record(2, "entry 2")]);
    }
}

#[test]
fn what_follows_an_incomplete_entry_after_a_crash_is_never_read_again() {
    let (dir, mark) = written_after_mark(vec![record(2, "torn"), record(3, "whole")]);
    // The page of the first of two entries was not written.
    on_disk::change_from(dir.path(), 2, |bytes| bytes[..20].fill(0));
    std::fs::write(dir.path().join("watermark"), mark).unwrap();
    let store = open(dir.path()).unwrap();
    append(&store, vec![record(2, "torn")]).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).unwrap().bounds().unwrap(), Some((1, 2)));
}

#[test]
fn a_damaged_slot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    wait(|done| store.save(Slot::Vote, "me".into(), done)).unwrap();
    drop(store);
    tamper(dir.path(), |on_disk| {
        drop(on_disk.meta.insert("0/vote", b"you".as_slice()).unwrap());
    });
    let error = refusal(dir.path());
    assert!(error.contains("slot 0/vote:"), "{error}");
}

#[test]
fn the_purge_point_is_written_by_a_purge_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert!(wait(|done| store.save(Slot::Purged, "1".into(), done)).is_err());
    fill(&store, 1..=2);
}

/// Counts the operations that flushes made durable.
#[derive(Default)]
struct Counting {
    flushed: AtomicUsize,
    failed: AtomicUsize,
}

impl StoreObserver for Counting {
    fn flushed(&self, _took: Duration, operations: usize) {
        self.flushed.fetch_add(operations, Ordering::SeqCst);
    }

    fn failed(&self, _error: &StoreError) {
        self.failed.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn operations_complete_in_order_and_only_once_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let observer = Arc::new(Counting::default());
    let store = open_observed(dir.path(), observer.clone()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for number in 0..500usize {
        let (seen, observer) = (seen.clone(), observer.clone());
        let done: Done = Box::new(move |result| {
            result.unwrap();
            seen.lock()
                .unwrap()
                .push((number, observer.flushed.load(Ordering::SeqCst)));
        });
        match number % 5 {
            4 => store.save(Slot::Vote, "me".into(), done),
            _ => store.append(vec![record((number - number / 5) as u64, "x")], done),
        }
    }
    drop(store);
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        (0..500).collect::<Vec<_>>()
    );
    assert!(seen.iter().all(|(number, flushed)| flushed > number));
}

#[test]
fn the_committed_slot_waits_for_no_flush() {
    let dir = tempfile::tempdir().unwrap();
    let observer = Arc::new(Counting::default());
    let store = open_observed(dir.path(), observer.clone()).unwrap();
    for number in 1..=9 {
        wait(|done| store.save(Slot::Committed, number.to_string().into(), done)).unwrap();
    }
    assert_eq!(observer.flushed.load(Ordering::SeqCst), 0);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.load(Slot::Committed).unwrap(), Some("9".into()));
}

#[test]
fn after_a_failure_every_operation_fails_and_the_observer_is_notified_once() {
    let dir = tempfile::tempdir().unwrap();
    let observer = Arc::new(Counting::default());
    let store = open_observed(dir.path(), observer.clone()).unwrap();
    assert!(wait(|done| store.save(Slot::Vote, vec![0; 10_000].into(), done)).is_err());
    let error = wait(|done| store.save(Slot::Vote, "1".into(), done))
        .unwrap_err()
        .to_string();
    assert!(
        error
            .contains("the store has stopped writing: slot 0/vote has 10000 bytes; the maximum is"),
        "{error}"
    );
    assert!(append(&store, vec![record(1, "")]).is_err());
    assert!(wait(|done| store.truncate_after(None, done)).is_err());
    assert!(wait(|done| store.purge(1, "1".into(), done)).is_err());
    assert_eq!(observer.failed.load(Ordering::SeqCst), 1);
    assert_eq!(observer.flushed.load(Ordering::SeqCst), 0);
}

#[test]
fn purged_and_cut_entries_are_never_taken_for_damage_by_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let reader = {
        let store = store.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                read(&store, 0, u64::MAX, usize::MAX).unwrap();
            }
        });
        (stop, thread)
    };
    let mut last = 0;
    for round in 1..=60u64 {
        append(
            &store,
            (last + 1..=last + 20)
                .map(|index| record(index, vec![round as u8; 9_000]))
                .collect(),
        )
        .unwrap();
        wait(|done| store.truncate_after(Some(last + 15), done)).unwrap();
        last += 15;
        wait(|done| store.purge(last - 10, "p".into(), done)).unwrap();
    }
    drop(reader.0);
    reader.1.join().unwrap();
}

#[test]
fn the_reserve_is_held_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(
        std::fs::metadata(dir.path().join("reserve")).unwrap().len(),
        OPTIONS.reserve_bytes
    );
    let space = runtime().block_on(store.space()).unwrap();
    assert!(space.free > 0 && space.log_used > 0);
    assert!(space.used >= space.log_used);
    let folder = files::size_on_disk(dir.path()).unwrap();
    assert!(folder >= space.used + OPTIONS.reserve_bytes);
    let reserve = super::reserve::Reserve::new(dir.path(), OPTIONS.reserve_bytes);
    assert!(reserve.give_back());
    assert!(!reserve.give_back());
    drop(store);
    drop(open(dir.path()).unwrap());
    assert!(dir.path().join("reserve").exists());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// Writes a snapshot of `index` into a folder of its own: what a peer would send.
fn elsewhere(dir: &Path, index: u64) -> SnapshotFile {
    Snapshots::open(dir.to_owned(), 0, None, &|_, _| {})
        .unwrap()
        .write(index, b"meta", state().records())
        .unwrap()
}

/// A state with a thousand instances.
fn state() -> State {
    let create = |n: u64| Request {
        origin: Origin {
            session: SessionId(1),
            sequence: n,
            answered_below: n,
        },
        key: None,
        command: Command::Create(Create {
            instance: format!("triad/instance-{n}").parse().unwrap(),
            version: None,
            metadata: Metadata::default(),
        }),
    };
    let mut state = State::default();
    state.apply(&Batch {
        stamp: Timestamp(1),
        requests: (1..=1000).map(create).collect(),
    });
    state
}

async fn send(store: &DiskStore, snapshot: &SnapshotFile, length: u64) -> io::Result<SnapshotFile> {
    let mut receiver = store.receive_snapshot(length)?;
    let mut offset = 0;
    while offset < snapshot.length() {
        let piece = snapshot.read_at(offset, 10_000)?;
        offset += piece.len() as u64;
        receiver.write(piece).await?;
    }
    receiver.finish().await
}

fn files_in(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("snapshots")).unwrap().count()
}

#[test]
fn a_received_snapshot_becomes_current_when_adopted_and_stays_so() {
    let (dir, peer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, sent) = (elsewhere(peer.path(), 41), elsewhere(peer.path(), 42));
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        let first = send(&store, &old, old.length()).await.unwrap();
        assert!(store.current_snapshot().is_none());
        store.adopt_snapshot(first.clone()).await.unwrap();
        let second = send(&store, &sent, sent.length()).await.unwrap();
        store.adopt_snapshot(second).await.unwrap();
        assert_eq!(files_in(dir.path()), 1);
        // The replaced one stays readable, and does not come back.
        assert_eq!(
            first.read_at(0, usize::MAX).unwrap(),
            old.read_at(0, usize::MAX).unwrap()
        );
        store.adopt_snapshot(first).await.unwrap();
        assert_eq!(store.current_snapshot().unwrap().index(), 42);
    });
    let store = open(dir.path()).unwrap();
    let current = store.current_snapshot().unwrap();
    assert_eq!(
        (current.index(), current.meta(), current.length()),
        (42, "meta".into(), sent.length())
    );
    assert_eq!(
        current.read_at(0, usize::MAX).unwrap(),
        sent.read_at(0, usize::MAX).unwrap()
    );
}

#[test]
fn a_snapshot_received_damaged_or_in_part_leaves_nothing_behind() {
    let (dir, peer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sent = elsewhere(peer.path(), 42);
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        assert!(send(&store, &sent, sent.length() - 1).await.is_err());
        assert!(send(&store, &sent, sent.length() + 1).await.is_err());
        for at in [0, 20, sent.length() / 2, sent.length() - 1] {
            let mut receiver = store.receive_snapshot(sent.length()).unwrap();
            let mut bytes = sent.read_at(0, usize::MAX).unwrap().to_vec();
            bytes[at as usize] ^= 1;
            receiver.write(bytes.into()).await.unwrap();
            assert!(receiver.finish().await.is_err(), "byte {at}");
        }
        drop(send(&store, &sent, sent.length()).await.unwrap());
        assert_eq!(files_in(dir.path()), 0);
    });
}

#[test]
fn opening_removes_unfinished_snapshots_and_refuses_a_damaged_current_one() {
    let (dir, peer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sent = elsewhere(peer.path(), 42);
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        let received = send(&store, &sent, sent.length()).await.unwrap();
        store.adopt_snapshot(received).await.unwrap();
    });
    let snapshots = dir.path().join("snapshots");
    std::fs::write(snapshots.join("0-0123.tmp"), b"half").unwrap();
    std::fs::write(snapshots.join("0-7-0123.snapshot"), b"never named").unwrap();
    drop(open(dir.path()).unwrap());
    assert_eq!(files_in(dir.path()), 1);

    let path = std::fs::read_dir(&snapshots)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"?", sent.length() / 2).unwrap();
    let error = refusal(dir.path());
    assert!(
        error.contains("snapshot 0-00000000000000000042-") && error.contains("(record "),
        "{error}"
    );
    std::fs::remove_file(path).unwrap();
    assert!(refusal(dir.path()).contains("its file is missing"));
}

#[test]
fn a_state_is_written_and_read_back_and_an_older_one_does_not_replace_it() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        let state = State::default();
        let written = store
            .write_snapshot(9, "nine".into(), state.clone())
            .await
            .unwrap();
        let older = store
            .write_snapshot(8, "eight".into(), state.clone())
            .await
            .unwrap();
        assert_eq!(
            (older.index(), store.current_snapshot().unwrap().index()),
            (8, 9)
        );
        assert_eq!(
            store.read_snapshot(older).await.unwrap().hash(),
            state.hash()
        );
        assert_eq!(
            store.read_snapshot(written).await.unwrap().hash(),
            state.hash()
        );
        assert_eq!(files_in(dir.path()), 1);
    });
    let current = open(dir.path()).unwrap().current_snapshot().unwrap();
    assert_eq!((current.index(), current.meta()), (9, "nine".into()));
}

#[test]
fn opening_reads_the_snapshot_once_and_says_how_far_it_is() {
    #[derive(Default)]
    struct Progress(Mutex<Vec<(u64, u64)>>);
    impl StoreObserver for Progress {
        fn restoring(&self, bytes: u64, of: u64) {
            self.0.lock().unwrap().push((bytes, of));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let write = open(dir.path())
        .unwrap()
        .write_snapshot(9, Bytes::new(), state());
    let length = runtime().block_on(write).unwrap().length();
    let progress = Arc::new(Progress::default());
    let mut identity = IdentityFile::open(dir.path()).unwrap();
    let store = DiskStore::open(&mut identity, OPTIONS, progress.clone()).unwrap();
    let seen = progress.0.lock().unwrap().clone();
    assert!(seen.is_sorted() && seen.len() > 1, "{seen:?}");
    assert!(seen.iter().all(|(bytes, of)| bytes < of && *of == length));

    // The first reader needs no file any more; the second does.
    let current = store.current_snapshot().unwrap();
    let file = std::fs::read_dir(dir.path().join("snapshots"))
        .unwrap()
        .next();
    std::fs::write(file.unwrap().unwrap().path(), b"").unwrap();
    let read = || runtime().block_on(store.read_snapshot(current.clone()));
    assert_eq!(read().unwrap().hash(), state().hash());
    assert!(read().is_err());
}
