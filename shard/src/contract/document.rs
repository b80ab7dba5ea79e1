//! A contract as people write it: YAML or JSON, decimals as strings. Only shapes live here; checking and compiling live
//! in `terms.rs` and the mechanisms. The canonical form, for hashes and storage, is the compact JSON of these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::id::AccountId;
use crate::base::time::CycleId;
use crate::pricing::document::Bound;
use crate::pricing::order::Stage;
use crate::pricing::selector::PatternTexts;

/// The word `Contract` in the field `kind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContractKind {
    #[default]
    Contract,
}

/// One version of a hierarchy's contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
}

/// One rule. Within a stage clauses apply in file order, each on what the ones before left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub per: TriggerPer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
