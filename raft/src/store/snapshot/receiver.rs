//! Receives a snapshot from a peer.

use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::super::StoreError;
use super::file::{SnapshotFile, Unfinished, sync_now_and_then};
use super::on_disk_thread;

/// Takes a snapshot in, piece by piece. Dropped before [`finish`](SnapshotReceiver::finish), it leaves
/// nothing on disk.
#[derive(Debug)]
pub struct SnapshotReceiver {
    unfinished: Unfinished,
    length: u64,
    written: u64,
}

impl SnapshotReceiver {
    pub(super) fn new(unfinished: Unfinished, length: u64) -> SnapshotReceiver {
        SnapshotReceiver {
            unfinished,
            length,
            written: 0,
        }
    }

    /// Writes the next piece. Refuses more than the length announced.
    ///
    /// When the future is dropped, the piece counts as not written.
    pub async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        let (offset, end) = (
            self.written,
            self.written.saturating_add(piece.len() as u64),
        );
        StoreError::check_size("a snapshot being received", end, self.length)?;
        let file = self.unfinished.file.clone();
        on_disk_thread(move || {
            file.write_all_at(&piece, offset)?;
            sync_now_and_then(&file, offset, end).map(drop)
        })
        .await?;
        self.written = end;
        Ok(())
    }

    /// Checks what came: its length, and every byte against its checksums. The snapshot is on disk
    /// then, and becomes current with [`adopt_snapshot`](crate::store::Storage::adopt_snapshot).
    pub async fn finish(self) -> io::Result<SnapshotFile> {
        let SnapshotReceiver {
            unfinished,
            length,
            written,
        } = self;
        if written != length {
            let reason = format!("received {written} of {length} bytes");
            return Err(StoreError::damaged("snapshot", "received from a peer", reason).into());
        }
        on_disk_thread(move || Ok(unfinished.complete()?)).await
    }
}
