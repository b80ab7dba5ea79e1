//! A flat rate of the customer's own: what a slice costs at it, against what it costs in public.

use crate::base::money::{Money, Quantity, Rate};

/// A private rate per priced unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateRate {
    pub rate: Rate,
    /// Also where it is dearer than the public slice.
    pub may_raise: bool,
}

impl PrivateRate {
    /// Contracted less public amount of one slice: `quantity` at the private rate takes the place of `amount`, unit
    /// rate, flat part and package alike. Zero where it would raise the slice and may not. `None` on overflow, which
    /// the limits at apply exclude.
    pub fn difference(&self, quantity: Quantity, amount: Money) -> Option<Money> {
        match Money::of(quantity, self.rate) {
            Some(contracted) if self.may_raise || contracted < amount => contracted.checked_sub(amount),
            Some(_) => Some(Money::ZERO),
            // Too large to say means dearer than anything public.
            None if !self.may_raise => Some(Money::ZERO),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_raises_unless_told() {
        fn check(rate: &str, may_raise: bool, quantity: &str, amount: &str, expected: &str) {
            let rate = PrivateRate { rate: rate.parse().unwrap(), may_raise };
            let found = rate.difference(quantity.parse().unwrap(), amount.parse().unwrap()).unwrap();
            assert_eq!(found.to_string(), expected);
        }
        // 100 units at 0.023 are 2.30; at 0.02 they are 2.00, at 0.03 they would be 3.00.
        check("0.02", false, "100", "2.3", "-0.3");
        check("0.03", false, "100", "2.3", "0");
        check("0.03", true, "100", "2.3", "0.7");
        check("0.023", false, "100", "2.3", "0");
        // A flat part of 5 is replaced too: 100 at 0.02 against 7.30.
        check("0.02", false, "100", "7.3", "-5.3");
        check("1000000000", false, "1000000000000000", "1", "0");
    }
}
