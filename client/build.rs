//! Generates the contract's types and services from `proto/`, without a protoc binary, and keeps the descriptor set that
//! gRPC reflection serves.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 6] =
    ["common.proto", "usage.proto", "accounts.proto", "bills.proto", "catalogue.proto", "cluster.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Batches and blobs pass through as they came: `Bytes` shares the receive buffer instead of copying it.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
