//! A stream that can be dropped while the transport still holds it.
//!
//! The transport polls the requests of a call only while the receiver has room for them, and keeps them although
//! their responses were dropped. openraft's requests hold a lock while they wait for the next entry: without the
//! lock, no other stream to that peer could begin before the receiver had read more of the old one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;

/// The stream; it ends when it is revoked.
pub(super) struct Revocable<S>(Arc<Mutex<Shared<S>>>);

/// Drops the stream when it is dropped.
pub(super) struct Revoke<S>(Arc<Mutex<Shared<S>>>);

struct Shared<S> {
    stream: Option<S>,
    /// Who waits for the next item, and has to hear of the end.
    waiting: Option<Waker>,
}

/// A stream, and what drops it.
pub(super) fn revocable<S>(stream: S) -> (Revocable<S>, Revoke<S>) {
    let shared = Arc::new(Mutex::new(Shared {
        stream: Some(stream),
        waiting: None,
    }));
    (Revocable(shared.clone()), Revoke(shared))
}

impl<S: Stream + Unpin> Stream for Revocable<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut shared = self.0.lock();
        let Some(stream) = &mut shared.stream else {
            return Poll::Ready(None);
        };
        let next = stream.poll_next_unpin(cx);
        shared.waiting = next.is_pending().then(|| cx.waker().clone());
        next
    }
}

impl<S> Drop for Revoke<S> {
    fn drop(&mut self) {
        let (stream, waiting) = {
            let mut shared = self.0.lock();
            (shared.stream.take(), shared.waiting.take())
        };
        drop(stream);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_revoked_stream_is_dropped_without_being_polled() {
        let held = Arc::new(());
        let lock: Weak<()> = Arc::downgrade(&held);
        let waiting = stream::once(std::future::ready(1)).chain(stream::pending().map(move |()| {
            let _held = &held;
            2
        }));
        let (mut stream, revoke) = revocable(waiting);
        assert_eq!(stream.next().await, Some(1));
        assert!(lock.upgrade().is_some());
        drop(revoke);
        assert!(lock.upgrade().is_none());
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn a_waiter_on_a_revoked_stream_gets_its_end() {
        let (mut stream, revoke) = revocable(stream::pending::<()>());
        let waiting = tokio::spawn(async move { stream.next().await });
        tokio::task::yield_now().await;
        drop(revoke);
        assert_eq!(waiting.await.unwrap(), None);
    }
}
