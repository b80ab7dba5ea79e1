//! A catalogue as people write it: YAML or JSON, decimals as strings. Only shapes live here; checking and compiling
//! live in `catalogue.rs`. The canonical form, for hashes and storage, is the compact JSON of these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document_fee::{FeeDocument, Prorate, is_whole, whole};
use super::document_hours::{HoursDocument, ZoneDocument};
use super::order::Stage;
use crate::base::id::{CatalogueName, Currency};
use crate::base::time::{CycleId, Timestamp};
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
    /// Time zones that named hours are of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneDocument>,
    #[serde(default)]
    pub skus: Vec<SkuDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<PriceDocument>,
    /// Free pools: units that are free before the ladders behind them begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<FreePoolDocument>,
    /// Recurring and one-time fees; due from whom a contract subscribes to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fees: Vec<FeeDocument>,
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
    /// What of a record counts: needed by `unique`, for which it says what is counted once; of `sum` the default is
    /// `quantity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<CountedOf>,
    /// Of a `sum` of months: keeps each record's amount, for prices that look at records one by one. No record of such a
    /// meter may correct another, a series has at most 4,096 of one instant, and a pool with more than 1,000,000 has no
    /// charge.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_records: bool,
    /// Of `level` alone: how its records are read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub level: LevelDocument,
    /// Of `sum` alone: where a record that has an `end` counts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spread: Spread,
}

/// Where the quantity of a record counts that lasts some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// All of it at its start.
    #[default]
    None,
    /// In proportion to its time: it is cut where the meter's hours or days end, where cycles end, and where its account
    /// moves from one hierarchy to another; shares are rounded towards zero at the meter's scale, the last part has the
    /// rest. Each part that is not zero counts as a record of its own time, late where its cycle is closed; one that cannot
    /// count refuses the whole record. A record lasts at most 31 days.
    Time,
}

/// What a counter makes of its records. A series is priced by what comes of all its buckets in the cycle, a pool by
/// what comes of all its series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The sum of their quantities.
    #[default]
    Sum,
    /// How many there were.
    Count,
    /// The highest quantity of a bucket; of a cycle its highest bucket. A pool's is the highest bucket of its series'
    /// sum. No record of such a meter may correct another.
    Maximum,
    /// The quantity of the record that ends last, of two that end together the one with the greater id: the id that the
    /// producer gave, or `producer/number` where it numbers its records. A pool's is the sum of its series'. No record of
    /// such a meter may correct another.
    Latest,
    /// How many different values there were, exactly; `of` says of what. A pool's is that of the union of its series.
    Unique,
    /// The level over time: its integral over the whole cycle divided by the cycle's length. A pool's is the sum of its
    /// series'. A series whose level is below zero at any time has no charge. No record of such a meter may correct another.
    Level,
    /// The 95th percentile of the buckets, which are hours or five minutes: over all of the cycle, those without a record
    /// being zero, the highest floor(5%) are dropped, and the highest left counts. A pool's buckets are the sums of its
    /// series'.
    #[serde(rename = "percentile_95")]
    Percentile95,
}

/// What of a record a meter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountedOf {
    /// Its quantity; of `unique` a number that names something: a user, a device. A correction takes one record of its
    /// value back; a value counts while more records brought it than took it back.
    Quantity,
    /// The amount of money that it carries, which it then must; of `sum` alone. Its quantity is not looked at.
    Amount,
}

/// How the records of a `level` meter are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LevelDocument {
    #[serde(default)]
    pub records: LevelRecords,
    #[serde(default)]
    pub weigh: LevelWeigh,
    /// Whether the level at a cycle's end is that of the next one's beginning; else each cycle begins at zero.
    #[serde(default)]
    pub carry: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelRecords {
    /// The quantity is the level from the record's `start` on; of two at one instant the one with the greater id counts.
    #[default]
    Level,
    /// The quantity is added to the level at the record's `start`; it may be negative. All changes of one instant are one.
    Change,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelWeigh {
    /// By exact time.
    #[default]
    Time,
    /// By UTC day: a day counts with the level at its end.
    Day,
}

/// The period of one counter within a cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    #[default]
    Month,
    Day,
    Hour,
    /// Of `percentile_95` alone.
    FiveMinutes,
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
    /// When in the week; default: always. The meters keep hours. A series is then divided by its hours over the SKUs that
    /// match it, each of which prices what was used in its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<HoursDocument>,
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
    /// Of `per_unit`: each unit; of `package`: each package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Of `graduated`, `volume` and `stairstep`, lowest first; the last has no `up_to`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierDocument>,
    /// Of `percentage`: the share of the quantity, 0 to 10,000 percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<String>,
    /// Of `dynamic`: what the quantity is multiplied by; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<String>,
    /// Of `percentage`: what holds for each record. Its meters keep their records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordsDocument>,
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
    /// Added for each record that the pool's counters took in, whatever its quantity, corrections too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_record: Option<String>,
    /// The least that a pool with usage, or with a subscription, is charged by ladder and `per_record` together; what is
    /// missing is a line of its own, divided by quantity (that beyond the free units, where there is any).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<String>,
    /// The most that a pool is charged by ladder and `per_record` together, not below `minimum`; what is beyond is taken
    /// off by a line of its own, divided by amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<String>,
    /// What of `minimum` and `maximum` holds for a pool whose SKU a contract subscribes to for a part of the cycle: the days,
    /// or the time, that any of the pool's subscriptions fills over those of the cycle; a pool that nobody subscribes to
    /// has them in full.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub prorate_limits: Prorate,
    /// Whether the flat part of the first tier is due where nothing climbs the ladder: all that a pool has is free, or it
    /// has a record or a subscription and a quantity of zero. In the latter case it belongs to the subscriber, else to the
    /// payer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flat_when_zero: bool,
    /// What changes on a day, oldest first. Pools go on across a change: under `graduated` and `package` what was used from
    /// the day on pays the new ladder at its end less the new ladder at its beginning, so that nothing that has begun is
    /// due twice; under `volume` and `stairstep` the whole cycle's quantity chooses the tier of each ladder, and what was
    /// used in its time pays its share of what the whole would cost there. Free units are used up in order of time. The
    /// meters keep days or hours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeDocument>,
    /// Of `graduated`, on meters of levels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prorate: PriceProrate,
    /// Of `volume` and `stairstep`: what chooses the tier in place of the pool's own quantity, the highest that any of
    /// these reaches. The tiers then have no `up_to`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reached_by: Vec<ReachedByDocument>,
}

/// How a ladder is climbed by a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceProrate {
    /// By what the meter makes of the cycle.
    #[default]
    None,
    /// By the pool's level at every instant: what is added goes up, what is taken away comes off the top, and each unit pays
    /// its tier's rate for the share of the cycle in which it was there. The flat part of each tier that the pool's highest
    /// level reaches is due in full; a level that lasted no time is none. Changes of one instant are one, as the meter has
    /// it. Tiers have no blocks and caps; there are no free units, the first tier may be free.
    Ladder,
}

/// The new rate or tiers of a price from a day on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeDocument {
    /// The first day, UTC: `2026-09-16`.
    pub from: Timestamp,
    /// Of a model without tiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Of a model with tiers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierDocument>,
}

/// What a percentage does with records one by one: a pool's in order of time, then id (that of the producer, or
/// `producer/number`), then account. A wholly free record costs nothing, and one that is free in part pays the percentage
/// on the rest and `per_record` in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordsDocument {
    /// Records that are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// What of the records' quantities is free. Where both are given, nothing is free after the first of them is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_amount: Option<String>,
    /// The least that a record which is not wholly free costs, `per_record` included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<String>,
    /// The most that a record costs, `per_record` included; not below `minimum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<String>,
}

/// A meter that chooses a price's tier by what the pool's owner (account, group, payer or root, as the pool is split)
/// used of it in the cycle, in the meter's own unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReachedByDocument {
    /// Id of a meter.
    pub meter: String,
    /// Where each tier but the last ends, lowest first.
    pub up_to: Vec<String>,
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
    /// The flat part of the tier that the quantity reaches, and nothing for its units.
    Stairstep,
    /// Per started package of units.
    Package,
    /// A share of the quantity, which is an amount of money.
    Percentage,
    /// Each slice of the quantity, which is an amount of money, at its own tier's share.
    GraduatedPercentage,
    /// The quantity itself, which is an amount of money, times a multiplier.
    Dynamic,
}

/// One step of a ladder: from the tier before up to `up_to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierDocument {
    /// Where the tier ends, in priced units; absent only on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<String>,
    /// Per unit, or per started block; default 0, for tiers with only a flat part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Of `graduated_percentage`, in place of the rate: the share of the tier's slice, 0 to 10,000 percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<String>,
    /// Due once, in full, when the tier is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<String>,
    /// Units of a block: `rate` is then per started block of the tier's slice, of the whole quantity under `volume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// The most that the tier's slice costs, flat part included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<String>,
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
    /// How long a pool lasts: ladder, free units, minimum and maximum begin anew with each.
    #[serde(default, skip_serializing_if = "is_default")]
    pub period: PoolPeriod,
}

/// How long a pool of a price lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolPeriod {
    /// The whole cycle.
    #[default]
    Cycle,
    /// Each UTC day; the meters keep days or hours.
    Day,
    /// Each hour; the meters keep hours.
    Hour,
    /// Twelve cycles, by the contract's `starts`; without a contract from the hierarchy's first cycle on. Of sums and
    /// counts, split by payer or root; what earlier cycles of the year used stands in balances of the hierarchy.
    ContractYear,
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
