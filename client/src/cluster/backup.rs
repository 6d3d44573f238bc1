//! Backups: the state of the cluster as a file.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_machine::{BackupDecoder, BackupError, BackupHeader, BackupPart};
use lockstep_proto::v1;
use tokio::time::Instant;

use crate::answer::Verdict;
use crate::call::{self, Effect};
use crate::client::Client;
use crate::endpoints::Slot;
use crate::error::Error;
use crate::service::cluster;
use crate::stream::MessageStream;

/// A backup that is being received, and checked on the way.
pub struct Backup {
    client: Client,
    pieces: MessageStream<v1::BackupResponse>,
    decoder: Option<BackupDecoder>,
    header: BackupHeader,
    /// Of which the header was read.
    first: Option<Bytes>,
    received: u64,
}

impl Client {
    /// The state of the cluster at one log index, with every write that was acknowledged before the call, as
    /// the bytes of a file.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node could begin it within the client's timeout.
    pub async fn backup(&self) -> Result<Backup, Error> {
        let once = |slot, deadline| self.begin_backup(slot, deadline);
        call::run(&self.endpoints, self.timeout, Effect::None, once).await
    }

    /// Connects, and receives until the header is known.
    async fn begin_backup(&self, slot: Arc<Slot>, deadline: Instant) -> Result<Backup, Verdict> {
        let mut pieces = MessageStream::open(slot, deadline, async |channel| {
            cluster(channel).backup(v1::BackupRequest {}).await
        })
        .await?;
        let first = pieces.next().await?.unwrap_or_default().data;
        let mut decoder = BackupDecoder::new();
        decoder.push(&first);
        let header = match decoder.next_part().map_err(damaged)? {
            Some(BackupPart::Header(header)) => *header,
            _ => return Err(Verdict::BadAnswer("the backup has no header".to_owned())),
        };
        Ok(Backup {
            client: self.clone(),
            pieces,
            decoder: Some(decoder),
            header,
            first: Some(first),
            received: 0,
        })
    }
}

impl Backup {
    /// What it is of.
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes of the file; `None` once it is complete and every byte was checked.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the node ended it, [`Error::BadAnswer`] when what it sent is damaged. What was
    /// received is of no use then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.checked_piece().await;
        piece.map_err(|verdict| {
            self.client
                .failed(self.pieces.slot.address.clone(), verdict)
        })
    }

    async fn checked_piece(&mut self) -> Result<Option<Bytes>, Verdict> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(None);
        };
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => {
                let piece = self.pieces.next().await?.map(|it| it.data);
                decoder.push(piece.as_deref().unwrap_or_default());
                piece
            }
        };
        while decoder.next_part().map_err(damaged)?.is_some() {}
        match &piece {
            Some(piece) => self.received += piece.len() as u64,
            None => {
                let complete = self.decoder.take().map(BackupDecoder::finish);
                complete.transpose().map_err(damaged)?;
            }
        }
        Ok(piece)
    }
}

fn damaged(error: BackupError) -> Verdict {
    Verdict::BadAnswer(error.to_string())
}
