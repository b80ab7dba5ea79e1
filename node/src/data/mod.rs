//! A shard's life on this node: who owns its state, who may send it work, who closes its cycles.

pub mod admission;
pub mod billing;
pub mod check;
pub mod checks;
pub mod contents;
pub mod cycle_clock;
pub mod directory;
pub mod reach;
pub mod shard;
mod thresholds;
mod versions;
