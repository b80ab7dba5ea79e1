//! How groups talk to their peers: the transport, its gRPC form, and openraft's network over it.

pub(crate) mod network;
pub mod peer;
pub mod transport;
