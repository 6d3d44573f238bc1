//! Holds appends back while the log has no room: clients wait for a moment, instead of the disk becoming full.
//!
//! The log has no room while the disk is exhausted, or while the log has outgrown its bound faster than it can be
//! purged (see [`compaction`](super::compaction)). A leader then proposes no commands, and a follower accepts none. Heartbeats and
//! votes pass, and so do the first entry of a leader and changes of the membership: without them, a cluster
//! with full disks could serve no reads, and no member could be replaced.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::types::Runtime;
use crate::Deadline;

/// Whether the log of this node has room.
#[derive(Debug, Clone)]
pub(super) struct LogRoom(Arc<watch::Sender<bool>>);

impl Default for LogRoom {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl LogRoom {
    /// There is room, unless something is lacking.
    pub(super) fn set(&self, lack: Option<&'static str>) {
        let room = lack.is_none();
        let changed = (self.0).send_if_modified(|current| std::mem::replace(current, room) != room);
        match lack {
            _ if !changed => {}
            Some(reason) => tracing::info!(reason, "writes wait: the log has no room"),
            None => tracing::info!("the log has room again"),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until there is room; `false` if there is none after `timeout`.
    pub(super) async fn wait<RT: Runtime>(&self, timeout: Duration) -> bool {
        if self.is_open() {
            return true;
        }
        let mut changes = self.0.subscribe();
        let room = changes.wait_for(|room| *room);
        // The sender is not dropped before `self`.
        let waited = Deadline::<RT>::after(timeout).bound(room).await;
        waited.is_some_and(|room| room.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt_tokio::TokioRuntime;

    use super::*;

    #[tokio::test]
    async fn appends_wait_for_room_until_their_timeout() {
        let room = LogRoom::default();
        let wait = |seconds| {
            let room = room.clone();
            async move {
                room.wait::<TokioRuntime>(Duration::from_secs(seconds))
                    .await
            }
        };
        assert!(wait(0).await);
        room.set(Some("for a test"));
        assert!(!wait(0).await);
        let waiting = tokio::spawn(wait(60));
        tokio::task::yield_now().await;
        room.set(None);
        assert!(waiting.await.unwrap());
    }
}
