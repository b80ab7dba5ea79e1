//! A usage record as its sender writes it, and as a meter that keeps more than a sum reads it.

use super::exact::Exact;
use super::series::Series;

/// What is measured, as a caller writes it down. `start` is in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub series: Series,
    /// A decimal.
    pub quantity: String,
    pub start: i64,
    /// Not before `start`; there where it is none.
    pub end: i64,
    /// The record that this one corrects; only such a one may be below zero.
    pub corrects: Option<String>,
}

/// A record of a meter that makes more of its records than their sum, with its exact quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub series: Series,
    /// Empty where the sender numbers its records.
    pub id: String,
    pub quantity: Exact,
    /// What it carries beside, an amount of money.
    pub amount: Option<Exact>,
    pub start: i64,
    pub end: i64,
    /// Taken back.
    pub corrects: bool,
}
