//! What replication keeps: the journal of all groups, one group's log over it, and snapshots by generation. Each has
//! a twin in memory.

pub mod engine;
mod files;
pub mod generation;
pub mod journal;
pub(crate) mod log;
pub mod memory;
pub mod pages;
mod record;
pub mod snapshot;
mod tail;

#[cfg(test)]
mod engine_test;
#[cfg(test)]
mod generation_test;
#[cfg(test)]
mod suite_test;
