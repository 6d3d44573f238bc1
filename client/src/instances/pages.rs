//! All pages of a list as one stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::get::Instance;
use super::list::ListCall;
use crate::client::Client;
use crate::error::Error;

/// The instances of a list, in order of id: a `Stream` that fetches each page when the one before
/// is used up, and holds one page at a time.
///
/// No page shows anything older than the one before it. They are not one snapshot: an instance that
/// is created or deleted meanwhile may be there or not, and one that stays is there once.
///
/// Each page has the client's timeout. The stream ends after an error.
pub struct Instances {
    inner: BoxStream<'static, Result<Instance, Error>>,
}

impl Instances {
    pub(super) fn new(client: Client, call: ListCall) -> Self {
        let pages = stream::try_unfold(Some(call), move |call| {
            let client = client.clone();
            async move {
                let Some(call) = call else {
                    return Ok::<_, Error>(None);
                };
                let page = client.instances(&call).await?;
                let next = call.following(&page);
                let instances = page.found.instances.into_iter().map(Ok);
                Ok(Some((stream::iter(instances), next)))
            }
        });
        Self {
            inner: pages.try_flatten().boxed(),
        }
    }

    /// The next instance; none after the last.
    pub async fn next(&mut self) -> Option<Result<Instance, Error>> {
        self.inner.next().await
    }
}

impl Stream for Instances {
    type Item = Result<Instance, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances").finish_non_exhaustive()
    }
}
