//! The meta group: what the cluster knows of itself. Nodes, shard map, replicas, catalogue versions, jobs.

pub mod command;
pub mod group;
pub mod job;
pub mod layout;
pub mod plan;
pub mod runner;
pub mod state;
pub mod step;
pub mod survival;
pub mod waits;
