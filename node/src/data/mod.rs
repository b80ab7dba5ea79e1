//! A shard's life on this node: who owns its state, who may send it work, who closes its cycles.

pub mod admission;
