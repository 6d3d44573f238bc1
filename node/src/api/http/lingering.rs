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
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a silent client may take to close its side.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a client may go on sending.
const LINGER_MAX: Duration = Duration::from_secs(10);
const DISCARD_BYTES: usize = 4096;

/// A stream whose shutdown closes the sending side, then discards what arrives until the client
/// closes, has been silent for [`SILENCE_MAX`], or has gone on for [`LINGER_MAX`]. Nothing is on its way from a
/// client that was silent before: an idle connection or watch is closed at once.
pub(super) struct Lingering {
    stream: TcpStream,
    /// When bytes last came from the client.
    heard: Instant,
    /// Set once the sending side is closed: the end of the silence, and of everything.
    end: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            heard: Instant::now(),
            end: None,
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard = Instant::now();
        }
        read
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
        let Self { stream, heard, end } = &mut *self;
        let (silence, end) = match end {
            Some(end) => end,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                let silence = Box::pin(sleep_until(*heard + SILENCE_MAX));
                end.insert((silence, Instant::now() + LINGER_MAX))
            }
        };
        loop {
            let mut discarded = [0; DISCARD_BYTES];
            let mut discarded = ReadBuf::new(&mut discarded);
            match Pin::new(&mut *stream).poll_read(cx, &mut discarded) {
                Poll::Ready(Ok(())) if !discarded.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= *end {
                        return Poll::Ready(Ok(()));
                    }
                    silence.as_mut().reset((now + SILENCE_MAX).min(*end));
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                // A timer fires with the next tick, also one that is set to the past.
                Poll::Pending if silence.deadline() <= Instant::now() => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return silence.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
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
    async fn an_idle_connection_is_closed_without_a_wait() {
        let (_client, mut server) = connected().await;
        server.heard -= SILENCE_MAX;
        let closed = server.shutdown().now_or_never();
        closed.expect("it waits for nothing").unwrap();
    }

    #[tokio::test]
    async fn what_an_idle_client_has_sent_unread_is_still_waited_out() {
        let (mut client, mut server) = connected().await;
        client.write_all(b"GET / HTTP/1.1").await.unwrap();
        server.stream.readable().await.unwrap();
        server.heard -= SILENCE_MAX;
        assert!(server.shutdown().now_or_never().is_none());
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
