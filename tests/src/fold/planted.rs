//! Faults planted on purpose, to see that the random comparison finds them: each makes the engine bill as a wrong engine
//! would, mostly by handing it documents that mean something slightly else than those that the model reads.

use std::fmt;

use reckoner_shard::billing::bill::Source;
use serde_json::{Value, json};

use super::case::Case;
use super::fault::{Fault, clauses, each, mechanism, mutated, remove};
use super::{planted_charges, planted_measures};
use crate::compare::Shown;
use crate::model::calendar::{cycle_name, hours_of};
use crate::model::contract::STAGES;
use crate::model::exact::{Exact, exact, rounded_by, text, whole};
use crate::model::rounding::{SCALE, payable_of};
use crate::model::series;

/// Cases within which every fault must be found.
pub const CASES_MAX: u64 = 2_000;

/// Every fault that can be planted.
pub const FAULTS: &[Fault] = &[
    mutated!("two stages swapped", |case| {
        let order = case.contract.as_ref().map(|contract| contract["stages"].clone()).filter(|own| !own.is_null());
        let mut order = order.unwrap_or_else(|| case.catalogue["stages"].clone());
        if order.is_null() {
            order = json!(usual_order());
        }
        let own = order.as_array_mut().expect("a list");
        let last = own.len() - 2;
        own.swap(1, last);
        case.contract.as_mut().map(|contract| contract["stages"] = order).is_some()
    }),
    mutated!("clauses in reverse order", |case| clauses(case, |clauses| clauses.reverse())),
    mutated!("a tier's bound off by one", |case| each(case, "prices", |price| {
        let bound = price["tiers"][0]["up_to"].as_str().map(|bound| text(&(exact(bound) + whole(1))));
        bound.map(|bound| price["tiers"][0]["up_to"] = json!(bound)).is_some()
    })),
    mutated!("which tier holds its bound reversed", |case| each(case, "prices", |price| {
        let lower = price["bound"] == "lower";
        price["bound"] = json!(if lower { "upper" } else { "lower" });
        price["tiers"].is_array()
    })),
    mutated!("volume for graduated", |case| each(case, "prices", |price| {
        let graduated = price["model"] == "graduated";
        if graduated {
            price["model"] = json!("volume");
        }
        graduated
    })),
    mutated!("packages rounded down", |case| each(case, "prices", |price| {
        let package = price["package"].is_object();
        if package {
            price["package"]["round"] = json!("down");
        }
        package
    })),
    Fault { name: "a division's remainder dropped", plant: remainder_dropped },
    mutated!("free units counted by the ladder", |case| each(case, "prices", free_units_counted)),
    mutated!("free units forgotten", |case| each(case, "prices", |price| remove(price, "free_units"))),
    mutated!("a free pool's units given twice", |case| each(case, "pools", |pool| {
        pool["units"] = json!(text(&(exact(pool["units"].as_str().expect("text")) * whole(2))));
        true
    })),
    mutated!("free pools in reverse order", |case| {
        let pools = case.catalogue["pools"].as_array_mut().filter(|pools| pools.len() > 1);
        pools.map(|pools| pools.reverse()).is_some()
    }),
    mutated!("free pools shared the other way", |case| each(case, "pools", |pool| turn_sequence(pool, "share"))),
    mutated!("ladders attributed the other way", |case| each(case, "prices", |price| turn_sequence(
        price,
        "attribution"
    ))),
    mutated!("time within the cycle forgotten", |case| {
        let sequence = |own: &Value| own["attribution"] == "sequence" || own["share"] == "sequence";
        let any = |field: &str| series::list(&case.catalogue, field).iter().any(sequence);
        let timed = any("prices") || any("pools");
        // All of a series in its first hour; netting is not what is tested here.
        let below = case.counters.iter().any(|counter| counter.value < whole(0));
        case.counters.iter_mut().for_each(|counter| counter.bucket = 0);
        timed && !below
    }),
    mutated!("ladders of payers merged", |case| each(case, "prices", |price| {
        let mut keys = keys(price);
        let before = keys.clone();
        keys.retain(|key| key != "payer");
        if !keys.iter().any(|key| ["account", "group"].contains(&key.as_str())) {
            keys.push("root".to_owned());
        }
        price["pool"] = json!({ "split_by": keys });
        keys != before
    })),
    mutated!("every account climbs alone", |case| each(case, "prices", |price| {
        let mut keys = keys(price);
        let shared = !keys.iter().any(|key| key == "account");
        keys.push("account".to_owned());
        price["pool"] = json!({ "split_by": keys });
        shared
    })),
    mutated!("unit rounding left out", |case| each(case, "prices", |price| remove(price, "round_units"))),
    mutated!("units rounded half even", |case| each(case, "prices", |price| half_even(&mut price["round_units"]))),
    mutated!("the payable rounded half even", |case| {
        let mut rule =
            if case.catalogue["rounding"].is_null() { json!({}) } else { case.catalogue["rounding"].clone() };
        let turned = half_even(&mut rule);
        case.catalogue["rounding"] = rule;
        turned
    }),
    mutated!("every line rounded instead of the total", |case| {
        let by_line = case.catalogue["rounding"]["at"] == "line";
        case.catalogue["rounding"]["at"] = json!(if by_line { "total" } else { "line" });
        true
    }),
    mutated!("minor unit of another currency", |case| {
        case.catalogue["currency"] = json!(if case.catalogue["currency"] == "JPY" { "USD" } else { "JPY" });
        case.catalogue["rounding"]["decimals"].is_null()
    }),
    mutated!("hours of another month", |case| {
        let hours = if hours_of(case.cycle) == 744 { 720 } else { 744 };
        each(case, "skus", |sku| {
            let convert = &mut sku["convert"];
            let by_hours = convert["by_hours_of_cycle"] == true;
            if by_hours {
                let divide = exact(series::text(&convert["divide"], "1")) * whole(hours.into());
                *convert = json!({ "divide": text(&divide) });
            }
            by_hours
        })
    }),
    mutated!("clauses of another cycle", |case| clauses(case, |clauses| {
        for clause in clauses {
            remove(clause, "effective");
            remove(clause, "until");
        }
    })),
    mutated!("the contract of another cycle", |case| {
        let name = cycle_name(case.cycle);
        let out = |contract: &Value| {
            name.as_str() < series::text(&contract["effective"], "")
                || name.as_str() >= series::text(&contract["until"], "9999")
        };
        let contract = case.contract.as_mut().filter(|contract| out(contract));
        contract
            .map(|contract| {
                remove(contract, "until");
                contract["effective"] = json!(name);
            })
            .is_some()
    }),
    mutated!("a trigger's bound reversed", |case| clauses(case, |clauses| {
        for trigger in clauses.iter_mut().filter_map(|clause| clause.get_mut("trigger")) {
            trigger["bound"] = json!(if trigger["bound"] == "upper" { "lower" } else { "upper" });
        }
    })),
    mutated!("a trigger ignored", |case| clauses(case, |clauses| {
        clauses.iter_mut().for_each(|clause| {
            remove(clause, "trigger");
        });
    })),
    mutated!("a trigger over the other payers too", |case| clauses(case, |clauses| {
        for trigger in clauses.iter_mut().filter_map(|clause| clause.get_mut("trigger")) {
            trigger["per"] = json!("root");
        }
    })),
    mutated!("exclusions ignored", |case| clauses(case, |clauses| {
        clauses.iter_mut().for_each(|clause| {
            remove(clause, "exclude");
        });
    })),
    mutated!("a scope's account, group and payer ignored", |case| clauses(case, |clauses| {
        for scope in clauses.iter_mut().filter_map(|clause| clause.get_mut("scope")) {
            for field in ["account", "group", "payer"] {
                remove(scope, field);
            }
        }
    })),
    mutated!("a private rate may raise unasked", |case| clauses(case, |clauses| {
        for clause in clauses.iter_mut().filter(|clause| clause["mechanism"] == "private_rate") {
            clause["may_raise"] = json!(true);
        }
    })),
    mutated!("a private rate that may raise does not", |case| clauses(case, |clauses| {
        clauses.iter_mut().for_each(|clause| {
            remove(clause, "may_raise");
        });
    })),
    Fault { name: "percent of list instead of net", plant: percent_of_list },
    mutated!("linked accounts billed to the first payer", |case| members(case, "payer")),
    mutated!("billing groups forgotten", |case| members(case, "group")),
    mutated!("waivers before rates", |case| {
        let mut order = usual_order();
        order.swap(1, 2);
        reordered(case, order)
    }),
    mutated!("credits before volume discounts", |case| {
        let mut order = usual_order();
        order.swap(5, 6);
        reordered(case, order)
    }),
    mutated!("taxes before credits", |case| {
        let mut order = usual_order();
        let tax = order.remove(13);
        order.insert(11, tax);
        reordered(case, order)
    }),
    mutated!("a credit used twice", |case| balances_of(case, "credit")),
    mutated!("a prepayment used twice", |case| balances_of(case, "prepayment")),
    mutated!("what a year retired before forgotten", |case| balances_of(case, "commitment")),
    mutated!("the marketplace counted in full", |case| mechanism(case, "commitment", |clause| {
        let limited = clause["marketplace"].is_object() && clause["marketplace_share"] != "1";
        clause["marketplace_share"] = json!("1");
        limited
    })),
    mutated!("every contract year commits the first one's amount", |case| mechanism(case, "commitment", |clause| {
        let years = clause["years"].as_array_mut().expect("a list");
        let first = years[0].clone();
        years.iter_mut().for_each(|year| *year = first.clone());
        years.len() > 1
    })),
    mutated!("credits reduce what is retired, unasked", |case| mechanism(case, "commitment", |clause| {
        clause["credits_reduce"] = json!(clause["credits_reduce"] != true);
        true
    })),
    mutated!("a prepayment's discount on what is drawn", |case| mechanism(case, "prepayment", |clause| {
        // Drawn x (1 + p) in place of drawn / (1 - p): as if the discount were p / (1 + p).
        let share = exact(series::text(&clause["percent"], "0"));
        let other = rounded_by(&(&share * whole(100) / (whole(100) + &share)), 9, "half_up");
        clause["percent"] = json!(text(&other));
        share != whole(0)
    })),
    mutated!("a volume discount of the next band", |case| mechanism(case, "volume", |clause| {
        let bands = clause["bands"].as_array_mut().expect("a list");
        let next: Vec<Value> = bands.iter().skip(1).map(|band| band["percent"].clone()).collect();
        bands.iter_mut().zip(&next).for_each(|(band, percent)| band["percent"] = percent.clone());
        !next.is_empty()
    })),
    mutated!("which band holds its bound reversed", |case| mechanism(case, "volume", |clause| {
        clause["bound"] = json!(if clause["bound"] == "upper" { "lower" } else { "upper" });
        true
    })),
    mutated!("volume discounts of all payers together", |case| mechanism(case, "volume", |clause| {
        let own = clause["per"] != "root";
        clause["per"] = json!("root");
        own
    })),
    mutated!("a minimum of everyone due from each payer", |case| mechanism(case, "minimum", |clause| {
        let root = clause["per"] == "root";
        clause["per"] = json!("payer");
        root
    })),
    mutated!("a tiered rate of another tier's bound", |case| mechanism(case, "private_rate", |clause| {
        let bound = clause["tiers"][0]["up_to"].as_str().map(|bound| text(&(exact(bound) + whole(1))));
        bound.map(|bound| clause["tiers"][0]["up_to"] = json!(bound)).is_some()
    })),
    mutated!("tiered rates at the reached tier only", |case| mechanism(case, "private_rate", |clause| {
        let graduated = clause["tiers"].is_array() && clause["model"] != "volume";
        clause.as_object_mut().expect("a clause").retain(|field, _| field != "model");
        if graduated {
            clause["model"] = json!("volume");
        }
        graduated
    })),
    mutated!("an entitlement of another size", |case| mechanism(case, "waiver", |clause| {
        remove(clause, "source_units")
    })),
    mutated!("an hour's waiver used in any hour", |case| mechanism(case, "waiver", |clause| remove(clause, "period"))),
    mutated!("waivers over all payers", |case| mechanism(case, "waiver", |clause| {
        let own = clause["per"] != "root";
        clause["per"] = json!("root");
        own
    })),
    mutated!("credits by age, whatever the order says", |case| {
        let contract = case.contract.as_mut().filter(|contract| contract["credit_order"] != json!(["age"]));
        contract.map(|contract| contract["credit_order"] = json!(["age"])).is_some()
    }),
    mutated!("a credit that others may use too", |case| mechanism(case, "credit", |clause| remove(clause, "sharing"))),
    mutated!("a fee of list instead of net", |case| mechanism(case, "percent_fee", |clause| {
        let net = clause["base"] != "list";
        clause["base"] = json!("list");
        net
    })),
    mutated!("a fee's minimum forgotten", |case| mechanism(case, "percent_fee", |clause| remove(clause, "minimum"))),
    mutated!("a fixed discount of all due to each payer", |case| mechanism(case, "fixed_discount", |clause| {
        let root = clause["per"] == "root";
        clause["per"] = json!("payer");
        root
    })),
    mutated!("taxes by the last rate that matches", |case| mechanism(case, "tax", |clause| {
        clause["rates"].as_array_mut().expect("a list").reverse();
        true
    })),
    mutated!("exclusive groups forgotten", |case| clauses(case, |clauses| {
        clauses.iter_mut().for_each(|clause| {
            remove(clause, "exclusive_group");
        });
    })),
    mutated!("a tier's block ignored", |case| tiers(case, "block")),
    mutated!("a tier's cap ignored", |case| tiers(case, "cap")),
    mutated!("a price's minimum ignored", |case| each(case, "prices", |price| remove(price, "minimum"))),
    mutated!("a price's maximum ignored", |case| each(case, "prices", |price| remove(price, "maximum"))),
    mutated!("a part per record ignored", |case| each(case, "prices", |price| remove(price, "per_record"))),
    mutated!("flat parts not due at zero", |case| each(case, "prices", |price| remove(price, "flat_when_zero"))),
    mutated!("days and hours in one pool", |case| each(case, "prices", |price| {
        price["pool"].is_object() && remove(&mut price["pool"], "period")
    })),
    mutated!("a meter that chooses tiers off by one bound", |case| each(case, "prices", |price| {
        let mut any = false;
        let choosers = price.get_mut("reached_by").and_then(Value::as_array_mut).into_iter().flatten();
        for bound in choosers.flat_map(|own| own.get_mut("up_to").and_then(Value::as_array_mut).into_iter().flatten()) {
            *bound = json!(text(&(exact(series::text(bound, "")) + whole(3))));
            any = true;
        }
        any
    })),
    mutated!("corrections ignored", |case| {
        let before = case.counters.len();
        case.counters.retain(|counter| counter.value > whole(0));
        case.counters.len() < before
    }),
    mutated!("one counter lost", |case| case.counters.pop().is_some()),
];

/// The stages in their usual order.
fn usual_order() -> Vec<&'static str> {
    [&["usage"], STAGES, &["rounding"]].concat()
}

/// Gives the contract an order of stages, where none is stated.
fn reordered(case: &mut Case, order: Vec<&str>) -> bool {
    let stated = !case.catalogue["stages"].is_null();
    let contract = case.contract.as_mut().filter(|contract| !stated && contract["stages"].is_null());
    contract.map(|contract| contract["stages"] = json!(order)).is_some()
}

/// Forgets what was used before of the balances of a mechanism's clauses.
fn balances_of(case: &mut Case, mechanism: &str) -> bool {
    let clauses = case.contract.as_ref().map_or(&[][..], |contract| series::list(contract, "clauses"));
    let clauses = clauses.iter().filter(|clause| clause["mechanism"] == mechanism);
    let ids: Vec<String> = clauses.map(|clause| series::text(&clause["id"], "").to_owned()).collect();
    let before = case.balances.len();
    case.balances.retain(|name, _| !ids.iter().any(|id| name.split('/').next() == Some(id)));
    case.balances.len() < before
}

/// Forgets a part of all tiers.
fn tiers(case: &mut Case, part: &str) -> bool {
    each(case, "prices", |price| {
        let tiers = price.get_mut("tiers").and_then(Value::as_array_mut).into_iter().flatten();
        tiers.map(|tier| remove(tier, part)).fold(false, |any, changed| any | changed)
    })
}

fn members(case: &mut Case, field: &str) -> bool {
    let accounts = case.hierarchy["accounts"].as_array_mut().into_iter().flatten();
    accounts.map(|account| remove(account, field)).fold(false, |any, changed| any | changed)
}

/// The keys of a price's pool.
fn keys(price: &Value) -> Vec<String> {
    if price["pool"].is_null() {
        return vec!["payer".to_owned(), "sku".to_owned()];
    }
    series::names(&price["pool"]["split_by"]).into_iter().map(str::to_owned).collect()
}

fn turn_sequence(own: &mut Value, field: &str) -> bool {
    let sequence = own[field] == "sequence";
    own[field] = json!(if sequence { "prorata" } else { "sequence" });
    true
}

fn half_even(rule: &mut Value) -> bool {
    let half_up = rule.is_object() && (rule["mode"].is_null() || rule["mode"] == "half_up");
    if half_up {
        rule["mode"] = json!("half_even");
    }
    half_up
}

/// As if the ladder began at zero and free units were taken off its first slices.
fn free_units_counted(price: &mut Value) -> bool {
    let free = exact(series::text(&price["free_units"], "0"));
    let tiers = price.get_mut("tiers").and_then(Value::as_array_mut).into_iter().flatten();
    let mut bounds: Vec<&mut Value> = tiers.map(|tier| &mut tier["up_to"]).filter(|bound| bound.is_string()).collect();
    let moved: Vec<Exact> = bounds.iter().map(|bound| exact(series::text(bound, "0")) - &free).collect();
    if free == whole(0) || moved.is_empty() || moved.iter().any(|bound| *bound <= whole(0)) {
        return false;
    }
    bounds.iter_mut().zip(moved).for_each(|(bound, moved)| **bound = json!(text(&moved)));
    true
}

/// Every member's share of a slice is rounded down, and what is left is nobody's.
fn remainder_dropped(case: &Case) -> Option<Shown> {
    let mut bills = case.engine().ok()?;
    for bill in &mut bills {
        let pools = bill.pools.clone();
        for line in &mut bill.lines {
            let (Some(pool), Source::Price { tier, .. }) = (line.pool, &line.source) else { continue };
            let slice = pools[pool as usize].slices.iter().find(|slice| slice.tier == *tier)?;
            let (whole, part) = (exact(&slice.quantity.to_string()), exact(&line.quantity?.to_string()));
            if slice.quantity.is_zero() {
                continue;
            }
            let share = rounded_by(&(exact(&slice.amount.to_string()) * part / whole), SCALE, "down");
            line.amount = text(&share).parse().ok()?;
        }
    }
    case.shown_with(&bills).ok()
}

/// Every clause alone on the usage lines, as if the others were not there.
fn percent_of_list(case: &Case) -> Option<Shown> {
    let clauses = case.contract.as_ref()?["clauses"].as_array()?.clone();
    // Without its clause a bill would be in another currency, which is another fault.
    if clauses.iter().any(|clause| clause["mechanism"] == "currency") {
        return None;
    }
    let alone = |clauses: Vec<Value>| {
        let mut own = case.clone();
        own.contract.as_mut().expect("it has one")["clauses"] = json!(clauses);
        own.engine().ok().map(|bills| Shown::of_engine(&bills))
    };
    let mut shown = alone(Vec::new())?;
    for clause in clauses {
        shown.lines.extend(alone(vec![clause])?.lines.into_iter().filter(|row| row.origin.starts_with("clause:")));
    }
    let Shown { pro_forma, bought, closing, .. } = case.shown_with(&[]).ok()?;
    shown = Shown { pro_forma, bought, closing, ..shown };
    shown.lines.sort();
    for (payer, (total, payable)) in &mut shown.payers {
        *total = shown.lines.iter().filter(|row| row.payer == *payer).map(|row| &row.amount).sum();
        *payable = payable_of(&case.catalogue, total);
    }
    Some(shown)
}

/// When a fault was found.
pub struct Caught {
    pub name: &'static str,
    /// How many cases were drawn until the comparison differed; `None`: it never did.
    pub after: Option<u64>,
    /// The first difference.
    pub why: String,
}

/// Faults that only a spend exactly at a bound or several clauses of one kind show, which random cases rarely have: they get
/// so many times the cases.
const RARE: &[&str] = &[
    "a trigger's bound reversed",
    "which band holds its bound reversed",
    "a trigger over the other payers too",
    "credits by age, whatever the order says",
    "credits before volume discounts",
    "a meter that chooses tiers off by one bound",
];
const RARE_TIMES: u64 = 15;

/// Plants every fault in turn and compares case after case, from `from` on.
pub fn run(from: u64, cases_max: u64) -> Vec<Caught> {
    let caught = |fault: &Fault| {
        let times = if RARE.contains(&fault.name) { RARE_TIMES } else { 1 };
        for seed in from..from + cases_max * times {
            let case = Case::draw(seed);
            let Some(wrong) = (fault.plant)(&case) else { continue };
            if let Some(why) = wrong.difference(&case.wanted()) {
                return Caught { name: fault.name, after: Some(seed - from + 1), why };
            }
        }
        Caught { name: fault.name, after: None, why: String::new() }
    };
    FAULTS.iter().chain(planted_charges::FAULTS).chain(planted_measures::FAULTS).map(caught).collect()
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after.map_or("never".to_owned(), |after| after.to_string());
        write!(f, "{:<45} | {after:>12}", self.name)
    }
}
