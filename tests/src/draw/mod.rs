//! Random documents and usage, valid by construction.

pub mod catalogue;
pub mod contract;
pub mod currency;
pub mod fees;
pub mod hierarchy;
pub mod pro_forma;
pub mod records;
pub mod refine;
pub mod scope;
pub mod spread;
pub mod terms;
pub mod usage;
pub mod words;
pub mod zones;
