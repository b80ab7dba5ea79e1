//! Replication of bytes: many Raft groups in one process, one log and one stream a peer for all of them, snapshots by
//! generation. Commands are bytes here; what they mean is behind [`machine::Machine`].
//!
//! Start at [`host::Host`], which opens groups, and [`group::Group`], through which they are used.

mod applier;
mod awaited;
pub mod error;
pub mod group;
pub mod host;
pub mod image;
pub mod machine;
pub mod net;
pub mod offline;
mod rebuild;
mod receive;
mod seeds;
pub mod service;
pub mod store;
pub mod timings;
pub mod types;
pub mod wire;
