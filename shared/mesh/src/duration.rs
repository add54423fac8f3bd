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

/// The same for a duration that need not be there.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Present(#[serde(with = "super")] Duration);

    /// Writes a duration, if there is one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(Present).serialize(serializer)
    }

    /// Reads a duration, if there is one.
    ///
    /// # Errors
    /// When the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Present>::deserialize(deserializer)?.map(|present| present.0))
    }
}
