//! All pages of a list as one stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::error::Error;

/// The items of a list, in order: a `Stream` that fetches each page when the previous one is used
/// up, and holds one page at a time.
///
/// The pages are not one snapshot: an item that appears or disappears meanwhile may be returned or
/// not, and one that stays is returned once. No page of instances is older than the one before it.
///
/// Each page has the client's timeout. The stream ends after an error.
pub struct Pages<T> {
    inner: BoxStream<'static, Result<T, Error>>,
}

impl<T: Send + 'static> Pages<T> {
    /// `fetch` returns a page, and the call for the next one.
    pub(crate) fn new<C, F>(first: C, fetch: impl Fn(C) -> F + Send + 'static) -> Self
    where
        C: Send + 'static,
        F: Future<Output = Result<(Vec<T>, Option<C>), Error>> + Send + 'static,
    {
        let pages = stream::try_unfold(Some(first), move |call| {
            let page = call.map(&fetch);
            async move {
                let Some(page) = page else {
                    return Ok::<_, Error>(None);
                };
                let (items, next) = page.await?;
                Ok(Some((stream::iter(items.into_iter().map(Ok)), next)))
            }
        });
        Self {
            inner: pages.try_flatten().boxed(),
        }
    }

    /// The next item; none after the last.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        self.inner.next().await
    }
}

impl<T> Stream for Pages<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}
