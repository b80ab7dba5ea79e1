//! A hierarchy's own terms, one mechanism a file: data and arithmetic over amounts that it is handed. Which lines it is
//! handed, and what lines it makes, is decided in `billing/stage.rs` and its kin.

pub mod accounts;
pub mod commitment;
pub mod compile;
pub mod compile_charges;
pub mod compile_currency;
pub mod conflicts;
pub mod credit;
pub mod currency;
pub mod document;
pub mod document_clause;
pub mod document_scope;
pub mod fee;
pub mod percent;
pub mod prepayment;
pub mod private_rate;
pub mod pro_forma;
pub mod scope;
mod shares;
pub mod steps;
mod subscribe;
pub mod subscription;
pub mod tax;
pub mod terms;
pub mod tiered_rate;
pub mod volume;
pub mod waiver;
pub mod year;
