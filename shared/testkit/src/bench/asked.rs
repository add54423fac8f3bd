//! What a call asks of the backend, in its headers.

use std::{str::FromStr, time::Duration};

use hyper::{HeaderMap, header::HeaderValue};

use super::message::MOST_BYTES;

const SERVICE: &str = "x-service-us";
const BYTES: &str = "x-bytes";
const MESSAGES: &str = "x-messages";
const INTERVAL: &str = "x-interval-us";

/// Longer than any benchmark takes, and short enough to be added to any time.
const MOST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How a call is to be answered. Without headers: at once, with one empty message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// How long it takes until the answer begins; at most a day, as any time here.
    pub(super) service: Duration,
    /// The size of each message in the answer.
    pub(super) bytes: usize,
    /// None for a unary answer.
    pub(super) stream: Option<Stream>,
}

/// Messages at fixed times, the first one at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) messages: u64,
    /// From one to the next; at least a microsecond.
    pub(super) interval: Duration,
}

impl Asked {
    /// What the headers ask for; what they do not say, or not as a number, is 0.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let interval = micros(headers, INTERVAL).max(Duration::from_micros(1));
        Self {
            service: micros(headers, SERVICE),
            bytes: number(headers, BYTES).unwrap_or(0_usize).min(MOST_BYTES),
            stream: number(headers, MESSAGES).map(|messages| Stream { messages, interval }),
        }
    }

    /// The headers that ask for it.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'static str, HeaderValue)> {
        let micros = |time: Duration| HeaderValue::from(time.as_micros() as u64);
        let stream = self.stream.map(|stream| {
            [(MESSAGES, HeaderValue::from(stream.messages)), (INTERVAL, micros(stream.interval))]
        });
        [(SERVICE, micros(self.service)), (BYTES, HeaderValue::from(self.bytes))]
            .into_iter()
            .chain(stream.into_iter().flatten())
    }
}

fn micros(headers: &HeaderMap, header: &str) -> Duration {
    Duration::from_micros(number(headers, header).unwrap_or(0)).min(MOST_TIME)
}

fn number<T: FromStr>(headers: &HeaderMap, header: &str) -> Option<T> {
    headers.get(header)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_reads_what_a_caller_writes() {
        let stream = Stream { messages: 200, interval: Duration::from_millis(50) };
        for stream in [None, Some(stream)] {
            let asked = Asked { service: Duration::from_micros(1500), bytes: 100, stream };
            let headers: HeaderMap =
                asked.headers().map(|(name, value)| (name.parse().unwrap(), value)).collect();
            assert_eq!(Asked::by(&headers), asked);
        }
    }

    #[test]
    fn nonsense_asks_for_nothing_and_too_much_is_cut() {
        let asked = |value: &'static str| {
            let names = [SERVICE, BYTES, MESSAGES, INTERVAL];
            let headers = names.map(|name| (name.parse().unwrap(), HeaderValue::from_static(value)));
            Asked::by(&HeaderMap::from_iter(headers))
        };
        assert_eq!(Asked::by(&HeaderMap::new()), Asked::default());
        for nonsense in ["", "-1", "1.5", "many"] {
            assert_eq!(asked(nonsense), Asked::default(), "{nonsense}");
        }
        let stream = Stream { messages: u64::MAX, interval: MOST_TIME };
        let most = Asked { service: MOST_TIME, bytes: MOST_BYTES, stream: Some(stream) };
        assert_eq!(asked("18446744073709551615"), most);
        assert_eq!(asked("0").stream.unwrap().interval, Duration::from_micros(1));
    }
}
