//! What a response leaves unread of its request's body.
//!
//! On an HTTP/1 connection, the next request begins where the body ends. If a response is sent before
//! that, hyper closes the connection, but by then has told the client that it may go on: the client's
//! next request is lost. On an HTTP/2 connection hyper resets the stream after the response, without an
//! error, as RFC 9113 has it; curl before 8 then shows an error in place of the response.
//!
//! So the response waits a moment for the rest of the body. If that does not arrive, or is long, the
//! response says that the connection closes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::Version;
use axum::http::header::EXPECT;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

/// How long the rest of a body is waited for.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest rest that is waited for on an HTTP/1 connection, bytes: closing costs less than more.
const BYTES_MAX: u64 = 64 * 1024;

/// What is left of a body.
pub(super) struct Rest {
    body: Shared,
    version: Version,
    /// Whether the client waits to be asked for the body.
    held_back: bool,
}

impl Rest {
    /// The request, and what will be left of its body if it has one.
    pub(super) fn of(request: Request) -> (Request, Option<Self>) {
        if request.body().is_end_stream() {
            return (request, None);
        }
        let (parts, body) = request.into_parts();
        let ended = false;
        let body = Shared(Arc::new(Mutex::new(Unread { body, ended })));
        let rest = Self {
            body: body.clone(),
            version: parts.version,
            held_back: parts.headers.contains_key(EXPECT),
        };
        (Request::from_parts(parts, Body::new(body)), Some(rest))
    }

    /// Discards it. Whether the connection can carry another request.
    pub(super) async fn discard(mut self) -> bool {
        if self.body.is_end_stream() {
            return true;
        }
        let is_http1 = self.version < Version::HTTP_2;
        let is_long = is_http1 && self.body.size_hint().lower() > BYTES_MAX;
        if !is_long && !self.held_back {
            let to_end = async { while let Some(Ok(_)) = self.body.frame().await {} };
            // What has not arrived by then is not waited for.
            let _ = tokio::time::timeout(WAIT_MAX, to_end).await;
        }
        !is_http1 || self.body.is_end_stream()
    }
}

/// A body that the handler reads; what it leaves is still here.
#[derive(Clone)]
struct Shared(Arc<Mutex<Unread>>);

struct Unread {
    body: Body,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Unread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut unread = self.lock();
        let frame = ready!(Pin::new(&mut unread.body).poll_frame(cx));
        unread.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let unread = self.lock();
        unread.ended || unread.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
