//! What a response says of the next attempt: `grpc-retry-pushback-ms` (gRFC A6) and `Retry-After` (RFC 9110 §10.2.3).

use std::time::Duration;

/// The longest wait that is taken from a response.
pub const MAX_PUSHBACK: Duration = Duration::from_secs(300);

/// What a backend asked of the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// To wait this long, at most [`MAX_PUSHBACK`].
    After(Duration),
    /// Not to make one.
    Never,
}

/// The texts of a response that speak of another attempt. One that is given several times is handed in joined by
/// commas, which makes it malformed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// `grpc-retry-pushback-ms`, from the trailers or the headers.
    pub grpc_retry_pushback_ms: Option<&'a [u8]>,
    /// `Retry-After`.
    pub retry_after: Option<&'a [u8]>,
}

impl Hints<'_> {
    /// Reads them; gRPC's own wins. What is negative or malformed means never, as gRFC A6 says. So does a date in
    /// `Retry-After`: there is no wall clock here, and who names a date does not mean milliseconds.
    #[must_use]
    pub fn pushback(&self) -> Option<Pushback> {
        let read = |text: &[u8], unit: fn(u64) -> Duration| match number(text) {
            Some(number) => Pushback::After(unit(number).min(MAX_PUSHBACK)),
            None => Pushback::Never,
        };
        let grpc = self.grpc_retry_pushback_ms.map(|text| read(text, Duration::from_millis));
        grpc.or_else(|| self.retry_after.map(|text| read(text, Duration::from_secs)))
    }
}

/// Digits and nothing else, within the range of gRFC A6's int32.
fn number(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    u64::try_from(number).ok()
}
