//! Power cuts of the real store, on a file system in a file.
//!
//! A process writes to a store on ext4 on a loop device, and notes what is acknowledged in a file elsewhere. At random
//! moments it is suspended, and the device's file is copied. The copy has what the file system had given to
//! the device, and nothing of what was still in memory: what a power cut leaves. It is mounted, which replays
//! the journal, and another process opens the store there and compares it with what was acknowledged.
//!
//! Not covered: the device has no cache of its own, and keeps the order of writes; and a cut falls between
//! system calls, because a process that waits for a flush is suspended after it.
//!
//! Needs root and a loop device; without them the tests say so and pass.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use super::sample::{Node, entry_at, purged_of, term_of};
use super::*;
use crate::consensus::log::LogStore;
use crate::store::durability::tests::{WITHOUT_OVERRIDE, WITHOUT_SYNC};

const CUTS: usize = 100;
/// The process is also killed and started again, after so many cuts.
const CUTS_PER_PROCESS: usize = 8;
/// Cuts at most until one loses something because a flush does nothing.
const CUTS_WITHOUT_FLUSH: usize = 40;
/// How long the process writes between two cuts, at most.
const RUN_MAX: Duration = Duration::from_millis(80);
const IMAGE_BYTES: u64 = 160 << 20;
/// For a process to begin, or to be suspended.
const DEADLINE: Duration = Duration::from_secs(20);
/// Entries that stay in the log.
const KEEP: u64 = 300;

const DIR: &str = "LOCKSTEP_POWER_CUTS_DIR";
const ACKS: &str = "LOCKSTEP_POWER_CUTS_ACKS";
const SEED: &str = "LOCKSTEP_POWER_CUTS_SEED";
const WITHOUT: &str = "LOCKSTEP_POWER_CUTS_WITHOUT";

#[test]
fn acknowledged_writes_survive_power_cuts() {
    let Some(disk) = Disk::make() else { return };
    let mut random = StdRng::seed_from_u64(rand::random());
    let mut cuts = 0;
    while cuts < CUTS {
        let writer = Writer::start(&disk, random.random(), None);
        for _ in 0..CUTS_PER_PROCESS.min(CUTS - cuts) {
            thread::sleep(RUN_MAX.mul_f64(random.random()));
            let found = writer.cut(&disk);
            assert!(found.is_ok(), "after {cuts} cuts: {}", found.unwrap_err());
            cuts += 1;
        }
    }
    let acks = Acknowledged::read(&disk.acks());
    println!(
        "{cuts} power cuts lost nothing: {} entries and {} votes acknowledged, {} truncations, {} snapshots",
        acks.appended, acks.vote, acks.truncations, acks.snapshots
    );
    assert!(acks.appended > 0 && acks.truncations > 0 && acks.snapshots > 0);
}

/// Controls: prove that a copy does not have what was not flushed.
#[test]
fn without_the_override_of_sync_file_range_power_cuts_lose_acknowledged_writes() {
    assert_lost_without("override");
}

#[test]
fn without_the_flush_of_segments_power_cuts_lose_acknowledged_writes() {
    assert_lost_without("sync");
}

fn assert_lost_without(what: &str) {
    let Some(disk) = Disk::make() else { return };
    let mut random = StdRng::seed_from_u64(rand::random());
    let writer = Writer::start(&disk, random.random(), Some(what));
    for cuts in 1..=CUTS_WITHOUT_FLUSH {
        thread::sleep(RUN_MAX.mul_f64(random.random()));
        if let Err(loss) = writer.cut(&disk) {
            let lost = ["refused: ", "acknowledged "];
            assert!(lost.iter().any(|it| loss.contains(it)), "{loss}");
            println!("lost after {cuts} cuts: {loss}");
            return;
        }
    }
    panic!("{CUTS_WITHOUT_FLUSH} power cuts lost nothing");
}

/// Not a test: the process that writes until it is killed.
#[test]
fn writer() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let acks = OpenOptions::new()
        .append(true)
        .create(true)
        .open(std::env::var(ACKS).unwrap());
    let acks = acks.unwrap();
    // One write for each line: a process that is suspended has written it or not.
    let note = |line: String| (&acks).write_all(line.as_bytes()).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Node::open(Path::new(&dir));
    // Only now: the store does not open without the override.
    let without = std::env::var(WITHOUT).unwrap_or_default();
    WITHOUT_OVERRIDE.store(without == "override", Ordering::Relaxed);
    WITHOUT_SYNC.store(without == "sync", Ordering::Relaxed);
    node.vote();
    note(format!("vote {}\n", node.term));
    loop {
        match random.random_range(0..40) {
            // A flush of a segment would take sled's writes along.
            _ if without == "override" => {
                node.vote();
                note(format!("vote {}\n", node.term));
            }
            0 if node.next > node.purged.unwrap_or(0) + 20 => {
                node.vote();
                note(format!("vote {}\n", node.term));
                let count = random.random_range(1..10);
                note(format!("truncating {}\n", node.next - 1 - count));
                node.truncate(count);
            }
            1 if node.next > node.purged.unwrap_or(0) + 2 * KEEP => {
                let upto = node.next - KEEP;
                note(format!("purging {upto}\n"));
                node.compact(KEEP);
                note(format!("purged {upto}\n"));
            }
            _ => {
                let count = random.random_range(1..40);
                let first = node.next;
                node.append(count);
                note(format!("append {first} {} {}\n", node.next - 1, node.term));
            }
        }
    }
}

/// As `lockstepd` does, because sled may panic on what it finds.
fn end_on_damage() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match crate::store::damage(panic) {
        Some(damage) => {
            eprintln!("refused: {damage}");
            std::process::exit(1);
        }
        None => print(panic),
    }));
}

/// Not a test: the process that compares a store with what was acknowledged.
#[test]
fn checker() {
    let Ok(dir) = std::env::var(DIR) else { return };
    end_on_damage();
    let acks = Acknowledged::read(Path::new(&std::env::var(ACKS).unwrap()));
    let store = open(Path::new(&dir)).unwrap_or_else(|error| panic!("refused: {error}"));
    runtime()
        .block_on(LogStore::open(store.clone(), 0))
        .unwrap_or_else(|error| panic!("refused: {error}"));
    let term = term_of(&store);
    assert!(term >= acks.vote, "vote {term}, acknowledged {}", acks.vote);
    let purged = purged_of(&store);
    assert!(
        purged >= acks.purged,
        "purged up to {purged:?}, acknowledged {:?}",
        acks.purged
    );
    let snapshot = store.current_snapshot().map(|it| it.index());
    assert!(
        snapshot >= purged,
        "snapshot {snapshot:?}, purged {purged:?}"
    );
    let records = runtime().block_on(store.read(0, u64::MAX, usize::MAX));
    let records: BTreeMap<u64, Bytes> = (records.unwrap().into_iter())
        .map(|record| (record.index, record.bytes))
        .collect();
    let missing: Vec<u64> = (acks.entries.iter())
        .filter(|(index, _)| purged.is_none_or(|purged| **index > purged))
        .filter(|(index, term)| records.get(index) != Some(&entry_at(**index, **term)))
        .map(|(index, _)| *index)
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged entries are missing, from {} to {}",
        missing.len(),
        acks.entries.len(),
        missing[0],
        missing[missing.len() - 1]
    );
}

/// What the process has noted.
#[derive(Default)]
struct Acknowledged {
    /// Index and term.
    entries: BTreeMap<u64, u64>,
    vote: u64,
    purged: Option<u64>,
    appended: u64,
    truncations: u64,
    snapshots: u64,
}

impl Acknowledged {
    fn read(acks: &Path) -> Self {
        let text = fs::read_to_string(acks).unwrap_or_default();
        let mut all = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let numbers: Vec<u64> = words[1..].iter().map(|it| it.parse().unwrap()).collect();
            match (words[0], &numbers[..]) {
                ("vote", [term]) => all.vote = *term,
                ("append", [first, last, term]) => {
                    all.appended += last - first + 1;
                    all.entries.extend((*first..=*last).map(|it| (it, *term)));
                }
                ("truncating", [kept]) => {
                    all.truncations += 1;
                    all.entries.split_off(&(kept + 1));
                }
                ("purging", [upto]) => all.entries = all.entries.split_off(&(upto + 1)),
                ("purged", [upto]) => {
                    all.snapshots += 1;
                    all.purged = Some(*upto);
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }
}

/// A process of this executable that runs one of the functions above.
fn process(function: &str, dir: &Path, acks: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([&format!("store::tests::power_cuts::{function}"), "--exact"])
        .arg("--nocapture")
        .env(DIR, dir)
        .env(ACKS, acks);
    command
}

/// The process that writes. Ends with its handle.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Writer {
    fn start(disk: &Disk, seed: u64, without: Option<&str>) -> Writer {
        let mut command = process("writer", &disk.data(), &disk.acks());
        command.env(SEED, seed.to_string()).stdout(Stdio::null());
        if let Some(without) = without {
            command.env(WITHOUT, without);
        }
        let noted = || fs::metadata(disk.acks()).map_or(0, |it| it.len());
        let before = noted();
        let mut writer = Writer(command.spawn().unwrap());
        wait_until("the process to write", || {
            let ended = writer.0.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the process that writes has ended: {ended:?}"
            );
            noted() > before
        });
        writer
    }

    /// Cuts the power: an error is what was lost.
    fn cut(&self, disk: &Disk) -> Result<(), String> {
        let pid = self.0.id();
        signal(pid, libc::SIGSTOP);
        wait_until("the process to be suspended", || is_suspended(pid));
        let copy = disk.copy();
        let acks = disk.dir.path().join("acks-of-the-copy");
        fs::copy(disk.acks(), &acks).unwrap();
        signal(pid, libc::SIGCONT);
        let mounted = Mounted::mount(&copy, &disk.dir.path().join("copy"), true).unwrap();
        let checked = process("checker", &mounted.at.join("data"), &acks).output();
        let checked = checked.unwrap();
        match checked.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&checked.stderr).into_owned()),
        }
    }
}

fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: it takes no pointers.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

/// Whether every thread is.
fn is_suspended(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.into_iter().all(|thread| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        // A name in parentheses, then the state.
        (stat.rsplit_once(") ")).is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A file system in a file, mounted where only this test sees it.
struct Disk {
    /// Unmounted before the folder goes.
    _mounted: Mounted,
    dir: tempfile::TempDir,
}

impl Disk {
    /// None where this process may not mount one; says so.
    fn make() -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let make = || -> Result<Mounted, String> {
            private_mounts().map_err(|error| format!("unshare: {error}"))?;
            let file = File::create(&image).map_err(|error| error.to_string())?;
            (file.set_len(IMAGE_BYTES)).map_err(|error| error.to_string())?;
            run("mkfs.ext4", &["-q", "-F", text(&image)])?;
            Mounted::mount(&image, &dir.path().join("disk"), false)
        };
        match make() {
            Ok(_mounted) => Some(Disk { _mounted, dir }),
            Err(reason) => {
                println!("skipped: power cuts need root, mkfs.ext4 and a loop device: {reason}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("disk/data")
    }

    fn acks(&self) -> PathBuf {
        self.dir.path().join("acks")
    }

    /// What the device holds now.
    fn copy(&self) -> PathBuf {
        let copy = self.dir.path().join("copied-image");
        fs::copy(self.dir.path().join("image"), &copy).unwrap();
        copy
    }
}

struct Mounted {
    at: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.at)]);
    }
}

impl Mounted {
    /// Mounts the file system in `image`. The loop device goes with the mount.
    fn mount(image: &Path, at: &Path, is_copy: bool) -> Result<Mounted, String> {
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let mut attach = vec!["--find", "--show", text(image)];
        if !is_copy {
            // Nothing stays in the memory of the file below.
            attach.insert(0, "--direct-io=on");
        }
        let device = run("losetup", &attach)?;
        // The journal is not committed other than by a flush.
        let mounted = run("mount", &["-o", "commit=300", device.trim(), text(at)]);
        // Once mounted, it is detached when it is unmounted.
        run("losetup", &["--detach", device.trim()])?;
        mounted?;
        Ok(Mounted { at: at.to_owned() })
    }
}

/// Mounts of this thread, and of processes that it starts, are theirs alone from here on.
fn private_mounts() -> io::Result<()> {
    // SAFETY: it takes no pointers.
    match unsafe { libc::unshare(libc::CLONE_NEWNS) } {
        0 => run("mount", &["--make-rprivate", "/"]).map_err(io::Error::other),
        _ => Err(io::Error::last_os_error()),
    }
    .map(drop)
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
