//! The slow twin of the product, to compare with: naive lists and rationals of any size, written from BILLING.md and
//! ARCHITECTURE.md alone. It shares no code with the engine and reads documents as plain JSON.

pub mod bill;
pub mod exact;
pub mod ledger;
