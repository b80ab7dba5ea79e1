//! Measured claims: workloads, what a run cost, reports. The scenarios themselves are run by the binary; tests borrow the
//! workloads.

pub mod nodes;
pub mod process;
pub mod report;
pub mod scenario;
pub mod server;
pub mod workload;
