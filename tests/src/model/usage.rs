//! The first stage: free pools in the catalogue's order, then every price's own free units and its ladder.

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, exact, rounded, whole};
use super::ladder::{ladder, tier_of, tiers_of};
use super::line::Line;
use super::pool::{Pool, Used, convert, parts, pool_key, pools, take, windows};
use super::rounding::{SCALE, round_together};
use super::series::{list, matches, names, number, selects, text, without_attributes};

/// The lines of the first stage: free pools in the catalogue's order, then every price's ladder.
/// `measured` also has what has no price, since it can choose tiers.
pub fn usage_lines(catalogue: &Value, used: &mut [Used], measured: &[Used], hours: i64) -> Vec<Line> {
    let mut lines = Vec::new();
    let scale_of = |used: &Used| {
        let own = |meter: &&Value| selects(meter, &without_attributes(&used.series));
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
    for price in &prices {
        for mut pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            convert(&mut pool, price, hours, &scale_of);
        }
    }
    for free in list(catalogue, "pools") {
        let draws = |used: &Used| names(&free["skus"]).iter().any(|sku| matches(sku, text(&used.sku["id"], "")));
        for mut pool in pools(used, draws, &names(&free["split_by"])) {
            let origin = format!("pool:{}", text(&free["id"], ""));
            give_free(&mut pool, &free["units"], text(&free["share"], "prorata") == "sequence", &origin, &mut lines);
        }
    }
    for price in &prices {
        for pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            let reached = reached_by(price, &pool, measured, catalogue);
            let from = lines.len();
            // Each day or hour is a pool of its own; what they make is one charge.
            for window in windows(&pool, price) {
                let mut within: Vec<Used> = pool.iter().map(|used| used.within(price, window)).collect();
                let mut pool: Pool<'_> = within.iter_mut().collect();
                charge(&mut pool, price, reached, &mut lines);
            }
            merge(&mut lines, from);
            round_together(catalogue, &mut lines[from..]);
            lines[from..].iter_mut().for_each(|line| line.ladder = Some(from));
        }
    }
    lines
}

/// The tier that other meters choose: the highest that what the pool's owner used of any of them reaches.
fn reached_by(price: &Value, pool: &Pool<'_>, measured: &[Used], catalogue: &Value) -> Option<usize> {
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
        let counted = |used: &Used| used.counted.clone().max(whole(0));
        let total = measured.iter().filter(counts).map(counted).sum();
        tier_of(list(chooser, "up_to").iter().map(Value::as_str).chain([None]), &total, lower)
    };
    list(price, "reached_by").iter().map(reached).max()
}

/// Free units, ladder, parts per record, minimum and maximum of one pool.
fn charge(pool: &mut Pool<'_>, price: &Value, reached: Option<usize>, lines: &mut Vec<Line>) {
    let sequence = text(&price["attribution"], "prorata") == "sequence";
    // What was used, whatever made it free.
    let brought: Vec<Exact> = pool.iter().map(|used| used.quantity.clone()).collect();
    let is_used = brought.iter().any(|quantity| !quantity.is_zero());
    give_free(pool, &price["free_units"], sequence, "free", lines);
    let weights: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
    let weights = if weights.iter().all(Exact::is_zero) { brought } else { weights };
    let from = lines.len();
    if pool.iter().any(|used| !used.units.is_zero()) {
        climb(pool, price, reached, sequence, lines);
    } else if price["flat_when_zero"] == true {
        flat_when_zero(pool, price, is_used.then_some(&weights), lines);
    }
    let subscriber = pool.iter().find(|used| used.subscribed);
    for used in pool.iter() {
        let records = whole(used.records.iter().map(|(_, records)| *records).sum::<u64>().into());
        push(lines, used, "per_record", whole(0), rounded(&(records * number(&price["per_record"], "0")), SCALE));
    }
    let charged: Exact = lines[from..].iter().map(|line| &line.amount).sum();
    let least = price["minimum"].as_str().map(exact).filter(|least| charged < *least);
    match (least, subscriber) {
        (Some(least), _) if is_used => {
            for (used, part) in pool.iter().zip(parts(&(least - &charged), &weights)) {
                push(lines, used, "minimum", whole(0), part);
            }
        }
        (Some(least), Some(subscriber)) => push(lines, subscriber, "minimum", whole(0), least - &charged),
        _ => {}
    }
    if let Some(most) = price["maximum"].as_str().map(exact).filter(|most| charged > *most) {
        // Series of the payer's own that bear a flat part may be among them.
        let mut charged_of: Vec<(Line, Exact)> = Vec::new();
        for line in &lines[from..] {
            match charged_of.iter_mut().find(|(own, _)| same_item(own, line)) {
                Some((_, sum)) => *sum += &line.amount,
                None => charged_of.push((line.clone(), line.amount.clone())),
            }
        }
        charged_of.sort_by_key(|(line, _)| {
            (line.series.account.clone(), line.sku.clone(), line.series.clone(), line.group.clone())
        });
        let amounts: Vec<Exact> = charged_of.iter().map(|(_, amount)| amount.clone()).collect();
        for ((line, _), amount) in charged_of.into_iter().zip(parts(&(most - charged), &amounts)) {
            lines.push(Line { origin: "maximum".to_owned(), quantity: whole(0), amount, ..line });
        }
    }
}

/// The first tier's flat part where all was free, divided like what was used; where nothing was used it is the first
/// subscriber's, or, if only a record came, the payer's.
fn flat_when_zero(pool: &Pool<'_>, price: &Value, brought: Option<&Vec<Exact>>, lines: &mut Vec<Line>) {
    let tier = &tiers_of(price)[0];
    let flat = number(&tier["flat"], "0");
    let flat = tier["cap"].as_str().map_or(flat.clone(), |cap| exact(cap).min(flat));
    match brought {
        Some(brought) => {
            for (used, part) in pool.iter().zip(parts(&flat, brought)) {
                push(lines, used, "1", whole(0), part);
            }
        }
        None if pool.iter().any(|used| used.subscribed) => {
            let subscriber = pool.iter().find(|used| used.subscribed).expect("there is one");
            push(lines, subscriber, "1", whole(0), flat);
        }
        None if pool.iter().any(|used| used.records.iter().any(|(_, records)| *records > 0)) => {
            let mut payer = pool[0].clone();
            payer.series.account = payer.member.payer.clone();
            payer.group = None;
            push(lines, &payer, "1", whole(0), flat);
        }
        None => {}
    }
}

fn same_item(a: &Line, b: &Line) -> bool {
    (&a.payer, &a.series, &a.sku, &a.group) == (&b.payer, &b.series, &b.sku, &b.group)
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

/// Makes up to `units` of a pool free.
fn give_free(pool: &mut Pool<'_>, units: &Value, sequence: bool, origin: &str, lines: &mut Vec<Line>) {
    let total: Exact = pool.iter().map(|used| &used.units).sum();
    let free = take(pool, &number(units, "0").min(total), sequence);
    for (used, quantity) in pool.iter().zip(free) {
        push(lines, used, origin, quantity, whole(0));
    }
}

/// What is left climbs the ladder together; every slice is divided over the members, its amount like its quantity.
fn climb(pool: &mut Pool<'_>, price: &Value, reached: Option<usize>, sequence: bool, lines: &mut Vec<Line>) {
    let weights: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
    for (tier, quantity, amount) in ladder(price, &weights.iter().sum(), reached) {
        let quantities = if sequence { take(pool, &quantity, true) } else { parts(&quantity, &weights) };
        let by_slice = sequence && !quantity.is_zero();
        let amounts = parts(&amount, if by_slice { &quantities } else { &weights });
        for ((used, quantity), amount) in pool.iter().zip(quantities).zip(amounts) {
            push(lines, used, &(tier + 1).to_string(), quantity, amount);
        }
    }
}

fn push(lines: &mut Vec<Line>, used: &Used, origin: &str, quantity: Exact, amount: Exact) {
    if quantity.is_zero() && amount.is_zero() {
        return;
    }
    let (payer, series) = (used.member.payer.clone(), used.series.clone());
    let sku = text(&used.sku["id"], "").to_owned();
    let (group, origin, of, ladder) = (used.group.clone(), origin.to_owned(), None, None);
    lines.push(Line { payer, series, sku, group, origin, of, ladder, quantity, amount });
}
