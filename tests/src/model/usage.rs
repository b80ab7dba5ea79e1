//! The first stage: free pools in the catalogue's order, then every price's own free units and its ladder.

use serde_json::Value;

use super::charge::{charge, charge_records, give_free, same_item};
use super::exact::whole;
use super::ladder::tier_of;
use super::line::Line;
use super::measure::{Span, divisor};
use super::pool::{ALWAYS, Pool, Used, convert, pool_key, pools, together, windows};
use super::pool_year::{Year, charge_year, is_yearly};
use super::rounding::round_together;
use super::series::{list, matches, names, number, selects, text, without_attributes};

/// The lines of the first stage: free pools in the catalogue's order, then every price's ladder.
/// `measured` also has what has no price, since it can choose tiers.
pub fn usage_lines(
    catalogue: &Value,
    used: &mut [Used],
    measured: &[Used],
    span: Span,
    year: &mut Year<'_>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    // A SKU with a rate of its own has a price of its own.
    let own = list(catalogue, "skus").iter().filter(|sku| sku["price"].is_null());
    let own =
        own.map(|sku| serde_json::json!({ "id": sku["id"], "model": "per_unit", "rate": sku["rate"], "own": true }));
    let prices: Vec<Value> = list(catalogue, "prices").iter().cloned().chain(own).collect();
    let priced_by = |used: &Used, price: &Value| match used.sku["price"].as_str() {
        Some(id) => price["own"].is_null() && price["id"] == id,
        None => price["own"] == true && price["id"] == used.sku["id"],
    };
    for price in &prices {
        for mut pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            convert(&mut pool, price, span);
        }
    }
    for free in list(catalogue, "pools") {
        let draws = |used: &Used| names(&free["skus"]).iter().any(|sku| matches(sku, text(&used.sku["id"], "")));
        for mut pool in pools(used, draws, &names(&free["split_by"])) {
            let origin = format!("pool:{}", text(&free["id"], ""));
            let sequence = text(&free["share"], "prorata") == "sequence";
            give_free(&mut pool, &number(&free["units"], "0"), sequence, &origin, &mut lines, &ALWAYS);
        }
    }
    for price in &prices {
        for mut pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            if is_yearly(price) {
                let from = lines.len();
                charge_year(&mut pool, price, year, &mut lines);
                round_together(catalogue, &mut lines[from..]);
                lines[from..].iter_mut().for_each(|line| line.ladder = Some(from));
                year.post_charge(price, &pool[0].member.payer, &lines[from..]);
                continue;
            }
            let reached = reached_by(price, &pool, (catalogue, measured), span);
            let from = lines.len();
            if price["records"].is_object() {
                charge_records(&pool, price, span, &mut lines);
            }
            // Each day or hour is a pool of its own; what they make is one charge.
            for window in windows(&pool, price).into_iter().filter(|_| !price["records"].is_object()) {
                let mut within: Vec<Used> = pool.iter().map(|used| used.within(price, window)).collect();
                let mut pool: Pool<'_> = within.iter_mut().collect();
                charge(&mut pool, price, span, reached, &mut lines);
            }
            // What ladders that follow each other made stays apart.
            if list(price, "changes").is_empty() {
                merge(&mut lines, from);
            }
            round_together(catalogue, &mut lines[from..]);
            lines[from..].iter_mut().for_each(|line| line.ladder = Some(from));
        }
    }
    lines
}

/// The tier that other meters choose: the highest that what the pool's owner used of any of them reaches.
fn reached_by(price: &Value, pool: &Pool<'_>, (catalogue, measured): (&Value, &[Used]), span: Span) -> Option<usize> {
    let owners = ["account", "group", "payer", "root"];
    let mut keys: Vec<&str> = split_by(price).into_iter().filter(|key| owners.contains(key)).collect();
    if keys.is_empty() {
        keys.push("payer");
    }
    let owner = pool_key(pool[0], &keys);
    let lower = text(&price["bound"], "upper") == "lower";
    let reached = |chooser: &Value| {
        let meter = list(catalogue, "meters").iter().find(|meter| meter["id"] == chooser["meter"]).expect("declared");
        let counts = |used: &&Used| selects(meter, &without_attributes(&used.series)) && pool_key(used, &keys) == owner;
        // What corrections took below zero counts nothing.
        let own: Vec<&Used> = measured.iter().filter(counts).filter(|used| used.sum > whole(0)).collect();
        let total = together(&own, span) / divisor(meter, span);
        tier_of(list(chooser, "up_to").iter().map(Value::as_str).chain([None]), &total, lower)
    };
    list(price, "reached_by").iter().map(reached).max()
}

/// One line for what several hours or days made of one series and tier.
fn merge(lines: &mut Vec<Line>, from: usize) {
    for line in lines.split_off(from) {
        let same = |own: &&mut Line| same_item(own, &line) && own.origin == line.origin;
        match lines[from..].iter_mut().find(same) {
            Some(own) => {
                own.quantity += &line.quantity;
                own.amount += &line.amount;
            }
            None => lines.push(line),
        }
    }
    lines[from..].sort_by_key(|line| line.origin.parse::<u32>().unwrap_or(u32::MAX));
}

/// What keeps pools of a price apart; without a pool the payer's usage of each SKU.
fn split_by(price: &Value) -> Vec<&str> {
    if price["pool"].is_null() { vec!["payer", "sku"] } else { names(&price["pool"]["split_by"]) }
}
