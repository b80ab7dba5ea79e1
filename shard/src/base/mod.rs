//! What everything else is made of: ids, exact numbers, time, refusals. Nothing here knows of billing.

pub mod hash;
pub mod id;
pub mod money;
pub mod problem;
pub mod refusal;
pub mod time;
pub mod wide;
