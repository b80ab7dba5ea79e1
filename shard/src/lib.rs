//! The domain of Reckoner: counters, prices, bills. A pure, synchronous machine: `(state, stamped entry, the blobs it
//! names) -> outcomes`. It knows no Raft, no async runtime, no disk and no clock; the same log gives the same bytes.

pub mod account;
pub mod base;
pub mod billing;
pub mod contract;
pub mod machine;
pub mod placement;
pub mod pricing;
pub mod usage;
