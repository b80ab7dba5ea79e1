//! Random currencies of bills: for all payers or for some, by rates with few decimals and with many that change around the
//! cycle's end.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::fees::day;
use super::words::{chance, decimal, one};
use crate::model::calendar::{Cycle, DAY, cycle_name, months, start_of};
use crate::model::series::{list, text};

/// A clause for all that no other names, one for a payer, or both.
pub fn clauses(rng: &mut SmallRng, contract: &Value, catalogue: &Value, hierarchy: &Value, cycle: Cycle) -> Vec<Value> {
    let mut clauses = Vec::new();
    for whose in [None, Some(one(rng, list(hierarchy, "payers")).clone())] {
        if chance(rng, 60) {
            clauses.push(clause(rng, contract, catalogue, whose, cycle));
        }
    }
    for (index, clause) in clauses.iter_mut().enumerate() {
        clause["id"] = json!(format!("currency{index}"));
    }
    clauses
}

fn clause(rng: &mut SmallRng, contract: &Value, catalogue: &Value, payer: Option<Value>, cycle: Cycle) -> Value {
    let from = text(&catalogue["currency"], "");
    let others: Vec<&str> = ["EUR", "JPY", "KWD", "USD"].into_iter().filter(|to| *to != from).collect();
    let mut clause = json!({ "mechanism": "currency", "from": from, "to": *one(rng, &others) });
    clause["payer"] = payer.unwrap_or_default();
    let effective = months(text(&contract["effective"], ""));
    let end = start_of(cycle + 1);
    let mut dates = vec![start_of(effective) - rng.random_range(0..100) * DAY];
    // The rate that counts begins before the cycle's end, the last second among them.
    for edge in [start_of(cycle), end - 2 * DAY, end - DAY, end - 1_000_000_000, end, end + DAY] {
        if chance(rng, 40) {
            dates.push(edge);
        }
    }
    dates.sort();
    dates.dedup();
    let rate = |rng: &mut SmallRng| match rng.random_range(0..5) {
        0 => "0.004999999999999999".to_owned(),
        1 => format!("0.{:018}", rng.random_range(1..1_000_000_000_000_000_000u64)),
        2 => format!("{}.5", rng.random_range(1..200)),
        3 => format!("{}1", decimal(rng, 9, 6).replace('.', "") + "."),
        _ => format!("0.{:04}", rng.random_range(1..10_000)),
    };
    clause["rates"] =
        dates.into_iter().map(|date| json!({ "effective": day(date), "rate": rate(rng) })).collect::<Vec<_>>().into();
    if chance(rng, 20) {
        clause["decimals"] = json!(rng.random_range(-2..=4));
    }
    if chance(rng, 15) && effective < cycle {
        clause["until"] = json!(cycle_name(cycle));
    }
    clause.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    clause
}
