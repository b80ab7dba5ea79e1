//! Which SKUs can price a meter's series, and what could be claimed twice: two meters for one record, two SKUs for one
//! series. Overlap is computed from the patterns, not guessed from examples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogue::{Lookup, Meter, MeterIndex, SeriesPattern, Sku, SkuIndex};
use super::compile::Compiler;
use super::selector::{Pattern, can_match_together};

impl Compiler<'_> {
    pub(super) fn meter_overlaps(&mut self, meters: &[Meter], lookup: &Lookup<Lookup<Vec<MeterIndex>>>) {
        for (index, meter) in meters.iter().enumerate() {
            for other in &lookup[&meter.service][&meter.usage_type] {
                let first = other.0 as usize;
                let other = &meters[first];
                if first < index
                    && can_match_together(&[&meter.operation, &other.operation])
                    && can_match_together(&[&meter.region, &other.region])
                {
                    self.problems.error(
                        &self.top.key("meters").index(index),
                        format!("meters {} and {} (meters[{first}]) can match one record", meter.id, other.id),
                        "narrow operation or region until each record has one meter",
                    );
                }
            }
        }
    }

    /// Lists for each meter the SKUs that can match its series; a SKU with none is a mistake.
    pub(super) fn candidates(&mut self, meters: &mut [Meter], skus: &[Sku]) {
        let names: Vec<(Arc<str>, Arc<str>)> =
            meters.iter().map(|meter| (meter.service.clone(), meter.usage_type.clone())).collect();
        // By what a SKU spells out: both names, one of them, or none.
        let mut by_name: BTreeMap<(Option<&str>, Option<&str>), Vec<usize>> = BTreeMap::new();
        for (index, (service, usage_type)) in names.iter().enumerate() {
            let (service, usage_type) = (Some(&**service), Some(&**usage_type));
            for key in [(service, usage_type), (service, None), (None, usage_type), (None, None)] {
                by_name.entry(key).or_default().push(index);
            }
        }
        for (index, sku) in skus.iter().enumerate() {
            let pattern = &sku.matches;
            let spelled = |pattern: &'_ Pattern| pattern.exact().cloned();
            let (service, usage_type) = (spelled(&pattern.service), spelled(&pattern.usage_type));
            let of_name = by_name.get(&(service.as_deref(), usage_type.as_deref())).map_or(&[][..], Vec::as_slice);
            let mut missing: BTreeSet<&str> = BTreeSet::new();
            let mut found = false;
            for meter in of_name {
                let meter = &mut meters[*meter];
                let fits = pattern.service.matches(&meter.service)
                    && pattern.usage_type.matches(&meter.usage_type)
                    && can_match_together(&[&pattern.operation, &meter.operation])
                    && can_match_together(&[&pattern.region, &meter.region]);
                if !fits {
                    continue;
                }
                match pattern.attributes.keys().find(|name| !meter.attributes.contains(*name)) {
                    Some(name) => {
                        missing.insert(name);
                    }
                    None => {
                        let own = SkuIndex(index as u32);
                        meter.skus.push(own);
                        match pattern.region.exact() {
                            Some(region) => meter.skus_by_region.entry(region.clone()).or_default().push(own),
                            None => meter.skus_of_any_region.push(own),
                        }
                        found = true;
                    }
                }
            }
            if found {
                continue;
            }
            let why = match missing.first() {
                Some(name) => format!("sku {} asks for attribute {name}, which its meters do not keep", sku.id),
                None => format!("sku {} matches no series of any meter", sku.id),
            };
            let help = "correct match, or declare a meter for what it prices";
            self.problems.error(&self.top.key("skus").index(index).key("match"), why, help);
        }
        for (index, meter) in meters.iter().enumerate().filter(|(_, meter)| meter.skus.is_empty()) {
            self.problems.warning(
                &self.top.key("meters").index(index),
                format!("no sku prices meter {}: its usage is counted, shown as unpriced and not charged", meter.id),
                "add a sku for it, with rate \"0\" if it is free",
            );
        }
    }

    /// Two SKUs that can match one series are refused. Only SKUs of the same literal region, or with a pattern for it,
    /// are compared, so that a price list with a SKU a region stays quick to check.
    pub(super) fn sku_overlaps(&mut self, meters: &[Meter], skus: &[Sku]) {
        let mut told = BTreeSet::new();
        for meter in meters {
            let mut by_region: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
            for index in &meter.skus {
                let index = index.0 as usize;
                let region = skus[index].matches.region.exact().map(|region| &**region);
                by_region.entry(region).or_default().push(index);
            }
            let open = by_region.remove(&None).unwrap_or_default();
            for (number, index) in open.iter().enumerate() {
                self.overlap_with(*index, &open[..number], meter, skus, &mut told);
            }
            for of_region in by_region.values() {
                for (number, index) in of_region.iter().enumerate() {
                    self.overlap_with(*index, &of_region[..number], meter, skus, &mut told);
                    self.overlap_with(*index, &open, meter, skus, &mut told);
                }
            }
        }
    }

    fn overlap_with(
        &mut self,
        index: usize,
        others: &[usize],
        meter: &Meter,
        skus: &[Sku],
        told: &mut BTreeSet<(usize, usize)>,
    ) {
        for other in others {
            let (first, second) = (index.min(*other), index.max(*other));
            let (a, b) = (&skus[first], &skus[second]);
            if overlap(meter, &a.matches, &b.matches) && told.insert((first, second)) {
                self.problems.error(
                    &self.top.key("skus").index(second).key("match"),
                    format!("skus {} (skus[{first}]) and {} can match one series of meter {}", a.id, b.id, meter.id),
                    "narrow match of one of them: a series has at most one sku at an hour",
                );
            }
        }
    }
}

/// Whether one series of `meter` can match both.
fn overlap(meter: &Meter, a: &SeriesPattern, b: &SeriesPattern) -> bool {
    let at_one_hour = match (&a.hours, &b.hours) {
        (Some(one), Some(other)) => one.meets(other),
        _ => true,
    };
    at_one_hour
        && can_match_together(&[&meter.operation, &a.operation, &b.operation])
        && can_match_together(&[&meter.region, &a.region, &b.region])
        && a.attributes
            .iter()
            .all(|(name, own)| b.attributes.get(name).is_none_or(|other| can_match_together(&[own, other])))
}
