//! The first stage: free pools in the catalogue's order, then every price's own free units and its ladder.

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, whole};
use super::ladder::ladder;
use super::line::Line;
use super::pool::{Pool, Used, convert, parts, pools, take};
use super::rounding::round_together;
use super::series::{Series, list, matches, names, number, selects, text};

/// The lines of the first stage: free pools in the catalogue's order, then every price's ladder.
pub fn usage_lines(catalogue: &Value, used: &mut [Used], hours: i64) -> Vec<Line> {
    let mut lines = Vec::new();
    let scale_of = |used: &Used| {
        let own = |meter: &&Value| selects(meter, &Series { attributes: Vec::new(), ..used.series.clone() });
        let meter = list(catalogue, "meters").iter().find(own).expect("what is counted has a meter");
        let count = text(&meter["aggregation"], "sum") == "count";
        if count { 0 } else { meter["scale"].as_u64().unwrap_or(12) }
    };
    // A SKU with a rate of its own has a price of its own.
    let own = list(catalogue, "skus").iter().filter(|sku| sku["price"].is_null());
    let own =
        own.map(|sku| serde_json::json!({ "id": sku["id"], "model": "per_unit", "rate": sku["rate"], "own": true }));
    let prices: Vec<Value> = list(catalogue, "prices").iter().cloned().chain(own).collect();
    let priced_by = |used: &Used, price: &Value| match used.sku["price"].as_str() {
        Some(id) => price["own"].is_null() && price["id"] == id,
        None => price["own"] == true && price["id"] == used.sku["id"],
    };
    fn split_by(price: &Value) -> Vec<&str> {
        if price["pool"].is_null() { vec!["payer", "sku"] } else { names(&price["pool"]["split_by"]) }
    }
    for price in &prices {
        for mut pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            convert(&mut pool, price, hours, &scale_of);
        }
    }
    for used in used.iter_mut() {
        used.quantity = used.units.clone();
        let values: Vec<Exact> = used.lots.iter().map(|(_, value)| value.clone()).collect();
        used.lots.iter_mut().zip(parts(&used.units, &values)).for_each(|(lot, part)| lot.1 = part);
    }
    for free in list(catalogue, "pools") {
        let draws = |used: &Used| names(&free["skus"]).iter().any(|sku| matches(sku, text(&used.sku["id"], "")));
        for mut pool in pools(used, draws, &names(&free["split_by"])) {
            let origin = format!("pool:{}", text(&free["id"], ""));
            give_free(&mut pool, &free["units"], text(&free["share"], "prorata") == "sequence", &origin, &mut lines);
        }
    }
    for price in &prices {
        let sequence = text(&price["attribution"], "prorata") == "sequence";
        for mut pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            give_free(&mut pool, &price["free_units"], sequence, "free", &mut lines);
            let from = lines.len();
            climb(&mut pool, price, sequence, &mut lines);
            round_together(catalogue, &mut lines[from..]);
        }
    }
    lines
}

/// Makes up to `units` of a pool free.
fn give_free(pool: &mut Pool<'_>, units: &Value, sequence: bool, origin: &str, lines: &mut Vec<Line>) {
    let total: Exact = pool.iter().map(|used| &used.units).sum();
    let free = take(pool, &number(units, "0").min(total), sequence);
    for (used, quantity) in pool.iter().zip(free) {
        push(lines, used, origin, quantity, whole(0));
    }
}

/// What is left climbs the ladder together; every slice is divided over the members, its amount like its quantity.
fn climb(pool: &mut Pool<'_>, price: &Value, sequence: bool, lines: &mut Vec<Line>) {
    let weights: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
    for (tier, quantity, amount) in ladder(price, &weights.iter().sum(), None) {
        let quantities = if sequence { take(pool, &quantity, true) } else { parts(&quantity, &weights) };
        let by_slice = sequence && !quantity.is_zero();
        let amounts = parts(&amount, if by_slice { &quantities } else { &weights });
        for ((used, quantity), amount) in pool.iter().zip(quantities).zip(amounts) {
            push(lines, used, &(tier + 1).to_string(), quantity, amount);
        }
    }
}

pub fn push(lines: &mut Vec<Line>, used: &Used, origin: &str, quantity: Exact, amount: Exact) {
    if quantity.is_zero() && amount.is_zero() {
        return;
    }
    let (payer, series) = (used.member.payer.clone(), used.series.clone());
    let sku = text(&used.sku["id"], "").to_owned();
    let (origin, of) = (origin.to_owned(), String::new());
    lines.push(Line { payer, series, sku, origin, of, quantity, amount });
}
