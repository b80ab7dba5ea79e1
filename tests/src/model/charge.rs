//! What one pool costs under its price: free units, its ladder or those that follow each other, parts per record, minimum
//! and maximum (decisions 2, 6, 7, 9 and 10).

use std::ops::Range;

use num_traits::Zero;
use serde_json::Value;

use super::calendar::time_of;
use super::exact::{Exact, exact, rounded, whole};
use super::ladder::{Slice, ladder, ladder_part, tiers_of, walked};
use super::line::Line;
use super::measure::{HOUR, Span, counted_of};
use super::pool::{ALWAYS, Pool, Used, levels, parts, take};
use super::prorate::{Taken, prorated};
use super::record::Record;
use super::rounding::SCALE;
use super::series::{list, number, text};

/// Free units, ladder, parts per record, minimum and maximum of one pool.
pub fn charge(pool: &mut Pool<'_>, price: &Value, span: Span, reached: Option<usize>, lines: &mut Vec<Line>) {
    let sequence = text(&price["attribution"], "prorata") == "sequence";
    // What was used, whatever made it free.
    let brought: Vec<Exact> = pool.iter().map(|used| used.quantity.clone()).collect();
    let is_used = brought.iter().any(|quantity| !quantity.is_zero());
    let versions = versions(price, span);
    let mut free = number(&price["free_units"], "0");
    for (hours, _) in &versions {
        free -= give_free(pool, &free, sequence, "free", lines, hours);
    }
    let weights: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
    let weights = if weights.iter().all(Exact::is_zero) { brought } else { weights };
    let from = lines.len();
    let total: Exact = pool.iter().map(|used| &used.units).sum();
    if !total.is_zero() {
        let mut begin = whole(0);
        for (hours, price) in &versions {
            let units: Exact = pool.iter().map(|used| used.units_in(hours)).sum();
            let end = &begin + units;
            let slices = match versions.len() {
                1 if price["prorate"] == "ladder" => walked(price, &levels(pool, span), span.hours, &pool[0].sku),
                1 => ladder(price, &total, reached),
                _ if end == begin => Vec::new(),
                _ => ladder_part(price, &begin, &end, &total),
            };
            climb(pool, slices, sequence, lines, hours);
            begin = end;
        }
    } else if price["flat_when_zero"] == true {
        flat_when_zero(pool, &versions[0].1, is_used.then_some(&weights), lines);
    }
    per_record(pool, price, lines);
    bound(pool, price, span, is_used.then_some(&weights), from, lines);
}

/// What each record adds.
pub fn per_record(pool: &Pool<'_>, price: &Value, lines: &mut Vec<Line>) {
    for used in pool.iter() {
        let records = whole(used.records.iter().map(|(_, records)| *records).sum::<u64>().into());
        push(lines, used, "per_record", whole(0), rounded(&(records * number(&price["per_record"], "0")), SCALE));
    }
}

/// The ladders that hold one after the other in a cycle, each with its hours.
fn versions(price: &Value, span: Span) -> Vec<(Range<i64>, Value)> {
    let mut versions = vec![(ALWAYS, price.clone())];
    for change in list(price, "changes") {
        let from = (time_of(text(&change["from"], "")) - span.start) / HOUR;
        let mut next = price.clone();
        for field in ["rate", "tiers"] {
            next[field] = change[field].clone();
        }
        if from >= span.hours {
            break;
        }
        if from <= 0 {
            versions = vec![(ALWAYS, next)];
            continue;
        }
        versions.last_mut().expect("the first").0.end = from;
        versions.push((from..i64::MAX, next));
    }
    versions
}

/// A percentage that looks at records one by one, in order of time, then id: free ones first (decision 2).
pub fn charge_records(pool: &Pool<'_>, price: &Value, span: Span, lines: &mut Vec<Line>) {
    let rule = &price["records"];
    let mut records: Vec<(i64, String, usize, Exact)> = Vec::new();
    for (place, used) in pool.iter().enumerate() {
        let own = |record: &Record| (record.start, record.id.clone(), place, counted_of(&used.meter, record));
        records.extend(used.kept.iter().map(own));
    }
    records.sort();
    let mut free = rule["free"].as_u64();
    let mut free_amount = rule["free_amount"].as_str().map(exact);
    // Free, charged, and what it costs, of each member.
    let mut sums = vec![(whole(0), whole(0), whole(0)); pool.len()];
    for (_, _, place, size) in records {
        let some_left = free.is_none_or(|left| left > 0) && free_amount.as_ref().is_none_or(|left| *left > whole(0));
        let allowed = some_left && (free.is_some() || free_amount.is_some());
        let part = match &free_amount {
            _ if !allowed => whole(0),
            Some(left) => left.clone().min(size.clone()),
            None => size.clone(),
        };
        if allowed {
            free = free.map(|left| left - 1);
            free_amount = free_amount.map(|left| left - &part);
        }
        sums[place].0 += &part;
        if allowed && part == size {
            continue;
        }
        let rest = size - part;
        let cost = &rest * number(&price["percent"], "0") / whole(100) + number(&price["per_record"], "0");
        let cost = cost.max(number(&rule["minimum"], "0"));
        let cost = rule["maximum"].as_str().map_or(cost.clone(), |most| exact(most).min(cost));
        sums[place].1 += rest;
        sums[place].2 += cost;
    }
    let from = lines.len();
    for (used, (free, charged, cost)) in pool.iter().zip(&sums) {
        push(lines, used, "free", free.clone(), whole(0));
        push(lines, used, "1", charged.clone(), rounded(cost, SCALE));
    }
    let brought: Vec<Exact> = pool.iter().map(|used| used.quantity.clone()).collect();
    let is_used = brought.iter().any(|quantity| !quantity.is_zero());
    let charged: Vec<Exact> = sums.into_iter().map(|(_, charged, _)| charged).collect();
    let weights = if charged.iter().all(Exact::is_zero) { brought } else { charged };
    bound(pool, price, span, is_used.then_some(&weights), from, lines);
}

/// A price's own minimum and maximum on the lines from `from` on; `weights` where anything was used.
fn bound(pool: &Pool<'_>, price: &Value, span: Span, weights: Option<&Vec<Exact>>, from: usize, lines: &mut Vec<Line>) {
    let charged: Exact = lines[from..].iter().map(|line| &line.amount).sum();
    // By the time that any subscription of the pool fills; in full where there is none.
    let taken: Vec<Taken> = pool.iter().flat_map(|used| used.taken.iter().copied()).collect();
    let limit = |field: &str| {
        let amount = exact(price[field].as_str()?);
        if taken.is_empty() { Some(amount) } else { prorated(&amount, &price["prorate_limits"], &taken, span) }
    };
    let least = limit("minimum").filter(|least| charged < *least);
    match (least, weights, pool.iter().find(|used| used.subscribed)) {
        (Some(least), Some(weights), _) => {
            for (used, part) in pool.iter().zip(parts(&(least - &charged), weights)) {
                push(lines, used, "minimum", whole(0), part);
            }
        }
        (Some(least), None, Some(subscriber)) => push(lines, subscriber, "minimum", whole(0), least - &charged),
        _ => {}
    }
    if let Some(most) = limit("maximum").filter(|most| charged > *most) {
        hold_at(&most, from, lines);
    }
}

/// Takes the lines from `from` on down to `most`, each series by what it is charged.
pub fn hold_at(most: &Exact, from: usize, lines: &mut Vec<Line>) {
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
    let over = most - amounts.iter().sum::<Exact>();
    for ((line, _), amount) in charged_of.into_iter().zip(parts(&over, &amounts)) {
        lines.push(Line { origin: "maximum".to_owned(), quantity: whole(0), amount, ..line });
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

pub fn same_item(a: &Line, b: &Line) -> bool {
    (&a.payer, &a.series, &a.sku, &a.group) == (&b.payer, &b.series, &b.sku, &b.group)
}

/// Makes up to `units` of what a pool used in some hours free, and says how much that was.
pub fn give_free(
    pool: &mut Pool<'_>,
    units: &Exact,
    sequence: bool,
    origin: &str,
    lines: &mut Vec<Line>,
    hours: &Range<i64>,
) -> Exact {
    let used: Exact = pool.iter().map(|used| used.units_in(hours)).sum();
    let free = take(pool, &units.clone().min(used), sequence, hours);
    for (used, quantity) in pool.iter().zip(&free) {
        push(lines, used, origin, quantity.clone(), whole(0));
    }
    free.into_iter().sum()
}

/// Every slice is divided over the members by what of them is left in some hours, its amount like its quantity.
pub fn climb(pool: &mut Pool<'_>, slices: Vec<Slice>, sequence: bool, lines: &mut Vec<Line>, hours: &Range<i64>) {
    let weights: Vec<Exact> = pool.iter().map(|used| used.units_in(hours)).collect();
    for (tier, quantity, amount) in slices {
        let quantities = if sequence { take(pool, &quantity, true, hours) } else { parts(&quantity, &weights) };
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
    let (group, origin, of, ladder) = (used.group.clone(), origin.to_owned(), None, None);
    lines.push(Line { payer, series, sku, group, origin, of, ladder, quantity, amount });
}
