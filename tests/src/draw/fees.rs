//! Random fees and who subscribes to them: from the first or the last day of a period on, for a day, across months, with
//! a quantity that changes; and SKUs whose minimum or flat part is due without usage.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::usage::accounts;
use super::words::{GROUPS, SERVICES, chance, decimal, one};
use crate::model::calendar::{Cycle, DAY, cycle_name, cycle_of, periods, start_of};
use crate::model::series::{list, names, text};

/// Up to three fees of a catalogue.
pub fn fees(rng: &mut SmallRng) -> Value {
    (0..rng.random_range(1..=3)).map(|index| fee(rng, &format!("fee{index}"))).collect()
}

fn fee(rng: &mut SmallRng, id: &str) -> Value {
    let period = *one(rng, &["once", "week", "month", "month", "quarter", "year"]);
    let amount = if chance(rng, 50) { (rng.random_range(0..=30) * 5).to_string() } else { decimal(rng, 400, 12) };
    // The unit of all SKUs, so that clauses may count units over everything.
    let mut fee = json!({ "id": id, "unit": "units", "amount": amount, "period": period });
    if chance(rng, 40) {
        fee["service"] = json!(*one(rng, SERVICES));
    }
    if period == "once" {
        return fee;
    }
    if chance(rng, 50) {
        fee["in"] = json!("advance");
    }
    match rng.random_range(0..4) {
        0 => fee["prorate"] = json!("none"),
        1 => fee["prorate"] = json!("time"),
        2 => fee["days"] = json!(*one(rng, &[7, 28, 30, 31, 90, 360, 365])),
        _ => {}
    }
    fee
}

/// Who takes the fees, and which SKUs are due without usage.
pub fn subscriptions(rng: &mut SmallRng, catalogue: &Value, hierarchy: &Value, cycle: Cycle) -> Value {
    let mut subscriptions: Vec<Value> = Vec::new();
    let fees = list(catalogue, "fees");
    for _ in 0..if fees.is_empty() { 0 } else { rng.random_range(1..=4) } {
        let fee = one(rng, fees);
        let mut own = who(rng, hierarchy);
        own["fee"] = fee["id"].clone();
        if chance(rng, 60) {
            own["quantity"] =
                json!(if chance(rng, 70) { rng.random_range(0..=9).to_string() } else { decimal(rng, 9, 12) });
        }
        let kind = text(&fee["period"], "month");
        let (from, to) = span(rng, if kind == "once" { "month" } else { kind }, cycle);
        (own["from"], own["to"]) = (json!(day(from)), to.map_or(Value::Null, |to| json!(day(to))));
        // The quantity changes: one ends where the next begins.
        let next = to.filter(|_| chance(rng, 40)).map(|to| {
            let mut next = own.clone();
            (next["from"], next["quantity"]) = (json!(day(to)), json!(rng.random_range(1..=20).to_string()));
            let until = to + rng.random_range(1..400) * DAY;
            next["to"] = if chance(rng, 50) { Value::Null } else { json!(day(until)) };
            next
        });
        subscriptions.extend([Some(own), next].into_iter().flatten());
    }
    let due = |sku: &&Value| can_be_due(catalogue, sku);
    for sku in list(catalogue, "skus").iter().filter(due) {
        for _ in 0..rng.random_range(0..=2) {
            let mut own = who(rng, hierarchy);
            own["sku"] = sku["id"].clone();
            let (from, to) = span(rng, "month", cycle);
            (own["from"], own["to"]) = (json!(day(from)), to.map_or(Value::Null, |to| json!(day(to))));
            subscriptions.push(own);
        }
    }
    for (index, own) in subscriptions.iter_mut().enumerate() {
        own["id"] = json!(format!("sub{index}"));
        own.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    }
    json!(subscriptions)
}

/// An account, a payer, or a group of a payer.
fn who(rng: &mut SmallRng, hierarchy: &Value) -> Value {
    let payer = one(rng, list(hierarchy, "payers"));
    match rng.random_range(0..3) {
        0 => json!({ "payer": payer }),
        1 => json!({ "payer": payer, "group": *one(rng, GROUPS) }),
        _ => json!({ "account": one(rng, &accounts(hierarchy)) }),
    }
}

/// Whether a SKU's price charges for nothing, and it is plain of which pool.
fn can_be_due(catalogue: &Value, sku: &Value) -> bool {
    let Some(price) = list(catalogue, "prices").iter().find(|price| price["id"] == sku["price"]) else { return false };
    let least = price["minimum"].as_str().is_some_and(|least| least.chars().any(|digit| ('1'..='9').contains(&digit)));
    let keys = names(&price["pool"]["split_by"]);
    let is_plain = |key: &&str| match key.strip_prefix("attribute:") {
        Some(name) => sku["match"]["attributes"][name].is_string(),
        None if *key == "region" => sku["match"]["region"].is_string(),
        None => *key != "service",
    };
    let prorates = !price["prorate_limits"].is_null();
    (least || price["flat_when_zero"] == true || prorates)
        && price["pool"]["period"].is_null()
        && keys.iter().all(is_plain)
}

/// When a subscription begins and ends: often at the edges of the cycle and of the period that its middle is in.
fn span(rng: &mut SmallRng, kind: &str, cycle: Cycle) -> (i64, Option<i64>) {
    let (first, end) = (start_of(cycle), start_of(cycle + 1));
    let mut edges = vec![first, end];
    edges.extend(periods(kind, first, end).into_iter().flat_map(|(from, until)| [from, until]));
    let at = |rng: &mut SmallRng| {
        let day = match rng.random_range(0..10) {
            0..5 => *one(rng, &edges) + *one(rng, &[-1, 0, 0, 0, 1]) * DAY,
            5..8 => first + rng.random_range(0..(end - first) / DAY) * DAY,
            8 => first - rng.random_range(1..500) * DAY,
            _ => end + rng.random_range(0..60) * DAY,
        };
        // Now and then an instant within the day, the last second among them.
        let second = if chance(rng, 50) { 86_399 } else { rng.random_range(0..86_400) };
        if chance(rng, 25) { day + second * 1_000_000_000 } else { day }
    };
    let from = at(rng);
    let to = match rng.random_range(0..4) {
        0 => None,
        1 => Some(from + *one(rng, &[1, DAY / 1_000_000_000, 2 * DAY / 1_000_000_000]) * 1_000_000_000),
        _ => Some(at(rng)).filter(|to| *to > from),
    };
    (from, to)
}

/// A day, or an instant where it is within one.
pub fn day(at: i64) -> String {
    let cycle = cycle_of(at);
    let (days, rest) = ((at - start_of(cycle)) / DAY, (at - start_of(cycle)) % DAY / 1_000_000_000);
    let date = format!("{}-{:02}", cycle_name(cycle), days + 1);
    if rest == 0 { date } else { format!("{date}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60) }
}
