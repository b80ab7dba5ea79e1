//! A line of a bill in the making.

use super::exact::Exact;
use super::series::Series;

/// A line of a bill: a tier's or free slice of one series, or what a clause takes off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub payer: String,
    pub series: Series,
    pub sku: String,
    /// The billing group that it is due from, on its payer's account; `None`: from the account itself.
    pub group: Option<String>,
    /// `1` for the first tier, `free` for free units, `pool:<id>` for a free pool, `fee:<id>` for a
    /// subscription's fee, `clause:<id>` for a contract's clause.
    pub origin: String,
    /// Of a clause that changes one slice: that slice's place among all lines.
    pub of: Option<usize>,
    /// Of a price's slice: the ladder that it is of, each pool and window its own.
    pub ladder: Option<usize>,
    /// Zero on what a clause makes.
    pub quantity: Exact,
    pub amount: Exact,
}
