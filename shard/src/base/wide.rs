//! 256-bit integers for products and quotients that 128 bits cannot hold, and the one place where rounding happens.

use ethnum::I256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a number between two steps goes to one of them (BILLING.md decision 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest; ties away from zero, also below zero.
    #[default]
    HalfUp,
    /// To the nearest; ties to the even step.
    HalfEven,
    /// Away from zero.
    Up,
    /// Towards zero.
    Down,
    /// Towards positive infinity.
    Ceil,
    /// Towards negative infinity.
    Floor,
}

/// `numerator / denominator`, rounded once. `denominator` must not be zero.
pub fn divide(numerator: I256, denominator: I256, mode: Rounding) -> I256 {
    assert!(denominator != I256::ZERO, "nothing is divided by zero");
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    if rest == I256::ZERO {
        return quotient;
    }
    let negative = (numerator < I256::ZERO) != (denominator < I256::ZERO);
    let away = if negative { quotient - I256::ONE } else { quotient + I256::ONE };
    // |rest| < |denominator|, so twice the rest is compared without a fraction.
    let twice = rest.abs().checked_mul(I256::from(2));
    let nearer = twice.map_or(std::cmp::Ordering::Greater, |twice| twice.cmp(&denominator.abs()));
    let take_away = match mode {
        Rounding::HalfUp => nearer.is_ge(),
        Rounding::HalfEven => nearer.is_gt() || (nearer.is_eq() && quotient % I256::from(2) != I256::ZERO),
        Rounding::Up => true,
        Rounding::Down => false,
        Rounding::Ceil => !negative,
        Rounding::Floor => negative,
    };
    if take_away { away } else { quotient }
}

/// `a * b / c` in 256 bits, rounded once; `None` where the result does not fit 128 bits.
pub fn multiply_divide(a: i128, b: i128, c: i128, mode: Rounding) -> Option<i128> {
    // Two 128-bit factors always fit 256 bits.
    let product = I256::from(a) * I256::from(b);
    i128::try_from(divide(product, I256::from(c), mode)).ok()
}

/// 10 to the power `exponent`; the exponent is at most 38.
pub const fn power_of_ten(exponent: u32) -> i128 {
    10i128.pow(exponent)
}

/// Divides `total` in proportion to `weights` so that the parts sum to `total` exactly: every part is rounded down, and
/// what is left goes, a step each, to the largest remainders; ties to the earlier weight, so the caller sorts by
/// account id, then SKU (BILLING.md decision 8). `None` where the weights sum to zero.
pub fn split(total: i128, weights: &[i128]) -> Option<Vec<i128>> {
    let sum: I256 = weights.iter().map(|weight| I256::from(*weight)).sum();
    if sum == I256::ZERO {
        return None;
    }
    let sign: i128 = if total < 0 { -1 } else { 1 };
    let (size, positive) = (I256::from(total).abs(), sum > I256::ZERO);
    let (sum, flip) = if positive { (sum, I256::ONE) } else { (-sum, -I256::ONE) };
    let mut parts = Vec::with_capacity(weights.len());
    let mut rests = Vec::with_capacity(weights.len());
    let mut left = size;
    for (index, weight) in weights.iter().enumerate() {
        let exact = size * I256::from(*weight) * flip;
        let (part, rest) = (exact.div_euclid(sum), exact.rem_euclid(sum));
        left -= part;
        parts.push(part);
        rests.push((rest, index));
    }
    // Fewer steps are left than there are weights, since every remainder is below one step.
    let count = usize::try_from(left).expect("fewer steps are left than there are parts");
    rests.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, index) in rests.iter().take(count) {
        parts[*index] += I256::ONE;
    }
    Some(
        parts
            .into_iter()
            .map(|part| sign * i128::try_from(part).expect("a part is no larger than its weight's share"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounding_modes() {
        use Rounding::*;
        fn check(n: i128, d: i128, mode: Rounding, expected: i128) {
            assert_eq!(divide(I256::from(n), I256::from(d), mode), I256::from(expected), "{n}/{d} {mode:?}");
        }
        // 2.5, -2.5, 3.5, 2.4, 2.6 and exact values under each mode, by hand.
        for (n, d, half_up, half_even, up, down, ceil, floor) in [
            (5, 2, 3, 2, 3, 2, 3, 2),
            (-5, 2, -3, -2, -3, -2, -2, -3),
            (7, 2, 4, 4, 4, 3, 4, 3),
            (12, 5, 2, 2, 3, 2, 3, 2),
            (13, 5, 3, 3, 3, 2, 3, 2),
            (-13, 5, -3, -3, -3, -2, -2, -3),
            (6, 3, 2, 2, 2, 2, 2, 2),
            (5, -2, -3, -2, -3, -2, -2, -3),
        ] {
            check(n, d, HalfUp, half_up);
            check(n, d, HalfEven, half_even);
            check(n, d, Up, up);
            check(n, d, Down, down);
            check(n, d, Ceil, ceil);
            check(n, d, Floor, floor);
        }
    }

    #[test]
    fn splits_by_largest_remainder() {
        fn check(total: i128, weights: &[i128], expected: &[i128]) {
            assert_eq!(split(total, weights).unwrap(), expected);
        }
        check(100, &[1, 1, 1], &[34, 33, 33]);
        check(-100, &[1, 1, 1], &[-34, -33, -33]);
        check(10, &[0, 5, 5], &[0, 5, 5]);
        check(7, &[3, 2, 2], &[3, 2, 2]);
        check(8, &[10, -2], &[10, -2]);
        check(1, &[1, 3], &[0, 1]);
        assert_eq!(split(5, &[]), None);
        assert_eq!(split(5, &[1, -1]), None);
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole(total in -10i128.pow(30)..10i128.pow(30), weights in prop::collection::vec(0i128..10i128.pow(27), 1..40)) {
            if let Some(parts) = split(total, &weights) {
                prop_assert_eq!(parts.iter().sum::<i128>(), total);
                for (part, weight) in parts.iter().zip(&weights) {
                    prop_assert!(*weight != 0 || *part == 0);
                }
            }
        }
    }
}
