//! The services of the interoperability cases, as Rust sees them.
#![allow(missing_docs, clippy::all, clippy::pedantic, reason = "the compiler of the contract writes it")]

tonic::include_proto!("grpc.testing");

/// The same for peers that read it at run time: an encoded descriptor set.
pub const DESCRIPTORS: &str = concat!(env!("OUT_DIR"), "/grpc.testing.bin");
/// Which case a call belongs to, so that a server can tell of it.
pub const CASE: &str = "weft-case";
/// Metadata that a server sends back first.
pub const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
/// Metadata that a server sends back last.
pub const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";

impl Payload {
    /// So many zeros.
    #[must_use]
    pub fn zeros(size: usize) -> Option<Self> {
        Some(Self { r#type: PayloadType::Compressable.into(), body: vec![0; size] })
    }
}
