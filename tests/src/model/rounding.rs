//! To what and when amounts are rounded (decision 8).

use std::collections::BTreeMap;

use serde_json::Value;

use super::exact::{Exact, rounded_by, ten_to};
use super::line::Line;
use super::series::{Series, text};

/// Decimals of every amount and quantity.
pub const SCALE: i32 = 12;

/// Decimals that amounts are rounded to: the currency's own unless the catalogue says otherwise.
pub fn decimals(catalogue: &Value) -> i32 {
    let own = || minor_unit(text(&catalogue["currency"], ""));
    catalogue["rounding"]["decimals"].as_i64().map_or_else(own, |decimals| decimals as i32)
}

/// Decimals of a currency's minor unit (ISO 4217), of those that are drawn.
pub fn minor_unit(currency: &str) -> i32 {
    match currency {
        "JPY" => 0,
        "KWD" => 3,
        "USD" | "EUR" => 2,
        other => panic!("nobody draws {other}"),
    }
}

/// An amount as it can be paid.
pub fn payable_of(catalogue: &Value, amount: &Exact) -> Exact {
    rounded_by(amount, decimals(catalogue), text(&catalogue["rounding"]["mode"], "half_up"))
}

/// Whether every charge and every derived line is rounded, not only the payable.
pub fn is_by_line(catalogue: &Value) -> bool {
    text(&catalogue["rounding"]["at"], "total") == "line"
}

/// With `round: line` a charge is rounded as a whole, then what each series pays of it, then the lines of that; ties by
/// account, SKU, series, then tier.
pub fn round_together(catalogue: &Value, lines: &mut [Line]) {
    if !is_by_line(catalogue) {
        return;
    }
    let mut whose: BTreeMap<(String, String, Series, Option<String>), Vec<usize>> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let item = (line.series.account.clone(), line.sku.clone(), line.series.clone(), line.group.clone());
        whose.entry(item).or_default().push(at);
    }
    let paid: Vec<Exact> = whose.values().map(|own| own.iter().map(|at| &lines[*at].amount).sum()).collect();
    let total = payable_of(catalogue, &paid.iter().sum());
    for (own, part) in whose.into_values().zip(brought_to(&total, &paid, decimals(catalogue))) {
        let amounts: Vec<Exact> = own.iter().map(|at| lines[*at].amount.clone()).collect();
        for (at, part) in own.into_iter().zip(brought_to(&part, &amounts, decimals(catalogue))) {
            lines[at].amount = part;
        }
    }
}

/// Amounts rounded down, then steps more for the largest remainders until they come to the total.
fn brought_to(total: &Exact, amounts: &[Exact], decimals: i32) -> Vec<Exact> {
    let mut parts: Vec<Exact> = amounts.iter().map(|amount| rounded_by(amount, decimals, "floor")).collect();
    let step = ten_to(-decimals);
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|at| (&parts[*at] - &amounts[*at], *at));
    let mut order = order.into_iter();
    while parts.iter().sum::<Exact>() < *total {
        parts[order.next().expect("no part is more than a step short")] += &step;
    }
    parts
}
