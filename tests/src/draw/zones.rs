//! Random time zones for the named hours of a catalogue: summer time by the rules of several places, and clocks that are set
//! by any number of hours at the edges of a cycle and where much is used.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::usage::merged;
use super::words::{chance, one};
use crate::model::calendar::{Cycle, DAY, cycle_name, cycle_of, hours_of, start_of, time_of};
use crate::model::measure::HOUR;
use crate::model::series::{Counter, list, text};

/// Puts hours that name an offset into zones; all of one meter into one, since no hour may be of two of its SKUs. As often
/// as not its usage is in the hours in which clocks are changed.
pub fn zones(rng: &mut SmallRng, catalogue: &mut Value, cycle: Cycle, counters: Vec<Counter>) -> Vec<Counter> {
    let mut zone_of: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut zones: Vec<Value> = Vec::new();
    for sku in catalogue["skus"].as_array_mut().into_iter().flatten() {
        if sku["match"]["hours"].is_null() {
            continue;
        }
        let zone = zone_of.entry(sku["match"]["usage_type"].to_string()).or_insert_with(|| {
            let id = chance(rng, 65).then(|| format!("Zone/{}", zones.len()));
            zones.extend(id.as_ref().map(|id| json!({ "id": id, "offsets": offsets(rng, cycle) })));
            id
        });
        if let Some(id) = zone {
            sku["match"]["hours"]["zone"] = json!(id);
        }
    }
    if zones.is_empty() {
        return counters;
    }
    let mut moved = Vec::new();
    for mut counter in counters {
        let zone = zone_of.get(&json!(counter.series.usage_type).to_string()).and_then(Option::as_ref);
        let zone = zones.iter().find(|own| zone.is_some_and(|id| own["id"] == id.as_str()));
        let hour = |change: &Value| (time_of(text(&change["from"], "")) - start_of(cycle)) / HOUR;
        let hours = list(zone.unwrap_or(&Value::Null), "offsets").iter().map(hour);
        let hours: Vec<i64> = hours.filter(|hour| (1..hours_of(cycle) - 1).contains(hour)).collect();
        if !hours.is_empty() && chance(rng, 50) {
            counter.bucket = *one(rng, &hours) + rng.random_range(-1..=1);
        }
        moved.push(counter);
    }
    catalogue["zones"] = json!(zones);
    merged(moved)
}

/// The first not after the cycle's beginning.
fn offsets(rng: &mut SmallRng, cycle: Cycle) -> Vec<Value> {
    let (start, hours) = (start_of(cycle), hours_of(cycle));
    let year = cycle / 12 * 12;
    let mut changes: BTreeMap<i64, i64> = BTreeMap::new();
    match rng.random_range(0..5) {
        // The last Sundays of March and October, 01:00 UTC.
        0 => {
            changes.insert(start_of(year - 12), 1);
            for year in [year - 12, year, year + 12] {
                changes.insert(sunday(year + 2, 4) + HOUR, 2);
                changes.insert(sunday(year + 9, 4) + HOUR, 1);
            }
        }
        // The second Sunday of March and the first of November, two o'clock by the clocks before.
        1 => {
            changes.insert(start_of(year - 12), -5);
            for year in [year - 12, year, year + 12] {
                changes.insert(sunday(year + 2, 1) + 7 * HOUR, -4);
                changes.insert(sunday(year + 10, 0) + 6 * HOUR, -5);
            }
        }
        // Summer in January: the first Sundays of April and October.
        2 => {
            changes.insert(start_of(year - 12), 11);
            for year in [year - 12, year, year + 12] {
                changes.insert(sunday(year + 3, 0) - 8 * HOUR, 10);
                changes.insert(sunday(year + 9, 0) - 8 * HOUR, 11);
            }
        }
        _ => {
            changes.insert(start - *one(rng, &[0, 1, 24, 1_000]) * HOUR, offset(rng));
            for _ in 0..rng.random_range(1..=3) {
                let hour = match rng.random_range(0..8) {
                    0 => 0,
                    1 => hours - 1,
                    2 => hours,
                    3..6 => rng.random_range(1..=4),
                    _ => rng.random_range(0..hours),
                };
                changes.insert(start + hour * HOUR, offset(rng));
            }
        }
    }
    let written = |(at, offset): (i64, i64)| json!({ "from": instant(at), "offset": shown(offset) });
    changes.into_iter().map(written).collect()
}

/// The first instant of a month's Sunday, from 0; the fourth is the last where there are but four.
fn sunday(month: Cycle, which: i64) -> i64 {
    let (first, end) = (start_of(month), start_of(month + 1));
    // 1970 began with a Thursday.
    let sunday = first + (3 - first / DAY).rem_euclid(7) * DAY;
    let found = sunday + which * 7 * DAY;
    if found < end { found } else { found - 7 * DAY }
}

/// Any that is in use on earth, so that a day may be skipped or come twice.
fn offset(rng: &mut SmallRng) -> i64 {
    if chance(rng, 50) { *one(rng, &[0, 1, 2]) } else { rng.random_range(-12..=14) }
}

fn shown(offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    if offset == 0 { "Z".to_owned() } else { format!("{sign}{:02}:00", offset.abs()) }
}

fn instant(at: i64) -> String {
    let cycle = cycle_of(at);
    let hours = (at - start_of(cycle)) / HOUR;
    format!("{}-{:02}T{:02}:00:00Z", cycle_name(cycle), hours / 24 + 1, hours % 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sundays_by_the_calendar() {
        fn check(year: u32, month: u32, which: i64, expected: &str) {
            assert_eq!(instant(sunday(year * 12 + month - 1, which)), format!("{expected}T00:00:00Z"));
        }
        check(2026, 3, 4, "2026-03-29");
        check(2026, 10, 4, "2026-10-25");
        check(2027, 2, 4, "2027-02-28");
        check(2026, 3, 1, "2026-03-08");
        check(2026, 11, 0, "2026-11-01");
    }
}
