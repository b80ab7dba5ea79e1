//! What drawn clauses say beside the plain things: ladders that go on over contract years, percentages of what a stage
//! began with, waivers hour by hour, commitments that end early, limits that are prorated. Each is asked for where the
//! clause, or the price, can have it.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::fees::day;
use super::scope::meter_of;
use super::words::{chance, decimal, one};
use crate::model::calendar::{Cycle, DAY, cycle_name, months, start_of};
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

/// Minima and maxima of prices follow the time for which somebody subscribes.
pub fn prorate_limits(rng: &mut SmallRng, catalogue: &mut Value) {
    for price in catalogue["prices"].as_array_mut().into_iter().flatten() {
        let limits = ["minimum", "maximum"].iter().any(|limit| price[limit].is_string());
        if limits && price["pool"]["period"].is_null() && chance(rng, 60) {
            price["prorate_limits"] = json!(*one(rng, &["days", "time"]));
        }
    }
}

/// Those of clauses, and the minima of percent fees, have days of their own within their cycles.
pub fn prorate_clauses(rng: &mut SmallRng, contract: &mut Value, cycle: Cycle) {
    let whole = (text(&contract["effective"], "").to_owned(), contract["until"].as_str().map(str::to_owned));
    for clause in contract["clauses"].as_array_mut().into_iter().flatten() {
        let limit = ["minimum", "maximum"].contains(&text(&clause["mechanism"], ""));
        let limit = limit || clause["mechanism"] == "percent_fee" && clause["minimum"].is_string();
        if !limit || !chance(rng, 60) {
            continue;
        }
        let begins = start_of(months(text(&clause["effective"], &whole.0)));
        let until = clause["until"].as_str().or(whole.1.as_deref());
        let ends = until.map(|until| start_of(months(until)));
        // An instant of the cycle or near it, often on its edges, that the clause's cycles hold.
        let mut at = || {
            let (start, end) = (start_of(cycle), start_of(cycle + 1));
            let day = match rng.random_range(0..6) {
                0 => start,
                1 => end,
                2 => start - DAY,
                3 => end - DAY,
                _ => start + rng.random_range(0..(end - start) / DAY) * DAY,
            };
            let second = if chance(rng, 50) { 0 } else { *one(rng, &[1, 43_200, 86_399]) };
            day + second * 1_000_000_000
        };
        let (from, to) = (at(), at());
        let (some, other) = *one(rng, &[(true, false), (false, true), (true, true)]);
        let first = if some { from.max(begins) } else { begins };
        let last = if other { ends.map_or(to, |ends| ends.min(to)) } else { ends.unwrap_or(i64::MAX) };
        if first < last {
            clause["prorate"] = json!(*one(rng, &["days", "time"]));
            let mut set = |field: &str, at: i64| clause[field] = json!(day(at));
            if some {
                set("from", from);
            }
            if other {
                set("to", to);
            }
        }
    }
}

/// Fees and prepayments are bought at once, shortfalls are bills of their own; of some prepayments a part was bought before.
pub fn purchases(
    rng: &mut SmallRng,
    contract: &mut Value,
    catalogue: &Value,
    hierarchy: &Value,
    balances: &mut BTreeMap<String, Exact>,
) {
    at_once(rng, contract, catalogue);
    let order = [&contract["stages"], &catalogue["stages"]].into_iter().find(|order| !order.is_null());
    let on = order.is_none_or(|order| ["prepayment", "shortfall"].iter().all(|stage| names(order).contains(stage)));
    for clause in contract["clauses"].as_array_mut().into_iter().flatten() {
        match text(&clause["mechanism"], "") {
            "commitment" if chance(rng, 50) => clause["own_bill"] = json!(true),
            "prepayment" if on && chance(rng, 50) => {
                clause["purchase"] = json!(true);
                if chance(rng, 40) {
                    clause["payer"] = one(rng, list(hierarchy, "payers")).clone();
                }
                let before = match rng.random_range(0..3) {
                    0 => clause["amount"].as_str().map(str::to_owned),
                    1 => Some(decimal(rng, 30, 12)),
                    _ => None,
                };
                let name = format!("{}/bought", text(&clause["id"], ""));
                balances.extend(before.map(|before| (name, exact(&before))));
            }
            _ => {}
        }
    }
}

/// Some fees that are known when they are bought are billed at once.
pub fn at_once(rng: &mut SmallRng, contract: &mut Value, catalogue: &Value) {
    for own in contract.get_mut("subscriptions").and_then(Value::as_array_mut).into_iter().flatten() {
        let fee = list(catalogue, "fees").iter().find(|fee| fee["id"] == own["fee"]);
        if fee.is_some_and(|fee| fee["period"] == "once" || fee["in"] == "advance") && chance(rng, 50) {
            own["at_once"] = json!(true);
        }
    }
}

/// Pools of some prices last a contract year.
pub fn pool_years(rng: &mut SmallRng, catalogue: &mut Value) {
    let meters = list(catalogue, "meters").to_vec();
    let skus = list(catalogue, "skus").to_vec();
    let adds_up = |sku: &&Value| {
        let meter = meters.iter().find(|meter| meter["usage_type"] == sku["match"]["usage_type"]);
        meter.is_some_and(|meter| ["sum", "count"].contains(&text(&meter["aggregation"], "sum")))
    };
    for price in catalogue["prices"].as_array_mut().into_iter().flatten() {
        let mut own = skus.iter().filter(|sku| sku["price"] == price["id"]);
        let other = ["changes", "records", "reached_by", "prorate"].iter().any(|field| !price[field].is_null());
        if !own.all(|sku| adds_up(&sku)) || other || !chance(rng, 20) {
            continue;
        }
        let split_by = *one(rng, &[&["payer"][..], &["payer"], &["root"], &["payer", "root"], &[]]);
        price["pool"] = json!({ "split_by": split_by, "period": "contract_year" });
        for field in ["flat_when_zero", "round_units"] {
            price.as_object_mut().expect("an object").remove(field);
        }
        let model = text(&price["model"], "").to_owned();
        let mut stair = 0;
        for tier in price.get_mut("tiers").and_then(Value::as_array_mut).into_iter().flatten() {
            match &*model {
                "volume" => {
                    ["flat", "block", "cap"]
                        .into_iter()
                        .for_each(|field| drop(tier.as_object_mut().expect("an object").remove(field)));
                }
                // No stair goes down.
                "stairstep" => {
                    stair += rng.random_range(0..=20);
                    tier["flat"] = json!(format!("{stair}.5"));
                }
                _ => {}
            }
        }
        // Due or held now and then, whatever it was.
        for (limit, percent) in [("minimum", 40), ("maximum", 25)] {
            if chance(rng, percent) {
                let low = if limit == "minimum" { 0 } else { 40 };
                price[limit] = json!((low + rng.random_range(0..=40)).to_string());
            }
        }
        let order = |limit: &str| price[limit].as_str().map(exact);
        if order("maximum").is_some_and(|most| order("minimum").is_some_and(|least| least > most)) {
            price.as_object_mut().expect("an object").remove("minimum");
        }
    }
}

/// Years of the contract begin in any month; some end with the cycle, and some contracts do.
pub fn starts(rng: &mut SmallRng, contract: &mut Value, cycle: Cycle) {
    let effective = months(text(&contract["effective"], ""));
    if effective <= cycle && chance(rng, 60) {
        let before = effective - rng.random_range(0..=24);
        let ends = (before..=effective).find(|first| (cycle - first) % 12 == 11).filter(|_| chance(rng, 50));
        contract["starts"] = json!(cycle_name(ends.unwrap_or(before)));
    }
}

/// What earlier cycles of the year brought to pools of prices, often at a bound.
pub fn climbed(
    rng: &mut SmallRng,
    catalogue: &Value,
    (contract, hierarchy): (Option<&Value>, &Value),
    cycle: Cycle,
    balances: &mut BTreeMap<String, Exact>,
) {
    let in_force = contract.filter(|own| {
        let bound = |field: &str, default| own[field].as_str().map_or(default, months);
        (bound("effective", 0)..bound("until", Cycle::MAX)).contains(&cycle)
    });
    let starts = in_force.map(|own| months(text(&own["starts"], text(&own["effective"], ""))));
    let begins = starts.map_or(cycle, |starts| cycle - (cycle - starts) % 12);
    for price in list(catalogue, "prices").iter().filter(|price| price["pool"]["period"] == "contract_year") {
        let keys = names(&price["pool"]["split_by"]);
        let alone = keys.contains(&"root") && !keys.contains(&"payer");
        let whose = if alone { vec![json!("")] } else { list(hierarchy, "payers").to_vec() };
        for payer in whose {
            // Of a year that began with this cycle nothing is there but by mistake; of the one before it no longer counts.
            for begins in [begins, begins - 12] {
                for of in ["units", "free", "charge"] {
                    if begins == cycle || chance(rng, 30) {
                        continue;
                    }
                    let bounds: Vec<&str> = match of {
                        "units" => list(price, "tiers").iter().filter_map(|tier| tier["up_to"].as_str()).collect(),
                        "free" => price["free_units"].as_str().into_iter().collect(),
                        _ => ["minimum", "maximum"].iter().filter_map(|limit| price[limit].as_str()).collect(),
                    };
                    let before = match rng.random_range(0..4) {
                        0 if !bounds.is_empty() => (*one(rng, &bounds)).to_owned(),
                        1 => "0".to_owned(),
                        2 => (rng.random_range(0..=10) * 5).to_string(),
                        _ => decimal(rng, 50, 12),
                    };
                    let slash = if alone { "" } else { "/" };
                    let payer = text(&payer, "");
                    let name = format!("pool/{}/{}/{of}{slash}{payer}", text(&price["id"], ""), cycle_name(begins));
                    balances.insert(name, exact(&before));
                }
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
