//! Compiles the contracts without a system `protoc`, and writes the descriptor set that reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 9] = [
    "weft/common/v1/access.proto",
    "weft/gateway/v1/gateway.proto",
    "weft/cache/v1/cache.proto",
    "weft/database/v1/entities.proto",
    "weft/database/v1/documents.proto",
    "weft/database/v1/insight.proto",
    "weft/queue/v1/queue.proto",
    "weft/queue/v1/payloads.proto",
    "weft/assets/v1/assets.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=weft");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    #[allow(clippy::disallowed_methods)] // cargo tells build scripts where to write by this variable
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // As the compiler has them, options of our own included, which prost's types do not hold.
    fs::write(out.join("weft.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    // Values and chunks travel as `Bytes`: decoding them copies nothing.
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
