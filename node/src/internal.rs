//! The generated types of the nodes' own service, as `proto/internal.proto` states it. Nothing here is written by hand.

#![allow(clippy::all, rustdoc::all)]

tonic::include_proto!("reckoner.node.v1");
