//! Waiting for a condition with a deadline, instead of sleeping and hoping.
use std::{
    convert::Infallible,
    fmt::{Debug, Display},
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Waits until the condition holds; it is asked again after growing pauses of 2 to 100 ms.
///
/// # Panics
/// When it does not hold within `timeout`, naming the caller's line. A condition that never returns counts too.
#[track_caller]
pub fn eventually<F, Fut>(timeout: Duration, mut condition: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let caller = Location::caller();
    async move {
        let attempt = || {
            let answer = condition();
            async move { if answer.await { Ok(()) } else { Err(Option::<Infallible>::None) } }
        };
        if poll(timeout, attempt).await.is_err() {
            fail(caller, timeout, "the condition does not hold");
        }
    }
}

/// Waits until the operation succeeds and returns what it returned; like [`eventually`] in everything else.
///
/// # Panics
/// When it does not succeed within `timeout`, with the last error.
#[track_caller]
pub fn eventually_ok<F, Fut, T, E>(timeout: Duration, mut operation: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Debug,
{
    let caller = Location::caller();
    async move {
        let attempt = || {
            let answer = operation();
            async move { answer.await.map_err(Some) }
        };
        match poll(timeout, attempt).await {
            Ok(value) => value,
            Err(Some(error)) => fail(caller, timeout, format_args!("the last error is {error:?}")),
            Err(None) => fail(caller, timeout, "the operation never returned"),
        }
    }
}

/// Repeats the attempt until it succeeds or time is up; then the last error, or `None` if none was ever returned.
async fn poll<F, Fut, T, E>(timeout: Duration, mut attempt: F) -> Result<T, Option<E>>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Option<E>>>,
{
    let deadline = Instant::now() + timeout;
    let (mut pause, mut last) = (FIRST_PAUSE, None);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last),
        }
        if left.is_zero() {
            return Err(last);
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[allow(clippy::panic, reason = "an assertion of a test")]
fn fail(caller: &Location<'_>, timeout: Duration, why: impl Display) -> ! {
    panic!("not within {timeout:?} at {caller}: {why}")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn waits_until_it_holds() {
        let asked = Cell::new(0);
        eventually(Duration::from_secs(5), || async {
            asked.set(asked.get() + 1);
            asked.get() == 4
        })
        .await;
        assert_eq!(asked.get(), 4);
    }

    #[tokio::test]
    #[should_panic(expected = "eventually.rs")]
    async fn names_the_line_when_it_never_holds() {
        eventually(Duration::from_millis(20), || async { false }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "not within")]
    async fn ends_a_condition_that_hangs() {
        eventually(Duration::from_millis(20), std::future::pending).await;
    }

    #[tokio::test]
    async fn returns_what_the_operation_returned() {
        let mut tries = 0;
        let value = eventually_ok(Duration::from_secs(5), || {
            tries += 1;
            let tries = tries;
            async move { if tries < 3 { Err("too early") } else { Ok(tries) } }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "connection refused")]
    async fn shows_the_last_error() {
        eventually_ok::<_, _, (), _>(Duration::from_millis(20), || async { Err("connection refused") }).await;
    }
}
