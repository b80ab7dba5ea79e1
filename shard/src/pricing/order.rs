//! The stages of a bill by name, and the order that a catalogue or contract may give them (BILLING.md decision 12).
//! What a stage does lives in `billing/stage.rs`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::problem::{Place, Problems};

/// A step of the fold. Each derives lines from the lines before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Free pools, then public ladders: usage lines. Always first, since it makes what the others read.
    Usage,
    /// A contract's own rates.
    PrivateRates,
    /// Usage of one thing that makes usage of another cheaper.
    UsageWaiver,
    /// Percentages over lines chosen by their attributes.
    AttributePercent,
    /// Percentages over a service.
    ServicePercent,
    /// Percentages that grow with what the period brought.
    Volume,
    /// Credits that come before discounts over several services.
    CreditsBefore,
    /// Percentages over several services.
    CrossServicePercent,
    /// Minima and maxima over a scope.
    Limits,
    /// Charges settled from what was paid in advance.
    Prepayment,
    /// Percent fees, fixed fees and lines by agreement.
    Fees,
    /// Credits that come after all discounts and fees.
    CreditsAfter,
    /// What was committed for a contract year and not spent.
    Shortfall,
    Tax,
    /// The payable, at the currency's minor unit. Always last.
    Rounding,
}

/// The default order: rate before quantity waiver before narrow percent before wide percent (BILLING.md section 2).
pub const DEFAULT_ORDER: [Stage; 15] = [
    Stage::Usage,
    Stage::PrivateRates,
    Stage::UsageWaiver,
    Stage::AttributePercent,
    Stage::ServicePercent,
    Stage::Volume,
    Stage::CreditsBefore,
    Stage::CrossServicePercent,
    Stage::Limits,
    Stage::Prepayment,
    Stage::Fees,
    Stage::CreditsAfter,
    Stage::Shortfall,
    Stage::Tax,
    Stage::Rounding,
];

impl Stage {
    /// The name in documents and on bills.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Usage => "usage",
            Stage::PrivateRates => "private_rates",
            Stage::UsageWaiver => "usage_waiver",
            Stage::AttributePercent => "attribute_percent",
            Stage::ServicePercent => "service_percent",
            Stage::Volume => "volume",
            Stage::CreditsBefore => "credits_before",
            Stage::CrossServicePercent => "cross_service_percent",
            Stage::Limits => "limits",
            Stage::Prepayment => "prepayment",
            Stage::Fees => "fees",
            Stage::CreditsAfter => "credits_after",
            Stage::Shortfall => "shortfall",
            Stage::Tax => "tax",
            Stage::Rounding => "rounding",
        }
    }
}

/// Checks an order that a document states: `usage` first, `rounding` last, none twice. A stage left out is off.
pub fn check_order(order: &[Stage], place: &Place, problems: &mut Problems) {
    if order.first() != Some(&Stage::Usage) || order.last() != Some(&Stage::Rounding) {
        let names: Vec<&str> = order.iter().map(|stage| stage.name()).collect();
        problems.error(
            place,
            format!("the order [{}] does not begin with usage and end with rounding", names.join(", ")),
            "list usage first and rounding last; leave a stage out to switch it off",
        );
    }
    for (index, stage) in order.iter().enumerate() {
        if order[..index].contains(stage) {
            problems.error(
                &place.index(index),
                format!("stage {} is listed twice", stage.name()),
                "list each stage once",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_begins_with_usage_and_ends_with_rounding() {
        fn check(order: &[Stage], errors: usize) {
            let mut problems = Problems::default();
            check_order(order, &Place::top().key("stages"), &mut problems);
            assert_eq!(problems.into_vec().len(), errors, "{order:?}");
        }
        use Stage::*;
        check(&DEFAULT_ORDER, 0);
        check(&[Usage, Rounding], 0);
        check(&[Usage, CrossServicePercent, PrivateRates, Rounding], 0);
        check(&[Usage], 1);
        check(&[PrivateRates, Usage, Rounding], 1);
        check(&[Usage, PrivateRates, PrivateRates, Rounding], 1);
    }
}
