//! The process: joins the shard's machine and the meta group's to replication, and opens doors to the world.
//!
//! Start at [`node::Node`], whose start-up and shutdown are lists of steps; [`local::LocalCluster`] runs several nodes in
//! one process.

pub mod api;
pub mod clock;
pub mod clocks;
pub mod condemned;
pub mod config;
pub mod context;
pub mod data;
pub mod datadir;
pub mod demo;
mod internal;
pub mod joining;
pub mod keeper;
pub mod local;
pub mod memory;
pub mod meta;
pub mod metrics;
pub mod mover;
pub mod net;
pub mod node;
#[cfg(test)]
mod node_test;
pub mod offline;
pub mod placer;
pub mod rebuild;
pub mod recognition;
pub mod recover;
pub mod restore;
pub mod seams;
pub mod store;
pub mod supervisor;
pub mod timekeeping;
pub mod workers;
