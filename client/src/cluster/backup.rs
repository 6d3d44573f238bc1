//! Backups: the state of the cluster as a file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_machine::{BackupDecoder, BackupHeader, BackupPart};
use lockstep_proto::v1;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::answer::{Failure, Verdict, judge};
use crate::call::{self, Effect, connected, within};
use crate::client::Client;
use crate::endpoints::Slot;
use crate::error::Error;
use crate::service::cluster;

/// A node that sends nothing for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A backup that is being received, and checked on the way.
pub struct Backup {
    client: Client,
    stream: Stream,
}

struct Stream {
    slot: Arc<Slot>,
    messages: Streaming<v1::BackupResponse>,
    decoder: Option<BackupDecoder>,
    header: BackupHeader,
    first: Option<Bytes>,
    received: u64,
    /// Closed when the stream is dropped.
    _channel: Channel,
}

impl Client {
    /// The state of the cluster at one log index, with every write that was acknowledged before the call, as
    /// the bytes of a file.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node could begin it within the client's timeout.
    pub async fn backup(&self) -> Result<Backup, Error> {
        let stream = call::run(&self.endpoints, self.timeout, Effect::None, Stream::open).await?;
        Ok(Backup {
            client: self.clone(),
            stream,
        })
    }
}

impl Backup {
    /// What it is of.
    pub fn header(&self) -> &BackupHeader {
        &self.stream.header
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.stream.received
    }

    /// The next bytes of the file; `None` once it is complete and every byte was checked.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the node ended it, [`Error::BadAnswer`] when what it sent is damaged. What was
    /// received is of no use then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = self.stream.next().await;
        next.map_err(|verdict| {
            self.client
                .failed(self.stream.slot.address.clone(), verdict)
        })
    }
}

impl Stream {
    /// Connects, and receives until the header is known.
    async fn open(slot: Arc<Slot>, deadline: Instant) -> Result<Self, Verdict> {
        let channel = connected(deadline, slot.connect_apart()).await?;
        let begin = async {
            // Without a deadline on the wire: it would hold for the whole stream.
            let request = Request::new(v1::BackupRequest {});
            let response = cluster(channel.clone()).backup(request).await;
            let mut messages = response.map_err(judge)?.into_inner();
            let first = receive(&mut messages).await?;
            Ok((first.unwrap_or_default(), messages))
        };
        let (first, messages) = within(deadline, "answer", Failure::no_answer, begin)
            .await
            .flatten()?;
        let mut decoder = BackupDecoder::new();
        decoder.push(&first);
        let header = match decoder.next_part().map_err(damaged)? {
            Some(BackupPart::Header(header)) => *header,
            _ => return Err(Verdict::BadAnswer("the backup has no header".to_owned())),
        };
        Ok(Self {
            slot,
            messages,
            decoder: Some(decoder),
            header,
            first: Some(first),
            received: 0,
            _channel: channel,
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Verdict> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(None);
        };
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => {
                let received = tokio::time::timeout(SILENCE_MAX, receive(&mut self.messages));
                let piece = received.await.map_err(|_| {
                    let cause = format!("the backup stalled for {} s", SILENCE_MAX.as_secs());
                    Verdict::Retry(Failure::no_answer(cause))
                })??;
                decoder.push(piece.as_deref().unwrap_or_default());
                piece
            }
        };
        while decoder.next_part().map_err(damaged)?.is_some() {}
        match piece {
            Some(piece) => {
                self.received += piece.len() as u64;
                Ok(Some(piece))
            }
            None => {
                let complete = self.decoder.take().map(BackupDecoder::finish);
                complete.transpose().map_err(damaged)?;
                Ok(None)
            }
        }
    }
}

fn damaged(error: lockstep_machine::BackupError) -> Verdict {
    Verdict::BadAnswer(error.to_string())
}

async fn receive(messages: &mut Streaming<v1::BackupResponse>) -> Result<Option<Bytes>, Verdict> {
    let message = messages.message().await.map_err(judge)?;
    Ok(message.map(|message| message.data))
}
