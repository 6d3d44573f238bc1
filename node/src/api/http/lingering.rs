//! Closes a connection such that the last response reaches the client ("lingering close").
//!
//! A server may answer before it has read the whole request, for example when the declared length of
//! a body is too large. If it then closes the socket with unread bytes, the kernel resets the
//! connection, and the client loses what it has not read yet: the answer. RFC 9112, section 9.6,
//! describes the remedy.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How long a silent client may take to close its side.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a client may go on sending.
const LINGER_MAX: Duration = Duration::from_secs(10);
/// Bytes discarded at a time.
const DISCARD_BYTES: usize = 4096;

/// A stream whose shutdown closes the sending side, then discards what arrives until the client
/// closes, is silent for [`SILENCE_MAX`], or has gone on for [`LINGER_MAX`].
pub(super) struct Lingering {
    stream: TcpStream,
    /// Set once the sending side is closed: the end of the silence, and of everything.
    end: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, end: None }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, end } = &mut *self;
        let (silence, end) = match end {
            Some(end) => end,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                end.insert((Box::pin(sleep(SILENCE_MAX)), Instant::now() + LINGER_MAX))
            }
        };
        loop {
            if silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut discarded = [0; DISCARD_BYTES];
            let mut discarded = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut discarded));
            if read.is_err() || discarded.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let next = Instant::now() + SILENCE_MAX;
            silence.as_mut().reset(next.min(*end));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn connected() -> (TcpStream, Lingering) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (client, Lingering::new(server))
    }

    #[tokio::test]
    async fn an_answer_arrives_although_the_client_is_still_sending() {
        let (mut client, mut server) = connected().await;
        let served = tokio::spawn(async move {
            let mut head = [0; 16];
            server.read_exact(&mut head).await.unwrap();
            server.write_all(b"too large").await.unwrap();
            server.shutdown().await.unwrap();
        });
        // More than the buffers of both sockets hold.
        client.write_all(&vec![0; 16 << 20]).await.unwrap();
        client.shutdown().await.unwrap();
        served.await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "too large");
    }

    #[tokio::test]
    async fn a_client_that_never_closes_is_disconnected() {
        let (_client, mut server) = connected().await;
        tokio::time::timeout(2 * LINGER_MAX, server.shutdown())
            .await
            .unwrap()
            .unwrap();
    }
}
