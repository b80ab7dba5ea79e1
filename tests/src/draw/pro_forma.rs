//! Random billing groups that are priced by themselves, and hierarchies whose accounts change their group or payer in the
//! cycle or with the next one.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::scope::scope;
use super::terms::percent;
use super::usage::accounts;
use super::words::{GROUPS, chance, decimal, one};
use crate::model::calendar::{Cycle, cycle_name};
use crate::model::series::{list, text};

/// Rules and lines of some groups.
pub fn groups(rng: &mut SmallRng, hierarchy: &Value, catalogue: &Value, effective: Cycle) -> Value {
    let mut groups = Vec::new();
    for group in GROUPS {
        if list(catalogue, "skus").is_empty() || !chance(rng, 70) {
            continue;
        }
        let account = one(rng, &accounts(hierarchy)).clone();
        let (rules, lines) = (rules(rng, hierarchy, catalogue), lines(rng, hierarchy, catalogue, effective));
        groups.push(json!({ "group": group, "account": account, "rules": rules, "lines": lines }));
    }
    groups.shuffle(rng);
    json!(groups)
}

/// Rules each of another width, so that no two that are alike overlap.
fn rules(rng: &mut SmallRng, hierarchy: &Value, catalogue: &Value) -> Vec<Value> {
    let sku = one(rng, list(catalogue, "skus")).clone();
    let mut scopes = vec![
        json!({ "sku": sku["id"] }),
        json!({ "usage_type": sku["match"]["usage_type"], "operation": *one(rng, &["read", "*"]) }),
        json!({ "usage_type": ["u*"] }),
        json!({ "service": "*" }),
        json!({ "account": [hierarchy["root"], "root-0", "root-1", "root-2"] }),
        json!({}),
    ];
    scopes.shuffle(rng);
    scopes.truncate(rng.random_range(0..=4));
    let rule = |(index, scope): (usize, Value)| {
        let mut rule = json!({ "id": format!("rule{index}"), "scope": scope });
        if chance(rng, 50) {
            rule["markup"] = json!(if chance(rng, 70) { percent(rng) } else { decimal(rng, 1000, 9) });
        } else {
            rule["discount"] = json!(percent(rng));
        }
        rule
    };
    scopes.into_iter().enumerate().map(rule).collect()
}

/// Lines by agreement, flat and of what the rules left.
fn lines(rng: &mut SmallRng, hierarchy: &Value, catalogue: &Value, effective: Cycle) -> Vec<Value> {
    let count = rng.random_range(0..=3);
    let line = |index: usize| {
        let sign = if chance(rng, 30) { "-" } else { "" };
        let mut line = json!({ "id": format!("line{index}") });
        if chance(rng, 50) {
            line["amount"] = json!(format!("{sign}{}", decimal(rng, 200, 4)));
        } else {
            line["percent"] = json!(format!("{sign}{}", percent(rng)));
            line["itemised"] = json!(chance(rng, 40));
            if chance(rng, 50) {
                let sku = one(rng, list(catalogue, "skus")).clone();
                line["scope"] = scope(rng, text(&hierarchy["root"], ""), catalogue, &sku);
            }
        }
        if line["itemised"] != true && chance(rng, 30) {
            line["account"] = json!(one(rng, &accounts(hierarchy)));
        }
        if chance(rng, 15) {
            line["until"] = json!(cycle_name(effective + rng.random_range(1..=2)));
        }
        line
    };
    (0..count).map(line).collect()
}

/// The hierarchy with other groups and payers, and the cycle in which that is applied: the cycle itself, all of which it
/// then counts for, or the next one, which changes nothing in this.
pub fn amended(rng: &mut SmallRng, hierarchy: &Value, cycle: Cycle) -> (Value, Cycle) {
    let mut amended = hierarchy.clone();
    let payers = list(hierarchy, "payers").to_vec();
    for account in amended["accounts"].as_array_mut().into_iter().flatten() {
        if chance(rng, 50) {
            account["group"] = if chance(rng, 80) { json!(*one(rng, GROUPS)) } else { Value::Null };
        }
        if chance(rng, 30) && !payers.contains(&account["id"]) {
            account["payer"] = one(rng, &payers).clone();
        }
        account.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    }
    (amended, cycle + u32::from(chance(rng, 40)))
}
