//! Percent fees, fixed fees, lines by agreement, minima and maxima: what they come to on a base.

use super::document_clause::{FeeBase, FeePer};
use super::document_scope::Per;
use super::steps::Steps;
use crate::base::id::AccountId;
use crate::base::money::{Money, Quantity, Rate, checked_sum};
use crate::base::time::CycleId;
use crate::pricing::active::Prorating;

/// A percentage of spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PercentFee {
    pub base: FeeBase,
    /// Over amounts; rates are shares of one.
    pub tiers: Steps,
    /// The tiers are the document's own and are told on the bill.
    pub tiered: bool,
    pub minimum: Money,
    /// Of the minimum.
    pub prorating: Prorating,
    pub per: FeePer,
    pub account: Option<AccountId>,
    pub service: Box<str>,
}

/// A part of a fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeePart {
    /// Index of the tier; `None` for what a minimum adds.
    pub tier: Option<usize>,
    pub base: Money,
    pub amount: Money,
}

impl PercentFee {
    /// The parts of a fee of a cycle on a base; none is zero. `None` on overflow, which the limits at apply exclude.
    pub fn parts(&self, base: Money, cycle: CycleId) -> Option<Vec<FeePart>> {
        let mut parts = Vec::new();
        for (tier, part) in self.tiers.cut(base.0) {
            let amount = Money(part).share(self.tiers.steps[tier].rate)?;
            parts.push(FeePart { tier: Some(tier), base: Money(part), amount });
        }
        let sum = checked_sum(parts.iter().map(|part| part.amount))?;
        let minimum = self.prorating.of(self.minimum, &cycle.period()).unwrap_or_default();
        if sum < minimum {
            parts.push(FeePart { tier: None, base, amount: minimum.checked_sub(sum)? });
        }
        parts.retain(|part| !part.amount.is_zero());
        Some(parts)
    }
}

/// A fixed fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    /// Each.
    pub amount: Money,
    pub quantity: Quantity,
    /// Only in the clause's first cycle.
    pub once: bool,
    pub account: Option<AccountId>,
    pub service: Box<str>,
}

/// A line by agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomLine {
    pub how: Custom,
    pub account: Option<AccountId>,
    pub service: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Custom {
    Flat(Money),
    /// -1 to 1.
    Share {
        share: Rate,
        itemised: bool,
    },
}

/// The least or the most that a scope comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub amount: Money,
    pub prorating: Prorating,
    pub per: Per,
    /// Of a minimum: whose.
    pub payer: Option<AccountId>,
    pub service: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::super::document_scope::Climb;
    use super::super::steps::Step;
    use super::*;
    use crate::base::money::parse_scaled;
    use crate::pricing::active::Span;
    use crate::pricing::document::Bound;
    use crate::pricing::document_fee::Prorate;

    #[test]
    fn support_by_tier_with_a_minimum() {
        fn check(base: &str, from: Option<&str>, expected: &[&str]) {
            let units = |text: &str| text.parse::<Money>().unwrap().0;
            let step = |begin: &str, end: Option<&str>, percent: &str| Step {
                begin: units(begin),
                end: end.map(units),
                rate: Rate(parse_scaled(percent, 16).unwrap()),
            };
            let steps = vec![
                step("0", Some("10000"), "10"),
                step("10000", Some("80000"), "7"),
                step("80000", Some("250000"), "5"),
                step("250000", None, "3"),
            ];
            let fee = PercentFee {
                base: FeeBase::Net,
                tiers: Steps { climb: Climb::Graduated, bound: Bound::Upper, steps },
                tiered: true,
                minimum: "100".parse().unwrap(),
                prorating: Prorating {
                    prorate: from.map_or(Prorate::None, |_| Prorate::Time),
                    span: from.map_or(Span::ALWAYS, |from| Span { from: from.parse().unwrap(), to: None }),
                },
                per: FeePer::Payer,
                account: None,
                service: "support".into(),
            };
            let parts = fee.parts(base.parse().unwrap(), "2026-09".parse().unwrap()).unwrap();
            let found: Vec<String> = parts.iter().map(|part| part.amount.to_string()).collect();
            assert_eq!(found, expected, "{base}");
        }
        // 10,000 x 10% + 70,000 x 7% + 5,000 x 5%.
        check("85000", None, &["1000", "4900", "250"]);
        check("600", None, &["60", "40"]);
        check("0", None, &["100"]);
        check("-3", None, &["100"]);
        check("1000", None, &["100"]);
        // Half of September: at least 50. A plan that begins later has no least.
        check("300", Some("2026-09-16"), &["30", "20"]);
        check("600", Some("2026-09-16"), &["60"]);
        check("600", Some("2026-10-01"), &["60"]);
    }
}
