//! Whether a disk suits a data folder: how long a flush takes, and whether the file system keeps what was flushed.
//!
//! A node flushes before it acknowledges, so the latency of a flush is the latency of a write, and a flush that
//! takes longer than a heartbeat delays elections. The rule of thumb is etcd's: the 99th percentile of flushes of
//! small sequential writes should be below 10 ms.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A flush should not take longer than this.
pub(crate) const FLUSH_MAX: Duration = Duration::from_millis(10);
/// The probe at a start takes at most so many flushes, and begins none after so long.
const PROBE_FLUSHES: usize = 10;
const PROBE_TIME: Duration = Duration::from_millis(200);
/// Bytes written before each flush.
const WRITE_BYTES: usize = 4 << 10;
/// Such writes that fit into the file: 16 MiB.
const FLUSHED_WRITES: usize = 4096;
/// The most flushes that are measured, and kept in memory.
const FLUSHES_MAX: usize = 1_000_000;
/// Bytes written to measure the throughput, less on a nearly full disk, and how many with one call.
const SEQUENTIAL_BYTES: u64 = 64 << 20;
const SEQUENTIAL_WRITE_BYTES: u64 = 1 << 20;
/// With less free space, a node with the default settings warns.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// How long flushes took, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flushes(Vec<Duration>);

impl Flushes {
    /// Writes 4 KiB to a file and flushes it, again and again: at most `count` times, and not after `time`.
    fn measure(file: &File, count: usize, time: Duration) -> io::Result<Self> {
        let began = Instant::now();
        let mut took = Vec::new();
        while took.len() < count && began.elapsed() < time {
            // In order, and from the start again, so that a fast disk is not filled.
            let offset = (took.len() % FLUSHED_WRITES) * WRITE_BYTES;
            let before = Instant::now();
            file.write_all_at(&[0; WRITE_BYTES], offset as u64)?;
            file.sync_data()?;
            took.push(before.elapsed());
        }
        took.sort();
        Ok(Self(took))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The time within which so many of a hundred were done.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(rank).copied().unwrap_or_default()
    }
}

/// The file system of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// Its type, for example `ext4`.
    pub(crate) kind: String,
    /// What it is made of, for example `/dev/sda1`.
    pub(crate) source: String,
}

impl FileSystem {
    /// The file system that holds `dir`; none where the system does not say.
    #[cfg(target_os = "linux")]
    pub(crate) fn of(dir: &Path) -> Option<Self> {
        let dir = fs::canonicalize(dir).ok()?;
        let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
        let below = mounts
            .0
            .into_iter()
            .filter(|it| dir.starts_with(&it.mount_point));
        // Of several on one folder, the last one is visible.
        let mount = below.max_by_key(|it| it.mount_point.components().count())?;
        Some(Self {
            kind: mount.fs_type,
            source: mount.mount_source.unwrap_or_default(),
        })
    }

    /// The file system that holds `dir`; none where the system does not say.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_dir: &Path) -> Option<Self> {
        None
    }

    /// Why it must not hold a data folder.
    pub(crate) fn fault(&self) -> Option<String> {
        let kind = self.kind.as_str();
        let why = match kind {
            "tmpfs" | "ramfs" => {
                "keeps files in memory, so they are lost with the machine's power: use a disk"
            }
            "overlay" | "aufs" => {
                "is the writable layer of a container, and is removed with it: use a volume"
            }
            "cifs" | "smb3" | "9p" => NETWORK,
            _ if kind.starts_with("nfs") || kind.starts_with("fuse.") => NETWORK,
            _ => return None,
        };
        Some(format!("{kind} {why}"))
    }
}

const NETWORK: &str = "is shared over a network, so flushes and locks depend on its server and its options: use a local disk or a block device";

/// Measures a few flushes, for at most about 200 ms. Blocks.
pub(crate) fn probe(dir: &Path) -> io::Result<Flushes> {
    Flushes::measure(&scratch(dir)?, PROBE_FLUSHES, PROBE_TIME)
}

/// A file without a name: nothing is left behind, whatever happens.
fn scratch(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("check-disk-{}.tmp", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// What was found out about a disk.
#[derive(Debug)]
pub struct DiskReport {
    dir: PathBuf,
    file_system: Option<FileSystem>,
    free_bytes: u64,
    flushes: Flushes,
    time: Duration,
    /// Bytes per second.
    throughput: f64,
}

impl DiskReport {
    /// Measures flushes for `time`, then the throughput of a sequential write. Blocks.
    pub fn measure(dir: &Path, time: Duration) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(dir)?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let flushes = Flushes::measure(&scratch(dir)?, FLUSHES_MAX, time)?;
        Ok(Self {
            dir: dir.to_owned(),
            file_system: FileSystem::of(dir),
            free_bytes,
            flushes,
            time,
            throughput: throughput(dir, SEQUENTIAL_BYTES.min(free_bytes / 4))?,
        })
    }

    /// Why the disk does not suit a data folder; empty if it does.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .file_system
            .iter()
            .filter_map(FileSystem::fault)
            .collect();
        let p99 = self.flushes.percentile(99);
        if p99 > FLUSH_MAX {
            faults.push(format!(
                "99 % of flushes take up to {}; the maximum should be {}: use a faster disk, or one that nothing else writes to",
                ms(p99),
                ms(FLUSH_MAX)
            ));
        }
        if self.free_bytes < FREE_BYTES_MIN {
            faults.push(format!(
                "{} are free; a node warns below {}, and refuses writes below half of that",
                mib(self.free_bytes as f64),
                mib(FREE_BYTES_MIN as f64)
            ));
        }
        faults
    }
}

/// Bytes per second while a file of about `bytes` is written as fast as the disk takes it, and flushed.
fn throughput(dir: &Path, bytes: u64) -> io::Result<f64> {
    let file = scratch(dir)?;
    let block = vec![0x5a; SEQUENTIAL_WRITE_BYTES as usize];
    let offsets = (0..bytes / SEQUENTIAL_WRITE_BYTES).map(|n| n * SEQUENTIAL_WRITE_BYTES);
    let began = Instant::now();
    for offset in offsets {
        file.write_all_at(&block, offset)?;
    }
    file.sync_data()?;
    Ok(bytes as f64 / began.elapsed().as_secs_f64().max(f64::EPSILON))
}

impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name, value: String| writeln!(f, "{name:<18}{value}");
        row("data folder", self.dir.display().to_string())?;
        let kind = self
            .file_system
            .as_ref()
            .map(|it| format!("{} on {}", it.kind, it.source));
        row("file system", kind.unwrap_or_else(|| "unknown".to_owned()))?;
        row("free", mib(self.free_bytes as f64))?;
        let [p50, p99, max] = [50, 99, 100].map(|percent| ms(self.flushes.percentile(percent)));
        let (count, seconds) = (self.flushes.count(), self.time.as_secs_f64());
        row(
            "flush of 4 KiB",
            format!("p50 {p50}, p99 {p99}, max {max} ({count} in {seconds} s)"),
        )?;
        row("sequential write", format!("{}/s", mib(self.throughput)))?;
        match self.faults()[..] {
            [] => row(
                "verdict",
                format!("suitable: 99 % of flushes take less than {}", ms(FLUSH_MAX)),
            ),
            _ => row("verdict", "not suitable".to_owned()),
        }
    }
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flushes(ms: impl IntoIterator<Item = u64>) -> Flushes {
        Flushes(ms.into_iter().map(Duration::from_millis).collect())
    }

    fn report(kind: &str, flushes: Flushes) -> DiskReport {
        DiskReport {
            dir: "/data".into(),
            file_system: Some(FileSystem {
                kind: kind.to_owned(),
                source: "/dev/sda1".to_owned(),
            }),
            free_bytes: 10 << 30,
            flushes,
            time: Duration::from_secs(5),
            throughput: 1e8,
        }
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let of = |percent| flushes(1..=200).percentile(percent).as_millis();
        assert_eq!([of(1), of(50), of(99), of(100)], [2, 100, 198, 200]);
        assert_eq!(flushes([7]).percentile(50).as_millis(), 7);
        assert_eq!(Flushes::default().percentile(99), Duration::ZERO);
    }

    #[test]
    fn a_disk_suits_if_it_keeps_what_is_flushed_and_flushes_fast() {
        // One in a hundred may be slow.
        let fast = || flushes((0..100).map(|n| if n == 99 { 50 } else { 1 }));
        let shown = report("ext4", fast()).to_string();
        assert!(shown.contains("p99 1.00 ms, max 50.00 ms"), "{shown}");
        assert!(shown.contains("verdict           suitable"), "{shown}");
        for kind in ["tmpfs", "overlay", "nfs4", "fuse.sshfs"] {
            let faults = report(kind, fast()).faults();
            assert!(
                matches!(&faults[..], [fault] if fault.starts_with(kind)),
                "{faults:?}"
            );
        }
        let slow = report("xfs", flushes([11; 100]));
        assert!(slow.faults()[0].contains("11.00 ms"), "{:?}", slow.faults());
        assert!(slow.to_string().contains("not suitable"));
        let full = DiskReport {
            free_bytes: 1 << 20,
            ..report("xfs", fast())
        };
        assert!(
            full.faults()[0].contains("1 MiB are free"),
            "{:?}",
            full.faults()
        );
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let flushes = probe(dir.path()).unwrap();
        assert!((1..=PROBE_FLUSHES).contains(&flushes.count()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(probe(&dir.path().join("absent")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_system_is_that_of_the_innermost_mount() {
        assert_eq!(
            FileSystem::of(Path::new("/proc/self")).unwrap().kind,
            "proc"
        );
    }
}
