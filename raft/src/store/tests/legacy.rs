//! Logs of format 2, whose entries are in sled.

use super::sample::copy_of;
use super::*;

/// Makes the log of a closed store one of format 2, with these entries.
fn write_format_2(dir: &Path, records: &[Record]) {
    on_disk::segments(dir)
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());
    tamper(dir, |on_disk| {
        on_disk.log.clear().unwrap();
        for key in on_disk.meta.scan_prefix("0/segment/").keys() {
            on_disk.meta.remove(key.unwrap()).unwrap();
        }
        for record in records {
            let parts = codec::encode(record.index, &record.bytes).unwrap();
            for (key, value) in parts.into_iter().rev() {
                on_disk.log.insert(key, value).unwrap();
            }
        }
    });
}

fn records() -> Vec<Record> {
    let length = |index: u64| if index.is_multiple_of(3) { 40_000 } else { 10 };
    (3..=40)
        .map(|index| record(index, vec![index as u8; length(index)]))
        .collect()
}

/// A closed folder of format 2 with entries 3 to 40; the log was purged up to 4.
fn closed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    wait(|done| store.purge(2, "2".into(), done)).unwrap();
    append(&store, records()).unwrap();
    wait(|done| store.purge(4, "4".into(), done)).unwrap();
    drop(store);
    write_format_2(dir.path(), &records());
    dir
}

fn assert_moved(dir: &Path) {
    for _ in 0..2 {
        let store = open(dir).unwrap();
        assert_eq!(store.bounds().unwrap(), Some((5, 40)));
        assert_eq!(read(&store, 0, 99, usize::MAX).unwrap(), records()[2..]);
    }
    tamper(dir, |on_disk| assert_eq!(on_disk.log.len(), 1));
}

#[test]
fn its_entries_are_moved_into_segments() {
    let dir = closed();
    assert_moved(dir.path());
    let store = open(dir.path()).unwrap();
    fill(&store, 41..=42);
}

#[test]
fn a_move_that_a_crash_interrupted_is_done_again() {
    let dir = closed();
    let moved = copy_of(dir.path());
    assert_moved(moved.path());
    // Segments and their catalogue are there, the marker is not.
    let crashed = copy_of(moved.path());
    tamper(crashed.path(), |on_disk| {
        on_disk.log.clear().unwrap();
        for record in records() {
            for (key, value) in codec::encode(record.index, &record.bytes).unwrap() {
                on_disk.log.insert(key, value).unwrap();
            }
        }
    });
    assert_moved(crashed.path());
    // The marker is there, and not all old entries are gone.
    tamper(moved.path(), |on_disk| {
        for (key, value) in codec::encode(9, b"left").unwrap() {
            on_disk.log.insert(key, value).unwrap();
        }
    });
    assert_moved(moved.path());
}

#[test]
fn an_entry_that_a_crash_left_unfinished_is_dropped() {
    let dir = closed();
    tamper(dir.path(), |on_disk| {
        for (key, value) in &codec::encode(41, &[7; 30_000]).unwrap()[1..] {
            on_disk.log.insert(key, value.as_slice()).unwrap();
        }
    });
    assert_moved(dir.path());
}

#[test]
fn damage_is_refused_with_its_place_and_nothing_is_lost() {
    let dir = closed();
    let damaged = copy_of(dir.path());
    tamper(damaged.path(), |on_disk| {
        let key = codec::key(6, 1);
        let mut value = on_disk.log.get(key).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        on_disk.log.insert(key, value).unwrap();
    });
    let error = refusal(damaged.path());
    assert!(
        error.contains("log entry 6 part 1: the checksum is"),
        "{error}"
    );
    let part = |dir: &Path, index, part| {
        tamper(dir, |on_disk| {
            drop(on_disk.log.remove(codec::key(index, part)).unwrap())
        });
        refusal(dir)
    };
    let error = part(copy_of(dir.path()).path(), 6, 1);
    assert!(
        error.contains("log entry 6 part 1: it is missing"),
        "{error}"
    );
    let error = part(copy_of(dir.path()).path(), 6, 0);
    assert!(
        error.contains("log entry 6 part 1: part 0 is missing"),
        "{error}"
    );
    let error = part(copy_of(dir.path()).path(), 8, 0);
    assert!(error.contains("log entry 8: it is missing"), "{error}");
    assert_moved(dir.path());
}

#[test]
fn a_log_of_format_3_is_refused_by_builds_that_read_format_2() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    tamper(dir.path(), |on_disk| {
        let (key, value) = on_disk.log.last().unwrap().unwrap();
        assert_eq!(codec::split_key(&key).unwrap(), (u64::MAX, 0));
        let error = codec::unseal(&key, &value, "log entry", || "last".to_owned()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("has format 3; this build reads format 2"),
            "{text}"
        );
    });
}

#[test]
fn a_later_format_is_refused_and_so_are_segments_without_a_marker() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()).unwrap(), 1..=3);
    let later = copy_of(dir.path());
    tamper(later.path(), |on_disk| {
        let key = codec::key(u64::MAX, 0);
        let value = codec::seal_empty(&key, 4);
        on_disk.log.insert(key, value).unwrap();
    });
    assert_eq!(
        refusal(later.path()),
        "the log has format 4; this build reads format 3: run the release that wrote it, or a later one"
    );
    tamper(dir.path(), |on_disk| on_disk.log.clear().unwrap());
    let error = refusal(dir.path());
    assert!(error.contains("its marker is missing"), "{error}");
}
