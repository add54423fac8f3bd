//! The `grpc-timeout` header: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").

use std::time::Duration;

/// Reads a header value; `None` when it is malformed.
#[must_use]
pub fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Writes a header value: the finest unit that fits eight digits, rounded down, so that a deadline never grows.
#[must_use]
pub fn encode(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let nanos = timeout.as_nanos();
    for (unit, size) in
        [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000)]
    {
        if nanos / size <= MOST {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{}H", (nanos / 3_600_000_000_000).min(MOST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn malformed_values_are_refused() {
        for bad in ["", "S", "10", "10s", "123456789S", "-1S", "1 S", "1.5S", "é", "1é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
    }

    proptest! {
        #[test]
        fn encoding_never_grows_and_loses_little(nanos in 0_u64..u64::MAX) {
            let timeout = Duration::from_nanos(nanos);
            let back = parse(&encode(timeout)).unwrap();
            prop_assert!(back <= timeout);
            prop_assert!(timeout - back <= timeout / 1_000_000 + Duration::from_nanos(1));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,12}") {
            let _ = parse(&text);
        }
    }
}
