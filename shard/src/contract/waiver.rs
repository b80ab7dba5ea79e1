//! Usage that makes other usage cheaper: how much it entitles to, and in which order that is given (BILLING.md section
//! 2.1). Which lots there are is the caller's.

use std::cmp::Ordering;

use ethnum::I256;

use super::document_scope::Per;
use super::scope::Scope;
use crate::base::money::{Money, Quantity, Rate};
use crate::base::wide::{Rounding, multiply_divide};

/// Units of a source entitle to units of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    pub source: Scope,
    /// Above zero.
    pub source_units: Quantity,
    /// Above zero.
    pub target_units: Quantity,
    /// 0 to 1, off the target's price.
    pub share: Rate,
    /// How far an entitlement goes beyond its own account.
    pub per: Per,
    /// What an hour entitles to is used in the same hour.
    pub hourly: bool,
}

/// A part of a paid slice that was used in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    /// The caller's number of the slice; lots that are alike in all else are taken in its order.
    pub slice: usize,
    /// The account's place in the order of ids.
    pub account: usize,
    /// Where its bucket begins in the cycle.
    pub begins: u32,
    /// What it held at first: its place in the order stays the same while it is taken.
    pub units: i128,
    pub left: i128,
    /// What is left to pay of the slice, and the slice's units: its price as a fraction.
    pub price: (Money, Quantity),
}

impl Waiver {
    /// Units of the target for so many of the source, rounded half up to 12 decimals. `None` on overflow.
    pub fn entitled(&self, source: Quantity) -> Option<i128> {
        multiply_divide(source.0, self.target_units.0, self.source_units.0, Rounding::HalfUp)
    }

    /// Takes the entitlements of accounts (by their places) off the lots; answers units by slice, in the order of lots.
    /// What an account does not use itself goes to the others.
    pub fn take(&self, entitled: &[(usize, i128)], lots: &mut [Lot]) -> Vec<(usize, i128)> {
        let mut taken = Vec::new();
        let mut left = 0i128;
        lots.sort_by(|a, b| by_price(a, b).then_with(|| by_age(a, b)));
        for (account, entitled) in entitled {
            let mut entitled = *entitled;
            for lot in lots.iter_mut().filter(|lot| lot.account == *account) {
                give(lot, &mut entitled, &mut taken);
            }
            left = left.saturating_add(entitled);
        }
        lots.sort_by(|a, b| by_price(a, b).then(a.account.cmp(&b.account)).then_with(|| by_age(a, b)));
        for lot in lots.iter_mut() {
            give(lot, &mut left, &mut taken);
        }
        taken
    }
}

fn give(lot: &mut Lot, left: &mut i128, taken: &mut Vec<(usize, i128)>) {
    let part = lot.left.min(*left);
    if part > 0 {
        lot.left -= part;
        *left -= part;
        taken.push((lot.slice, part));
    }
}

/// Higher first.
fn by_price(a: &Lot, b: &Lot) -> Ordering {
    let cross = |amount: Money, units: Quantity| I256::from(amount.0) * I256::from(units.0);
    cross(b.price.0, a.price.1).cmp(&cross(a.price.0, b.price.1))
}

/// Earlier first, then larger, then in the order of slices.
fn by_age(a: &Lot, b: &Lot) -> Ordering {
    a.begins.cmp(&b.begins).then(b.units.cmp(&a.units)).then(a.slice.cmp(&b.slice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lot(slice: usize, account: usize, begins: u32, units: i128, price: i128) -> Lot {
        Lot { slice, account, begins, units, left: units, price: (Money(price), Quantity(1)) }
    }

    #[test]
    fn the_published_order() {
        fn check(entitled: &[(usize, i128)], lots: &[Lot], expected: &[(usize, i128)]) {
            let waiver = Waiver {
                source: Scope::default(),
                source_units: Quantity::ONE,
                target_units: Quantity::ONE,
                share: Rate::ONE,
                per: Per::Payer,
                hourly: false,
            };
            assert_eq!(waiver.take(entitled, &mut lots.to_vec()), expected);
        }
        // The own account comes before a higher price elsewhere.
        check(&[(1, 5)], &[lot(0, 0, 0, 9, 7), lot(1, 1, 0, 3, 2)], &[(1, 3), (0, 2)]);
        // Higher price, then earlier, then larger.
        check(&[(0, 4)], &[lot(0, 0, 1, 3, 2), lot(1, 0, 0, 2, 2), lot(2, 0, 9, 1, 3)], &[(2, 1), (1, 2), (0, 1)]);
        check(&[(0, 1)], &[lot(0, 0, 0, 1, 2), lot(1, 0, 0, 2, 2)], &[(1, 1)]);
        // Of others: price, then account id before time.
        check(&[(0, 2)], &[lot(0, 2, 0, 1, 2), lot(1, 1, 5, 1, 2)], &[(1, 1), (0, 1)]);
        check(&[(0, 9)], &[lot(0, 0, 0, 1, 2)], &[(0, 1)]);
        // A lot that its own account took from is as large as ever: 8 of 10 are taken, the 2 left still come before 9.
        check(&[(0, 8), (1, 3)], &[lot(0, 0, 0, 9, 2), lot(1, 0, 0, 10, 2)], &[(1, 8), (1, 2), (0, 1)]);
    }

    #[test]
    fn fractions_entitle_too() {
        let waiver = Waiver {
            source: Scope::default(),
            source_units: "3".parse().unwrap(),
            target_units: "2".parse().unwrap(),
            share: Rate::ONE,
            per: Per::Payer,
            hourly: false,
        };
        // 10 x 2 / 3 = 6.666666666666..
        assert_eq!(Quantity(waiver.entitled("10".parse().unwrap()).unwrap()).to_string(), "6.666666666667");
    }
}
