//! Numbers as people read them: counts, sizes, percentages, lengths of time.

use std::time::Duration;

/// `1204` as `1,204`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `n` with the noun in its number: `1 file`, `2 files`.
pub(crate) fn counted(value: u64, noun: &str) -> String {
    if value == 1 { format!("1 {noun}") } else { format!("{} {noun}s", count(value)) }
}

/// A size in bytes: `999 B`, `1.2 KiB`, `3.4 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut size = value as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A share of a whole: `98.1 %`; `-` when there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// How much smaller `after` is than `before`: `-38.0 %`; `+0.0 %` when it is not smaller.
pub(crate) fn change(before: u64, after: u64) -> String {
    if before == 0 {
        return "+0.0 %".to_owned();
    }
    format!("{:+.1} %", 100.0 * (after as f64 - before as f64) / before as f64)
}

/// A length of time, in its two largest units: `12 ms`, `3.2 s`, `1m 12s`, `2h 03m`, `4d 01h`.
pub(crate) fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.is_zero() => "0 s".to_owned(),
        0 => format!("{} ms", time.as_millis().max(1)),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Reads a length of time as typed on the command line: `500ms`, `30s`, `5m`, `1h`, or plain seconds.
///
/// # Errors
/// Says what is wrong with the text.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[number.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("unknown unit `{unit}`: use ms, s, m or h")),
    };
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is not a length of time, as in 30s"))?;
    match Duration::try_from_secs_f64(value * factor) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(format!("`{text}` must be more than nothing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_three_digits() {
        assert_eq!(["0", "12", "999", "1,000", "1,234,567"], [0, 12, 999, 1000, 1_234_567].map(count)[..]);
        assert_eq!(["0 files", "1 file", "2 files"], [0, 1, 2].map(|n| counted(n, "file"))[..]);
    }

    #[test]
    fn sizes_take_the_unit_that_keeps_them_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn shares_and_changes_survive_an_empty_whole() {
        assert_eq!((share(0, 0).as_str(), share(1, 3).as_str()), ("-", "33.3 %"));
        assert_eq!((change(200, 150).as_str(), change(0, 0).as_str()), ("-25.0 %", "+0.0 %"));
    }

    #[test]
    fn times_show_their_two_largest_units() {
        let shown =
            [0, 12, 3_240, 72_000, 7_380_000, 349_200_000].map(|ms| elapsed(Duration::from_millis(ms)));
        assert_eq!(shown, ["0 s", "12 ms", "3.2 s", "1m 12s", "2h 03m", "4d 01h"]);
    }

    #[test]
    fn durations_are_read_as_typed() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        for wrong in ["", "0s", "-1s", "3 weeks", "5d", "NaN", "1e30h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
