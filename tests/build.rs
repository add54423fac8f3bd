//! Compiles the contract of the interoperability tests: bindings for Rust, a descriptor set for the foreign peers.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=interop/proto");
    let descriptors = protox::compile(["grpc/testing/test.proto"], ["interop/proto"])?;
    #[allow(clippy::disallowed_methods)] // cargo tells build scripts where to write by this variable
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("grpc.testing.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
