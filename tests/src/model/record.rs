//! A usage record as its sender writes it.

use super::series::Series;

/// What is measured, as a caller writes it down. `start` is in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub series: Series,
    /// A decimal.
    pub quantity: String,
    pub start: i64,
    /// The record that this one corrects; only such a one may be below zero.
    pub corrects: Option<String>,
}
