//! Random records that last some time, of meters that spread them: across the ends of hours, days and cycles, and where
//! accounts come and go.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::usage::{accounts, scale_of, series};
use super::words::{chance, one, quantity};
use crate::model::calendar::{Cycle, DAY, start_of};
use crate::model::exact::{Exact, exact, whole};
use crate::model::ledger::Root;
use crate::model::measure::HOUR;
use crate::model::record::Record;
use crate::model::series::{Counter, list, text};
use crate::model::spread::parts;

/// How long a record lasts: from no time to the longest.
const LENGTHS: &[i64] = &[1, 7, HOUR / 4, HOUR, HOUR + 1, 5 * HOUR, DAY, DAY + HOUR / 3, 3 * DAY, 30 * DAY, 31 * DAY];

/// A length for a record of a meter; rarely so long that it is hundreds of hours.
pub fn length(rng: &mut SmallRng, meter: &Value) -> i64 {
    let length = *one(rng, LENGTHS);
    let is_long = length > 2 * DAY && meter["bucket"] == "hour";
    if is_long && chance(rng, 85) { length % DAY + HOUR / 2 } else { length }
}

/// Lets some meters of sums spread their records, where no price of theirs asks how many there were.
pub fn meters(rng: &mut SmallRng, catalogue: &mut Value, percent: u32) {
    let counts = |usage_type: &Value| {
        let skus = list(catalogue, "skus").iter().filter(|sku| sku["match"]["usage_type"] == *usage_type);
        let of = |sku: &Value| list(catalogue, "prices").iter().find(|price| price["id"] == sku["price"]);
        skus.filter_map(of).any(|price| price["per_record"].is_string())
    };
    let can = |meter: &Value| {
        text(&meter["aggregation"], "sum") == "sum" && meter["keep_records"] != true && !counts(&meter["usage_type"])
    };
    let can: Vec<bool> = list(catalogue, "meters").iter().map(can).collect();
    let all = catalogue["meters"].as_array_mut().into_iter().flatten();
    for (meter, _) in all.zip(can).filter(|(_, can)| *can) {
        if chance(rng, percent) {
            meter["spread"] = json!("time");
        }
    }
}

/// Records of such meters, each of a series that the counters then do not have.
pub fn records(
    rng: &mut SmallRng,
    catalogue: &Value,
    hierarchy: &Value,
    cycle: Cycle,
    counters: &mut Vec<Counter>,
) -> Vec<Record> {
    let spread: Vec<&Value> = list(catalogue, "meters").iter().filter(|meter| meter["spread"] == "time").collect();
    let mut records: Vec<Record> = Vec::new();
    if spread.is_empty() {
        return records;
    }
    let (root, accounts) = (Root::new(0, hierarchy.clone(), cycle, catalogue.clone()), accounts(hierarchy));
    let (first, end) = (start_of(cycle), start_of(cycle + 1));
    for _ in 0..rng.random_range(1..=3) {
        let meter = *one(rng, &spread);
        let account = one(rng, &accounts).clone();
        let series = series(rng, meter, account);
        for _ in 0..rng.random_range(1..=4) {
            let length = length(rng, meter);
            // A day into the cycle a few accounts come, and days before its end they go.
            let edge = *one(rng, &[first, first, end, end, first + 4 * DAY, first + 24 * DAY + DAY / 2]);
            let start = match rng.random_range(0..4) {
                0 => edge - length / 2,
                1 => edge - rng.random_range(0..=length),
                2 => first + rng.random_range(0..30) * DAY + rng.random_range(0..24) * HOUR,
                _ => first + rng.random_range(0..4) * HOUR + rng.random_range(0..HOUR),
            };
            let mut own = exact(&quantity(rng, scale_of(meter)));
            let corrects = chance(rng, 15);
            if corrects {
                own = -own;
            }
            let cut = parts(meter, &own, (start, start + length), &root.moves(&series.account));
            let cut = cut.expect("no longer than the longest");
            if cut.iter().all(|(at, _)| root.has_member(&series.account, *at)) {
                let (id, quantity) = (format!("s{}", records.len()), own);
                let (series, amount) = (series.clone(), None);
                records.push(Record { series, id, quantity, amount, start, end: start + length, corrects });
            }
        }
    }
    // What was taken back for nothing is another story; mostly there is something.
    if chance(rng, 70) {
        let sum = |own: &Record| -> Exact {
            records.iter().filter(|other| other.series == own.series).map(|own| &own.quantity).sum()
        };
        let below: Vec<bool> = records.iter().map(|own| sum(own) < whole(0)).collect();
        let mut below = below.into_iter();
        records.retain(|_| !below.next().expect("one each"));
    }
    counters.retain(|counter| records.iter().all(|record| record.series != counter.series));
    records
}
