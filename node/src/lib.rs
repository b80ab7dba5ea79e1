//! The process: joins the shard's machine and the meta group's to replication, and opens doors to the world.
//!
//! Start at [`node::Node`], whose start-up and shutdown are lists of steps; [`local::LocalCluster`] runs several nodes in
//! one process.

pub mod clock;
pub mod config;
pub mod data;
pub mod datadir;
pub mod meta;
pub mod store;
pub mod workers;
