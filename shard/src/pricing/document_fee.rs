//! Fees of a catalogue as people write them. What of a fee is due lives in `fee.rs`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An amount that is due without any usage, from whom a contract subscribes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeeDocument {
    /// No SKU has the same: a bill shows the fee under it as it shows a SKU.
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For scopes of clauses and for subtotals; default `fees`.
    #[serde(default = "fees", skip_serializing_if = "is_fees")]
    pub service: String,
    /// What one is, where a subscription takes several: `seat`. Default `fee`.
    #[serde(default = "one_fee", skip_serializing_if = "is_one_fee")]
    pub unit: String,
    /// For one, for one whole period.
    pub amount: String,
    pub period: FeePeriod,
    #[serde(rename = "in", default, skip_serializing_if = "is_default")]
    pub due: FeeDue,
    #[serde(default, skip_serializing_if = "is_default")]
    pub prorate: Prorate,
    /// Of `prorate: days`: the days that a broken period is divided by, 1 to 366; default: as many as it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// What a fee's amount is for: a part of the UTC calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeePeriod {
    /// Due once, in the cycle that holds the subscription's first day; never prorated.
    Once,
    /// From Monday to Sunday.
    Week,
    Month,
    /// From January, April, July and October.
    Quarter,
    Year,
}

/// In which cycle a period's fee is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeeDue {
    /// In the cycle in which the period, or the subscription within it, ends.
    #[default]
    Arrears,
    /// In the cycle in which the period, or the subscription within it, begins, up to the period's end. Where the
    /// subscription ends earlier, the cycle of its end takes the unused part back by a line below zero.
    Advance,
}

/// What of a fee, a minimum or a maximum is due for a period that a subscription does not fill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prorate {
    /// All of it, and nothing comes back.
    None,
    /// Days with the subscription over days of the period; the first day counts, the end day does not.
    #[default]
    Days,
    /// The same by exact time.
    Time,
}

fn fees() -> String {
    "fees".to_owned()
}

fn is_fees(value: &str) -> bool {
    value == "fees"
}

/// What limits are prorated by, where nothing is said.
pub(crate) fn whole() -> Prorate {
    Prorate::None
}

pub(crate) fn is_whole(value: &Prorate) -> bool {
    *value == Prorate::None
}

fn one_fee() -> String {
    "fee".to_owned()
}

fn is_one_fee(value: &str) -> bool {
    value == "fee"
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
