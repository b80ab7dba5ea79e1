//! Named hours and weekdays of selectors (decision 10): a series whose meter keeps hours is divided over the SKUs that name
//! them, corrections taken off before. Whose hours they are is said by an offset, or by a zone of the catalogue, which
//! lists when its clocks are set to what.

use std::collections::BTreeMap;

use serde_json::Value;

use super::calendar::time_of;
use super::exact::Exact;
use super::measure::{HOUR, Span};
use super::pool::Used;
use super::series::{list, names, text};

const WEEKDAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The zones of a catalogue by id: from which hour since 1970 on their clocks show how many hours more than UTC's.
type Zones = BTreeMap<String, Vec<(i64, i64)>>;

fn zones(catalogue: &Value) -> Zones {
    let change = |own: &Value| (time_of(text(&own["from"], "")).div_euclid(HOUR), ahead(text(&own["offset"], "")));
    let zone = |own: &Value| (text(&own["id"], "").to_owned(), list(own, "offsets").iter().map(change).collect());
    list(catalogue, "zones").iter().map(zone).collect()
}

/// Hours of `Z`, `+01:00`.
fn ahead(offset: &str) -> i64 {
    let hours = if offset == "Z" { "0" } else { offset.trim_end_matches(":00") };
    hours.parse().expect("an offset of whole hours")
}

/// Whether an hour since 1970, UTC, is among the named ones.
fn holds(zones: &Zones, hours: &Value, hour: i64) -> bool {
    let zone = text(&hours["zone"], "Z");
    let ahead = match zones.get(zone) {
        // What the clocks are set to at last; before the first change what they are set to first.
        Some(changes) => changes.iter().rev().find(|(from, _)| *from <= hour).unwrap_or(&changes[0]).1,
        None => ahead(zone),
    };
    let local = hour + ahead;
    // 1970 began with a Thursday.
    let weekday = WEEKDAYS[(local.div_euclid(24) + 3).rem_euclid(7) as usize];
    let of_day = local.rem_euclid(24);
    let inside = |span: &Value| {
        let days = names(&span["days"]);
        let bound = |field: &str, default| span[field].as_i64().unwrap_or(default);
        (days.is_empty() || days.contains(&weekday)) && (bound("from", 0)..bound("to", 24)).contains(&of_day)
    };
    match list(hours, "except") {
        [] => list(hours, "at").iter().any(inside),
        except => !except.iter().any(inside),
    }
}

/// The parts of a series under the SKUs that can price it, by their hours; null where an hour has none.
pub fn divided(catalogue: &Value, used: &Used, skus: &[&Value], span: Span) -> Vec<Used> {
    let zones = zones(catalogue);
    let sku_at = |hour: i64| {
        let named = |sku: &&&Value| {
            let hours = &sku["match"]["hours"];
            hours.is_null() || holds(&zones, hours, span.start / HOUR + hour)
        };
        skus.iter().find(named).map_or(Value::Null, |sku| (*sku).clone())
    };
    let hours = used.lots.iter().map(|(hour, _)| *hour);
    let mut by_sku: BTreeMap<String, (Value, Vec<i64>)> = BTreeMap::new();
    for hour in hours {
        let sku = sku_at(hour);
        by_sku.entry(sku["id"].to_string()).or_insert_with(|| (sku, Vec::new())).1.push(hour);
    }
    let part = |(sku, hours): (Value, Vec<i64>)| {
        let mut own = Used { sku, ..used.clone() };
        own.lots.retain(|(hour, _)| hours.contains(hour));
        own.records.retain(|(hour, _)| hours.contains(hour));
        own.counters.retain(|(minute, _)| hours.contains(&(minute / 60)));
        own.measure.buckets.retain(|(minute, _)| hours.contains(&(minute / 60)));
        own.counted = own.alone();
        own.sum = own.lots.iter().map(|(_, size)| size).sum::<Exact>();
        own
    };
    by_sku.into_values().map(part).collect()
}
