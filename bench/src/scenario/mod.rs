//! One scenario a file; the claim that it measures stands on top.

pub mod failover;
pub mod ingest;
pub mod overload;
pub mod read;
pub mod rejoin;
pub mod reshard;
pub mod steady;
