//! Damage to the files of a data folder: a flipped bit anywhere, a file that is missing, a file that
//! is older than the rest. Each is refused or changes nothing; never is there silently less.

use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;

use super::sample::{Node, copy_of};
use super::*;
use crate::consensus::log::LogStore;

/// Bits flipped in sled's file, near the names of slots: most of the file holds nothing that counts.
const FLIPS_IN_DATABASE: usize = 150;
/// Bits flipped in each of the other files.
const FLIPS: usize = 50;

/// Votes that fill several of sled's segments.
const VOTES: u64 = 30_000;
const LOST_BLOCKS: usize = 40;
/// What a disk writes at once.
const BLOCK_BYTES: usize = 512;

/// All that a node can read from its data folder. Not the committed position, which may be older.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    records: Vec<Record>,
    vote: Option<Bytes>,
    purged: Option<Bytes>,
    snapshot: Option<(u64, Bytes, Bytes)>,
}

/// Opens a data folder as a node does, and reads all of it.
fn content(dir: &Path) -> io::Result<Content> {
    let store = open(dir)?;
    runtime().block_on(LogStore::open(store.clone(), 0))?;
    let read = |snapshot: SnapshotFile| {
        let bytes = snapshot.read_at(0, usize::MAX)?;
        io::Result::Ok((snapshot.index(), snapshot.meta(), bytes))
    };
    Ok(Content {
        records: runtime().block_on(store.read(0, u64::MAX, usize::MAX))?,
        vote: store.load(Slot::Vote)?,
        purged: store.load(Slot::Purged)?,
        snapshot: store.current_snapshot().map(read).transpose()?,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// The node does not start, or reports the damage when it reads it.
    Refused,
    /// sled panics while it opens, and the process ends with the report of the damage.
    Panicked,
    /// Everything is there.
    Harmless,
}

/// What the process would report of panics on this thread or on sled's.
static REPORTS: Mutex<Vec<Option<StoreError>>> = Mutex::new(Vec::new());

/// What becomes of a folder that was damaged. Fails if the damage goes unnoticed and something is different, or if its
/// report says not what is damaged, where, and what to do.
fn judge(dir: &Path, expected: &Content, what: &str) -> Verdict {
    note_panics();
    match catch_unwind(AssertUnwindSafe(|| content(dir))) {
        Err(_) => {
            let reports = std::mem::take(&mut *REPORTS.lock().unwrap());
            let first = reports.into_iter().next().expect("a panic was noted");
            let report = first.unwrap_or_else(|| panic!("{what}: a panic without a report"));
            check_report(&report, dir, what);
            Verdict::Panicked
        }
        Ok(Err(refused)) => {
            // As `Consensus` does.
            let refused = match refused.to_string().contains(" in /") {
                true => refused,
                false => StoreError::found_by_reader(refused, dir),
            };
            let report = refused.get_ref().and_then(|it| it.downcast_ref());
            let report = report.unwrap_or_else(|| panic!("{what}: {refused}"));
            check_report(report, dir, what);
            Verdict::Refused
        }
        Ok(Ok(found)) => {
            let ends = |it: &Content| it.records.last().map(|record| record.index);
            let (found_end, expected_end) = (ends(&found), ends(expected));
            assert!(
                found == *expected,
                "{what} goes unnoticed: the log ends at {found_end:?}, expected {expected_end:?}; vote {:?}, expected {:?}; purged {:?}, expected {:?}",
                found.vote,
                expected.vote,
                found.purged,
                expected.purged,
            );
            Verdict::Harmless
        }
    }
}

/// Notes what a process would report of a panic, instead of printing it.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| match crate::store::damage(panic) {
            Some(damage) => REPORTS.lock().unwrap().push(Some(damage)),
            None => {
                REPORTS.lock().unwrap().push(None);
                print(panic);
            }
        }));
    });
}

fn check_report(report: &StoreError, dir: &Path, what: &str) {
    let text = report.to_string();
    let is_whole = text.contains(&dir.display().to_string()) && text.contains("lockstepd rejoin");
    assert!(is_whole, "{what}: {text}");
}

/// A folder that has been in use for a while, closed; and a copy from some time before.
fn folder() -> (tempfile::TempDir, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path());
    node.vote();
    node.append(600);
    node.compact(200);
    node.vote();
    node.append(300);
    drop(node);
    let older = copy_of(dir.path());
    let mut node = Node::open(dir.path());
    node.append(100);
    node.truncate(50);
    node.vote();
    node.append(200);
    node.compact(300);
    node.append(20);
    drop(node);
    (dir, older)
}

/// The files of a folder, as paths within it.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path, within: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir.join(within)).unwrap() {
            let path = within.join(entry.unwrap().file_name());
            match dir.join(&path).is_dir() {
                true => walk(dir, &path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, Path::new(""), &mut found);
    found.sort();
    found
}

/// The places around what may be a slot: many are older, and no longer count.
fn near_slots(file: &[u8]) -> Vec<usize> {
    let names: [&[u8]; 4] = [b"owner", b"vote", b"purged", b"segment/"];
    let is_name = |at: usize| names.iter().any(|name| file[at..].starts_with(name));
    let places = (0..file.len()).filter(|at| is_name(*at));
    places
        .flat_map(|at| at.saturating_sub(40)..(at + 80).min(file.len()))
        .collect()
}

#[test]
fn a_flipped_bit_anywhere_in_any_file_is_refused_or_changes_nothing() {
    let (dir, _) = folder();
    let expected = content(copy_of(dir.path()).path()).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut verdicts: BTreeMap<(PathBuf, Verdict), u64> = BTreeMap::new();
    for file in files_of(dir.path()) {
        let length = fs::metadata(dir.path().join(&file)).unwrap().len();
        let flips = match file.ends_with("db") {
            true => FLIPS_IN_DATABASE,
            false => FLIPS,
        };
        let places = match file.ends_with("db") {
            true => near_slots(&fs::read(dir.path().join(&file)).unwrap()),
            false => (0..length as usize).collect(),
        };
        // One in each of as many equal regions.
        let flips = flips.min(places.len());
        for flip in 0..flips {
            let region = places.len() / flips;
            let at = places[flip * region + random.random_range(0..region)];
            let bit = random.random_range(0..8);
            let damaged = copy_of(dir.path());
            let path = damaged.path().join(&file);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1 << bit;
            fs::write(&path, bytes).unwrap();
            let what = format!("bit {bit} of byte {at} of {} flipped", file.display());
            let verdict = judge(damaged.path(), &expected, &what);
            *verdicts.entry((file.clone(), verdict)).or_default() += 1;
        }
    }
    for ((file, verdict), count) in &verdicts {
        println!("{:40} {verdict:?}: {count}", file.display());
    }
    let refused = |file: &str| {
        let mut refused = verdicts.keys().filter(|(_, it)| *it == Verdict::Refused);
        refused.any(|(path, _)| path.to_string_lossy().contains(file))
    };
    assert!(
        ["log/db", ".segment", ".snapshot", "identity.json"]
            .into_iter()
            .all(refused)
    );
}

/// What a disk leaves that confirmed a flush too early, or that is failing.
#[test]
fn lost_blocks_of_a_long_used_database_are_refused_or_change_nothing() {
    let (dir, _) = folder();
    let mut node = Node::open(dir.path());
    node.write_votes(VOTES);
    drop(node);
    let older = copy_of(dir.path());
    let mut node = Node::open(dir.path());
    node.write_votes(VOTES / 6);
    node.append(5);
    drop(node);
    let expected = content(copy_of(dir.path()).path()).unwrap();
    let database = |dir: &Path| fs::read(dir.join("log/db")).unwrap();
    let (whole, before) = (database(dir.path()), database(older.path()));
    let mut random = StdRng::seed_from_u64(1);
    let mut verdicts: BTreeMap<(&str, Verdict), u64> = BTreeMap::new();
    for _ in 0..LOST_BLOCKS {
        let at = random.random_range(0..whole.len() / BLOCK_BYTES) * BLOCK_BYTES;
        let with = |block: &[u8]| {
            let mut bytes = whole.clone();
            bytes[at..at + block.len()].copy_from_slice(block);
            bytes
        };
        let mut flipped = whole[at..at + BLOCK_BYTES].to_vec();
        flipped[random.random_range(0..BLOCK_BYTES)] ^= 1 << random.random_range(0..8);
        let old = before.get(at..at + BLOCK_BYTES).unwrap_or_default();
        let old_end = before.get(at..).unwrap_or_default();
        for (kind, bytes) in [
            ("zeros", with(&[0; BLOCK_BYTES])),
            ("an older block", with(old)),
            ("an older end", [&whole[..at], old_end].concat()),
            ("no end", whole[..at].to_vec()),
            ("a flipped bit", with(&flipped)),
        ] {
            let damaged = copy_of(dir.path());
            fs::write(damaged.path().join("log/db"), bytes).unwrap();
            let what = format!("log/db with {kind} at {at}");
            let verdict = judge(damaged.path(), &expected, &what);
            *verdicts.entry((kind, verdict)).or_default() += 1;
        }
    }
    println!("{verdicts:?}");
    assert!(verdicts.keys().any(|(_, it)| *it == Verdict::Refused));
}

#[test]
fn a_missing_file_is_refused_or_changes_nothing() {
    let (dir, _) = folder();
    let expected = content(copy_of(dir.path()).path()).unwrap();
    for file in files_of(dir.path()) {
        let damaged = copy_of(dir.path());
        fs::remove_file(damaged.path().join(&file)).unwrap();
        let what = format!("{} missing", file.display());
        let verdict = judge(damaged.path(), &expected, &what);
        println!("{what}: {verdict:?}");
        let may_miss = ["lock", "reserve", "log/conf"].map(Path::new);
        let is_cache = file.to_string_lossy().starts_with("log/snap.");
        if !may_miss.contains(&file.as_path()) && !is_cache {
            assert_eq!(verdict, Verdict::Refused, "{what}");
        }
    }
}

#[test]
fn an_older_copy_of_a_file_is_refused_or_changes_nothing() {
    let (dir, older) = folder();
    let expected = content(copy_of(dir.path()).path()).unwrap();
    for file in files_of(older.path()) {
        let damaged = copy_of(dir.path());
        fs::copy(older.path().join(&file), damaged.path().join(&file)).unwrap();
        let what = format!("an older {}", file.display());
        println!("{what}: {:?}", judge(damaged.path(), &expected, &what));
    }
    // A restored part of the folder.
    for folder in ["log", "snapshots"] {
        let damaged = copy_of(dir.path());
        fs::remove_dir_all(damaged.path().join(folder)).unwrap();
        fs::rename(
            copy_of(older.path()).path().join(folder),
            damaged.path().join(folder),
        )
        .unwrap();
        let what = format!("an older {folder}");
        let verdict = judge(damaged.path(), &expected, &what);
        assert_eq!(verdict, Verdict::Refused, "{what}");
    }
}
