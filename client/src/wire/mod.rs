//! Generated types and domain types: the only place where they meet. Used alike by client and node. Packed segments and
//! encoded outcomes pass through as bytes and never come here.

pub mod bills;
pub mod refusals;
pub mod usage;
