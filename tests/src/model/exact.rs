//! Exact numbers for the reference model: rationals of any size, decimal text in and out, the one rounding and the one
//! division that BILLING.md asks for. Written from the text alone; nothing of the engine's arithmetic is used.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, Zero};

/// A number without limits and without error.
pub type Exact = BigRational;

/// Reads `12.5`, `-0.000001`, `3`. Panics on anything else: the harness writes these strings itself.
pub fn exact(text: &str) -> Exact {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt =
        format!("{whole}{fraction}").parse().unwrap_or_else(|_| panic!("'{text}' is no decimal number"));
    Exact::new(digits, BigInt::from(10).pow(fraction.len() as u32))
}

pub fn whole(value: i128) -> Exact {
    Exact::from_integer(BigInt::from(value))
}

/// 10 to the power `exponent`, which may be negative.
pub fn ten_to(exponent: i32) -> Exact {
    let power = Exact::from_integer(BigInt::from(10).pow(exponent.unsigned_abs()));
    if exponent < 0 { power.recip() } else { power }
}

/// Half up at `decimals`, ties away from zero, also below zero (decision 8).
pub fn rounded(value: &Exact, decimals: i32) -> Exact {
    let scaled = (value * ten_to(decimals)).abs();
    let steps = (scaled + Exact::new(1.into(), 2.into())).floor() / ten_to(decimals);
    if value.is_negative() { -steps } else { steps }
}

/// To a multiple of 10^-`decimals`, by one of the modes of decision 8. Panics on any other word.
pub fn rounded_by(value: &Exact, decimals: i32, mode: &str) -> Exact {
    let scaled = value * ten_to(decimals);
    let (floor, ceil) = (scaled.floor(), scaled.ceil());
    let (toward, away) = if value.is_negative() { (&ceil, &floor) } else { (&floor, &ceil) };
    let steps = match mode {
        "half_up" => return rounded(value, decimals),
        "half_even" => match (&scaled - &floor).cmp(&Exact::new(1.into(), 2.into())) {
            Ordering::Less => &floor,
            Ordering::Greater => &ceil,
            Ordering::Equal if (floor.to_integer() % BigInt::from(2)).is_zero() => &floor,
            Ordering::Equal => &ceil,
        },
        "up" => away,
        "down" => toward,
        "ceil" => &ceil,
        "floor" => &floor,
        other => panic!("'{other}' is no way to round"),
    };
    steps / ten_to(decimals)
}

/// Divides `total`, a multiple of 10^-`decimals`, by weights: parts rounded down, what is left goes a step each to the
/// largest remainders, ties to the earlier part (decision 8). Nothing where the weights sum to zero.
pub fn divided(total: &Exact, weights: &[Exact], decimals: i32) -> Option<Vec<Exact>> {
    // In whole steps: weights are decimals, and proportions do not change when all are multiplied alike.
    let steps_of = |value: &Exact| (value.numer() * BigInt::from(10).pow(24)) / value.denom();
    let weights: Vec<BigInt> = weights.iter().map(steps_of).collect();
    let sum: BigInt = weights.iter().sum();
    if sum.is_zero() {
        return None;
    }
    let steps = (total.abs() * ten_to(decimals)).to_integer();
    let shares: Vec<(BigInt, BigInt)> = weights.iter().map(|weight| floored(&steps * weight, &sum)).collect();
    let left = &steps - shares.iter().map(|(part, _)| part).sum::<BigInt>();
    let mut parts: Vec<BigInt> = shares.iter().map(|(part, _)| part.clone()).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|at| (-&shares[*at].1, *at));
    for at in order.into_iter().take((&left).try_into().expect("fewer steps are left than parts")) {
        parts[at] += 1;
    }
    let sign = if total.is_negative() { -1 } else { 1 };
    Some(parts.into_iter().map(|part| Exact::from_integer(part * sign) / ten_to(decimals)).collect())
}

/// Quotient and rest of a division, rounded down; the divisor may be below zero.
fn floored(value: BigInt, by: &BigInt) -> (BigInt, BigInt) {
    let (value, by) = if by.is_negative() { (-value, -by) } else { (value, by.clone()) };
    let (quotient, rest) = (&value / &by, &value % &by);
    if rest.is_negative() { (quotient - 1, rest + by) } else { (quotient, rest) }
}

/// The shortest decimal text; panics where the decimals do not end within 40 digits.
pub fn text(value: &Exact) -> String {
    let scaled = value.numer().abs() * BigInt::from(10).pow(40);
    assert!((&scaled % value.denom()).is_zero(), "{value} has no end in decimals");
    let digits = format!("{:0>41}", (scaled / value.denom()).to_string());
    let (whole, fraction) = digits.split_at(digits.len() - 40);
    let fraction = fraction.trim_end_matches('0');
    let sign = if value.is_negative() { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_there_and_back() {
        for value in ["0", "1", "-1", "12.5", "-0.000000000001", "123456789012345678901234567890.5"] {
            assert_eq!(text(&exact(value)), value);
        }
        assert_eq!(text(&exact("1.500")), "1.5");
    }

    #[test]
    fn rounding_and_division_by_hand() {
        fn check(value: &str, decimals: i32, expected: &str) {
            assert_eq!(text(&rounded(&exact(value), decimals)), expected, "{value} at {decimals}");
        }
        check("2.345", 2, "2.35");
        check("-2.345", 2, "-2.35");
        check("2.344999", 2, "2.34");
        check("1250", -2, "1300");
        let modes = |value: &str| {
            ["half_up", "half_even", "up", "down", "ceil", "floor"]
                .map(|mode| text(&rounded_by(&exact(value), 0, mode)))
        };
        assert_eq!(modes("2.5"), ["3", "2", "3", "2", "3", "2"]);
        assert_eq!(modes("-2.5"), ["-3", "-2", "-3", "-2", "-2", "-3"]);
        assert_eq!(modes("-3.5"), ["-4", "-4", "-4", "-3", "-3", "-4"]);
        assert_eq!(modes("1.2"), ["1", "1", "2", "1", "2", "1"]);
        let parts = |total: &str, weights: &[i128]| {
            let weights: Vec<Exact> = weights.iter().map(|weight| whole(*weight)).collect();
            divided(&exact(total), &weights, 2).map(|parts| parts.iter().map(text).collect::<Vec<_>>())
        };
        assert_eq!(parts("1", &[1, 1, 1]).unwrap(), ["0.34", "0.33", "0.33"]);
        assert_eq!(parts("-1", &[1, 1, 1]).unwrap(), ["-0.34", "-0.33", "-0.33"]);
        assert_eq!(parts("0.01", &[1, 3]).unwrap(), ["0", "0.01"]);
        assert_eq!(parts("0.01", &[0, 0]), None);
    }
}
