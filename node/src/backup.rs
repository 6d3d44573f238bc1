//! Scheduled backups: a node with a folder for backups writes one into it at every interval.
//!
//! Each node decides for itself, and does not need to lead. So the operator chooses where backups are written, and
//! how many copies there are, by configuring a folder on one node or on several; and a change of leader neither
//! skips a backup nor scatters them over the nodes. Names contain the node, so nodes can share a folder.
//!
//! A backup contains every write that was acknowledged before it began: without a leader none is written. It gets
//! its name once it is complete and flushed. Only then are older ones of the same node and cluster deleted. A
//! failure is logged, counted, and tried again; it does not affect the node. A backup leaves
//! `storage.free_bytes_warn` free.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lockstep_machine::{BackupHeader, State, backup_pieces};
use lockstep_raft::failpoints::{self, Failpoint};
use lockstep_raft::store::{StoreError, free_bytes, in_background};

use crate::config;
use crate::service::Service;
use crate::telemetry::Metrics;

const POINT_TIMEOUT: Duration = Duration::from_secs(10);
const READY_EVERY: Duration = Duration::from_secs(1);
/// A backup that could not be written is tried again after this time, or after the interval if that is shorter.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Bytes written between two syncs. With a single one at the end, the log's flushes would wait for all of it.
const SYNC_EVERY_BYTES: u64 = 4 << 20;
/// How the names of complete and of unfinished backups end.
const COMPLETE: &str = ".backup";
const PARTIAL: &str = ".backup.partial";
/// Digits of a log index in a name, so that names sort by it.
const INDEX_DIGITS: usize = 20;

/// When and where a node writes backups.
#[derive(Debug, Clone)]
pub struct Schedule {
    folder: PathBuf,
    interval: Duration,
    keep: usize,
    free_bytes_min: u64,
}

impl Schedule {
    /// The configured one; none without a folder.
    pub fn new(backup: &config::Backup, free_bytes_min: u64) -> Option<Self> {
        Some(Self {
            folder: backup.folder.clone()?,
            interval: backup.interval,
            keep: backup.keep,
            free_bytes_min,
        })
    }

    /// Writes backups, once the node is ready for the first time. Never returns.
    pub async fn run(&self, service: &Service, metrics: &Metrics) {
        while service.ready(POINT_TIMEOUT).await.is_err() {
            tokio::time::sleep(READY_EVERY).await;
        }
        loop {
            tokio::time::sleep(self.due_in(service, metrics).await).await;
            match self.write(service).await {
                Ok(written) => {
                    let file = written.path.display();
                    tracing::info!(%file, bytes = written.bytes, "wrote a backup");
                }
                Err(error) => {
                    let retry_after = RETRY_AFTER.min(self.interval);
                    metrics.backup_failures_total.inc();
                    let folder = self.folder.display();
                    tracing::error!(%folder, error, retry_after_s = retry_after.as_secs(), "cannot write a scheduled backup");
                    tokio::time::sleep(retry_after).await;
                }
            }
        }
    }

    /// How long until the next backup, counted from the newest in the folder, which the metrics describe.
    async fn due_in(&self, service: &Service, metrics: &Metrics) -> Duration {
        let status = service.status();
        let prefix = prefix(&status.cluster_id, &status.node.member.name);
        let folder = self.folder.clone();
        let newest = tokio::task::spawn_blocking(move || {
            let newest = complete(&folder, &prefix).ok()?.pop()?;
            let found = fs::metadata(newest).ok()?;
            Some((found.modified().ok()?, found.len()))
        });
        let Ok(Some((written_at, bytes))) = newest.await else {
            return Duration::ZERO;
        };
        metrics
            .backup_last_success_timestamp_seconds
            .set(seconds(written_at));
        metrics.backup_last_size_bytes.set(bytes as i64);
        // A time in the future counts as now.
        let age = written_at.elapsed().unwrap_or_default();
        self.interval.saturating_sub(age)
    }

    async fn write(&self, service: &Service) -> Result<Written, String> {
        let (header, state) = service
            .backup_point(POINT_TIMEOUT)
            .await
            .map_err(|error| error.to_string())?;
        let schedule = self.clone();
        in_background(move || schedule.write_file(&header, &state))
            .await
            .map_err(|error| error.to_string())
    }

    /// Writes a backup and deletes the oldest. Blocks.
    fn write_file(&self, header: &BackupHeader, state: &State) -> io::Result<Written> {
        fs::create_dir_all(&self.folder)?;
        let prefix = prefix(&header.cluster_id, &header.node);
        remove_partial(&self.folder, &prefix)?;
        let earlier = complete(&self.folder, &prefix)?;
        // About as large as the last one.
        let expected = earlier.last().and_then(|it| fs::metadata(it).ok());
        self.check_space(expected.map_or(0, |it| it.len()))?;
        let name = format!("{prefix}{:0INDEX_DIGITS$}", header.log_index);
        let partial = self.folder.join(format!("{name}{PARTIAL}"));
        let path = self.folder.join(format!("{name}{COMPLETE}"));
        let written = self.write_pieces(&partial, header, state);
        let bytes = written.inspect_err(|_| drop(fs::remove_file(&partial)))?;
        failpoints::reach(Failpoint::BackupFileFlushed);
        fs::rename(&partial, &path)?;
        File::open(&self.folder)?.sync_all()?;
        failpoints::reach(Failpoint::BackupFileNamed);
        let kept = complete(&self.folder, &prefix)?;
        for old in kept.iter().rev().skip(self.keep) {
            fs::remove_file(old)?;
        }
        Ok(Written { path, bytes })
    }

    fn write_pieces(&self, path: &Path, header: &BackupHeader, state: &State) -> io::Result<u64> {
        // It has everything that the cluster stores.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        failpoints::reach(Failpoint::BackupFileCreated);
        let (mut bytes, mut synced) = (0, 0);
        for piece in backup_pieces(header, state) {
            file.write_all(&piece)?;
            bytes += piece.len() as u64;
            if bytes - synced >= SYNC_EVERY_BYTES {
                file.sync_data()?;
                self.check_space(0)?;
                synced = bytes;
            }
        }
        file.sync_all()?;
        Ok(bytes)
    }

    /// Refuses to write `bytes` more where that would leave too little.
    fn check_space(&self, bytes: u64) -> io::Result<()> {
        let free = free_bytes(&self.folder)?;
        let needed = self.free_bytes_min.saturating_add(bytes);
        if free < needed {
            let what = "a backup, besides storage.free_bytes_warn";
            return Err(StoreError::NoSpace { what, needed, free }.into());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Written {
    path: PathBuf,
    bytes: u64,
}

/// How the names of the backups of a node begin.
fn prefix(cluster: &str, node: &str) -> String {
    format!("lockstep-{cluster}-{node}-")
}

/// The backups with this prefix, by log index.
fn complete(folder: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = ours(folder, prefix, COMPLETE)?;
    found.sort();
    Ok(found)
}

/// Removes what a crash has left.
fn remove_partial(folder: &Path, prefix: &str) -> io::Result<()> {
    ours(folder, prefix, PARTIAL)?
        .iter()
        .try_for_each(fs::remove_file)
}

/// The files that are named by the prefix, a log index and `end`, and no others.
fn ours(folder: &Path, prefix: &str, end: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let index = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(end));
        let is_index =
            |it: &str| it.len() == INDEX_DIGITS && it.bytes().all(|byte| byte.is_ascii_digit());
        if index.is_some_and(is_index) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(folder: &Path) -> Schedule {
        Schedule {
            folder: folder.to_owned(),
            interval: Duration::from_secs(3600),
            keep: 2,
            free_bytes_min: 0,
        }
    }

    fn header(log_index: u64) -> BackupHeader {
        BackupHeader {
            cluster_id: "c1".to_owned(),
            node: "node1".to_owned(),
            ..BackupHeader::of(&State::default(), log_index, 1)
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_backups_are_kept_and_other_files_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = [
            "lockstep-c1-node1-old.backup",
            "lockstep-c1-node2-00000000000000000001.backup",
            "notes.txt",
        ];
        for name in foreign {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let left = "lockstep-c1-node1-00000000000000000002.backup.partial";
        fs::write(folder.path().join(left), b"").unwrap();
        for index in [7, 9, 10, 10] {
            schedule(folder.path())
                .write_file(&header(index), &State::default())
                .unwrap();
        }
        let mut expected = foreign.map(str::to_owned).to_vec();
        expected.extend([9, 10].map(|index| format!("lockstep-c1-node1-{index:020}.backup")));
        expected.sort();
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn a_disk_without_space_gets_no_backup_and_keeps_the_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut schedule = schedule(folder.path());
        schedule.write_file(&header(1), &State::default()).unwrap();
        schedule.free_bytes_min = u64::MAX;
        let error = schedule
            .write_file(&header(2), &State::default())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_counted_and_a_success_noted() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("blocked");
        fs::write(&blocked, b"a file in the place of the folder").unwrap();
        let metrics = Metrics::new().unwrap();
        let service = Service::lone(lockstep_machine::Limits::default());
        let failing = schedule(&blocked);
        let one = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                () = failing.run(&service, &metrics) => {}
                () = until(|| metrics.backup_failures_total.get() > 0) => {}
            }
        });
        one.await.unwrap();
        let succeeding = schedule(&folder.path().join("new"));
        let other = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                () = succeeding.run(&service, &metrics) => {}
                () = until(|| metrics.backup_last_success_timestamp_seconds.get() > 0) => {}
            }
        });
        other.await.unwrap();
        assert!(metrics.backup_last_size_bytes.get() > 0);
        assert_eq!(names(&folder.path().join("new")).len(), 1);
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
