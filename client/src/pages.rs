//! All pages of a list as one stream.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use crate::client::Client;
use crate::error::Error;

/// The items of a list, in order: a stream that fetches each page when the previous one is used up,
/// and holds one page at a time.
///
/// The pages are not one snapshot: an item that is created or deleted in the meantime may or may not be
/// returned; any other is returned exactly once.
///
/// Each page has the client's timeout. The stream ends after an error.
pub type Pages<T> = BoxStream<'static, Result<T, Error>>;

/// `fetch` returns a page, and the call for the next one.
pub(crate) fn pages<T, C, F>(
    client: &Client,
    first: C,
    fetch: impl Fn(Client, C) -> F + Send + 'static,
) -> Pages<T>
where
    T: Send + 'static,
    C: Send + 'static,
    F: Future<Output = Result<(Vec<T>, Option<C>), Error>> + Send + 'static,
{
    let client = client.clone();
    let pages = stream::try_unfold(Some(first), move |call| {
        let page = call.map(|call| fetch(client.clone(), call));
        async move {
            let Some(page) = page else {
                return Ok::<_, Error>(None);
            };
            let (items, next) = page.await?;
            Ok(Some((stream::iter(items.into_iter().map(Ok)), next)))
        }
    });
    pages.try_flatten().boxed()
}
