//! Everything a paged list has, fetched page by page as it is read.

use std::future::Future;

use futures::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};

use crate::Result;

/// One page, and the token of the next; empty on the last.
pub(crate) type Page<T> = (Vec<T>, String);

/// The items of every page. `fetch` gets the token of the page it is to fetch, empty for the first.
pub(crate) fn all<T, F, Fut>(fetch: F) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Page<T>>> + Send + 'static,
{
    items(fetch).boxed()
}

fn items<T, F, Fut>(fetch: F) -> impl Stream<Item = Result<T>>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<Page<T>>>,
{
    let pages = stream::try_unfold(Some(String::new()), move |token| {
        let page = token.map(&fetch);
        async move {
            let Some(page) = page else { return Ok::<_, crate::Error>(None) };
            let (items, next) = page.await?;
            let next = (!next.is_empty()).then_some(next);
            Ok(Some((stream::iter(items.into_iter().map(Ok)), next)))
        }
    });
    pages.try_flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_follow_each_other_until_a_token_is_empty() {
        let list = all(|token| async move {
            Ok(match token.as_str() {
                "" => (vec![1, 2], "b".to_owned()),
                "b" => (vec![], "c".to_owned()),
                _ => (vec![3], String::new()),
            })
        });
        assert_eq!(list.try_collect::<Vec<_>>().await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_failed_page_ends_the_list_with_its_error() {
        let list = all(|token| async move {
            if token.is_empty() {
                Ok((vec![1], "b".into()))
            } else {
                Err(crate::Error::Malformed { field: "x" })
            }
        });
        let items: Vec<_> = list.collect().await;
        assert!(matches!(items[..], [Ok(1), Err(_)]));
    }
}
