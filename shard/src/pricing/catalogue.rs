//! A catalogue compiled for use: which meter a record belongs to, which SKU a series, what a SKU costs. Immutable; one
//! value is shared by all shards of a node. How a document becomes one lives in `compile.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ethnum::I256;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::document::{
    Aggregation, Attribution, Bucket, CatalogueDocument, CountedOf, LevelDocument, PoolPeriod, RoundingAt, Spread,
};
use super::document_fee::{FeeDue, FeePeriod, Prorate};
use super::hours::WeekHours;
use super::ladders;
use super::limits::{COUNTER_MAX, CYCLE_HOURS_MIN, LOT_COST_MAX, LOT_UNITS_MAX};
use super::order::Stage;
use super::pool::{FreePool, SplitBy};
use super::rate::Ladder;
use super::selector::Pattern;
use crate::base::id::{AccountId, CatalogueName, Currency, MeterId, PriceId, SkuId};
use crate::base::money::{Money, Quantity, Rate, SCALE};
use crate::base::problem::{Place, Problem, Problems};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, HOUR, Timestamp};
use crate::base::wide::{Rounding, divide, power_of_ten};
use crate::usage::series::SeriesKey;

/// Index of a meter in one version of a catalogue. Another version may number its meters differently: what outlives a
/// version names the meter by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeterIndex(pub u32);

/// Index of a SKU in one version of a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkuIndex(pub u32);

/// Index of a price in one version of a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceIndex(pub u32);

/// Index of a free pool in one version of a catalogue; pools are consumed in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolIndex(pub u32);

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    pub id: MeterId,
    pub service: Arc<str>,
    pub usage_type: Arc<str>,
    pub operation: Pattern,
    pub region: Pattern,
    pub aggregation: Aggregation,
    /// Decimals of its counters, 0 to 12.
    pub scale: u32,
    pub bucket: Bucket,
    /// Of a level alone.
    pub level: LevelDocument,
    /// The records' amounts are counted in place of their quantities.
    pub of_amount: bool,
    /// Each record's amount is kept.
    pub keeps_records: bool,
    /// A record that lasts some time counts in parts.
    pub spreads: bool,
    /// Names of the attributes that a series may have, sorted.
    pub attributes: Vec<Arc<str>>,
    /// Largest magnitude of a counter, as an integer at `scale`. Derived from the rates that can charge this meter so
    /// that no fold can overflow; usage that would pass it is refused.
    pub ceiling: i128,
    /// Whether it chooses the tier of some price.
    pub chooses_tiers: bool,
    /// Whether a SKU of it holds only at some hours of the week.
    pub names_hours: bool,
    /// The SKUs that can match a series of this meter, by file order.
    pub(super) skus: Vec<SkuIndex>,
    /// Those of one literal region, so that a price list with a SKU a region is not searched from end to end.
    pub(super) skus_by_region: Lookup<Vec<SkuIndex>>,
    /// The others.
    pub(super) skus_of_any_region: Vec<SkuIndex>,
}

impl Meter {
    /// The largest counter that neither costs nor measures more than a lot may, at `rate` a unit after `convert`.
    pub fn ceiling_at(&self, convert: &Convert, rate: Rate) -> i128 {
        let hours = if convert.by_hours_of_cycle { CYCLE_HOURS_MIN } else { 1 };
        let by_units = ladders::ceiling(self.scale, convert.divide, hours, Rate::ONE, LOT_UNITS_MAX, COUNTER_MAX);
        ladders::ceiling(self.scale, convert.divide, hours, rate, LOT_COST_MAX, by_units)
    }
}

/// Some meters keep of a record what cannot be taken back.
pub fn check_correction(
    aggregation: Aggregation,
    keeps_records: bool,
    meter: &str,
    corrects: bool,
) -> Result<(), Refusal> {
    let keeps = match aggregation {
        Aggregation::Sum if keeps_records => "each record",
        Aggregation::Sum | Aggregation::Count | Aggregation::Unique | Aggregation::Percentile95 => return Ok(()),
        Aggregation::Maximum => "the highest quantity",
        Aggregation::Latest => "the latest quantity",
        Aggregation::Level => "a level",
    };
    if corrects {
        let detail = format!("meter {meter} keeps {keeps}, from which no record can be taken back; leave corrects out");
        return Err(Refusal::new(Reason::InvalidValue, detail));
    }
    Ok(())
}

/// What of a record counts: its quantity, or the amount that it must carry where its meter counts amounts, and must not
/// where it does not.
pub fn counted_of<T>(of_amount: bool, meter: &str, quantity: T, amount: Option<T>) -> Result<T, Refusal> {
    let invalid = |detail| Err(Refusal::new(Reason::InvalidValue, detail));
    match (of_amount, amount) {
        (true, Some(amount)) => Ok(amount),
        (true, None) => invalid(format!("meter {meter} counts the amounts of its records, this one has none; give it")),
        (false, None) => Ok(quantity),
        (false, Some(_)) => {
            invalid(format!("the record carries an amount, which meter {meter} does not count; leave it out"))
        }
    }
}

/// Why a record has no meter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    #[error(
        "no meter of the catalogue measures this service, usage type, operation and region; declare one or correct the record"
    )]
    UnknownMeter,
    #[error("attribute '{0}' is not among the attributes that the meter keeps; drop it or declare a new meter")]
    UnknownAttribute(String),
}

/// A fee of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    /// Under which it stands on bills.
    pub sku: SkuIndex,
    pub meter: MeterIndex,
    /// For one, for one whole period.
    pub amount: Money,
    pub period: FeePeriod,
    pub due: FeeDue,
    pub prorate: Prorate,
    /// What a broken period's days are divided by, where that is stated.
    pub days: Option<u32>,
}

/// What is priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sku {
    pub id: SkuId,
    pub name: Option<Arc<str>>,
    pub matches: SeriesPattern,
    /// The priced unit.
    pub unit: Arc<str>,
    pub convert: Convert,
    pub price: PriceIndex,
    /// Free pools that this SKU draws from, in the order of consumption.
    pub pools: Vec<PoolIndex>,
}

/// Which series something applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesPattern {
    pub service: Pattern,
    pub usage_type: Pattern,
    pub operation: Pattern,
    pub region: Pattern,
    /// Each named attribute must be there and match.
    pub attributes: BTreeMap<Arc<str>, Pattern>,
    /// When in the week; `None` for always.
    pub hours: Option<WeekHours>,
}

impl SeriesPattern {
    /// Whether a series of a meter that is known to match service and usage type belongs here.
    fn matches_rest<N: AsRef<str>, V: AsRef<str>>(&self, operation: &str, region: &str, attributes: &[(N, V)]) -> bool {
        self.operation.matches(operation)
            && self.region.matches(region)
            && self.attributes.iter().all(|(name, pattern)| {
                attributes.iter().any(|(own, value)| own.as_ref() == &**name && pattern.matches(value.as_ref()))
            })
    }
}

/// From a meter's unit to the priced unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Convert {
    pub divide: Quantity,
    pub by_hours_of_cycle: bool,
}

/// How a pool's quantity is charged and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub id: PriceId,
    pub name: Option<Arc<str>>,
    pub ladder: Ladder,
    /// Units of each pool that are free before the ladder begins.
    pub free_units: Quantity,
    /// Decimals and mode to which the pool's total is rounded first.
    pub round_units: Option<(i32, Rounding)>,
    pub split_by: SplitBy,
    /// How long a pool lasts.
    pub period: PoolPeriod,
    pub attribution: Attribution,
    /// Added for each record of a pool.
    pub per_record: Money,
    /// The least that a pool with usage or a subscription is charged; zero for none.
    pub minimum: Money,
    /// The most that a pool is charged.
    pub maximum: Option<Money>,
    /// What of minimum and maximum holds where a pool is subscribed to for a part of its period.
    pub prorate_limits: Prorate,
    /// Whether a pool of nothing pays the first tier's flat part.
    pub flat_when_zero: bool,
    /// The ladders that follow each other, oldest first, with the first instant of each.
    pub changes: Vec<(Timestamp, Ladder)>,
    /// Whether a level climbs the ladder at every instant.
    pub prorates: bool,
    /// What chooses the tier in place of the pool's quantity; empty for that.
    pub reached_by: Vec<ReachedBy>,
    /// Where each record is charged by itself.
    pub records: Option<RecordRule>,
}

/// What holds for each record of a percentage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordRule {
    /// Records that are free.
    pub free: Option<u64>,
    /// What of their quantities is free.
    pub free_amount: Option<Quantity>,
    pub minimum: Money,
    pub maximum: Option<Money>,
}

impl Price {
    /// A price per unit with nothing else about it.
    pub fn per_unit(id: PriceId, rate: Rate) -> Price {
        Price {
            id,
            name: None,
            ladder: Ladder::per_unit(rate),
            free_units: Quantity::ZERO,
            round_units: None,
            split_by: SplitBy::payer_and_sku(),
            period: PoolPeriod::Cycle,
            attribution: Attribution::Prorata,
            per_record: Money::ZERO,
            minimum: Money::ZERO,
            maximum: None,
            prorate_limits: Prorate::None,
            flat_when_zero: false,
            prorates: false,
            changes: Vec::new(),
            reached_by: Vec::new(),
            records: None,
        }
    }

    /// The ladders that hold in a cycle, with the hour of the cycle from which on each does; the first from its beginning.
    pub fn ladders(&self, cycle: CycleId) -> Vec<(u32, &Ladder)> {
        let (start, end) = (cycle.start(), cycle.end());
        let mut ladders = vec![(0, &self.ladder)];
        for (from, ladder) in self.changes.iter().take_while(|(from, _)| *from < end) {
            // At most 744 hours.
            let hour = (from.0.saturating_sub(start.0).max(0) / HOUR) as u32;
            if hour == 0 {
                ladders.clear();
            }
            ladders.push((hour, ladder));
        }
        ladders
    }

    /// Whether a series of quantity zero can cost something.
    pub fn charges_zero(&self) -> bool {
        self.flat_when_zero || !self.per_record.is_zero() || self.records.is_some()
    }
}

/// A meter that chooses a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachedBy {
    pub meter: MeterIndex,
    /// Where each tier but the last ends, in the meter's unit, lowest first.
    pub bounds: Vec<Quantity>,
}

/// When and to what amounts are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundingRule {
    pub at: RoundingAt,
    pub mode: Rounding,
    /// Decimals of the payable.
    pub decimals: i32,
}

impl RoundingRule {
    /// `amount` at the rule's decimals; `None` on overflow.
    pub fn round(&self, amount: Money) -> Option<Money> {
        amount.round(self.decimals, self.mode)
    }

    /// A share of an amount at the rule's decimals: the exact product, rounded once; `None` on overflow.
    pub fn share(&self, amount: Money, share: Rate) -> Option<Money> {
        let product = I256::from(amount.0) * I256::from(share.0);
        let steps = divide(product, I256::from(Rate::ONE.0) * I256::from(self.step()), self.mode);
        i128::try_from(steps).ok()?.checked_mul(self.step()).map(Money)
    }

    /// The smallest payable difference, as an integer at the scale of money.
    pub fn step(&self) -> i128 {
        power_of_ten(SCALE.saturating_add_signed(-self.decimals))
    }
}

/// Names to indexes: looked up, never iterated, so its order cannot reach a result.
pub(super) type Lookup<V> = HashMap<Arc<str>, V, FixedState>;

/// One version of a catalogue.
#[derive(Clone, Debug)]
pub struct Catalogue {
    pub name: CatalogueName,
    pub currency: Currency,
    /// First cycle of this version.
    pub effective: CycleId,
    /// blake3 of the document's canonical form.
    pub hash: [u8; 32],
    pub rounding: RoundingRule,
    pub stages: Vec<Stage>,
    /// Those declared, then one for each fee.
    pub(super) meters: Vec<Meter>,
    /// As the meters.
    pub(super) skus: Vec<Sku>,
    pub(super) prices: Vec<Price>,
    pub(super) pools: Vec<FreePool>,
    pub(super) fees: Vec<Fee>,
    pub(super) fee_ids: BTreeMap<Arc<str>, u32>,
    /// Service, then usage type, to the meters of both.
    pub(super) meter_lookup: Lookup<Lookup<Vec<MeterIndex>>>,
    pub(super) meter_ids: Lookup<MeterIndex>,
    pub(super) sku_ids: Lookup<SkuIndex>,
}

impl Catalogue {
    /// Checks a document and makes it ready for use; all problems are told, warnings included if there is an error.
    pub fn compile(document: &CatalogueDocument) -> Result<Catalogue, Vec<Problem>> {
        let (catalogue, problems) = super::compile::compile(document);
        catalogue.ok_or(problems)
    }

    /// The one meter that measures such a record.
    pub fn meter_of<N: AsRef<str>, V: AsRef<str>>(
        &self,
        service: &str,
        usage_type: &str,
        operation: &str,
        region: &str,
        attributes: &[(N, V)],
    ) -> Result<MeterIndex, MeterError> {
        let index = self
            .meter_lookup
            .get(service)
            .and_then(|of_service| of_service.get(usage_type))
            .into_iter()
            .flatten()
            .copied()
            .find(|index| {
                let meter = self.meter(*index);
                meter.operation.matches(operation) && meter.region.matches(region)
            })
            .ok_or(MeterError::UnknownMeter)?;
        let kept = &self.meter(index).attributes;
        let unknown = attributes.iter().find(|(name, _)| !kept.iter().any(|own| **own == *name.as_ref()));
        match unknown {
            Some((name, _)) => Err(MeterError::UnknownAttribute(name.as_ref().to_owned())),
            None => Ok(index),
        }
    }

    pub fn meter(&self, index: MeterIndex) -> &Meter {
        &self.meters[index.0 as usize]
    }

    pub fn meter_by_id(&self, id: &str) -> Option<MeterIndex> {
        self.meter_ids.get(id).copied()
    }

    /// Those that are declared.
    pub fn meters(&self) -> &[Meter] {
        &self.meters[..self.meters.len() - self.fees.len()]
    }

    /// Those that are declared, then one for each fee.
    pub fn meters_and_fees(&self) -> &[Meter] {
        &self.meters
    }

    /// The one SKU that prices a series of `meter`; `None` is unpriced. Where the meter names hours,
    /// [`Catalogue::skus_by_hours`] has to be asked.
    pub fn sku_of<N: AsRef<str>, V: AsRef<str>>(
        &self,
        meter: MeterIndex,
        operation: &str,
        region: &str,
        attributes: &[(N, V)],
    ) -> Option<SkuIndex> {
        let meter = self.meter(meter);
        // At most one matches, so the order in which they are tried does not matter.
        let of_region = meter.skus_by_region.get(region).into_iter().flatten();
        let mut candidates = of_region.chain(&meter.skus_of_any_region).copied();
        candidates.find(|index| self.sku(*index).matches.matches_rest(operation, region, attributes))
    }

    /// The SKUs that price a series of `meter`, each in hours of the week that no other has.
    pub fn skus_by_hours<N: AsRef<str>, V: AsRef<str>>(
        &self,
        meter: MeterIndex,
        operation: &str,
        region: &str,
        attributes: &[(N, V)],
    ) -> Vec<SkuIndex> {
        let matches = |index: &SkuIndex| self.sku(*index).matches.matches_rest(operation, region, attributes);
        self.meter(meter).skus.iter().copied().filter(matches).collect()
    }

    /// The SKUs that can price a series of `meter`.
    pub fn skus_of(&self, meter: MeterIndex) -> &[SkuIndex] {
        &self.meter(meter).skus
    }

    pub fn sku(&self, index: SkuIndex) -> &Sku {
        &self.skus[index.0 as usize]
    }

    pub fn sku_by_id(&self, id: &str) -> Option<SkuIndex> {
        self.sku_ids.get(id).copied()
    }

    /// Those that are declared.
    pub fn skus(&self) -> &[Sku] {
        &self.skus[..self.skus.len() - self.fees.len()]
    }

    pub fn fee_by_id(&self, id: &str) -> Option<&Fee> {
        self.fee_ids.get(id).map(|index| &self.fees[*index as usize])
    }

    /// A series that a SKU would price, for what is due without one; empty where the SKU does not say.
    pub fn series_of(&self, index: SkuIndex, account: &AccountId) -> Option<(MeterIndex, SeriesKey)> {
        let number = self.meters.iter().position(|meter| meter.skus.contains(&index))?;
        let (meter, matches) = (&self.meters[number], &self.sku(index).matches);
        let exact = |pattern: &Pattern| pattern.exact().map_or(String::new(), |text| text.to_string());
        let attributes = matches.attributes.iter().map(|(name, pattern)| (name.to_string(), exact(pattern)));
        let (service, usage_type) = (meter.service.to_string(), meter.usage_type.to_string());
        let (operation, region) = (exact(&matches.operation), exact(&matches.region));
        let key = SeriesKey::new(account.clone(), service, usage_type, operation, region, attributes.collect());
        Some((MeterIndex(number as u32), key))
    }

    pub fn price(&self, index: PriceIndex) -> &Price {
        &self.prices[index.0 as usize]
    }

    pub fn pool(&self, index: PoolIndex) -> &FreePool {
        &self.pools[index.0 as usize]
    }

    /// What of a later version contradicts this one: a declared meter stays as it is, and so does the currency.
    pub fn check_successor(&self, next: &CatalogueDocument) -> Vec<Problem> {
        let mut problems = Problems::default();
        let top = Place::top();
        if next.currency != self.currency {
            problems.error(
                &top.key("currency"),
                format!("the catalogue is in {}, this version says {}", self.currency, next.currency),
                "a catalogue keeps its currency; give the other currency a catalogue of its own",
            );
        }
        let mut left: BTreeMap<&str, &Meter> = self.meters().iter().map(|meter| (meter.id.as_str(), meter)).collect();
        for (index, after) in next.meters.iter().enumerate() {
            let Some(before) = left.remove(after.id.as_str()) else { continue };
            let place = top.key("meters").index(index);
            let mut attributes = after.attributes.clone();
            attributes.sort();
            let scale = super::compile::meter_scale(after);
            let fields = [
                ("service", before.service.to_string(), after.service.clone()),
                ("usage_type", before.usage_type.to_string(), after.usage_type.clone()),
                ("operation", before.operation.to_string(), after.operation.clone()),
                ("region", before.region.to_string(), after.region.clone()),
                ("aggregation", word(&before.aggregation), word(&after.aggregation)),
                ("scale", before.scale.to_string(), scale.to_string()),
                ("bucket", word(&before.bucket), word(&after.bucket)),
                ("level", words(&before.level), words(&after.level)),
                ("of", before.of_amount.to_string(), (after.of == Some(CountedOf::Amount)).to_string()),
                ("keep_records", before.keeps_records.to_string(), after.keep_records.to_string()),
                ("spread", before.spreads.to_string(), (after.spread == Spread::Time).to_string()),
                ("attributes", before.attributes.join(", "), attributes.join(", ")),
            ];
            for (field, was, is) in fields {
                if was != is {
                    problems.error(
                        &place.key(field),
                        format!("meter {} has {field} '{was}', this version says '{is}'", before.id),
                        "a meter never changes; declare a new meter under another id",
                    );
                }
            }
        }
        for id in left.keys() {
            problems.error(
                &top.key("meters"),
                format!("meter {id} is missing from this version"),
                "keep it: its counters may still be billed; without a sku it is unpriced",
            );
        }
        problems.into_vec()
    }
}

/// A field of fields as documents spell it, on one line.
fn words(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("words serialize").replace('"', "")
}

/// A field's value as documents spell it.
fn word(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).expect("a word serializes");
    text.trim_matches('"').to_owned()
}
