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
