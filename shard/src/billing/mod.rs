//! How a cycle becomes bills.

pub mod cycle;
