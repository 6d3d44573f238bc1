//! Logs that no longer hold what was flushed, and crashes that must not be taken for that.

use std::fs;

use super::on_disk::end_before;
use super::sample::{copy_files, copy_of, encode_vote};
use super::*;
use crate::consensus::log::LogStore;
use crate::store::watermark::{self, Mark, Watermark};
use crate::store::{log, slots};

/// The two places of the file.
const PLACE_BYTES: usize = 4096;

fn save_vote(store: &DiskStore, term: u64) {
    wait(|done| store.save(Slot::Vote, encode_vote(term), done)).unwrap();
}

fn truncate_after(store: &DiskStore, kept: u64) {
    wait(|done| store.truncate_after(Some(kept), done)).unwrap();
}

/// A closed folder with entries 1 to 10, purged up to 2, and a vote.
fn closed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill(&store, 1..=10);
    save_vote(&store, 3);
    wait(|done| store.purge(2, "2".into(), done)).unwrap();
    dir
}

fn marks(dir: &Path) -> Vec<Mark> {
    let file = fs::read(dir.join("watermark")).unwrap();
    let (places, _) = file.as_chunks::<PLACE_BYTES>();
    let marks = places.iter().map(|place| watermark::decode(place).unwrap());
    marks.collect()
}

fn newest(dir: &Path) -> Mark {
    let marks = marks(dir).into_iter();
    marks.max_by_key(|mark| mark.number).unwrap()
}

fn assert_refused(dir: &Path, code: &str, expected: &str) {
    let error = open(dir).err().expect("the store must not open");
    assert_eq!(error.code(), code, "{error}");
    let text = error.to_string();
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("lockstepd rejoin"), "{text}");
}

#[test]
fn a_log_that_ends_before_what_was_flushed_is_refused_with_both_indexes() {
    let dir = closed();
    end_before(dir.path(), 9);
    assert_refused(dir.path(), "store_damaged", "log entry 10 in");
    assert_refused(dir.path(), "store_damaged", "the log ends at entry 8");
    end_before(dir.path(), 3);
    assert_refused(dir.path(), "store_damaged", "the log ends at entry 2");
}

#[test]
fn the_end_of_a_process_loses_no_mark() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for index in 1..=20 {
        fill(&store, index..=index);
        let copy = copy_of(dir.path());
        end_before(copy.path(), index);
        let expected = format!("log entry {index} in");
        assert_refused(copy.path(), "store_damaged", &expected);
    }
}

#[test]
fn an_earlier_entry_at_the_index_of_the_last_one_is_refused() {
    let dir = closed();
    let before = copy_of(dir.path());
    let store = open(dir.path()).unwrap();
    truncate_after(&store, 5);
    wait(|done| store.append(vec![record(6, "another")], done)).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy_files(&before.path().join("log"), &dir.path().join("log"));
    assert_refused(
        dir.path(),
        "store_damaged",
        "the log holds an earlier entry at this index",
    );
}

#[test]
fn a_purge_point_or_a_vote_that_is_gone_is_refused() {
    let dir = closed();
    tamper(dir.path(), |on_disk| {
        drop(on_disk.meta.remove("0/purged").unwrap());
    });
    assert_refused(dir.path(), "store_damaged", "the log is not purged");
    let dir = closed();
    tamper(dir.path(), |on_disk| {
        drop(on_disk.meta.remove("0/vote").unwrap());
    });
    assert_refused(dir.path(), "store_damaged", "the log holds no vote");
}

#[test]
fn a_vote_lower_than_one_that_was_acknowledged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    save_vote(&open(dir.path()).unwrap(), 3);
    let open_log = || {
        let store = open(dir.path()).unwrap();
        runtime().block_on(LogStore::open(store, 0)).map(drop)
    };
    open_log().unwrap();
    let change = |term| {
        tamper(dir.path(), |on_disk| {
            let value = codec::encode_slot("0/vote", &encode_vote(term)).unwrap();
            on_disk.meta.insert("0/vote", value).unwrap();
        });
    };
    change(2);
    let error = open_log().unwrap_err().to_string();
    assert!(
        error.contains("slot vote: the log holds the vote"),
        "{error}"
    );
    // A later one may have been flushed just before a crash.
    change(4);
    open_log().unwrap();
}

#[test]
fn a_vote_is_in_the_file_when_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for term in 1..=5 {
        fill(&store, term..=term);
        save_vote(&store, term);
        let mark = newest(dir.path());
        assert_eq!(mark.vote.map(Vec::from), Some(encode_vote(term).to_vec()));
        assert_eq!(mark.last.map(|last| last.index), Some(term));
    }
}

#[test]
fn a_crash_within_a_truncation_is_not_taken_for_damage() {
    let dir = closed();
    let store = open(dir.path()).unwrap();
    let before = copy_of(dir.path());
    truncate_after(&store, 6);
    let after = copy_of(dir.path());
    assert_eq!(newest(after.path()).last.map(|last| last.index), Some(6));
    fill(&store, 7..=8);
    drop(store);
    // Lowered, and nothing removed from the log yet, or not all of it.
    fs::copy(
        after.path().join("watermark"),
        before.path().join("watermark"),
    )
    .unwrap();
    for end in [10, 9, 7] {
        let crashed = copy_of(before.path());
        if end < 10 {
            end_before(crashed.path(), end + 1);
        }
        let bounds = open(crashed.path()).unwrap().bounds().unwrap();
        assert_eq!(bounds, Some((3, end)));
    }
    assert_eq!(open(after.path()).unwrap().bounds().unwrap(), Some((3, 6)));
    assert_eq!(open(dir.path()).unwrap().bounds().unwrap(), Some((3, 8)));
    // What was kept is still claimed.
    end_before(after.path(), 6);
    assert_refused(after.path(), "store_damaged", "log entry 6 in");
}

#[test]
fn a_purge_beyond_the_end_takes_the_claim_away() {
    let dir = closed();
    let store = open(dir.path()).unwrap();
    wait(|done| store.purge(100, "100".into(), done)).unwrap();
    let crashed = copy_of(dir.path());
    drop(store);
    for dir in [dir.path(), crashed.path()] {
        let store = open(dir).unwrap();
        assert_eq!(store.bounds().unwrap(), None);
        fill(&store, 101..=102);
        drop(store);
        assert_eq!(open(dir).unwrap().bounds().unwrap(), Some((101, 102)));
    }
}

#[test]
fn one_torn_place_is_tolerated_and_two_are_not() {
    let dir = closed();
    let path = dir.path().join("watermark");
    let whole = fs::read(&path).unwrap();
    for place in 0..2 {
        let mut torn = whole.clone();
        torn[place * PLACE_BYTES + 100..][..3000].fill(7);
        fs::write(&path, &torn).unwrap();
        drop(open(copy_of(dir.path()).path()).unwrap());
    }
    let mut torn = whole;
    torn[100..8000].fill(7);
    fs::write(&path, torn).unwrap();
    assert_refused(dir.path(), "store_damaged", "file watermark in");
}

#[test]
fn the_place_that_was_synced_last_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::open(dir.path().join("log")).unwrap();
    let slots = slots::Slots::open(db.open_tree("meta").unwrap()).unwrap();
    let log = log::Log::open(dir.path(), 9, &slots).unwrap();
    let opened = Watermark::open(dir.path(), 9, false, &log, &slots);
    let (mut watermark, _) = opened.unwrap();
    let numbers = || -> Vec<u64> { marks(dir.path()).iter().map(|mark| mark.number).collect() };
    for _ in 0..3 {
        let synced = newest(dir.path()).number;
        for written in 1..=4 {
            watermark.raise(&log, None).unwrap();
            let both = numbers();
            assert!(both.contains(&synced), "{both:?}");
            assert!(both.contains(&(synced + written)), "{both:?}");
        }
        watermark.sync().unwrap();
    }
}

#[test]
fn a_folder_without_its_watermark_or_with_another_nodes_is_refused() {
    let dir = closed();
    let other = closed();
    let file = |dir: &Path| dir.join("watermark");
    fs::copy(file(other.path()), file(dir.path())).unwrap();
    assert_refused(
        dir.path(),
        "store_mismatch",
        "the file watermark belongs to node",
    );
    fs::remove_file(file(dir.path())).unwrap();
    assert_refused(
        dir.path(),
        "store_mismatch",
        "the file watermark is missing",
    );
}

#[test]
fn an_older_copy_of_the_watermark_claims_less_and_is_harmless() {
    let dir = closed();
    let older = fs::read(dir.path().join("watermark")).unwrap();
    fill(&open(dir.path()).unwrap(), 11..=20);
    fs::write(dir.path().join("watermark"), older).unwrap();
    assert_eq!(open(dir.path()).unwrap().bounds().unwrap(), Some((3, 20)));
    assert_eq!(
        newest(dir.path()).last.map(|last| last.index),
        Some(20),
        "opening notes what there is"
    );
}
