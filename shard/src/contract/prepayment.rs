//! Charges settled from what was paid in advance, at a discount (BILLING.md section 2.9).

use crate::base::id::AccountId;
use crate::base::money::{Money, RATE_SCALE, Rate};
use crate::base::wide::{Rounding, multiply_divide, power_of_ten};

/// An amount paid in advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepayment {
    pub amount: Money,
    /// Off the charges that it settles; below one.
    pub share: Rate,
    /// What was not bought yet of the amount is charged.
    pub purchase: Option<Purchase>,
}

/// Who buys a prepayment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The payer of the root account where it is not named.
    pub payer: Option<AccountId>,
    pub service: Box<str>,
}

impl Prepayment {
    /// Charges that are settled, at most `net`, and what of `left` is drawn for them. The charges are a whole number of
    /// `step`s where they are not all of `net`. `None` on overflow.
    pub fn settle(&self, net: Money, left: Money, step: i128) -> Option<(Money, Money)> {
        if net <= Money::ZERO || left <= Money::ZERO {
            return Some((Money::ZERO, Money::ZERO));
        }
        let pays = Rate::ONE.checked_sub(self.share)?;
        let drawn = net.share(pays)?;
        if drawn <= left {
            return Some((net, drawn));
        }
        let covered = multiply_divide(left.0, power_of_ten(RATE_SCALE), pays.0, Rounding::HalfUp)?.min(net.0);
        match covered % step {
            0 => Some((Money(covered), left)),
            odd => {
                let covered = Money(covered - odd);
                Some((covered, covered.share(pays)?.min(left)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_settles_more_than_it_holds() {
        fn check(net: &str, left: &str, step: i128, expected: (&str, &str)) {
            let prepayment = Prepayment { amount: Money::ONE, share: "0.1".parse().unwrap(), purchase: None };
            let (settled, drawn) = prepayment.settle(net.parse().unwrap(), left.parse().unwrap(), step).unwrap();
            assert_eq!((settled.to_string().as_str(), drawn.to_string().as_str()), expected, "{net} {left}");
        }
        // BILLING.md 2.9: 90,000 at 10% cover 100,000.
        check("100000", "90000", 1, ("100000", "90000"));
        check("100000.01", "90000", 1, ("100000", "90000"));
        check("60000", "90000", 1, ("60000", "54000"));
        check("60000", "36000", 1, ("40000", "36000"));
        check("60000", "0", 1, ("0", "0"));
        check("-1", "5", 1, ("0", "0"));
        // 1 / 0.9 = 1.111111111111, in cents 1.11, of which 0.999 is drawn.
        check("5", "1", 1, ("1.111111111111", "1"));
        check("5", "1", 10_000_000_000, ("1.11", "0.999"));
    }
}
