//! What a contract's clauses do to bills, a mechanism a file.

pub mod percent;
pub mod private_rate;
