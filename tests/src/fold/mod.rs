//! Random bills: one drawn case folded by the engine and by the reference model, many of them on all cores, and faults
//! planted on purpose to see that the comparison finds them.

pub mod case;
pub mod fault;
pub mod planted;
pub mod planted_charges;
pub mod planted_measures;
pub mod properties;
pub mod soak;
