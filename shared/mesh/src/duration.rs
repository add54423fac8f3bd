//! Durations in configuration: `"30s"`, `"250ms"`, `"1h 30m"`.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes a duration the way it is read.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let signed = SignedDuration::try_from(*duration).unwrap_or(SignedDuration::MAX);
    serializer.collect_str(&format_args!("{signed:#}"))
}

/// Reads a duration; negative ones are refused.
///
/// # Errors
/// When the text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let signed: SignedDuration = text.parse().map_err(|_| {
        D::Error::custom(format!("\"{text}\" is not a duration such as \"30s\" or \"250ms\""))
    })?;
    Duration::try_from(signed).map_err(|_| D::Error::custom(format!("\"{text}\" is negative")))
}
