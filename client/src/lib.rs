//! The public contract (`proto`), a library over it, and the command line's verbs. Knows the domain (`reckoner-shard`),
//! nothing of replication.

pub mod backup;
pub mod batch;
pub mod cli;
pub mod client;
pub mod directory;
pub mod error;
pub mod files;
pub mod proto;
pub mod retry;
pub mod routes;
pub mod rows;
mod stubs;
pub mod wire;
