//! The reference fold: usage, catalogue and contract as plain JSON in, lines out, by the letter of BILLING.md.
//! Every rule stands once, in the order of the text. Counting and cycles live in `ledger.rs`.

use std::collections::BTreeMap;

use num_traits::{Signed, Zero};
use serde_json::Value;

use super::exact::{Exact, divided, exact, rounded, whole};

/// Decimals of every amount and quantity (decision 8).
const SCALE: i32 = 12;

/// What a counter counts for. The order of the fields is the order of ties: account, then the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub account: String,
    pub service: String,
    pub usage_type: String,
    pub operation: String,
    pub region: String,
    pub attributes: Vec<(String, String)>,
}

/// A counter: what one series used in one bucket (the bucket's first instant in nanoseconds).
#[derive(Clone, Debug)]
pub struct Counter {
    pub series: Series,
    pub bucket: i64,
    pub value: Exact,
}

/// Who pays for an account and which billing group it is in.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub payer: String,
    pub group: String,
}

/// A line of a bill: a tier's or free slice of one series, or what a clause takes off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub payer: String,
    pub series: Series,
    pub sku: String,
    /// `1` for the first tier, `free` for free units, `pool:<id>` for a free pool, `clause:<id>` for a contract's clause.
    pub origin: String,
    pub quantity: Exact,
    pub amount: Exact,
}

/// A part of a series' quantity on its way through pools and ladder.
#[derive(Clone, Debug)]
struct Lot {
    series: Series,
    bucket: i64,
    member: Member,
    sku: String,
    units: Exact,
}

pub fn list<'a>(document: &'a Value, field: &str) -> &'a [Value] {
    document[field].as_array().map_or(&[], Vec::as_slice)
}

pub fn text<'a>(value: &'a Value, default: &'a str) -> &'a str {
    value.as_str().unwrap_or(default)
}

fn number(value: &Value, default: &str) -> Exact {
    exact(text(value, default))
}

/// `*` stands for any run of characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|left| {
            (0..=left.len()).filter(|at| left.is_char_boundary(*at)).any(|at| matches(rest, &left[at..]))
        }),
    }
}

/// Whether a selector (missing fields are `*`) holds a series.
pub fn selects(selector: &Value, series: &Series) -> bool {
    let attribute = |name: &str| series.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    matches(text(&selector["service"], "*"), &series.service)
        && matches(text(&selector["usage_type"], "*"), &series.usage_type)
        && matches(text(&selector["operation"], "*"), &series.operation)
        && matches(text(&selector["region"], "*"), &series.region)
        && selector["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, pattern)| attribute(name).is_some_and(|value| matches(text(pattern, "*"), value)))
}

/// The key of the pool that a lot belongs to (decision 4); per payer where no owner is named.
fn pool_key(lot: &Lot, split_by: &[&str]) -> Vec<String> {
    let owned = split_by.iter().any(|key| ["account", "group", "payer", "root"].contains(key));
    let implied = if owned { &[][..] } else { &["payer"][..] };
    let value = |key: &&str| match *key {
        "account" => lot.series.account.clone(),
        "group" => lot.member.group.clone(),
        "payer" => lot.member.payer.clone(),
        "root" => String::new(),
        "region" => lot.series.region.clone(),
        "service" => lot.series.service.clone(),
        "sku" => lot.sku.clone(),
        attribute => {
            let name = attribute.strip_prefix("attribute:").expect("the last kind of key");
            let found = lot.series.attributes.iter().find(|(own, _)| own == name);
            found.map_or(String::new(), |(_, value)| value.clone())
        }
    };
    split_by.iter().chain(implied).map(value).collect()
}

/// Splits lots into pools, each in the order of ties: account, then SKU, then the rest.
fn pools<'a>(lots: impl Iterator<Item = &'a mut Lot>, split_by: &[&str]) -> Vec<Vec<&'a mut Lot>> {
    let mut found: BTreeMap<Vec<String>, Vec<&mut Lot>> = BTreeMap::new();
    for lot in lots {
        found.entry(pool_key(lot, split_by)).or_default().push(lot);
    }
    for lots in found.values_mut() {
        lots.sort_by(|a, b| {
            (&a.series.account, &a.sku, &a.series, a.bucket).cmp(&(&b.series.account, &b.sku, &b.series, b.bucket))
        });
    }
    found.into_values().collect()
}

fn units_of(lots: &[&mut Lot]) -> Vec<Exact> {
    lots.iter().map(|lot| lot.units.clone()).collect()
}

fn set_units(lots: &mut [&mut Lot], total: &Exact) {
    if let Some(parts) = divided(total, &units_of(lots), SCALE) {
        lots.iter_mut().zip(parts).for_each(|(lot, part)| lot.units = part);
    }
}

/// The slices of a price for a pool's quantity: tier, quantity, amount (decisions 2, 5, 8).
pub fn ladder(price: &Value, quantity: &Exact) -> Vec<(usize, Exact, Exact)> {
    let one = [serde_json::json!({ "rate": price["rate"] })];
    let tiers = if list(price, "tiers").is_empty() { &one[..] } else { list(price, "tiers") };
    let lower = text(&price["bound"], "upper") == "lower";
    let mut slices = Vec::new();
    let mut begin = whole(0);
    for (index, tier) in tiers.iter().enumerate() {
        let end = tier["up_to"].as_str().map(exact);
        let inside = end.as_ref().is_none_or(|end| if lower { quantity < end } else { quantity <= end });
        let (rate, flat) = (number(&tier["rate"], "0"), number(&tier["flat"], "0"));
        let slice = match text(&price["model"], "per_unit") {
            "package" => {
                let size = number(&price["package"]["size"], "1");
                let blocks = quantity / size;
                let up = text(&price["package"]["round"], "up") == "up";
                Some((quantity.clone(), if up { blocks.ceil() } else { blocks.floor() } * rate))
            }
            "volume" => inside.then(|| (quantity.clone(), quantity * rate + flat)),
            _ => {
                let part = end.clone().filter(|_| !inside).unwrap_or_else(|| quantity.clone()) - &begin;
                Some((part.clone(), part * rate + flat))
            }
        };
        if let Some((part, amount)) = slice.filter(|(part, amount)| !part.is_zero() || !amount.is_zero()) {
            slices.push((index, part, rounded(&amount, SCALE)));
        }
        if inside {
            break;
        }
        begin = end.expect("only the last tier has no end");
    }
    slices
}

/// What one price makes of the lots of all its pools.
fn charge(price: &Value, lots: &mut [Lot], lines: &mut Vec<Line>) {
    let split_by: Vec<&str> = match price["pool"]["split_by"].as_array() {
        Some(keys) => keys.iter().map(|key| text(key, "")).collect(),
        None if price["pool"].is_null() => vec!["payer", "sku"],
        None => Vec::new(),
    };
    for mut pool in pools(lots.iter_mut(), &split_by) {
        let total: Exact = units_of(&pool).iter().sum();
        if let Some(decimals) = price["round_units"]["decimals"].as_i64() {
            assert_eq!(text(&price["round_units"]["mode"], "half_up"), "half_up", "the model rounds half up alone");
            set_units(&mut pool, &rounded(&total, decimals as i32));
        }
        let total: Exact = units_of(&pool).iter().sum();
        let free = number(&price["free_units"], "0").min(total.clone());
        let mut slices = vec![("free".to_owned(), free.clone(), whole(0))];
        for (tier, quantity, amount) in ladder(price, &(&total - &free)) {
            slices.push(((tier + 1).to_string(), quantity, amount));
        }
        let sequence = text(&price["attribution"], "prorata") == "sequence";
        share(&pool, &slices, sequence, lines);
    }
}

/// Divides slices among a pool's lots: by each lot's share of all units, or in sequence of time (section 1.2).
fn share(pool: &[&mut Lot], slices: &[(String, Exact, Exact)], sequence: bool, lines: &mut Vec<Line>) {
    let mut order: Vec<&Lot> = pool.iter().map(|lot| &**lot).collect();
    if sequence {
        order.sort_by_key(|lot| {
            (lot.bucket, lot.series.account.clone(), lot.series.usage_type.clone(), lot.series.clone())
        });
    }
    let mut begin = whole(0);
    for (origin, quantity, amount) in slices.iter().filter(|slice| !slice.1.is_zero() || !slice.2.is_zero()) {
        let end = &begin + quantity;
        let mut at = whole(0);
        let weight = |lot: &&Lot| {
            let from = at.clone();
            at += &lot.units;
            if sequence {
                (at.clone().min(end.clone()) - from.max(begin.clone())).max(whole(0))
            } else {
                lot.units.clone()
            }
        };
        let weights: Vec<Exact> = order.iter().map(weight).collect();
        let parts = |whole: &Exact| divided(whole, &weights, SCALE).expect("a slice has units");
        for ((lot, quantity), amount) in order.iter().zip(parts(quantity)).zip(parts(amount)) {
            let (payer, series, sku) = (lot.member.payer.clone(), lot.series.clone(), lot.sku.clone());
            lines.push(Line { payer, series, sku, origin: origin.clone(), quantity, amount });
        }
        begin = end;
    }
}
