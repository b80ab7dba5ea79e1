//! Scopes of clauses, and the meter behind a SKU.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::words::{CLASSES, GROUPS, OPERATIONS, REGIONS, chance, one};
use crate::model::series::{list, text};

/// A scope that can hold usage of the SKU.
pub fn scope(rng: &mut SmallRng, root: &str, catalogue: &Value, sku: &Value) -> Value {
    let (meter, matches) = (meter_of(catalogue, sku), &sku["match"]);
    let mut scope = json!({});
    if chance(rng, 70) {
        scope["sku"] = sku["id"].clone();
    } else {
        scope["usage_type"] = if chance(rng, 50) { json!("u*") } else { json!([matches["usage_type"]]) };
    }
    if chance(rng, 25) {
        scope["operation"] = json!(*one(rng, OPERATIONS));
    }
    if chance(rng, 15) {
        scope["region"] = json!(matches["region"].as_str().unwrap_or(*one(rng, REGIONS)));
    }
    if chance(rng, 15) && !meter["attributes"].is_null() {
        let class = matches["attributes"]["class"].as_str().unwrap_or(*one(rng, CLASSES));
        scope["attributes"] = json!({ "class": class });
    }
    match rng.random_range(0..100) {
        0..10 => scope["account"] = json!(format!("{root}*")),
        10..15 => scope["account"] = json!([root, format!("{root}-0"), format!("{root}-1")]),
        15..22 => scope["group"] = json!(*one(rng, GROUPS)),
        22..29 => scope["payer"] = json!([root, format!("{root}-pay2")]),
        _ => {}
    }
    scope
}

/// The meter behind a SKU.
pub fn meter_of<'a>(catalogue: &'a Value, sku: &Value) -> &'a Value {
    let usage_type = text(&sku["match"]["usage_type"], "");
    let mut meters = list(catalogue, "meters").iter();
    meters.find(|meter| meter["usage_type"] == usage_type).expect("a SKU prices a meter")
}
