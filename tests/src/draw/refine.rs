//! What drawn clauses say beside the plain things: ladders that go on over contract years, percentages of what a stage
//! began with, waivers hour by hour, commitments that end early. Each is asked for where the clause can have it.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::scope::meter_of;
use super::words::{chance, decimal, one};
use crate::model::calendar::{Cycle, cycle_name, months};
use crate::model::exact::{Exact, exact};
use crate::model::series::{is_summed, list, matches, names, text};

/// Ladders of tiered rates and of volume discounts go on over years that begin in any month, and what earlier cycles
/// brought is often at a bound.
pub fn years(
    rng: &mut SmallRng,
    contract: &mut Value,
    hierarchy: &Value,
    cycle: Cycle,
    balances: &mut BTreeMap<String, Exact>,
) {
    let effective = text(&contract["effective"], "").to_owned();
    for clause in contract["clauses"].as_array_mut().into_iter().flatten() {
        let (mechanism, tiers) = (text(&clause["mechanism"], ""), clause["tiers"].is_array());
        let of = match mechanism {
            "private_rate" if tiers => "units",
            "volume" if clause["measure"] == "quantity" => "units",
            "volume" => "spend",
            _ => continue,
        };
        if !chance(rng, 40) {
            continue;
        }
        clause["period"] = json!("contract_year");
        let since = months(text(&clause["effective"], &effective));
        let mut first = since;
        if chance(rng, 70) {
            first -= *one(rng, &[0, 1, 5, 10, 11, 12, 13, 23, 24, 200]);
            clause["starts"] = json!(cycle_name(first));
        }
        if cycle < first {
            continue;
        }
        // Of this year, and of the one before, which no longer counts.
        let begins = cycle - (cycle - first) % 12;
        let bounds = [list(clause, "tiers"), list(clause, "bands")].concat();
        let bounds: Vec<&str> = bounds.iter().filter_map(|step| step["up_to"].as_str()).collect();
        let whose =
            if text(&clause["per"], "payer") == "root" { vec![json!("")] } else { list(hierarchy, "payers").to_vec() };
        for payer in whose {
            for begins in [begins, begins - 12] {
                let payer = text(&payer, "");
                let slash = if payer.is_empty() { "" } else { "/" };
                let name = format!("{}/{}/{of}{slash}{payer}", text(&clause["id"], ""), cycle_name(begins));
                let before = match rng.random_range(0..4) {
                    0 => continue,
                    1 if !bounds.is_empty() => (*one(rng, &bounds)).to_owned(),
                    2 => (rng.random_range(0..=16) * 5).to_string(),
                    _ => decimal(rng, 80, 12),
                };
                balances.insert(name, exact(&before));
            }
        }
    }
}

/// Percentages and commitments take their share of what their stage began with.
pub fn of_stage(rng: &mut SmallRng, contract: &mut Value) {
    for clause in contract["clauses"].as_array_mut().into_iter().flatten() {
        if ["percent", "commitment"].contains(&text(&clause["mechanism"], "")) && chance(rng, 40) {
            clause["base"] = json!("stage");
        }
    }
}

/// Commitments end with the cycle, in the midst of a year or with it; some are then due by the cycles that they had.
pub fn ends(rng: &mut SmallRng, contract: &mut Value, cycle: Cycle) {
    let effective = text(&contract["effective"], "").to_owned();
    for clause in contract["clauses"].as_array_mut().into_iter().flatten() {
        if clause["mechanism"] != "commitment" {
            continue;
        }
        clause["prorate"] = json!(chance(rng, 50));
        if chance(rng, 40) && months(text(&clause["effective"], &effective)) <= cycle {
            clause["until"] = json!(cycle_name(cycle + 1));
        }
    }
}

/// Waivers whose meters keep hours are used hour by hour; now and then all meters do.
pub fn hourly(rng: &mut SmallRng, contract: &mut Value, catalogue: &mut Value) {
    let waives = list(contract, "clauses").iter().any(|clause| clause["mechanism"] == "waiver");
    if waives && chance(rng, 30) {
        let meters = catalogue["meters"].as_array_mut().into_iter().flatten();
        meters.filter(|meter| is_summed(meter)).for_each(|meter| meter["bucket"] = json!("hour"));
    }
    let catalogue = &*catalogue;
    let by_hour = |scope: &Value| {
        let of = |sku: &&Value| names(&scope["sku"]).iter().any(|own| matches(own, text(&sku["id"], "")));
        list(catalogue, "skus").iter().filter(of).all(|sku| {
            let meter = meter_of(catalogue, sku);
            meter["bucket"] == "hour" && is_summed(meter)
        })
    };
    for clause in contract["clauses"].as_array_mut().into_iter().flatten() {
        let can = clause["mechanism"] == "waiver" && by_hour(&clause["source"]) && by_hour(&clause["target"]);
        if can && chance(rng, 70) {
            clause["period"] = json!("hour");
        }
    }
}
