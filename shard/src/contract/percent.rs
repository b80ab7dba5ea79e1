//! A share off a base, and the threshold that may stand before it.

use super::document_clause::PercentKind;
use super::document_scope::{Per, PercentBase};
use super::scope::Scope;
use crate::base::money::{Money, Quantity, Rate};
use crate::pricing::document::Bound;
use crate::pricing::order::Stage;

/// A percentage over a scope's net amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Percent {
    pub stage: Stage,
    /// 0 to 1; below zero where a pro forma rule adds it.
    pub share: Rate,
    pub base: PercentBase,
    pub trigger: Option<Trigger>,
}

/// What must be used before a percentage counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub scope: Scope,
    pub threshold: Threshold,
    pub bound: Bound,
    pub per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Spend(Money),
    Quantity(Quantity),
}

impl Percent {
    /// What is taken off a base: never more than the base; nothing of a base that is not above zero. `None` on overflow,
    /// which a share of at most 1 excludes.
    pub fn off(&self, base: Money) -> Option<Money> {
        if base <= Money::ZERO { Some(Money::ZERO) } else { base.share(self.share) }
    }
}

impl Trigger {
    /// Whether a spend and a quantity reach the threshold.
    pub fn is_reached(&self, spend: Money, quantity: Quantity) -> bool {
        let order = match self.threshold {
            Threshold::Spend(threshold) => spend.cmp(&threshold),
            Threshold::Quantity(threshold) => quantity.cmp(&threshold),
        };
        match self.bound {
            Bound::Lower => order.is_ge(),
            Bound::Upper => order.is_gt(),
        }
    }
}

impl PercentKind {
    /// The stage that applies percentages of this kind.
    pub fn stage(self) -> Stage {
        match self {
            PercentKind::Attribute => Stage::AttributePercent,
            PercentKind::Service => Stage::ServicePercent,
            PercentKind::CrossService => Stage::CrossServicePercent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_what_is_there() {
        fn check(percent: &str, base: &str, expected: &str) {
            let share = Rate(crate::base::money::parse_scaled(percent, 16).unwrap());
            let percent = Percent { stage: Stage::AttributePercent, share, base: PercentBase::Left, trigger: None };
            assert_eq!(percent.off(base.parse().unwrap()).unwrap().to_string(), expected);
        }
        // BILLING.md 2.4: 5% of 960.
        check("5", "960", "48");
        check("100", "0.000000000001", "0.000000000001");
        check("0", "960", "0");
        check("12.5", "-960", "0");
        // 1/3 percent of 1, cut at 12 decimals: 0.003333333333.
        check("0.3333333333333333", "1", "0.003333333333");
    }

    #[test]
    fn thresholds_are_reached_at_their_bound() {
        fn check(bound: Bound, spend: &str, expected: bool) {
            let threshold = Threshold::Spend("1000".parse().unwrap());
            let trigger = Trigger { scope: Scope::default(), threshold, bound, per: Per::Payer };
            assert_eq!(trigger.is_reached(spend.parse().unwrap(), Quantity::ZERO), expected, "{bound:?} {spend}");
        }
        check(Bound::Lower, "999.999999999999", false);
        check(Bound::Lower, "1000", true);
        check(Bound::Upper, "1000", false);
        check(Bound::Upper, "1000.000000000001", true);
    }
}
