//! The parts that clauses share as people write them: which lines, whose lines count together, thresholds and bands.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pricing::document::Bound;
use crate::pricing::selector::PatternTexts;

/// Which lines: every field that is given must match; a field with several patterns matches where one of them does;
/// `*` stands for any run of characters. No field at all matches every line. What a clause itself charges (a fee, a
/// true-up, a tax) has the clause's id as `sku` and `usage_type`, the clause's `service`, and no operation, region or
/// attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeDocument {
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub sku: PatternTexts,
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub service: PatternTexts,
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub usage_type: PatternTexts,
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub operation: PatternTexts,
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub region: PatternTexts,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, PatternTexts>,
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub account: PatternTexts,
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub group: PatternTexts,
    #[serde(default, skip_serializing_if = "PatternTexts::is_empty")]
    pub payer: PatternTexts,
}

/// Whose lines count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each payer's own.
    #[default]
    Payer,
    /// All payers of the hierarchy together.
    Root,
}

/// What a percentage is taken of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PercentBase {
    /// What is left when the clause's turn comes: 10 and 20 percent take off 28.
    #[default]
    Left,
    /// What was left when the stage began: 10 and 20 percent take off 30, all together at most everything.
    Stage,
}

/// A threshold in another service, or in any scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerDocument {
    pub scope: ScopeDocument,
    /// Net amount of the scope's lines when the clause's turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend: Option<String>,
    /// Quantity of the scope's lines, in their one unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// `lower` (default): reached at the threshold; `upper`: only above it.
    #[serde(default = "lower")]
    pub bound: Bound,
    /// Whose usage counts; default: each payer's own.
    #[serde(default)]
    pub per: Per,
}

/// How a ladder of a contract is climbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Climb {
    /// Each tier or band counts for what lies in it.
    Graduated,
    /// The one that the whole reaches counts for all of it.
    Volume,
}

/// How long a ladder of a contract is climbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LadderPeriod {
    /// It begins anew with each cycle.
    #[default]
    Cycle,
    /// It goes on over the twelve cycles of a contract year, at most 20 of them: each bill begins where the bills of the
    /// year's earlier cycles ended, which a balance counts. Under `model: volume` the year so far and this cycle choose
    /// the step for this cycle; what was billed before stays.
    ContractYear,
}

/// A tier of private rates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateTierDocument {
    /// Where the tier ends, in priced units of the clause's pool; on all but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<String>,
    /// Per priced unit, 0 to 10^9.
    pub rate: String,
}

/// A band of percentages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BandDocument {
    /// Where the band ends: an amount, or a quantity where quantity is measured; on all but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<String>,
    /// 0 to 100.
    pub percent: String,
}

pub(super) fn lower() -> Bound {
    Bound::Lower
}
