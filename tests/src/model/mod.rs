//! The slow twin of the product, to compare with: naive lists and rationals of any size, written from BILLING.md and
//! ARCHITECTURE.md alone. It shares no code with the engine and reads documents as plain JSON.

pub mod bill;
pub mod calendar;
pub mod charge;
pub mod clauses;
pub mod contract;
pub mod currency;
pub mod draft;
pub mod exact;
pub mod homes;
pub mod hours;
pub mod ids;
pub mod ladder;
pub mod ledger;
pub mod line;
pub mod measure;
pub mod pool;
pub mod pool_year;
pub mod pro_forma;
pub mod prorate;
pub mod purchase;
pub mod record;
pub mod rounding;
pub mod series;
pub mod spread;
pub mod subscriptions;
pub mod usage;
