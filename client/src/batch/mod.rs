//! Usage at speed: records are gathered by shard, packed, sent over one stream a shard with several batches in flight,
//! and sent again under the same numbers until each has a verdict.

pub mod batcher;
pub mod gather;
pub mod records;

mod driver;
mod lane;
mod numbers;
