//! To what and when amounts are rounded (decision 8).

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, divided, rounded_by};
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

/// With `round: line` a charge is rounded as a whole and divided again, ties by account, SKU, series, then tier.
pub fn round_together(catalogue: &Value, lines: &mut [Line]) {
    if !is_by_line(catalogue) {
        return;
    }
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|a, b| tie(&lines[*a]).cmp(&tie(&lines[*b])));
    let amounts: Vec<Exact> = order.iter().map(|at| lines[*at].amount.clone()).collect();
    let total = payable_of(catalogue, &amounts.iter().sum());
    if let Some(parts) =
        divided(&total, &amounts, decimals(catalogue)).filter(|_| !amounts.iter().sum::<Exact>().is_zero())
    {
        order.into_iter().zip(parts).for_each(|(at, part)| lines[at].amount = part);
    }
}

fn tie(line: &Line) -> (&str, &str, &Series, Option<&str>) {
    (&line.series.account, &line.sku, &line.series, line.group.as_deref())
}
