//! What a quantity costs under a price: its slices (decisions 2, 5 and 8).

use num_traits::Zero;
use serde_json::{Value, json};

use super::exact::{Exact, exact, rounded, whole};
use super::rounding::SCALE;
use super::series::{list, number, text};

/// A ladder's part of a quantity: tier, units, amount.
pub type Slice = (usize, Exact, Exact);

/// The tiers of a price; one without tiers has one.
pub fn tiers_of(price: &Value) -> Vec<Value> {
    match list(price, "tiers") {
        [] => match text(&price["model"], "per_unit") {
            "percentage" => vec![json!({ "percent": price["percent"] })],
            "dynamic" => vec![json!({ "rate": text(&price["multiplier"], "1") })],
            _ => vec![json!({ "rate": price["rate"] })],
        },
        tiers => tiers.to_vec(),
    }
}

/// The first tier that holds `quantity`, a tier holding (begin, end], or with a lower bound [begin, end).
pub fn tier_of<'a>(ends: impl Iterator<Item = Option<&'a str>>, quantity: &Exact, lower: bool) -> usize {
    let inside = |end: &str| if lower { *quantity < exact(end) } else { *quantity <= exact(end) };
    ends.take_while(|end| end.is_some_and(|end| !inside(end))).count()
}

/// Units at the tier's rate, or its started blocks, and its flat part; no more than its cap.
fn cost(tier: &Value, units: &Exact) -> Exact {
    let counted = tier["block"].as_str().map_or(units.clone(), |block| (units / exact(block)).ceil());
    let rate = tier["percent"].as_str().map_or(number(&tier["rate"], "0"), |share| exact(share) / whole(100));
    let cost = counted * rate + number(&tier["flat"], "0");
    rounded(&tier["cap"].as_str().map_or(cost.clone(), |cap| exact(cap).min(cost)), SCALE)
}

/// The slices of a price for a pool's quantity. `reached`: the tier where something else chooses it.
pub fn ladder(price: &Value, quantity: &Exact, reached: Option<usize>) -> Vec<Slice> {
    let tiers = tiers_of(price);
    let lower = text(&price["bound"], "upper") == "lower";
    let own = || tier_of(tiers.iter().map(|tier| tier["up_to"].as_str()), quantity, lower);
    let reached = reached.unwrap_or_else(own);
    let mut slices: Vec<Slice> = match text(&price["model"], "per_unit") {
        "package" => {
            let blocks = quantity / number(&price["package"]["size"], "1");
            let up = text(&price["package"]["round"], "up") == "up";
            let blocks = if up { blocks.ceil() } else { blocks.floor() };
            vec![(0, quantity.clone(), rounded(&(blocks * number(&price["rate"], "0")), SCALE))]
        }
        "volume" => vec![(reached, quantity.clone(), cost(&tiers[reached], quantity))],
        "stairstep" => vec![(reached, quantity.clone(), number(&tiers[reached]["flat"], "0"))],
        _ => {
            let mut begin = whole(0);
            let slice = |(index, tier): (usize, &Value)| {
                let end = tier["up_to"].as_str().map_or(quantity.clone(), exact).min(quantity.clone());
                let part = &end - std::mem::replace(&mut begin, end.clone());
                (index, part.clone(), cost(tier, &part))
            };
            tiers[..=reached].iter().enumerate().map(slice).collect()
        }
    };
    slices.retain(|(_, units, amount)| !units.is_zero() || !amount.is_zero());
    slices
}

/// What a pool of `whole` units pays for those from `begin` to `end`, used while this ladder held (decision 10).
pub fn ladder_part(price: &Value, begin: &Exact, end: &Exact, whole: &Exact) -> Vec<Slice> {
    match text(&price["model"], "per_unit") {
        // The ladder at its end less the ladder at its start.
        "graduated" | "graduated_percentage" | "package" => {
            let mut slices = ladder(price, end, None);
            // Nothing has begun at zero.
            let begun = if begin.is_zero() { Vec::new() } else { ladder(price, begin, None) };
            for (tier, units, amount) in begun {
                let own = slices.iter_mut().find(|own| own.0 == tier).expect("more reaches no less");
                own.1 -= units;
                own.2 -= amount;
            }
            slices.retain(|(_, units, amount)| !units.is_zero() || !amount.is_zero());
            slices
        }
        // The tier of the whole; what is not by unit goes by share, so that equal shares sum to it.
        "volume" | "stairstep" => {
            let slices = ladder(price, whole, None);
            let units = end - begin;
            let share = |amount: &Exact| {
                let below = |at: &Exact| rounded(&(amount * at / whole), SCALE);
                below(end) - below(begin)
            };
            let part = |(tier, _, amount): Slice| {
                let own = &tiers_of(price)[tier];
                let by_unit = own["block"].is_null() && own["cap"].is_null();
                let amount = match by_unit {
                    true => rounded(&(&units * number(&own["rate"], "0")), SCALE) + share(&number(&own["flat"], "0")),
                    false => share(&amount),
                };
                (tier, units.clone(), amount)
            };
            slices.into_iter().map(part).collect()
        }
        _ => ladder(price, &(end - begin), None),
    }
}

/// A level walks the ladder: each unit pays its slice's rate for the share of the cycle in which it was there, each tier
/// that the peak reached its flat part in full (decision 2). `levels`: each with the nanoseconds that it lasted.
pub fn walked(price: &Value, levels: &[(Exact, i64)], hours: i64, sku: &Value) -> Vec<Slice> {
    let convert = &sku["convert"];
    let by_hours = if convert["by_hours_of_cycle"] == true { whole(hours.into()) } else { whole(1) };
    let divisor = number(&convert["divide"], "1") * by_hours;
    let levels: Vec<(Exact, i64)> = levels.iter().map(|(level, time)| (level / &divisor, *time)).collect();
    let tiers = tiers_of(price);
    let lower = text(&price["bound"], "upper") == "lower";
    let peak = levels.iter().map(|(level, _)| level.clone()).max().unwrap_or_else(|| whole(0));
    let reached = tier_of(tiers.iter().map(|tier| tier["up_to"].as_str()), &peak, lower);
    let time: i64 = levels.iter().map(|(_, time)| time).sum();
    // What of the level was below a tier's end, over the cycle; the slices sum to the whole of it.
    let mut before = whole(0);
    let slice = |(index, tier): (usize, &Value)| {
        let inside = |level: &Exact| tier["up_to"].as_str().map_or(level.clone(), |end| exact(end).min(level.clone()));
        let below: Exact = levels.iter().map(|(level, time)| inside(level) * whole((*time).into())).sum();
        let below = rounded(&(below / whole(time.into())), SCALE);
        let units = &below - std::mem::replace(&mut before, below.clone());
        (index, units.clone(), cost(tier, &units))
    };
    let mut slices: Vec<Slice> = tiers[..=reached].iter().enumerate().map(slice).collect();
    slices.retain(|(_, units, amount)| !units.is_zero() || !amount.is_zero());
    slices
}
