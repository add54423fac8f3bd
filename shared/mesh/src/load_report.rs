//! What a backend says of its load with each answer: an ORCA report in the trailers (gRFC A51).
//!
//! `endpoint-load-metrics-bin` holds an encoded `xds.data.orca.v3.OrcaLoadReport`. ORCA has no field for calls in
//! flight, so they travel as the named metric [`IN_FLIGHT`]. Whoever balances learns from it what others have sent to
//! the same backend.

use std::collections::HashMap;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;

/// The trailer.
pub const HEADER: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");
/// The named metric for calls in flight.
pub const IN_FLIGHT: &str = "in_flight";
/// A report is small; what is longer is none.
const MAX_ENCODED_BYTES: usize = 4096;

/// Binary metadata goes without padding and comes with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The fields of `xds.data.orca.v3.OrcaLoadReport` that are read or written here.
#[derive(Clone, PartialEq, prost::Message)]
struct Report {
    #[prost(map = "string, double", tag = "8")]
    named_metrics: HashMap<String, f64>,
}

/// Adds a report to the trailers of an answer.
pub fn report(trailers: &mut HeaderMap, in_flight: u64) {
    #[allow(clippy::cast_precision_loss, reason = "nobody has 2^53 calls in flight")]
    let metrics = HashMap::from([(IN_FLIGHT.to_owned(), in_flight as f64)]);
    let encoded = BASE64.encode(Report { named_metrics: metrics }.encode_to_vec());
    if let Ok(value) = HeaderValue::try_from(encoded) {
        trailers.insert(HEADER, value);
    }
}

/// Takes the report out of trailers and says how many calls the backend has in flight, if it does.
pub fn take(trailers: &mut HeaderMap) -> Option<u64> {
    let value = trailers.remove(HEADER)?;
    if value.len() > MAX_ENCODED_BYTES {
        return None;
    }
    let report = Report::decode(&*BASE64.decode(value.as_bytes()).ok()?).ok()?;
    let in_flight = *report.named_metrics.get(IN_FLIGHT)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 to 2^32")]
    (0.0..4_294_967_296.0).contains(&in_flight).then_some(in_flight as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_reported_is_taken_and_taken_away() {
        let mut trailers = HeaderMap::new();
        report(&mut trailers, 17);
        assert_eq!(take(&mut trailers), Some(17));
        assert!(trailers.is_empty());
        assert_eq!(take(&mut trailers), None);
    }

    #[test]
    fn a_report_of_another_server_is_read_with_or_without_padding() {
        // cpu_utilization 0.5 (field 1), named_metrics {"in_flight": 3.0} (field 8), as protoc encodes them.
        let mut bytes = vec![9, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 66, 20, 10, 9];
        bytes.extend_from_slice(b"in_flight");
        bytes.extend_from_slice(&[17, 0, 0, 0, 0, 0, 0, 8, 64]);
        for encoded in [BASE64.encode(&bytes), base64::prelude::BASE64_STANDARD.encode(&bytes)] {
            let mut trailers = HeaderMap::from_iter([(HEADER, encoded.parse().unwrap())]);
            assert_eq!(take(&mut trailers), Some(3));
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_report(text in "[ -~]{0,80}") {
            let mut trailers = HeaderMap::from_iter([(HEADER, text.parse().unwrap())]);
            let _ = take(&mut trailers);
            prop_assert!(trailers.is_empty());
        }
    }
}
