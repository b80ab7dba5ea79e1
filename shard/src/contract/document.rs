//! A contract as people write it: YAML or JSON, decimals as strings. Only shapes live here and in the files of clauses
//! and scopes; checking and compiling live in `compile.rs` and its kin. The canonical form, for hashes and storage,
//! is the compact JSON of these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document_clause::{
    CommitmentDocument, CreditDocument, CurrencyDocument, CustomLineDocument, FeeDocument, FixedDiscountDocument,
    MaximumDocument, MinimumDocument, PercentDocument, PercentFeeDocument, PrepaymentDocument, PrivateRateDocument,
    TaxDocument, VolumeDocument, WaiverDocument,
};
use super::document_scope::ScopeDocument;
use crate::base::id::{AccountId, GroupName};
use crate::base::time::{CycleId, Timestamp};
use crate::pricing::order::Stage;

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
    /// First cycle of the contract's years, for prices whose pools last one; default: `effective`. State it where a later
    /// version of the contract goes on with the years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<CycleId>,
    /// The order of stages; wins over the catalogue's. Those left out are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<Stage>>,
    /// What decides which credit of a stage is used first, then second, ...; file order decides last. Default: all, in the
    /// order of [`CreditKey`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_order: Option<Vec<CreditKey>>,
    #[serde(default)]
    pub clauses: Vec<ClauseDocument>,
    /// Who takes which fees and prices, whether they use anything or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<SubscriptionDocument>,
    /// Billing groups that have pro forma bills beside the real ones, each priced by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pro_forma: Vec<ProFormaDocument>,
}

/// A billing group as if its accounts were a family of their own: ladders, free units and free pools count only what they
/// used, at public prices changed by the group's rules. Nothing of the real bills' clauses, subscriptions, credits and taxes
/// applies, and nothing of it counts in them. Who is in the group when a cycle ends was in it for the whole cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProFormaDocument {
    /// A billing group of the hierarchy.
    pub group: GroupName,
    /// Stands as payer on the group's bill and bears its lines.
    pub account: AccountId,
    /// Of those that match a line the most granular applies: one that names a sku, before usage types, operations, regions
    /// or attributes (more of them first), a service, accounts, nothing. Two equally granular ones must not overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ProFormaRuleDocument>,
    /// Fees and credits of the group, after the rules, as clauses `custom_line` without the mechanism; a percentage is of what
    /// the rules left of usage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<CustomLineDocument>,
}

/// A percentage on the public charge of each account's SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProFormaRuleDocument {
    /// Each rule and line its own within the group.
    pub id: String,
    /// What the bill's reader sees; default: the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Default: everything.
    #[serde(default, skip_serializing_if = "is_everything")]
    pub scope: ScopeDocument,
    /// Added: 0 to 1,000 percent,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub markup: Option<String>,
    /// or taken off: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<String>,
}

fn is_everything(scope: &ScopeDocument) -> bool {
    *scope == ScopeDocument::default()
}

/// Someone takes a fee of the catalogue, or one of its prices, for a time. A change is an end and another subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Of a fee that is due once or in advance: a bill of its own on the day it is due, not a line of the cycle's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
}

/// What credits are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreditKey {
    /// Lower `priority` first.
    Priority,
    /// Sooner `until` first; those without one last.
    Expiry,
    /// Fewer patterns under the scope's `service` first; those without any last.
    Services,
    /// Earlier `effective` first.
    Age,
}

/// One rule. Within a stage percentages come before fixed amounts, whatever the file's order; else clauses apply in file
/// order, each on what the ones before left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "mechanism", rename_all = "snake_case")]
pub enum ClauseDocument {
    PrivateRate(PrivateRateDocument),
    Percent(PercentDocument),
    Waiver(WaiverDocument),
    Volume(VolumeDocument),
    FixedDiscount(FixedDiscountDocument),
    Credit(CreditDocument),
    Commitment(CommitmentDocument),
    Prepayment(PrepaymentDocument),
    PercentFee(PercentFeeDocument),
    Fee(FeeDocument),
    CustomLine(CustomLineDocument),
    Minimum(MinimumDocument),
    Maximum(MaximumDocument),
    Tax(TaxDocument),
    Currency(CurrencyDocument),
}

/// What all clauses have.
#[derive(Clone, Copy, Debug)]
pub struct Heading<'a> {
    pub id: &'a str,
    pub text: Option<&'a str>,
    pub effective: Option<CycleId>,
    pub until: Option<CycleId>,
}

impl ClauseDocument {
    pub fn id(&self) -> &str {
        self.heading().id
    }

    pub fn heading(&self) -> Heading<'_> {
        macro_rules! heading {
            ($($mechanism:ident)*) => {
                match self {
                    $(ClauseDocument::$mechanism(clause) => Heading {
                        id: &clause.id,
                        text: clause.text.as_deref(),
                        effective: clause.effective,
                        until: clause.until,
                    },)*
                }
            };
        }
        heading!(PrivateRate Percent Waiver Volume FixedDiscount Credit Commitment Prepayment PercentFee Fee CustomLine
            Minimum Maximum Tax Currency)
    }
}

impl ContractDocument {
    /// The bytes that are stored and hashed.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of strings serializes")
    }
}
