//! From counters, a catalogue and a contract to bills: how a cycle becomes one, the stages, the lines they make, and what
//! can be read from them.

pub mod attribute;
pub mod bill;
pub mod blend;
pub mod choose;
pub mod claim;
mod climb;
mod climb_year;
pub mod codec;
mod convert;
pub mod cycle;
pub mod difference;
pub mod draft;
pub mod explain;
mod fees;
pub mod fold;
mod gather;
pub mod input;
pub mod kind;
pub mod measure;
mod part;
pub mod pro_forma;
mod records;
pub mod refund;
pub mod simulate;
pub mod stage;
pub mod stage_amount;
pub mod stage_charge;
pub mod stage_rate;
pub mod stage_waiver;
pub mod usage_stage;
pub mod view;
mod walk;
mod wire;

#[cfg(test)]
mod case;
#[cfg(test)]
mod charges_test;
#[cfg(test)]
mod clause_test;
