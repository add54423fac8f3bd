//! The services of the interoperability cases, as Rust sees them.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "the compiler of the contract writes it"
)]

tonic::include_proto!("grpc.testing");

/// The same for peers that read it at run time: an encoded descriptor set.
#[cfg(feature = "real-backends")]
pub(crate) const DESCRIPTORS: &str = concat!(env!("OUT_DIR"), "/grpc.testing.bin");
/// Which case a call belongs to, so that a server can tell of it.
pub(crate) const CASE: &str = "weft-case";
/// Metadata that a server sends back first.
pub(crate) const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
/// Metadata that a server sends back last.
pub(crate) const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";

impl Payload {
    /// So many zeros.
    pub(crate) fn zeros(size: usize) -> Option<Self> {
        Some(Self { r#type: PayloadType::Compressable.into(), body: vec![0; size] })
    }
}
