//! The generated contract `reckoner.v1`: messages, clients and servers of the five services, as `proto/` states them.
//! Nothing here is written by hand; `wire` is where these types meet the domain's.

#![allow(clippy::all, rustdoc::all)]

tonic::include_proto!("reckoner.v1");

/// The compiled descriptor set, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Name in every ErrorInfo of this product.
pub const ERROR_DOMAIN: &str = "reckoner";
