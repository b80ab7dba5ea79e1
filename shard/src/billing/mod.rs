//! From counters, a catalogue and a contract to bills: the stages, the lines they make, and what can be read from them.

pub mod attribute;
pub mod bill;
pub mod cycle;
pub mod fold;
pub mod stage;
pub mod usage_stage;
