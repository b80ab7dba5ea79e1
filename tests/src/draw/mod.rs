//! Random documents and usage, valid by construction.

pub mod catalogue;
pub mod contract;
pub mod hierarchy;
pub mod records;
pub mod scope;
pub mod terms;
pub mod usage;
pub mod words;
