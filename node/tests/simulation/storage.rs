//! The simulated disk as [`Storage`], and the snapshots on it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_machine::{Restore, State};
use lockstep_raft::store::{BoxFuture, DiskSpace, Done, Record, Slot, SnapshotHandle, Storage};

use super::chance::nap;
use super::disk::{Change, SimDisk};

/// Free space on a disk that is not full, bytes.
const FREE_BYTES: u64 = 1 << 40;

/// Reads see only what is flushed, which is all that [`Storage`] guarantees.
impl Storage for SimDisk {
    type Snapshot = SimSnapshot;

    fn bounds(&self) -> io::Result<Option<(u64, u64)>> {
        self.look(|image| {
            let (first, _) = image.log.first_key_value()?;
            let (last, _) = image.log.last_key_value()?;
            Some((*first, *last))
        })
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> BoxFuture<io::Result<Vec<Record>>> {
        let read = self.look(|image| {
            let (mut records, mut bytes) = (Vec::new(), 0);
            for (&index, value) in image.log.range(from..to.max(from)) {
                bytes += value.len();
                let gap = index != from + records.len() as u64;
                if gap || (bytes > bytes_max && !records.is_empty()) {
                    break;
                }
                records.push(Record {
                    index,
                    bytes: value.clone(),
                });
            }
            records
        });
        Box::pin(std::future::ready(read))
    }

    fn append(&self, records: Vec<Record>, done: Done) {
        self.ask(Change::Append(records), done);
    }

    fn truncate_after(&self, last_kept: Option<u64>, done: Done) {
        self.ask(Change::TruncateAfter(last_kept), done);
    }

    fn purge(&self, upto: u64, marker: Bytes, done: Done) {
        self.ask(Change::Purge { upto, marker }, done);
    }

    fn log_bytes_after(&self, index: u64) -> u64 {
        let bytes = self.look(|image| {
            let after = image.log.range(index.saturating_add(1)..);
            after.map(|(_, value)| value.len() as u64).sum()
        });
        bytes.unwrap_or(0)
    }

    fn log_tail(&self, bytes: u64) -> Option<u64> {
        let tail = self.look(|image| {
            let mut sum = 0;
            let tail = image.log.iter().rev().take_while(|(_, value)| {
                sum += value.len() as u64;
                sum <= bytes
            });
            let first = tail.last().or(image.log.last_key_value());
            first.map(|(index, _)| *index)
        });
        tail.ok().flatten()
    }

    fn space(&self) -> BoxFuture<io::Result<DiskSpace>> {
        let free = if self.is_full() { 0 } else { FREE_BYTES };
        let space = self.look(|_| DiskSpace {
            free,
            ..DiskSpace::default()
        });
        Box::pin(std::future::ready(space))
    }

    fn save(&self, slot: Slot, value: Bytes, done: Done) {
        assert_ne!(slot, Slot::Purged, "only a purge writes the purge point");
        self.ask(Change::Save(slot, value), done);
    }

    fn load(&self, slot: Slot) -> io::Result<Option<Bytes>> {
        self.look(|image| image.slots.get(&slot).cloned())
    }

    fn write_snapshot(
        &self,
        index: u64,
        meta: Bytes,
        state: State,
    ) -> BoxFuture<io::Result<SimSnapshot>> {
        let disk = self.clone();
        Box::pin(async move {
            let snapshot = SimSnapshot {
                index,
                meta,
                records: Arc::new(state.records().collect()),
            };
            nap(disk.flush_max() * 4).await;
            if disk.is_full() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.make_current(snapshot.clone()).await?;
            Ok(snapshot)
        })
    }

    fn read_snapshot(&self, snapshot: SimSnapshot) -> BoxFuture<io::Result<State>> {
        let slow = self.flush_max();
        Box::pin(async move {
            nap(slow).await;
            let mut restore = Restore::new();
            for record in snapshot.records.iter() {
                restore.push(record).map_err(io::Error::other)?;
            }
            restore.finish().map_err(io::Error::other)
        })
    }

    fn adopt_snapshot(&self, snapshot: SimSnapshot) -> BoxFuture<io::Result<()>> {
        let disk = self.clone();
        Box::pin(async move { disk.make_current(snapshot).await })
    }

    fn current_snapshot(&self) -> Option<SimSnapshot> {
        self.current()
    }
}

/// A snapshot on a disk, or on its way to one.
#[derive(Clone)]
pub struct SimSnapshot {
    index: u64,
    meta: Bytes,
    records: Arc<Vec<Vec<u8>>>,
}

impl SnapshotHandle for SimSnapshot {
    fn index(&self) -> u64 {
        self.index
    }

    fn meta(&self) -> Bytes {
        self.meta.clone()
    }

    fn length(&self) -> u64 {
        self.records.iter().map(|record| record.len() as u64).sum()
    }
}
