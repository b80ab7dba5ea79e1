//! From a catalogue document to a catalogue: every reference resolved. Collects all problems before it gives up. Ladders
//! are read in `ladders.rs`, prices in `compile_price.rs`; overlaps are found in `overlap.rs`, contradictions and ceilings in `cross.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogue::{
    Catalogue, Convert, Lookup, Meter, MeterIndex, PoolIndex, Price, PriceIndex, RoundingRule, SeriesPattern, Sku,
    SkuIndex,
};
use super::document::{
    Aggregation, Bucket, CatalogueDocument, ConvertDocument, CountedOf, LevelDocument, MatchDocument, MeterDocument,
    PoolPeriod, PriceDocument, SkuDocument, Spread,
};
use super::hours::WeekHours;
use super::ladders::{self, units};
use super::limits::{
    ATTRIBUTES_MAX, COUNTER_MAX, DIVISOR_MAX, DIVISOR_MIN, ITEMS_MAX, LEVEL_MAX, SOURCES_MAX, YEARLY_PRICES_MAX,
};
use super::order::{DEFAULT_ORDER, check_order};
use super::pool::{FreePool, SplitBy};
use super::selector::Pattern;
use super::zones::{self, Zones};
use crate::base::id::{BadId, MeterId, PriceId, SkuId, check_name};
use crate::base::money::{Quantity, SCALE};
use crate::base::problem::{Place, Problem, Problems};

/// The scale that a meter's document means: a number of things has no decimals.
pub fn meter_scale(meter: &MeterDocument) -> u32 {
    let is_number = matches!(meter.aggregation, Aggregation::Count | Aggregation::Unique);
    meter.scale.unwrap_or(if is_number { 0 } else { SCALE })
}

/// Compiles a document; the catalogue is there unless a problem is an error.
pub fn compile(document: &CatalogueDocument) -> (Option<Catalogue>, Vec<Problem>) {
    let (top, mut problems) = (Place::top(), Problems::default());
    let zones = zones::compile(&document.zones, document.effective, &top.key("zones"), &mut problems);
    let mut compiler = Compiler { document, top, zones, problems };
    let catalogue = compiler.run();
    let good = !compiler.problems.has_errors();
    (catalogue.filter(|_| good), compiler.problems.into_vec())
}

impl CatalogueDocument {
    /// Everything that is wrong or doubtful in this document.
    pub fn check(&self) -> Vec<Problem> {
        compile(self).1
    }

    /// The bytes that are stored and hashed.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of strings serializes")
    }
}

/// A document on its way to a catalogue. Its checks are spread over this file, `overlap.rs` and `cross.rs`.
pub(super) struct Compiler<'a> {
    pub(super) document: &'a CatalogueDocument,
    pub(super) top: Place,
    zones: Zones,
    pub(super) problems: Problems,
}

impl Compiler<'_> {
    /// `None` only where so much is missing that nothing can be built; other problems are in the list.
    fn run(&mut self) -> Option<Catalogue> {
        let document = self.document;
        let rounding = self.rounding();
        let stages = document.stages.clone().unwrap_or_else(|| DEFAULT_ORDER.to_vec());
        check_order(&stages, &self.top.key("stages"), &mut self.problems);
        self.sizes();
        let (mut prices, price_ids) = self.prices();
        let mut meters = self.meters()?;
        let mut skus = self.skus(&mut prices, &price_ids)?;
        let mut catalogue = Catalogue {
            name: document.name.clone(),
            currency: document.currency,
            effective: document.effective,
            hash: *blake3::hash(&document.canonical()).as_bytes(),
            rounding,
            stages,
            meters: Vec::new(),
            skus: Vec::new(),
            prices,
            pools: Vec::new(),
            fees: Vec::new(),
            fee_ids: BTreeMap::new(),
            meter_lookup: Lookup::default(),
            meter_ids: Lookup::default(),
            sku_ids: Lookup::default(),
        };
        for (index, meter) in meters.iter().enumerate() {
            let of_service = catalogue.meter_lookup.entry(meter.service.clone()).or_default();
            of_service.entry(meter.usage_type.clone()).or_default().push(MeterIndex(index as u32));
            catalogue.meter_ids.insert(meter.id.as_str().into(), MeterIndex(index as u32));
        }
        for (index, sku) in skus.iter().enumerate() {
            catalogue.sku_ids.insert(sku.id.as_str().into(), SkuIndex(index as u32));
        }
        self.meter_overlaps(&meters, &catalogue.meter_lookup);
        self.candidates(&mut meters, &skus);
        self.sku_overlaps(&meters, &skus);
        catalogue.pools = self.pools(&mut skus, &catalogue.sku_ids);
        self.shared_ladders(&meters, &skus, &catalogue.prices);
        self.named_hours(&mut meters, &skus);
        self.sequences(&meters, &skus, &catalogue);
        self.periods(&meters, &skus, &catalogue.prices);
        self.looked_at(&meters, &skus, &catalogue.prices);
        self.changing(&meters, &skus, &catalogue.prices);
        self.spread(&meters, &skus, &catalogue.prices);
        self.prorated(&meters, &skus, &catalogue.prices);
        self.reached_by(&mut catalogue.prices, &mut meters, &catalogue.meter_ids);
        self.ceilings(&mut meters, &skus, &catalogue.prices);
        (catalogue.fees, catalogue.fee_ids) = self.fees(&mut meters, &mut skus, &mut catalogue.prices);
        catalogue.meters = meters;
        catalogue.skus = skus;
        Some(catalogue)
    }

    fn rounding(&mut self) -> RoundingRule {
        let document = &self.document.rounding;
        let decimals = document.decimals.unwrap_or(self.document.currency.minor_unit() as i32);
        if !(-12..=12).contains(&decimals) {
            self.problems.error(
                &self.top.key("rounding").key("decimals"),
                format!("rounding to {decimals} decimals is outside -12 to 12"),
                "state -12 to 12, or drop decimals for the currency's minor unit",
            );
        }
        RoundingRule { at: document.at, mode: document.mode, decimals }
    }

    fn sizes(&mut self) {
        let document = self.document;
        let lists = [
            ("meters", document.meters.len()),
            ("skus", document.skus.len()),
            ("prices", document.prices.len()),
            ("pools", document.pools.len()),
            ("fees", document.fees.len()),
        ];
        for (field, count) in lists {
            if count > ITEMS_MAX {
                self.problems.error(
                    &self.top.key(field),
                    format!("{count} {field}, at most {ITEMS_MAX}"),
                    "split the catalogue by service",
                );
            }
        }
        let is_named = |id: &str| {
            let named =
                |sku: &SkuDocument| sku.matches.hours.as_ref().and_then(|hours| hours.zone.as_deref()) == Some(id);
            document.skus.iter().any(named)
        };
        for (index, zone) in document.zones.iter().enumerate().filter(|(_, zone)| !is_named(&zone.id)) {
            let message = format!("zone {} is named by no sku's hours", zone.id);
            self.problems.warning(&self.top.key("zones").index(index), message, "name it, or drop it");
        }
        let yearly =
            |price: &&PriceDocument| price.pool.as_ref().is_some_and(|pool| pool.period == PoolPeriod::ContractYear);
        let count = document.prices.iter().filter(yearly).count();
        if count > YEARLY_PRICES_MAX {
            let message = format!("{count} prices with pools of a contract year, at most {YEARLY_PRICES_MAX}");
            self.problems.error(&self.top.key("prices"), message, "let some skus share a price, or use cycles");
        }
        let place = self.top.key("source");
        if document.source.len() > SOURCES_MAX {
            let message = format!("{} sources, at most {SOURCES_MAX}", document.source.len());
            self.problems.error(&place, message, "name the lists that it is made of, not their parts");
        }
        for (index, source) in document.source.iter().enumerate() {
            self.read(check_name("source", source), &place.index(index));
        }
    }

    /// A value, or a problem at `place`.
    pub(super) fn read<T>(&mut self, value: Result<T, BadId>, place: &Place) -> Option<T> {
        value.map_err(|error| self.problems.refuse(place, error)).ok()
    }

    fn meters(&mut self) -> Option<Vec<Meter>> {
        let mut meters = Vec::with_capacity(self.document.meters.len());
        let mut seen = BTreeMap::new();
        for (index, meter) in self.document.meters.iter().enumerate() {
            let place = self.top.key("meters").index(index);
            self.unique("meter", "meters", &meter.id, index, &mut seen);
            let id = self.read(MeterId::new(&meter.id), &place.key("id"));
            let service = self.exact("service", &meter.service, &place);
            let usage_type = self.exact("usage_type", &meter.usage_type, &place);
            let operation = self.read(Pattern::new("operation", &meter.operation), &place.key("operation"));
            let region = self.read(Pattern::new("region", &meter.region), &place.key("region"));
            let scale = meter_scale(meter);
            if scale > SCALE {
                self.problems.error(
                    &place.key("scale"),
                    format!("meter {} has scale {scale}, at most {SCALE} decimals are kept", meter.id),
                    "state 0 to 12",
                );
            }
            let is_number = matches!(meter.aggregation, Aggregation::Count | Aggregation::Unique);
            if is_number && scale != 0 {
                self.problems.error(
                    &place.key("scale"),
                    format!("meter {} counts and has scale {scale}", meter.id),
                    "drop scale: a count has no decimals",
                );
            }
            self.aggregation(meter, &place);
            if meter.attributes.len() > ATTRIBUTES_MAX {
                self.problems.error(
                    &place.key("attributes"),
                    format!("meter {} keeps {} attributes, at most {ATTRIBUTES_MAX}", meter.id, meter.attributes.len()),
                    "keep those that a price or clause reads",
                );
            }
            let mut attributes: Vec<Arc<str>> = Vec::with_capacity(meter.attributes.len());
            for (number, name) in meter.attributes.iter().enumerate() {
                let place = place.key("attributes").index(number);
                self.read(check_name("attribute", name), &place);
                if attributes.iter().any(|own| **own == **name) {
                    self.problems.error(&place, format!("attribute {name} is listed twice"), "list it once");
                }
                attributes.push(name.as_str().into());
            }
            attributes.sort();
            meters.push((|| {
                Some(Meter {
                    id: id?,
                    service: service?,
                    usage_type: usage_type?,
                    operation: operation?,
                    region: region?,
                    aggregation: meter.aggregation,
                    scale: scale.min(SCALE),
                    bucket: meter.bucket,
                    level: meter.level,
                    of_amount: meter.of == Some(CountedOf::Amount),
                    keeps_records: meter.keep_records,
                    spreads: meter.spread == Spread::Time,
                    attributes,
                    ceiling: if meter.aggregation == Aggregation::Level { LEVEL_MAX } else { COUNTER_MAX },
                    chooses_tiers: false,
                    names_hours: false,
                    skus: Vec::new(),
                    skus_by_region: Lookup::default(),
                    skus_of_any_region: Vec::new(),
                })
            })());
        }
        if meters.is_empty() {
            self.problems.error(&self.top.key("meters"), "the catalogue has no meters", "declare what is measured");
        }
        meters.into_iter().collect()
    }

    /// What an aggregation asks of its meter.
    fn aggregation(&mut self, meter: &MeterDocument, place: &Place) {
        let id = &meter.id;
        let word = match meter.aggregation {
            Aggregation::Sum => "sum",
            Aggregation::Count => "count",
            Aggregation::Maximum => "maximum",
            Aggregation::Latest => "latest",
            Aggregation::Unique => "unique",
            Aggregation::Level => "level",
            Aggregation::Percentile95 => "percentile_95",
        };
        let is_percentile = meter.aggregation == Aggregation::Percentile95;
        let buckets = match meter.aggregation {
            Aggregation::Sum | Aggregation::Count | Aggregation::Maximum => "month, day or hour",
            Aggregation::Latest | Aggregation::Unique | Aggregation::Level => "month",
            Aggregation::Percentile95 => "hour or five_minutes",
        };
        let is_whole = matches!(meter.aggregation, Aggregation::Latest | Aggregation::Unique | Aggregation::Level);
        let fits = match meter.bucket {
            Bucket::Month => !is_percentile,
            Bucket::Day => !is_percentile && !is_whole,
            Bucket::Hour => !is_whole,
            Bucket::FiveMinutes => is_percentile,
        };
        if !fits {
            self.problems.error(
                &place.key("bucket"),
                format!("meter {id} is of aggregation {word}, which keeps {buckets}"),
                format!("use bucket: {}", buckets.rsplit(' ').next().unwrap_or("month")),
            );
        }
        let wrong = match (meter.aggregation, meter.of) {
            (Aggregation::Unique, Some(CountedOf::Quantity)) | (Aggregation::Sum, _) => None,
            (Aggregation::Unique, _) => Some(("does not say of what that can be counted", "state of: quantity")),
            (_, Some(_)) => Some(("has of", "drop it, or use aggregation: sum or unique")),
            (_, None) => None,
        };
        if let Some((message, help)) = wrong {
            self.problems.error(&place.key("of"), format!("meter {id} is of aggregation {word} and {message}"), help);
        }
        if meter.of == Some(CountedOf::Amount) && meter_scale(meter) != SCALE {
            let message = format!("meter {id} counts amounts, which have {SCALE} decimals");
            self.problems.error(&place.key("scale"), message, "drop scale");
        }
        if meter.keep_records && (meter.aggregation != Aggregation::Sum || meter.bucket != Bucket::Month) {
            let message = format!("meter {id} keeps records and is not a sum of months");
            self.problems.error(
                &place.key("keep_records"),
                message,
                "use aggregation: sum and bucket: month, or drop it",
            );
        }
        if meter.spread == Spread::Time && (meter.aggregation != Aggregation::Sum || meter.keep_records) {
            let message = format!("meter {id} spreads its records and is no sum, or keeps them whole");
            let help = "use aggregation: sum without keep_records, or drop spread";
            self.problems.error(&place.key("spread"), message, help);
        }
        if meter.aggregation != Aggregation::Level && meter.level != LevelDocument::default() {
            let message = format!("meter {id} is of aggregation {word} and says how a level is read");
            self.problems.error(&place.key("level"), message, "drop it, or use aggregation: level");
        }
    }

    fn exact(&mut self, kind: &'static str, text: &str, place: &Place) -> Option<Arc<str>> {
        self.read(check_name(kind, text), &place.key(kind))?;
        if text.contains('*') {
            self.problems.error(
                &place.key(kind),
                format!("{kind} '{text}' of a meter holds *"),
                "a meter has one service and one usage type; only operation and region may hold *",
            );
            return None;
        }
        Some(text.into())
    }

    pub(super) fn unique<'d>(
        &mut self,
        kind: &str,
        list: &str,
        id: &'d str,
        index: usize,
        seen: &mut BTreeMap<&'d str, usize>,
    ) {
        if let Some(first) = seen.get(id) {
            self.problems.error(
                &self.top.key(list).index(index).key("id"),
                format!("{kind} {id} is declared twice, first at {list}[{first}]"),
                "give each its own id",
            );
        } else {
            seen.insert(id, index);
        }
    }

    fn prices(&mut self) -> (Vec<Price>, BTreeMap<String, PriceIndex>) {
        let (mut prices, mut ids, mut seen) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (index, price) in self.document.prices.iter().enumerate() {
            let place = self.top.key("prices").index(index);
            self.unique("price", "prices", &price.id, index, &mut seen);
            let compiled = self.price(price, &place);
            ids.entry(price.id.clone()).or_insert(PriceIndex(prices.len() as u32));
            // A price without a good id still takes its place, so that the numbers of those after it are right.
            prices.push(compiled);
        }
        (prices, ids)
    }

    fn skus(&mut self, prices: &mut Vec<Price>, ids: &BTreeMap<String, PriceIndex>) -> Option<Vec<Sku>> {
        let mut skus = Vec::with_capacity(self.document.skus.len());
        let mut seen = BTreeMap::new();
        let mut used = vec![false; prices.len()];
        for (index, sku) in self.document.skus.iter().enumerate() {
            let place = self.top.key("skus").index(index);
            self.unique("sku", "skus", &sku.id, index, &mut seen);
            let id = self.read(SkuId::new(&sku.id), &place.key("id"));
            let matches = self.series_pattern(&sku.id, &sku.matches, &place.key("match"));
            self.read(check_name("unit", &sku.unit), &place.key("unit"));
            let convert = self.convert(sku.convert.as_ref(), &sku.id, &place.key("convert"));
            let price = match (&sku.price, &sku.rate) {
                (Some(price), None) => match ids.get(price) {
                    Some(index) => {
                        used[index.0 as usize] = true;
                        Some(*index)
                    }
                    None => {
                        self.problems.error(
                            &place.key("price"),
                            format!("sku {} names price '{price}', which is not declared", sku.id),
                            "declare it under prices, or give the sku a rate",
                        );
                        None
                    }
                },
                (None, Some(rate)) => {
                    let rate = ladders::rate(rate, &place.key("rate"), &mut self.problems);
                    prices.push(Price::per_unit(PriceId::new(&sku.id).unwrap_or_else(|_| unnamed()), rate));
                    Some(PriceIndex(prices.len() as u32 - 1))
                }
                (price, _) => {
                    let what = if price.is_some() { "both price and rate" } else { "neither price nor rate" };
                    self.problems.error(&place, format!("sku {} has {what}", sku.id), "state one of them");
                    None
                }
            };
            skus.push((|| {
                Some(Sku {
                    id: id?,
                    name: sku.name.as_deref().map(Arc::from),
                    matches: matches?,
                    unit: sku.unit.as_str().into(),
                    convert,
                    price: price?,
                    pools: Vec::new(),
                })
            })());
        }
        for (index, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
            let place = self.top.key("prices").index(index);
            let id = &self.document.prices[index].id;
            self.problems.warning(&place, format!("price {id} is named by no sku"), "name it in a sku, or drop it");
        }
        skus.into_iter().collect()
    }

    fn series_pattern(&mut self, sku: &str, matches: &MatchDocument, place: &Place) -> Option<SeriesPattern> {
        let hours = matches.hours.as_ref();
        let hours =
            hours.map(|hours| WeekHours::compile(hours, &self.zones, sku, &place.key("hours"), &mut self.problems));
        let service = self.read(Pattern::new("service", &matches.service), &place.key("service"));
        let usage_type = self.read(Pattern::new("usage_type", &matches.usage_type), &place.key("usage_type"));
        let operation = self.read(Pattern::new("operation", &matches.operation), &place.key("operation"));
        let region = self.read(Pattern::new("region", &matches.region), &place.key("region"));
        let mut attributes = BTreeMap::new();
        for (name, text) in &matches.attributes {
            let place = place.key("attributes").key(name);
            self.read(check_name("attribute", name), &place);
            let pattern = self.read(Pattern::new("attribute", text), &place)?;
            attributes.insert(name.as_str().into(), pattern);
        }
        Some(SeriesPattern {
            service: service?,
            usage_type: usage_type?,
            operation: operation?,
            region: region?,
            attributes,
            hours,
        })
    }

    fn convert(&mut self, convert: Option<&ConvertDocument>, id: &str, place: &Place) -> Convert {
        let mut divide = Quantity::ONE;
        if let Some(text) = convert.and_then(|convert| convert.divide.as_ref()) {
            let place = place.key("divide");
            divide = ladders::number(text, "divide", DIVISOR_MAX, &place, &mut self.problems);
            if divide < DIVISOR_MIN {
                let help =
                    format!("give a divisor of at least {DIVISOR_MIN}, in the meter's units for one priced unit");
                self.problems.error(&place, format!("sku {id} divides by {divide}"), help);
                divide = Quantity::ONE;
            }
        }
        Convert { divide, by_hours_of_cycle: convert.is_some_and(|convert| convert.by_hours_of_cycle) }
    }

    fn pools(&mut self, skus: &mut [Sku], ids: &Lookup<SkuIndex>) -> Vec<FreePool> {
        let mut pools: Vec<FreePool> = Vec::with_capacity(self.document.pools.len());
        let mut seen = BTreeMap::new();
        for (index, pool) in self.document.pools.iter().enumerate() {
            let place = self.top.key("pools").index(index);
            self.unique("pool", "pools", &pool.id, index, &mut seen);
            let id = self.read(PriceId::new(&pool.id), &place.key("id"));
            let units = units(&pool.units, "units", &place.key("units"), &mut self.problems);
            let split_by = SplitBy::compile(&pool.split_by, &place.key("split_by"), &mut self.problems);
            let mut members = BTreeSet::new();
            for (number, text) in pool.skus.iter().enumerate() {
                let place = place.key("skus").index(number);
                let Some(pattern) = self.read(Pattern::new("sku", text), &place) else { continue };
                let before = members.len();
                match pattern.exact() {
                    Some(exact) => members.extend(ids.get(&**exact).map(|index| index.0 as usize)),
                    None => {
                        members.extend((0..skus.len()).filter(|index| pattern.matches(skus[*index].id.as_str())));
                    }
                }
                if members.len() == before {
                    let message = format!("'{text}' names no sku that pool {} does not already have", pool.id);
                    self.problems.error(&place, message, "name a declared sku, or drop it");
                }
            }
            if pool.skus.is_empty() {
                let message = format!("pool {} has no skus", pool.id);
                self.problems.error(&place.key("skus"), message, "list the skus that draw from it");
            }
            for member in &members {
                skus[*member].pools.push(PoolIndex(index as u32));
            }
            if !split_by.by_sku() {
                let whom = format!("pool {}", pool.id);
                self.one_unit(&whom, members.iter().map(|member| &skus[*member]), &place.key("skus"));
            }
            pools.push(FreePool {
                id: id.unwrap_or_else(unnamed),
                name: pool.name.as_deref().map(Arc::from),
                units,
                split_by,
                share: pool.share,
            });
        }
        pools
    }
}

pub(super) fn unnamed() -> PriceId {
    PriceId::new("(unnamed)").expect("a good name")
}

#[cfg(test)]
#[path = "compile_test.rs"]
mod tests;
