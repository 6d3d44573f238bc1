//! Backups: the state at one log index, as the bytes of a file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use lockstep_machine::{BackupHeader, State, backup_pieces};
use lockstep_raft::failpoints::{self, Failpoint};
use lockstep_raft::store::in_background;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Service, ServiceError};
use crate::telemetry::build;

/// Pieces of about 256 KiB that are encoded before they are sent.
const PIECES_AHEAD: usize = 4;
/// A reader that takes nothing for this long is given up: the backup holds an old state in memory.
const STALL_MAX: Duration = Duration::from_secs(60);

impl Service {
    /// The state at a log index, with every write that was acknowledged before the call, and the header of its
    /// backup. On a leader, this also confirms that it still leads.
    pub async fn backup_point(
        &self,
        timeout: Duration,
    ) -> Result<(BackupHeader, State), ServiceError> {
        self.core.confirm(timeout).await?;
        // A backup of a wrong state would take the place of a good one.
        self.check_trust()?;
        let applied = self.core.shared().read().clone();
        let header = BackupHeader {
            cluster_id: self.cluster_id(),
            node: self.node.member.name.clone(),
            created_at: self.core.now(),
            build: build::version().to_owned(),
            ..BackupHeader::of(&applied.state, applied.index(), applied.term())
        };
        Ok((header, applied.state))
    }

    /// A backup, encoded while it is read. One at a time.
    pub async fn backup(&self, timeout: Duration) -> Result<BackupStream, ServiceError> {
        let permit = self.backups.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ServiceError::BackupInProgress)?;
        let (header, state) = self.backup_point(timeout).await?;
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
        let runtime = Handle::current();
        tokio::spawn(in_background(move || {
            let _permit = permit;
            let mut rest = backup_pieces(&header, &state).peekable();
            drop(state);
            while let Some(piece) = rest.next() {
                let piece = (Bytes::from(piece), rest.peek().is_none());
                if piece.1 {
                    failpoints::reach(Failpoint::BackupBeforeEnd);
                }
                // Fails when the reader is gone or stalls; the stream then ends with an error.
                if runtime
                    .block_on(pieces.send_timeout(piece, STALL_MAX))
                    .is_err()
                {
                    break;
                }
                failpoints::reach(Failpoint::BackupBegun);
            }
            Ok(())
        }));
        Ok(BackupStream {
            pieces: receiver,
            ended: false,
        })
    }
}

/// The bytes of a backup. If it cannot be completed, it ends with an error.
pub struct BackupStream {
    /// With each piece, whether it is the last.
    pieces: mpsc::Receiver<(Bytes, bool)>,
    ended: bool,
}

impl Stream for BackupStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.pieces.poll_recv(context)) {
            Some((piece, is_last)) => {
                self.ended = is_last;
                Ok(piece)
            }
            None => {
                self.ended = true;
                let reason = format!("the reader read nothing for {} s", STALL_MAX.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, reason))
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use lockstep_machine::{BackupDecoder, Limits};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_backup_is_complete_and_only_one_is_sent_at_a_time() {
        let service = Service::lone(Limits::default());
        let held = service.backups.clone().try_acquire_owned().unwrap();
        let refused = service.backup(TIMEOUT).await.err();
        assert_eq!(refused, Some(ServiceError::BackupInProgress));
        drop(held);
        let mut first = service.backup(TIMEOUT).await.unwrap();
        let mut decoder = BackupDecoder::new();
        while let Some(piece) = first.next().await {
            decoder.push(&piece.unwrap());
            while decoder.next_part().unwrap().is_some() {}
        }
        decoder.finish().unwrap();
        // The thread returns its permit once the last piece was taken.
        let second = tokio::time::timeout(TIMEOUT, async {
            loop {
                match service.backup(TIMEOUT).await {
                    Ok(second) => return second,
                    Err(error) => assert_eq!(error, ServiceError::BackupInProgress),
                }
                tokio::task::yield_now().await;
            }
        });
        drop(second.await.unwrap());
    }

    #[tokio::test]
    async fn a_backup_that_cannot_be_completed_ends_with_an_error() {
        let (pieces, receiver) = mpsc::channel(1);
        let mut stream = BackupStream {
            pieces: receiver,
            ended: false,
        };
        pieces
            .send((Bytes::from_static(b"LOCKBKUP"), false))
            .await
            .unwrap();
        drop(pieces);
        assert!(stream.next().await.unwrap().is_ok());
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(stream.next().await.is_none());
    }
}
