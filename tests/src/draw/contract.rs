//! Random contracts for a catalogue, valid by construction: private rates and percentages of every kind, some with a
//! trigger, exclusions, dates of their own, or another order of stages.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::scope::{self, meter_of};
use super::terms::{self, MECHANISMS};
use super::words::{chance, decimal, one, quantity, rate};
use crate::model;
use crate::model::calendar::{Cycle, cycle_name};
use crate::model::series::{list, text};

/// The stages of private rates and percentages, in their usual order.
const STAGES: &[&str] = &["private_rates", "attribute_percent", "service_percent", "cross_service_percent"];

/// An order of stages, some of them perhaps off.
pub fn stages(rng: &mut SmallRng) -> Value {
    let mut order = model::contract::STAGES.to_vec();
    order.shuffle(rng);
    order.truncate(if chance(rng, 60) { order.len() } else { rng.random_range(1..=order.len()) });
    order.insert(0, "usage");
    order.push("rounding");
    json!(order)
}

/// A contract of `root` from `effective` on, of private rates and percentages alone.
pub fn contract(rng: &mut SmallRng, root: &str, effective: Cycle, catalogue: &Value) -> Value {
    draw(rng, root, effective, catalogue, None)
}

/// A contract of a hierarchy, of clauses of every mechanism.
pub fn deal(rng: &mut SmallRng, hierarchy: &Value, effective: Cycle, catalogue: &Value) -> Value {
    let mut contract = draw(rng, text(&hierarchy["root"], ""), effective, catalogue, Some(hierarchy));
    if chance(rng, 25) {
        let mut order = vec!["priority", "expiry", "services", "age"];
        order.shuffle(rng);
        order.truncate(rng.random_range(0..=4));
        contract["credit_order"] = json!(order);
    }
    contract
}

fn draw(rng: &mut SmallRng, root: &str, effective: Cycle, catalogue: &Value, all: Option<&Value>) -> Value {
    let mut contract = json!({ "kind": "Contract", "root": root, "effective": cycle_name(effective) });
    if chance(rng, 20) {
        contract["stages"] = stages(rng);
    }
    let until = chance(rng, 15).then(|| effective + rng.random_range(1..=3));
    if let Some(until) = until {
        contract["until"] = json!(cycle_name(until));
    }
    let order = if contract["stages"].is_null() { &catalogue["stages"] } else { &contract["stages"] };
    let is_on = |stage: &&str| order.is_null() || names(order, stage);
    let on: Vec<&str> = STAGES.iter().copied().filter(is_on).collect();
    let more: Vec<(&str, &str)> = MECHANISMS
        .iter()
        .filter(|(_, stages)| all.is_some() && stages.iter().all(is_on))
        .map(|(mechanism, stages)| (*mechanism, stages[0]))
        .collect();
    let mut clauses: Vec<Value> = Vec::new();
    let nothing = list(catalogue, "skus").is_empty() || (on.is_empty() && more.is_empty());
    let mut drawn = Vec::new();
    for _ in 0..if nothing { 0 } else { rng.random_range(0..=5) } {
        let other = all.filter(|_| !more.is_empty() && (on.is_empty() || chance(rng, 65)));
        drawn.extend(match other {
            Some(hierarchy) => {
                let which = *one(rng, &more);
                terms::clause(rng, which, (hierarchy, effective), catalogue)
            }
            None if on.is_empty() => None,
            None => Some(clause(rng, root, catalogue, &on)),
        });
    }
    if let Some(hierarchy) = all.filter(|_| !nothing && chance(rng, 8)) {
        drawn.extend(terms::exclusive(rng, hierarchy, catalogue, &on));
    }
    for (index, mut clause) in drawn.into_iter().enumerate() {
        clause["id"] = json!(format!("clause{index}"));
        if chance(rng, 20) {
            let from = effective + rng.random_range(0..=2);
            if until.is_none_or(|until| from < until) {
                clause["effective"] = json!(cycle_name(from));
                if chance(rng, 50) {
                    clause["until"] = json!(cycle_name(from + rng.random_range(1..=2)));
                }
            }
        } else if chance(rng, 10) {
            clause["until"] = json!(cycle_name(effective + rng.random_range(1..=2)));
        }
        clauses.push(clause);
    }
    contract["clauses"] = json!(clauses);
    contract
}

fn names(order: &Value, stage: &str) -> bool {
    order.as_array().into_iter().flatten().any(|own| own == stage)
}

fn clause(rng: &mut SmallRng, root: &str, catalogue: &Value, on: &[&str]) -> Value {
    let sku = one(rng, list(catalogue, "skus")).clone();
    let mut scope = scope::scope(rng, root, catalogue, &sku);
    let stage = if on.contains(&"private_rates") && chance(rng, 33) { "private_rates" } else { *one(rng, on) };
    let Some(kind) = stage.strip_suffix("_percent") else {
        let mut clause = json!({ "mechanism": "private_rate", "rate": rate(rng), "scope": scope });
        if chance(rng, 20) {
            // Below one currency unit, so that no full counter could cost more than a bill holds.
            clause["rate"] = json!(format!("0.{:03}", rng.random_range(1..1000)));
            clause["may_raise"] = json!(true);
        }
        return clause;
    };
    if kind == "service" {
        scope = json!({ "service": meter_of(catalogue, &sku)["service"] });
    }
    let percent = if chance(rng, 50) { rng.random_range(0..=100).to_string() } else { decimal(rng, 100, 9) };
    let mut clause = json!({ "mechanism": "percent", "kind": kind, "percent": percent, "scope": scope });
    if chance(rng, 25) {
        let other = one(rng, list(catalogue, "skus")).clone();
        let excluded =
            if chance(rng, 60) { json!({ "sku": other["id"] }) } else { scope::scope(rng, root, catalogue, &other) };
        clause["exclude"] = json!([excluded]);
    }
    if chance(rng, 30) {
        let other = one(rng, list(catalogue, "skus")).clone();
        let counted =
            if chance(rng, 60) { json!({ "sku": other["id"] }) } else { scope::scope(rng, root, catalogue, &other) };
        let mut trigger = json!({ "scope": counted, "per": *one(rng, &["payer", "root"]) });
        if chance(rng, 70) {
            trigger["bound"] = json!(*one(rng, &["upper", "lower"]));
        }
        trigger[*one(rng, &["spend", "quantity"])] = json!(quantity(rng, 1));
        clause["trigger"] = trigger;
    }
    clause
}
