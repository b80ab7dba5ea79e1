//! A catalogue as people write it: YAML or JSON, decimals as strings. Only shapes live here; checking and compiling
//! live in `catalogue.rs`. The canonical form, for hashes and storage, is the compact JSON of these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::Stage;
use crate::base::id::{CatalogueName, Currency};
use crate::base::time::CycleId;
use crate::base::wide::Rounding;

/// The word `Catalogue` in the field `kind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CatalogueKind {
    #[default]
    Catalogue,
}

/// One version of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogueDocument {
    pub kind: CatalogueKind,
    pub name: CatalogueName,
    /// ISO 4217; all rates of the catalogue are in it.
    pub currency: Currency,
    /// First cycle of this version, `2024-09`.
    pub effective: CycleId,
    /// Where it was taken from, for people: code and version of each price list. It changes no bill.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub rounding: RoundingDocument,
    /// The order of stages; those left out are off. Default: all, in the order of `pricing::order::DEFAULT_ORDER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<Stage>>,
    pub meters: Vec<MeterDocument>,
    #[serde(default)]
    pub skus: Vec<SkuDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<PriceDocument>,
    /// Free pools: units that are free before the ladders behind them begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<FreePoolDocument>,
}

/// When and how amounts are rounded to what can be paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundingDocument {
    #[serde(default)]
    pub at: RoundingAt,
    #[serde(default)]
    pub mode: Rounding,
    /// Decimals that the payable keeps, -12 to 12; default: those of the currency's minor unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoundingAt {
    /// Lines keep 12 decimals; the payable is rounded once.
    #[default]
    Total,
    /// Every charge and every derived amount is rounded; the payable is their sum.
    Line,
}

/// What is measured. Nothing of a meter may change in a later version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterDocument {
    pub id: String,
    /// Exact.
    pub service: String,
    /// Exact.
    pub usage_type: String,
    /// May hold `*`; default `*`.
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub operation: String,
    /// May hold `*`; default `*`.
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub region: String,
    #[serde(default)]
    pub aggregation: Aggregation,
    /// Decimals that a record's quantity may have, 0 to 12; default 12, of `count` always 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// What a counter sums over; default `month`.
    #[serde(default)]
    pub bucket: Bucket,
    /// Names of the attributes that a series of this meter may have; any other is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

/// What a counter keeps of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The sum of their quantities.
    #[default]
    Sum,
    /// How many there were.
    Count,
}

/// The period of one counter within a cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    #[default]
    Month,
    Day,
    Hour,
}

/// What is priced: a selector over series, a unit and a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkuDocument {
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(rename = "match")]
    pub matches: MatchDocument,
    /// The unit that is priced, after conversion: `GB-Mo`, `Requests`.
    pub unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convert: Option<ConvertDocument>,
    /// Id of a price; or `rate` for a price per unit of this SKU's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

/// Which series a SKU prices: `*` stands for any run of characters, at the start, the end or between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchDocument {
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub service: String,
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub usage_type: String,
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub operation: String,
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub region: String,
    /// Each named attribute must be there and match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// From the meter's unit to the priced unit: the pool's total is divided once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvertDocument {
    /// `1073741824` makes GB of bytes; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divide: Option<String>,
    /// Also divides by the hours of the cycle's month: unit-hours become unit-months.
    #[serde(default)]
    pub by_hours_of_cycle: bool,
}

/// A price, for one SKU or for several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceDocument {
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub model: Model,
    /// Of `per_unit`: each unit; of `package`: each started package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Of `graduated` and `volume`, lowest first; the last has no `up_to`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierDocument>,
    /// Of `package`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageDocument>,
    /// Units of the pool that are free before the ladder begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_units: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub bound: Bound,
    /// Rounds the pool's total before free units and ladder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_units: Option<RoundUnitsDocument>,
    /// Which counters climb the ladder together; default: per payer and SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolDocument>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub attribution: Attribution,
}

/// How a quantity becomes an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Every unit at one rate.
    PerUnit,
    /// Each slice of the quantity at its own tier's rate.
    Graduated,
    /// All units at the rate of the tier that the quantity reaches.
    Volume,
    /// Per started package of units.
    Package,
}

/// One step of a ladder: from the tier before up to `up_to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierDocument {
    /// Where the tier ends, in priced units; absent only on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<String>,
    /// Per unit; default 0, for tiers with only a flat part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Due once, in full, when the tier is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageDocument {
    /// Units in a package.
    pub size: String,
    /// `up` (default): a started package counts; `down`: only full ones do.
    #[serde(default)]
    pub round: PackageRounding,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackageRounding {
    #[default]
    Up,
    Down,
}

/// Which tier holds a quantity that is exactly at a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The tier that ends there: a tier holds (begin, end].
    #[default]
    Upper,
    /// The tier that begins there: a tier holds [begin, end).
    Lower,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundUnitsDocument {
    /// -12 to 12; below zero for tens, hundreds, ...
    pub decimals: i32,
    #[serde(default)]
    pub mode: Rounding,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolDocument {
    /// `account`, `group`, `payer`, `root`, `region`, `service`, `sku`, `attribute:<name>`. If none of the first four
    /// is named, `payer` is implied.
    #[serde(default)]
    pub split_by: Vec<String>,
}

/// How a shared slice is divided among the accounts that used it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// Each account gets its share of every slice.
    #[default]
    Prorata,
    /// Lots fill the tiers in order of time, then account; needs meters that keep hours or days.
    Sequence,
}

/// Free units shared by several SKUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreePoolDocument {
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free units a cycle, in the unit of its SKUs.
    pub units: String,
    /// Ids of SKUs; `*` stands for any run of characters.
    pub skus: Vec<String>,
    /// As a price pool's; default: per payer, all its SKUs together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split_by: Vec<String>,
    /// How the free units go to the ladders behind the pool.
    #[serde(default, skip_serializing_if = "is_default")]
    pub share: Attribution,
}

fn any() -> String {
    "*".to_owned()
}

fn is_any(value: &str) -> bool {
    value == "*"
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
