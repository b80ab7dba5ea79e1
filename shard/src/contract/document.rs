//! A contract as people write it: YAML or JSON, decimals as strings. Only shapes live here; checking and compiling live
//! in `terms.rs` and the mechanisms. The canonical form, for hashes and storage, is the compact JSON of these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::{AccountId, GroupName};
use crate::base::time::{CycleId, Timestamp};
use crate::pricing::document::Bound;
use crate::pricing::order::Stage;
use crate::pricing::selector::PatternTexts;

/// The word `Contract` in the field `kind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContractKind {
    #[default]
    Contract,
}

/// One version of a hierarchy's contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractDocument {
    pub kind: ContractKind,
    /// Root of the hierarchy whose terms these are.
    pub root: AccountId,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First cycle of this version, `2024-09`.
    pub effective: CycleId,
    /// First cycle that it no longer governs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<CycleId>,
    /// The order of stages; wins over the catalogue's. Those left out are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<Stage>>,
    #[serde(default)]
    pub clauses: Vec<ClauseDocument>,
    /// Who takes which fees and prices, whether they use anything or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<SubscriptionDocument>,
}

/// Someone takes a fee of the catalogue, or one of its prices, for a time. A change is an end and another subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionDocument {
    /// Each its own within the contract.
    pub id: String,
    /// Who: an account of the hierarchy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// or a payer, whose own account it then is,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<AccountId>,
    /// or a billing group of that payer; its charges are on the payer's own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// What: a fee,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<String>,
    /// or a SKU, whose price's minimum, and flat part where it says `flat_when_zero`, are then due without usage too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// How many of a fee, zero to 10^9; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// The first day, or the first instant where the fee is prorated by time: `2026-09-18`.
    pub from: Timestamp,
    /// The day or instant that no longer counts; default: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// One rule. Within a stage clauses apply in file order, each on what the ones before left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClauseDocument {
    /// A rate of the customer's own in place of the public ladder's amounts.
    PrivateRate {
        id: String,
        /// What the bill's reader sees; default: the id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// First cycle of the clause; default: the contract's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effective: Option<CycleId>,
        /// First cycle without the clause; default: the contract's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<CycleId>,
        scope: ScopeDocument,
        /// Per priced unit.
        rate: String,
        /// Also where it is dearer than the public slice; default no.
        #[serde(default)]
        may_raise: bool,
    },
    /// A share off what earlier stages left.
    Percent {
        id: String,
        /// What the bill's reader sees; default: the id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// First cycle of the clause; default: the contract's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effective: Option<CycleId>,
        /// First cycle without the clause; default: the contract's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<CycleId>,
        kind: PercentKind,
        #[serde(default)]
        scope: ScopeDocument,
        /// 0 to 100: `"12"` takes 12 percent off.
        percent: String,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// What must be used before the percentage counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trigger: Option<Box<TriggerDocument>>,
    },
}

/// Which of the percent stages a clause belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PercentKind {
    /// Lines chosen by sku, usage type, operation, region or attributes.
    Attribute,
    /// A service's lines.
    Service,
    /// Lines of several services.
    CrossService,
}

/// Which lines: every field that is given must match; a field with several patterns matches where one of them does;
/// `*` stands for any run of characters. No field at all matches every line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A threshold in another service, or in any scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub per: TriggerPer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerPer {
    #[default]
    Payer,
    /// All payers of the hierarchy together.
    Root,
}

fn lower() -> Bound {
    Bound::Lower
}

impl ClauseDocument {
    pub fn id(&self) -> &str {
        match self {
            ClauseDocument::PrivateRate { id, .. } | ClauseDocument::Percent { id, .. } => id,
        }
    }
}

impl ContractDocument {
    /// The bytes that are stored and hashed.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of strings serializes")
    }
}
