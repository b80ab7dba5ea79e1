//! From a price document to a checked ladder: tiers in order, no gap, bounds and rates within the limits.

use super::document::{Bound, Model, PriceDocument};
use super::limits::{BOUND_MAX, CAP_MAX, FLAT_MAX, MULTIPLIER_MAX, RATE_MAX, TIERS_MAX};
use super::rate::{Ladder, Package, Tier};
use crate::base::money::{Money, Quantity, RATE_SCALE, Rate, SCALE, parse_scaled};
use crate::base::problem::{Place, Problems};
use crate::base::wide::{Rounding, multiply_divide, power_of_ten};

/// Reads a rate: zero to 10^9 a unit.
pub fn rate(text: &str, place: &Place, problems: &mut Problems) -> Rate {
    number(text, "rate", Rate(RATE_MAX.0), place, problems)
}

/// Reads a share in percent, 0 to 10,000, of at most 16 decimals.
pub fn share(text: &str, place: &Place, problems: &mut Problems) -> Rate {
    match parse_scaled(text, RATE_SCALE - 2) {
        Err(error) => problems.refuse(place, error),
        Ok(share) if !(0..=MULTIPLIER_MAX.0).contains(&share) => {
            let message = format!("percent {text} is outside 0 to 10000");
            problems.error(place, message, "write 2.9 for 2.9 percent");
        }
        Ok(share) => return Rate(share),
    }
    Rate::ZERO
}

/// Reads a quantity that bounds something: zero to 10^16 units.
pub fn units(text: &str, field: &str, place: &Place, problems: &mut Problems) -> Quantity {
    number(text, field, BOUND_MAX, place, problems)
}

/// Reads a number from zero to `max`; a problem reads as zero, so that checking can go on.
pub fn number<N>(text: &str, field: &str, max: N, place: &Place, problems: &mut Problems) -> N
where
    N: std::str::FromStr + Ord + Default + std::fmt::Display,
    N::Err: std::fmt::Display,
{
    match text.parse::<N>() {
        Err(error) => problems.refuse(place, error),
        Ok(value) if value < N::default() => {
            problems.error(place, format!("{field} {value} is below zero"), "write zero or more");
        }
        Ok(value) if value > max => {
            let help = format!("write at most {max}; the limit keeps every bill exact");
            problems.error(place, format!("{field} {value} is above {max}"), help);
        }
        Ok(value) => return value,
    }
    N::default()
}

/// Reads the ladder of a price; problems are reported under `place`.
pub fn compile(price: &PriceDocument, place: &Place, problems: &mut Problems) -> Ladder {
    let id = &price.id;
    let tiered =
        matches!(price.model, Model::Graduated | Model::Volume | Model::Stairstep | Model::GraduatedPercentage);
    let model = match price.model {
        Model::PerUnit => "per_unit",
        Model::Graduated => "graduated",
        Model::Volume => "volume",
        Model::Stairstep => "stairstep",
        Model::Package => "package",
        Model::Percentage => "percentage",
        Model::GraduatedPercentage => "graduated_percentage",
        Model::Dynamic => "dynamic",
    };
    if tiered && price.rate.is_some() {
        problems.error(
            &place.key("rate"),
            format!("price {id} is {model} and has a rate of its own"),
            "give each tier its rate",
        );
    }
    if !tiered && !price.tiers.is_empty() {
        problems.error(
            &place.key("tiers"),
            format!("price {id} is {model}, which has no tiers"),
            "use model: graduated, volume or stairstep, or give one rate",
        );
    }
    if (price.model == Model::Package) != price.package.is_some() {
        let (message, help) = match price.package {
            None => ("has no package", "state package: {size: ...}"),
            Some(_) => ("has a package", "use model: package, or drop it"),
        };
        problems.error(&place.key("package"), format!("price {id} is {model} and {message}"), help);
    }
    if !tiered && price.bound != Bound::Upper {
        problems.error(
            &place.key("bound"),
            format!("price {id} is {model}, which has no bounds"),
            "drop bound; it says which tier holds a quantity at a bound",
        );
    }
    let own = [
        ("percent", price.percent.is_some(), Model::Percentage),
        ("multiplier", price.multiplier.is_some(), Model::Dynamic),
        ("records", price.records.is_some(), Model::Percentage),
    ];
    for (field, _, of) in own.into_iter().filter(|(_, is_given, of)| *is_given && price.model != *of) {
        let word = if of == Model::Dynamic { "dynamic" } else { "percentage" };
        let message = format!("price {id} is {model} and has {field}");
        problems.error(&place.key(field), message, format!("use model: {word}, or drop it"));
    }
    if tiered {
        let tiers = tiers(price, place, problems);
        return Ladder { model: price.model, bound: price.bound, tiers, package: None };
    }
    let one = match (&price.rate, price.model) {
        (Some(_), Model::Percentage | Model::Dynamic) => {
            let help = "drop rate; state percent, or multiplier";
            problems.error(&place.key("rate"), format!("price {id} is {model} and has a rate"), help);
            Rate::ZERO
        }
        (None, Model::Dynamic) => match &price.multiplier {
            Some(text) => number(text, "multiplier", MULTIPLIER_MAX, &place.key("multiplier"), problems),
            None => Rate::ONE,
        },
        (None, Model::Percentage) => match &price.percent {
            Some(text) => share(text, &place.key("percent"), problems),
            None => {
                problems.error(place, format!("price {id} is percentage and has no percent"), "state percent");
                Rate::ZERO
            }
        },
        (Some(text), _) => rate(text, &place.key("rate"), problems),
        (None, _) => {
            problems.error(place, format!("price {id} is {model} and has no rate"), "state rate");
            Rate::ZERO
        }
    };
    let package = price.package.as_ref().map(|package| {
        let place = place.key("package").key("size");
        let size = units(&package.size, "package size", &place, problems);
        if size.is_zero() {
            problems.error(&place, format!("price {id} has packages of no unit"), "give size above zero");
        }
        Package { size: size.max(Quantity(1)), round: package.round }
    });
    Ladder { model: price.model, package, ..Ladder::per_unit(one) }
}

fn tiers(price: &PriceDocument, place: &Place, problems: &mut Problems) -> Vec<Tier> {
    let id = &price.id;
    let place = place.key("tiers");
    if price.tiers.is_empty() {
        problems.error(&place, format!("price {id} has no tiers"), "list tiers, lowest first; the last without up_to");
    }
    if price.tiers.len() > TIERS_MAX {
        problems.error(
            &place,
            format!("price {id} has {} tiers, at most {TIERS_MAX}", price.tiers.len()),
            "merge some",
        );
    }
    let mut begin = Quantity::ZERO;
    let mut tiers = Vec::with_capacity(price.tiers.len());
    for (index, tier) in price.tiers.iter().enumerate() {
        let place = place.index(index);
        let last = index + 1 == price.tiers.len();
        let stairstep = price.model == Model::Stairstep;
        if stairstep && (tier.flat.is_none() || tier.rate.is_some() || tier.block.is_some() || tier.cap.is_some()) {
            problems.error(
                &place,
                format!("tier {} of price {id} is a stair: a flat part and nothing else", index + 1),
                "state flat alone, or use model: volume",
            );
        } else if tier.rate.is_none() && tier.flat.is_none() && tier.percent.is_none() {
            problems.error(&place, format!("tier {} of price {id} has neither rate nor flat", index + 1), "state one");
        }
        let is_share = price.model == Model::GraduatedPercentage;
        if is_share && tier.rate.is_some() || !is_share && tier.percent.is_some() {
            let (field, other) = if is_share { ("rate", "percent") } else { ("percent", "rate") };
            let message = format!("tier {} of price {id} has a {field}", index + 1);
            problems.error(&place.key(field), message, format!("state {other}, or use another model"));
        }
        let rate = match (&tier.rate, &tier.percent) {
            (_, Some(text)) if is_share => share(text, &place.key("percent"), problems),
            (Some(text), _) => rate(text, &place.key("rate"), problems),
            (None, _) => Rate::ZERO,
        };
        let flat =
            tier.flat.as_ref().map_or(Money::ZERO, |text| number(text, "flat", FLAT_MAX, &place.key("flat"), problems));
        let block = tier.block.as_ref().and_then(|text| {
            let place = place.key("block");
            let size = units(text, "block", &place, problems);
            if size.is_zero() {
                problems.error(&place, format!("tier {} of price {id} has blocks of no unit", index + 1), "give more");
            }
            Some(size).filter(|size| !size.is_zero())
        });
        let cap = tier.cap.as_ref().map(|text| number(text, "cap", CAP_MAX, &place.key("cap"), problems));
        let end = tier.up_to.as_ref().map(|text| units(text, "up_to", &place.key("up_to"), problems));
        if !price.reached_by.is_empty() {
            if end.is_some() {
                problems.error(
                    &place.key("up_to"),
                    format!("tier {} of price {id} ends at a quantity, but reached_by chooses the tier", index + 1),
                    "move the bound under reached_by, or drop reached_by",
                );
            }
            tiers.push(Tier { begin, end: None, rate, flat, block, cap });
            continue;
        }
        match end {
            Some(end) if last => problems.error(
                &place.key("up_to"),
                format!("the last tier of price {id} ends at {end}: units beyond it would have no rate"),
                "drop up_to from the last tier; only free pools end",
            ),
            None if !last => problems.error(
                &place,
                format!(
                    "tier {} of price {id} has no up_to, but {} more follow",
                    index + 1,
                    price.tiers.len() - index - 1
                ),
                "state where it ends; only the last tier is open",
            ),
            Some(end) if end <= begin => problems.error(
                &place.key("up_to"),
                format!("tier {} of price {id} ends at {end}, not above {begin} where it begins", index + 1),
                "sort the tiers, lowest first; each begins where the one before ends",
            ),
            _ => {}
        }
        tiers.push(Tier { begin, end: if last { None } else { Some(end.unwrap_or(begin)) }, rate, flat, block, cap });
        begin = end.unwrap_or(begin);
    }
    if tiers.is_empty() {
        tiers = Ladder::per_unit(Rate::ZERO).tiers;
    }
    tiers
}

/// The highest that one more unit can cost under a ladder, flat parts aside, rounded up.
pub fn highest_rate(ladder: &Ladder) -> Rate {
    let package = ladder.package.map(|package| package.size);
    let each = ladder.tiers.iter().map(|tier| match tier.block.or(package) {
        None => tier.rate,
        // A rate is at most 10^27 in its steps and a size at least 1, so the quotient fits.
        Some(size) => {
            Rate(multiply_divide(tier.rate.0, power_of_ten(SCALE), size.0, Rounding::Ceil).unwrap_or(i128::MAX))
        }
    });
    each.max().unwrap_or_default()
}

/// The largest counter, as an integer at `scale`, that costs at most 10^`cost` at `rate` after conversion by `divide`
/// and, where it applies, the fewest hours; capped at `max`.
pub fn ceiling(scale: u32, divide: Quantity, hours: i128, rate: Rate, cost: u32, max: i128) -> i128 {
    use ethnum::I256;
    if rate.0 <= 0 {
        return max;
    }
    // units = 10^cost * divide * hours / rate; every factor's bound keeps the product below 10^66.
    let numerator = I256::from(power_of_ten(cost + scale))
        * I256::from(divide.0)
        * I256::from(hours)
        * I256::from(power_of_ten(RATE_SCALE - SCALE));
    i128::try_from(numerator / I256::from(rate.0)).map_or(max, |value| value.min(max))
}
