//! What is measured and how it is counted: the record, its packed form, series and their numbers, the counters, and how
//! repeats are recognised.

pub mod chunks;
pub mod counter;
pub mod ids;
pub mod kept;
pub mod record;
pub mod repeats;
pub mod segment;
#[cfg(test)]
mod segment_test;
pub mod series;
