//! What usage costs in public: meters, SKUs, prices and pools of a catalogue, and the arithmetic of a price ladder.
//! A hierarchy's own terms live in `contract`; who pays which part of a shared ladder in `billing`.

pub mod active;
pub mod catalogue;
pub mod compile;
mod compile_price;
mod cross;
pub mod document;
pub mod document_fee;
pub mod document_hours;
pub mod fee;
pub mod hours;
pub mod ladders;
pub mod limits;
pub mod order;
mod overlap;
pub mod pool;
pub mod rate;
pub mod selector;
pub mod spread;
pub mod zones;
