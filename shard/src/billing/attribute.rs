//! A shared quantity or amount divided over those who used it (BILLING.md sections 1.2 and 5): pro rata by largest
//! remainder, or by sequence, where lots fill a ladder in order of time. Only integers here; what they measure, and who
//! is who, is the caller's.

use crate::base::wide::split;

/// Divides `total` by `weights`, which sum to something; the order of the weights breaks ties.
pub fn prorata(total: i128, weights: &[i128]) -> Vec<i128> {
    match weights {
        [_] => vec![total],
        _ => match prorata_narrow(total, weights) {
            Some(parts) => parts,
            None => split(total, weights).expect("weights that sum to something divide anything"),
        },
    }
}

/// The same as [`split`] where nothing is below zero and every product fits 128 bits, as in nearly all bills: families
/// of a million accounts are divided several times faster.
fn prorata_narrow(total: i128, weights: &[i128]) -> Option<Vec<i128>> {
    let heaviest = *weights.iter().max()?;
    if total < 0 || weights.iter().any(|weight| *weight < 0) || heaviest == 0 {
        return None;
    }
    total.checked_mul(heaviest)?;
    let sum = weights.iter().try_fold(0i128, |sum, weight| sum.checked_add(*weight))?;
    let (mut parts, mut rests) = (Vec::with_capacity(weights.len()), Vec::with_capacity(weights.len()));
    let mut left = total;
    for (index, weight) in weights.iter().enumerate() {
        let product = total * weight;
        let part = product / sum;
        left -= part;
        parts.push(part);
        rests.push((std::cmp::Reverse(product - part * sum), index));
    }
    // Fewer steps are left than there are parts: the largest remainders get one each, ties to the earlier weight.
    let count = usize::try_from(left).ok().filter(|count| *count < rests.len())?;
    if count > 0 {
        rests.select_nth_unstable(count);
    }
    for (_, index) in &rests[..count] {
        parts[*index] += 1;
    }
    Some(parts)
}

/// Divides a total that is a whole number of `step`s in whole steps.
pub fn prorata_steps(total: i128, step: i128, weights: &[i128]) -> Vec<i128> {
    assert!(total % step == 0, "a rounded total is a whole number of steps");
    let mut parts = prorata(total / step, weights);
    parts.iter_mut().for_each(|part| *part *= step);
    parts
}

/// Amounts in whole `step`s that come to `total`, which is their sum in whole steps, rounded either way: each is rounded
/// down, then the largest remainders get a step more, ties to the earlier. So each is within a step of its own amount,
/// whatever their signs.
pub fn in_steps(total: i128, step: i128, amounts: &[i128]) -> Vec<i128> {
    let mut parts: Vec<i128> = amounts.iter().map(|amount| amount.div_euclid(step) * step).collect();
    let missing = (total - parts.iter().sum::<i128>()) / step;
    let count = usize::try_from(missing).ok().filter(|count| *count <= parts.len());
    let mut order: Vec<usize> = (0..amounts.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(amounts[*index].rem_euclid(step)));
    for index in &order[..count.expect("a total is within a step of its parts' sum")] {
        parts[*index] += step;
    }
    parts
}

/// Lots of one series in order of time, those below zero (corrections) taken off what came before them, latest first,
/// and what is then still owed off what comes after. The sum stays; it must not be below zero.
pub fn netted(lots: &[i128]) -> Vec<i128> {
    let mut left = lots.to_vec();
    let mut owed = 0;
    for at in 0..left.len() {
        let mut lot = left[at] - std::mem::take(&mut owed);
        left[at] = lot.max(0);
        for earlier in left[..at].iter_mut().rev() {
            if lot >= 0 {
                break;
            }
            let taken = (*earlier).min(-lot);
            *earlier -= taken;
            lot += taken;
        }
        owed = (-lot).max(0);
    }
    assert!(owed == 0, "a series below zero is not attributed");
    left
}

/// Takes `amount` from `lots` in their order and says how much of each; the lots are left with the rest.
pub fn take_in_sequence(lots: &mut [i128], mut amount: i128) -> Vec<i128> {
    let taken = lots
        .iter_mut()
        .map(|lot| {
            let part = (*lot).min(amount);
            *lot -= part;
            amount -= part;
            part
        })
        .collect();
    assert!(amount == 0, "a slice is no larger than its lots");
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn corrections_come_off_earlier_lots_first() {
        fn check(lots: &[i128], expected: &[i128]) {
            assert_eq!(netted(lots), expected, "{lots:?}");
        }
        check(&[10, -4, 6], &[6, 0, 6]);
        check(&[-4, 10], &[0, 6]);
        check(&[2, 5, -6, 3], &[1, 0, 0, 3]);
        check(&[2, -6, 3, 4], &[0, 0, 0, 3]);
        check(&[], &[]);
    }

    #[test]
    fn steps_stay_whole() {
        assert_eq!(prorata_steps(100, 10, &[1, 1, 1]), [40, 30, 30]);
        assert_eq!(prorata_steps(-100, 10, &[1, 1, 1]), [-40, -30, -30]);
    }

    #[test]
    fn parts_stay_within_a_step_of_their_amounts() {
        fn check(total: i128, amounts: &[i128], expected: &[i128]) {
            assert_eq!(in_steps(total, 10, amounts), expected, "{amounts:?} to {total}");
        }
        check(30, &[14, 12, 4], &[20, 10, 0]);
        check(10, &[4, 4], &[10, 0]);
        // A maximum that takes nearly all off: 771 + 40 - 751 = 60.
        check(60, &[771, 40, -751], &[770, 40, -750]);
        check(0, &[25, -25], &[30, -30]);
        check(-10, &[-4, -7], &[0, -10]);
        // Rounded up from nothing whole, and down to nothing.
        check(10, &[1, 0, 0], &[10, 0, 0]);
        check(0, &[3, 3, 3], &[0, 0, 0]);
    }

    proptest! {
        #[test]
        fn the_quick_way_divides_like_the_wide_one(total in 0i128..1_000_000, weights in prop::collection::vec(0i128..50, 2..30)) {
            if weights.iter().any(|weight| *weight > 0) {
                prop_assert_eq!(prorata_narrow(total, &weights), split(total, &weights));
            }
        }

        #[test]
        fn netting_keeps_the_sum(lots in prop::collection::vec(-50i128..100, 1..20)) {
            let sum: i128 = lots.iter().sum();
            if sum >= 0 {
                let left = netted(&lots);
                prop_assert_eq!(left.iter().sum::<i128>(), sum);
                prop_assert!(left.iter().all(|lot| *lot >= 0));
            }
        }
    }
}
