//! What a contract's clauses do to bills, a mechanism a file.

pub mod bands;
pub mod commitment;
pub mod credit;
pub mod fees;
pub mod fixed_discount;
pub mod limits;
pub mod percent;
pub mod prepayment;
pub mod private_rate;
pub mod tax;
pub mod tiered_rate;
pub mod volume;
pub mod waiver;
pub mod year;
