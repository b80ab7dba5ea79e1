//! Random counters: what a cycle of a hierarchy used, small enough to meet the bounds of the drawn ladders.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::Value;

use super::words::{CLASSES, OPERATIONS, REGIONS, chance, one, quantity};
use crate::model::calendar::{Cycle, hours_of};
use crate::model::exact::{Exact, exact, whole};
use crate::model::series::{Counter, Series, is_summed, list, text};

/// Every account that a hierarchy's usage can name.
pub fn accounts(hierarchy: &Value) -> Vec<String> {
    let mut accounts = vec![text(&hierarchy["root"], "").to_owned()];
    accounts.extend(list(hierarchy, "accounts").iter().map(|row| text(&row["id"], "").to_owned()));
    accounts.extend(list(hierarchy, "payers").iter().map(|payer| text(payer, "").to_owned()));
    accounts
}

/// A series of one meter.
pub fn series(rng: &mut SmallRng, meter: &Value, account: String) -> Series {
    let mut attributes = Vec::new();
    if !meter["attributes"].is_null() && chance(rng, 80) {
        attributes.push(("class".to_owned(), one(rng, CLASSES).to_string()));
    }
    Series {
        account,
        service: text(&meter["service"], "").to_owned(),
        usage_type: text(&meter["usage_type"], "").to_owned(),
        operation: one(rng, OPERATIONS).to_string(),
        region: one(rng, REGIONS).to_string(),
        attributes,
    }
}

/// Some counters without operation and region, as the series that stands for a subscriber has none: what was counted there
/// and what is subscribed to meet.
pub fn plain(rng: &mut SmallRng, mut counters: Vec<Counter>) -> Vec<Counter> {
    for Counter { series, .. } in &mut counters {
        if chance(rng, 60) {
            series.operation.clear();
            if chance(rng, 70) {
                series.region.clear();
                series.attributes.retain(|_| chance(rng, 50));
            }
        }
    }
    merged(counters)
}

/// One counter for each series and bucket.
pub fn merged(counters: Vec<Counter>) -> Vec<Counter> {
    let mut found: BTreeMap<(Series, i64), (Exact, u64)> = BTreeMap::new();
    for Counter { series, bucket, value, records } in counters {
        let counter = found.entry((series, bucket)).or_insert_with(|| (whole(0), 0));
        counter.0 += value;
        counter.1 += records;
    }
    let counter = |((series, bucket), (value, records))| Counter { series, bucket, value, records };
    found.into_iter().map(counter).collect()
}

/// Decimals that a meter keeps.
pub fn scale_of(meter: &Value) -> u32 {
    match text(&meter["aggregation"], "sum") {
        "count" | "unique" => 0,
        _ => meter["scale"].as_u64().unwrap_or(12) as u32,
    }
}

/// Counters of up to a dozen series; in some cycles corrections took back more than there was, here and there.
pub fn counters(rng: &mut SmallRng, catalogue: &Value, hierarchy: &Value, cycle: Cycle) -> Vec<Counter> {
    let accounts = accounts(hierarchy);
    let meters: Vec<&Value> = list(catalogue, "meters").iter().filter(|meter| is_summed(meter)).collect();
    let corrected = chance(rng, 25);
    let mut found: BTreeMap<(Series, i64), (Exact, u64)> = BTreeMap::new();
    for _ in 0..if meters.is_empty() { 0 } else { rng.random_range(1..=12) } {
        let meter = *one(rng, &meters);
        let account = one(rng, &accounts).clone();
        let series = series(rng, meter, account);
        for _ in 0..rng.random_range(1..=3) {
            let few = chance(rng, 50);
            let hour = match text(&meter["bucket"], "month") {
                // Few hours and days, so that accounts meet in them.
                "hour" => rng.random_range(0..if few { 4 } else { hours_of(cycle) }),
                "day" => rng.random_range(0..if few { 3 } else { hours_of(cycle) / 24 }) * 24,
                _ => 0,
            };
            let value = exact(&quantity(rng, scale_of(meter)));
            let sign = if corrected && chance(rng, 25) { -1 } else { 1 };
            let counter = found.entry((series.clone(), hour)).or_insert_with(|| (whole(0), 0));
            counter.0 += value * whole(sign);
            counter.1 += rng.random_range(1..=3);
        }
    }
    let counter = |((series, bucket), (value, records))| Counter { series, bucket, value, records };
    found.into_iter().map(counter).collect()
}
