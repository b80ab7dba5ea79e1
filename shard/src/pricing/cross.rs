//! What SKUs, prices and pools must agree on with each other and with the meters: units, attributes, buckets, and room
//! in the counters.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Catalogue, Convert, Lookup, Meter, MeterIndex, Price, PriceIndex, ReachedBy, Sku};
use super::compile::Compiler;
use super::document::{Aggregation, Attribution, Bucket, Model, PoolPeriod};
use super::ladders::{highest_rate, units};
use super::limits::{CEILING_UNITS_MIN, REACHED_BY_MAX};
use super::pool::SplitKey;
use crate::base::money::{Quantity, Rate, print_scaled};
use crate::base::problem::Place;
use crate::base::wide::power_of_ten;

impl Compiler<'_> {
    /// Quantities can only be added in one unit.
    pub(super) fn one_unit<'s>(&mut self, whom: &str, members: impl Iterator<Item = &'s Sku>, place: &Place) {
        let units: BTreeMap<&str, &str> = members.map(|sku| (&*sku.unit, sku.id.as_str())).collect();
        if units.len() > 1 {
            let listed: Vec<String> = units.iter().map(|(unit, sku)| format!("{unit} ({sku})")).collect();
            self.problems.error(
                place,
                format!("{whom} adds up skus of different units: {}", listed.join(", ")),
                "give them one unit, or split_by sku",
            );
        }
    }

    pub(super) fn shared_ladders(&mut self, meters: &[Meter], skus: &[Sku], prices: &[Price]) {
        let mut members: BTreeMap<PriceIndex, Vec<usize>> = BTreeMap::new();
        for (index, sku) in skus.iter().enumerate() {
            members.entry(sku.price).or_default().push(index);
        }
        let mut kept: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for meter in meters {
            for index in &meter.skus {
                kept.entry(index.0 as usize).or_default().extend(meter.attributes.iter().map(|name| &**name));
            }
        }
        for (price, members) in &members {
            let index = price.0 as usize;
            let price = &prices[index];
            let place = self.top.key("prices").index(index).key("pool").key("split_by");
            if !price.split_by.by_sku() {
                let whom = format!("the pool of price {}", price.id);
                self.one_unit(&whom, members.iter().map(|member| &skus[*member]), &place);
            }
            for key in &price.split_by.0 {
                let SplitKey::Attribute(name) = key else { continue };
                let keeps = |sku: &usize| kept.get(sku).is_some_and(|names| names.contains(&**name));
                if !members.iter().any(keeps) {
                    self.problems.error(
                        &place,
                        format!(
                            "price {} splits its pool by attribute {name}, which none of its meters keeps",
                            price.id
                        ),
                        "add the attribute to a new meter, or drop the key",
                    );
                }
            }
        }
    }

    /// Attribution by SEQUENCE orders lots by time, so the meters must keep it.
    pub(super) fn sequences(&mut self, meters: &[Meter], skus: &[Sku], catalogue: &Catalogue) {
        let mut told = BTreeSet::new();
        let has_lots = |meter: &&Meter| {
            meter.bucket != Bucket::Month && matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count)
        };
        for meter in meters.iter().filter(|meter| !has_lots(meter)) {
            for index in &meter.skus {
                let sku = &skus[index.0 as usize];
                let price = &catalogue.prices[sku.price.0 as usize];
                if price.attribution == Attribution::Sequence && told.insert((price.id.clone(), meter.id.clone())) {
                    let place = self.top.key("prices").index(sku.price.0 as usize).key("attribution");
                    self.problems.error(
                        &place,
                        format!(
                            "price {} attributes by sequence, but meter {} keeps no lots by time",
                            price.id, meter.id
                        ),
                        "use attribution: prorata, or a meter of sums or counts with bucket: day or hour",
                    );
                }
                for pool in &sku.pools {
                    let free = &catalogue.pools[pool.0 as usize];
                    if free.share == Attribution::Sequence && told.insert((free.id.clone(), meter.id.clone())) {
                        let place = self.top.key("pools").index(pool.0 as usize).key("share");
                        self.problems.error(
                            &place,
                            format!(
                                "pool {} shares by sequence, but meter {} keeps no lots by time",
                                free.id, meter.id
                            ),
                            "use share: prorata, or a meter of sums or counts with bucket: day or hour",
                        );
                    }
                }
            }
        }
    }

    /// Hours of the week need meters that tell hours apart.
    pub(super) fn named_hours(&mut self, meters: &mut [Meter], skus: &[Sku]) {
        let mut told = BTreeSet::new();
        for meter in meters {
            for index in &meter.skus {
                let sku = &skus[index.0 as usize];
                if sku.matches.hours.is_none() {
                    continue;
                }
                meter.names_hours = true;
                let adds_up = matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count | Aggregation::Maximum);
                if (meter.bucket != Bucket::Hour || !adds_up) && told.insert(*index) {
                    self.problems.error(
                        &self.top.key("skus").index(index.0 as usize).key("match").key("hours"),
                        format!("sku {} names hours, which meter {} does not tell apart", sku.id, meter.id),
                        "drop hours, or use a meter of aggregation sum, count or maximum with bucket: hour",
                    );
                }
            }
        }
    }

    /// Pools of a day or an hour need meters that tell days or hours apart.
    pub(super) fn periods(&mut self, meters: &[Meter], skus: &[Sku], prices: &[Price]) {
        let mut told = BTreeSet::new();
        for meter in meters {
            for index in &meter.skus {
                let number = skus[index.0 as usize].price.0 as usize;
                let price = &prices[number];
                let (fits, period) = match price.period {
                    PoolPeriod::Cycle => continue,
                    PoolPeriod::Day => (matches!(meter.bucket, Bucket::Day | Bucket::Hour), "day"),
                    PoolPeriod::Hour => (meter.bucket == Bucket::Hour, "hour"),
                    PoolPeriod::ContractYear => (true, "contract year"),
                };
                let is_year = price.period == PoolPeriod::ContractYear;
                let adds_up = match meter.aggregation {
                    Aggregation::Sum | Aggregation::Count => true,
                    Aggregation::Maximum => !is_year,
                    _ => false,
                };
                let place = self.top.key("prices").index(number).key("pool").key("period");
                if !fits && told.insert((number, meter.id.clone())) {
                    self.problems.error(
                        &place,
                        format!(
                            "price {} begins anew each {period}, but meter {} keeps longer times",
                            price.id, meter.id
                        ),
                        "use a longer period, or a meter with bucket: hour",
                    );
                }
                if !adds_up && told.insert((number, meter.id.clone())) {
                    self.problems.error(
                        &place,
                        format!(
                            "price {} begins anew each {period}, but meter {} is one value a cycle",
                            price.id, meter.id
                        ),
                        match is_year {
                            true => "use period: cycle, or a meter of aggregation sum or count",
                            false => "use period: cycle, or a meter of aggregation sum, count or maximum",
                        },
                    );
                }
            }
        }
    }

    /// Prices that look at records need meters that keep them, in the priced unit.
    pub(super) fn looked_at(&mut self, meters: &[Meter], skus: &[Sku], prices: &[Price]) {
        let mut told = BTreeSet::new();
        for meter in meters {
            for index in &meter.skus {
                let sku = &skus[index.0 as usize];
                let number = sku.price.0 as usize;
                let price = &prices[number];
                if price.records.is_none() {
                    continue;
                }
                if !meter.keeps_records && told.insert((number, meter.id.clone())) {
                    self.problems.error(
                        &self.top.key("prices").index(number).key("records"),
                        format!("price {} looks at records, which meter {} does not keep", price.id, meter.id),
                        "use a meter with keep_records: true, or drop records",
                    );
                }
                let is_plain =
                    sku.convert.divide == Quantity::ONE && !sku.convert.by_hours_of_cycle && sku.pools.is_empty();
                if !is_plain && told.insert((usize::MAX, meter.id.clone())) {
                    self.problems.error(
                        &self.top.key("skus").index(index.0 as usize),
                        format!("sku {} has convert or free pools, but price {} looks at records", sku.id, price.id),
                        "drop them; records are charged as they came",
                    );
                }
            }
        }
    }

    /// A record that is spread is counted several times.
    pub(super) fn spread(&mut self, meters: &[Meter], skus: &[Sku], prices: &[Price]) {
        let mut told = BTreeSet::new();
        for meter in meters.iter().filter(|meter| meter.spreads) {
            for index in &meter.skus {
                let number = skus[index.0 as usize].price.0 as usize;
                if !prices[number].per_record.is_zero() && told.insert((number, meter.id.clone())) {
                    self.problems.error(
                        &self.top.key("prices").index(number).key("per_record"),
                        format!(
                            "price {} adds something for each record, and meter {} spreads a record over several counters",
                            prices[number].id, meter.id
                        ),
                        "drop per_record, or count the records by a meter of their own",
                    );
                }
            }
        }
    }

    /// A change within a cycle needs meters that tell days apart.
    pub(super) fn changing(&mut self, meters: &[Meter], skus: &[Sku], prices: &[Price]) {
        let mut told = BTreeSet::new();
        for meter in meters {
            let tells = matches!(meter.bucket, Bucket::Day | Bucket::Hour)
                && matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count);
            for index in meter.skus.iter().filter(|_| !tells) {
                let number = skus[index.0 as usize].price.0 as usize;
                if !prices[number].changes.is_empty() && told.insert((number, meter.id.clone())) {
                    self.problems.error(
                        &self.top.key("prices").index(number).key("changes"),
                        format!(
                            "price {} changes on a day, which meter {} does not tell apart",
                            prices[number].id, meter.id
                        ),
                        "use a meter of sums or counts with bucket: day or hour, or a version of the catalogue",
                    );
                }
            }
        }
    }

    /// Ladders that are walked need levels, and members of a pool that can be added before they are converted.
    pub(super) fn prorated(&mut self, meters: &[Meter], skus: &[Sku], prices: &[Price]) {
        let mut told = BTreeSet::new();
        let mut kinds: BTreeMap<(usize, Option<usize>), (Convert, u32)> = BTreeMap::new();
        for meter in meters {
            for index in &meter.skus {
                let index = index.0 as usize;
                let sku = &skus[index];
                let number = sku.price.0 as usize;
                let price = &prices[number];
                if !price.prorates {
                    continue;
                }
                let place = self.top.key("prices").index(number).key("prorate");
                if meter.aggregation != Aggregation::Level && told.insert((number, meter.id.clone())) {
                    self.problems.error(
                        &place,
                        format!("price {} prorates its ladder, but meter {} measures no level", price.id, meter.id),
                        "use a meter of aggregation level, or drop prorate",
                    );
                }
                if !sku.pools.is_empty() && told.insert((usize::MAX, meter.id.clone())) {
                    self.problems.error(
                        &self.top.key("skus").index(index),
                        format!("sku {} has free pools, but price {} prorates its ladder", sku.id, price.id),
                        "drop them; a tier of rate 0 is free",
                    );
                }
                let key = (number, Some(index).filter(|_| price.split_by.by_sku()));
                let own = (sku.convert, meter.scale);
                if *kinds.entry(key).or_insert(own) != own && told.insert((number, meter.id.clone())) {
                    self.problems.error(
                        &place,
                        format!(
                            "price {} prorates its ladder over series of different scale or convert, as sku {} of meter {}",
                            price.id, sku.id, meter.id
                        ),
                        "give the meters one scale and the skus one convert, or split_by sku",
                    );
                }
            }
        }
    }

    /// Finds the meters that choose tiers.
    pub(super) fn reached_by(&mut self, prices: &mut [Price], meters: &mut [Meter], ids: &Lookup<MeterIndex>) {
        let document = self.document;
        for (index, price) in document.prices.iter().enumerate().filter(|(_, price)| !price.reached_by.is_empty()) {
            let place = self.top.key("prices").index(index).key("reached_by");
            if !matches!(price.model, Model::Volume | Model::Stairstep) {
                self.problems.error(
                    &place,
                    format!("price {} is not volume or stairstep, so its quantity alone climbs its tiers", price.id),
                    "use model: volume or stairstep, or drop reached_by",
                );
            }
            if price.reached_by.len() > REACHED_BY_MAX {
                let message =
                    format!("price {} names {} meters, at most {REACHED_BY_MAX}", price.id, price.reached_by.len());
                self.problems.error(&place, message, "name those that matter");
            }
            let mut seen = BTreeSet::new();
            for (number, reached) in price.reached_by.iter().enumerate() {
                let place = place.index(number);
                if !seen.insert(&reached.meter) {
                    self.problems.error(
                        &place.key("meter"),
                        format!("meter {} is named twice", reached.meter),
                        "name it once",
                    );
                }
                let meter = ids.get(reached.meter.as_str()).copied();
                if meter.is_none() {
                    self.problems.error(
                        &place.key("meter"),
                        format!("price {} is reached by meter '{}', which is not declared", price.id, reached.meter),
                        "declare it under meters",
                    );
                }
                let tiers = price.tiers.len();
                if reached.up_to.len() + 1 != tiers {
                    self.problems.error(
                        &place.key("up_to"),
                        format!("{} bounds for {tiers} tiers of price {}", reached.up_to.len(), price.id),
                        "state where each tier ends but the last, which is open",
                    );
                }
                let mut bounds: Vec<Quantity> = Vec::with_capacity(reached.up_to.len());
                for (number, text) in reached.up_to.iter().enumerate() {
                    let place = place.key("up_to").index(number);
                    let bound = units(text, "up_to", &place, &mut self.problems);
                    if bound <= bounds.last().copied().unwrap_or_default() {
                        self.problems.error(
                            &place,
                            format!(
                                "tier {} of price {} ends at {bound}, not above where it begins",
                                number + 1,
                                price.id
                            ),
                            "sort the bounds, lowest first",
                        );
                    }
                    bounds.push(bound);
                }
                if let Some(meter) = meter {
                    meters[meter.0 as usize].chooses_tiers = true;
                    prices[index].reached_by.push(ReachedBy { meter, bounds });
                }
            }
        }
    }

    pub(super) fn ceilings(&mut self, meters: &mut [Meter], skus: &[Sku], prices: &[Price]) {
        let mut told = BTreeSet::new();
        for meter in meters {
            for index in &meter.skus {
                let sku = &skus[index.0 as usize];
                let price = &prices[sku.price.0 as usize];
                let changed = price.changes.iter().map(|(_, ladder)| highest_rate(ladder));
                let rate = changed.fold(highest_rate(&price.ladder), Rate::max);
                let ceiling = meter.ceiling_at(&sku.convert, rate);
                if ceiling < power_of_ten(CEILING_UNITS_MIN + meter.scale) && told.insert(*index) {
                    self.problems.error(
                        &self.top.key("skus").index(index.0 as usize),
                        format!(
                            "sku {} charges up to {rate} a unit after dividing by {}: a counter of meter {} could then \
                             hold {}, at least 1000000 are needed",
                            sku.id,
                            sku.convert.divide,
                            meter.id,
                            print_scaled(ceiling, meter.scale)
                        ),
                        "lower the rate, or price a larger unit with a larger convert.divide",
                    );
                }
                meter.ceiling = meter.ceiling.min(ceiling);
            }
        }
    }
}
