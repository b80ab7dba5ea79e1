//! Random clauses beyond flat private rates and percentages: rates by tier, waivers, what grows with spend, what has a
//! balance, what is charged beside usage. Valid by construction.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::scope::scope;
use super::usage::accounts;
use super::words::{chance, decimal, one, quantity, rate};
use crate::model::calendar::{Cycle, cycle_name};
use crate::model::exact::{Exact, exact};
use crate::model::series::{list, text};

/// Every mechanism that [`clause`] draws, with the stages that it needs.
pub const MECHANISMS: &[(&str, &[&str])] = &[
    ("tiered_rate", &["private_rates"]),
    ("waiver", &["usage_waiver"]),
    ("volume", &["volume"]),
    ("fixed_discount", &["cross_service_percent"]),
    ("credit", &["credits_before"]),
    ("credit", &["credits_after"]),
    ("commitment", &["cross_service_percent", "shortfall"]),
    ("minimum", &["limits"]),
    ("maximum", &["limits"]),
    ("prepayment", &["prepayment"]),
    ("percent_fee", &["fees"]),
    ("fee", &["fees"]),
    ("custom_line", &["fees"]),
    ("tax", &["tax"]),
];

/// A percentage from 0 to 100, now round, now with so many decimals that every product must be rounded.
pub fn percent(rng: &mut SmallRng) -> String {
    if chance(rng, 60) { rng.random_range(0..=100).to_string() } else { decimal(rng, 100, 9) }
}

/// An amount that bills reach exactly now and then.
fn amount(rng: &mut SmallRng) -> String {
    if chance(rng, 60) { (rng.random_range(0..=40) * 5).to_string() } else { decimal(rng, 300, 4) }
}

/// Steps from zero, the last without end.
fn steps(rng: &mut SmallRng, field: &str, draw: impl Fn(&mut SmallRng) -> String) -> Value {
    let count = rng.random_range(1..=4);
    let mut bound = 0;
    let mut step = |index: usize| {
        let mut step = json!({});
        step[field] = json!(draw(rng));
        if index + 1 < count {
            bound += rng.random_range(1..=8) * 5;
            step["up_to"] = json!(bound.to_string());
        }
        step
    };
    (0..count).map(&mut step).collect()
}

/// All lines now and then, else some; one in four leaves something out.
fn place(rng: &mut SmallRng, clause: &mut Value, root: &str, catalogue: &Value) {
    let some = |rng: &mut SmallRng| {
        let sku = one(rng, list(catalogue, "skus")).clone();
        scope(rng, root, catalogue, &sku)
    };
    if chance(rng, 60) {
        clause["scope"] = some(rng);
    }
    if chance(rng, 25) {
        clause["exclude"] = json!([some(rng)]);
    }
}

/// A clause of a mechanism and the stage that it begins in; `None` where the catalogue has too little for it.
pub fn clause(
    rng: &mut SmallRng,
    (mechanism, stage): (&str, &str),
    (hierarchy, effective): (&Value, Cycle),
    catalogue: &Value,
) -> Option<Value> {
    let root = text(&hierarchy["root"], "");
    let mut clause = json!({ "mechanism": mechanism });
    let whose = *one(rng, &["payer", "root"]);
    let climb = *one(rng, &["volume", "graduated"]);
    let bound = *one(rng, &["lower", "upper"]);
    let account = one(rng, &accounts(hierarchy)).clone();
    let payer = list(hierarchy, "payers").first().map_or(json!(root), Value::clone);
    let some = |rng: &mut SmallRng| {
        let sku = one(rng, list(catalogue, "skus")).clone();
        scope(rng, root, catalogue, &sku)
    };
    match mechanism {
        "tiered_rate" => {
            (clause["mechanism"], clause["scope"]) = (json!("private_rate"), some(rng));
            (clause["tiers"], clause["per"]) = (steps(rng, "rate", rate), json!(whose));
            (clause["model"], clause["bound"]) = (json!(climb), json!(bound));
            if chance(rng, 20) {
                let low = |rng: &mut SmallRng| format!("0.{:03}", rng.random_range(1..1000));
                (clause["tiers"], clause["may_raise"]) = (steps(rng, "rate", low), json!(true));
            }
        }
        "waiver" => {
            // Sources sort before targets, so that no usage is both and no waivers make a ring.
            let mut ids: Vec<&Value> = list(catalogue, "skus").iter().map(|sku| &sku["id"]).collect();
            ids.sort_by_key(|id| id.to_string());
            if ids.len() < 2 {
                return None;
            }
            let (sources, targets) = ids.split_at(ids.len() / 2);
            let some = |rng: &mut SmallRng, of: &[&Value]| {
                let mut of = of.to_vec();
                of.shuffle(rng);
                of.truncate(rng.random_range(1..=of.len()));
                json!({ "sku": of })
            };
            (clause["source"], clause["target"]) = (some(rng, sources), some(rng, targets));
            clause["per"] = json!(whose);
            if chance(rng, 50) {
                clause["source_units"] = json!(*one(rng, &["2", "3", "7.5"]));
                clause["target_units"] = json!(*one(rng, &["1", "2.5", "10"]));
            }
            if chance(rng, 40) {
                clause["percent"] = json!(percent(rng));
            }
        }
        "volume" => {
            place(rng, &mut clause, root, catalogue);
            (clause["bands"], clause["per"]) = (steps(rng, "percent", percent), json!(whose));
            (clause["model"], clause["bound"]) = (json!(climb), json!(bound));
            clause["measure"] = json!(*one(rng, &["spend", "spend", "quantity"]));
        }
        "fixed_discount" => {
            place(rng, &mut clause, root, catalogue);
            (clause["amount"], clause["per"]) = (json!(amount(rng)), json!(whose));
            clause["lasting"] = json!(chance(rng, 40));
        }
        "credit" => {
            place(rng, &mut clause, root, catalogue);
            clause["amount"] = json!(amount(rng));
            clause["stage"] = json!(stage.trim_start_matches("credits_"));
            if chance(rng, 40) {
                clause["account"] = json!(account);
                clause["sharing"] = json!(chance(rng, 60));
            }
            if chance(rng, 30) {
                clause["priority"] = json!(rng.random_range(0..3));
            }
        }
        "commitment" => {
            place(rng, &mut clause, root, catalogue);
            // Now the year's last cycle, now one in between, now one after all years.
            let first = effective - one(rng, &[0, 3, 9, 10, 11, 11, 11, 12, 23, 30]);
            clause["starts"] = json!(cycle_name(first));
            clause["years"] = (0..rng.random_range(1..=3)).map(|_| json!(amount(rng))).collect();
            if chance(rng, 60) {
                clause["percent"] = json!(percent(rng));
            }
            if chance(rng, 50) {
                clause["marketplace"] = some(rng);
                clause["marketplace_share"] = json!(*one(rng, &["0", "0.25", "0.333333333333", "1"]));
            }
            clause["credits_reduce"] = json!(chance(rng, 30));
            if chance(rng, 50) {
                clause["payer"] = payer;
            }
        }
        "minimum" | "maximum" => {
            place(rng, &mut clause, root, catalogue);
            (clause["amount"], clause["per"]) = (json!(amount(rng)), json!(whose));
            if mechanism == "minimum" && chance(rng, 40) {
                clause["payer"] = payer;
            }
            if mechanism == "minimum" && chance(rng, 30) {
                clause["service"] = json!("compute");
            }
        }
        "prepayment" => {
            place(rng, &mut clause, root, catalogue);
            clause["amount"] = json!(amount(rng));
            clause["percent"] =
                json!(if chance(rng, 70) { rng.random_range(0..50).to_string() } else { decimal(rng, 99, 9) });
        }
        "percent_fee" => {
            place(rng, &mut clause, root, catalogue);
            if chance(rng, 50) {
                clause["percent"] = json!(percent(rng));
            } else {
                clause["tiers"] = steps(rng, "percent", percent);
                clause["model"] = json!(climb);
            }
            clause["base"] = json!(*one(rng, &["net", "list"]));
            if chance(rng, 40) {
                clause["per"] = json!("account");
            } else if chance(rng, 30) {
                clause["account"] = json!(account);
            }
            if chance(rng, 30) {
                clause["minimum"] = json!(amount(rng));
            }
        }
        "fee" => {
            (clause["amount"], clause["quantity"]) = (json!(amount(rng)), json!(quantity(rng, 2)));
            clause["once"] = json!(chance(rng, 30));
            if chance(rng, 50) {
                (clause["account"], clause["service"]) = (json!(account), json!("storage"));
            }
        }
        "custom_line" => {
            let sign = if chance(rng, 30) { "-" } else { "" };
            if chance(rng, 50) {
                clause["amount"] = json!(format!("{sign}{}", amount(rng)));
            } else {
                place(rng, &mut clause, root, catalogue);
                clause["percent"] = json!(format!("{sign}{}", percent(rng)));
                clause["itemised"] = json!(chance(rng, 40));
            }
            if clause["itemised"] != true && chance(rng, 40) {
                clause["account"] = json!(account);
            }
        }
        "tax" => {
            let reduced = json!({ "name": "reduced", "scope": some(rng), "percent": percent(rng) });
            clause["rates"] = json!([reduced, { "name": "full", "percent": percent(rng) }]);
            if chance(rng, 30) {
                clause["rates"].as_array_mut().expect("a list").pop();
            }
        }
        other => panic!("no clause of mechanism {other} is drawn"),
    }
    Some(clause)
}

/// A few clauses of one exclusive group, each with a scope of another width.
pub fn exclusive(rng: &mut SmallRng, hierarchy: &Value, catalogue: &Value, on: &[&str]) -> Vec<Value> {
    let sku = one(rng, list(catalogue, "skus")).clone();
    let usage_type = sku["match"]["usage_type"].clone();
    let scopes = [
        json!({ "sku": sku["id"] }),
        json!({ "usage_type": usage_type, "operation": "*" }),
        json!({ "usage_type": ["u*"] }),
        json!({ "service": "*" }),
        json!({ "account": [hierarchy["root"], "root-0", "root-1"] }),
    ];
    let mut clauses = Vec::new();
    for scope in scopes {
        if !chance(rng, 50) {
            continue;
        }
        if on.contains(&"private_rates") && chance(rng, 40) {
            clauses.push(json!({ "mechanism": "private_rate", "rate": rate(rng), "scope": scope }));
        } else if on.contains(&"cross_service_percent") {
            let kind = "cross_service";
            clauses.push(json!({ "mechanism": "percent", "kind": kind, "percent": percent(rng), "scope": scope }));
        }
    }
    for clause in &mut clauses {
        clause["exclusive_group"] = json!("one of these");
    }
    clauses.shuffle(rng);
    clauses
}

/// What was used of a contract's balances before: of some nothing, of some a part, of some all and more.
pub fn balances(
    rng: &mut SmallRng,
    contract: Option<&Value>,
    hierarchy: &Value,
    cycle: Cycle,
) -> BTreeMap<String, Exact> {
    let mut names = Vec::new();
    for clause in contract.into_iter().flat_map(|contract| list(contract, "clauses")) {
        let id = text(&clause["id"], "");
        match text(&clause["mechanism"], "") {
            "credit" | "prepayment" => names.push(id.to_owned()),
            "fixed_discount" if clause["lasting"] == true => {
                names.push(id.to_owned());
                names.extend(list(hierarchy, "payers").iter().map(|payer| format!("{id}/{}", text(payer, ""))));
            }
            "commitment" => {
                // Whichever of the cycles before is the year's first.
                for since in 0..12 {
                    let year = format!("{id}/{}", cycle_name(cycle - since));
                    names.extend([format!("{year}/marketplace"), year]);
                }
            }
            _ => {}
        }
    }
    let mut balances = BTreeMap::new();
    for name in names {
        if chance(rng, 50) {
            let used = if chance(rng, 50) { (rng.random_range(0..=20) * 5).to_string() } else { decimal(rng, 150, 12) };
            balances.insert(name, exact(&used));
        }
    }
    balances
}
