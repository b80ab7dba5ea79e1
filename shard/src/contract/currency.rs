//! Bills in another currency than the catalogue's: which rate is in force, and what an exact total comes to (BILLING.md
//! decision 18). Lines are never converted.

use crate::base::id::{AccountId, ClauseId, Currency};
use crate::base::money::{Money, RATE_SCALE, Rate, SCALE};
use crate::base::time::{CycleId, Timestamp};
use crate::base::wide::{Rounding, multiply_divide, power_of_ten};

/// The most that a converted bill can be, of any sign: 10^25 units, as much as its exact total can, so that two of them can
/// be subtracted. No money on earth has as many. A rate of 10^7 reaches it at a total of 10^18: what is beyond is held
/// there, beside the exact total and the rate, and no close is ever stopped by it.
pub const PAYABLE_MAX: Money = Money(power_of_ten(25 + SCALE));

/// Payers whose bills are in another currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoicing {
    /// The price list's currency.
    pub from: Currency,
    pub to: Currency,
    /// `None`: all that no other clause names.
    pub payer: Option<AccountId>,
    /// At least one, oldest first.
    pub rates: Vec<DatedRate>,
    /// Decimals of the payable.
    pub decimals: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatedRate {
    /// First instant at which it is in force.
    pub since: Timestamp,
    /// What one unit of the price list's currency is in the bill's.
    pub rate: Rate,
}

/// How the exact total of one bill becomes its payable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The clause that says so.
    pub clause: ClauseId,
    /// The currency of lines and exact total.
    pub from: Currency,
    /// The bill's.
    pub to: Currency,
    pub rate: Rate,
    /// Since when the rate is in force.
    pub since: Timestamp,
    /// Decimals of the payable.
    pub decimals: i32,
}

impl Invoicing {
    /// The rate that is in force when a cycle ends; the first one before that.
    fn rate_of(&self, cycle: CycleId) -> DatedRate {
        let in_force = self.rates.iter().rev().find(|rate| rate.since < cycle.end());
        *in_force.unwrap_or(&self.rates[0])
    }

    pub(super) fn exchange(&self, clause: &ClauseId, cycle: CycleId) -> Exchange {
        let DatedRate { since, rate } = self.rate_of(cycle);
        Exchange { clause: clause.clone(), from: self.from, to: self.to, rate, since, decimals: self.decimals }
    }
}

impl Exchange {
    /// What an exact total comes to: multiplied exactly and rounded once; beyond [`PAYABLE_MAX`] that. `None` where the
    /// decimals or the total are outside what documents and folds may have.
    pub fn payable(&self, total: Money, mode: Rounding) -> Option<Money> {
        let step = power_of_ten(SCALE.checked_add_signed(-self.decimals)?);
        // The unit of a rate and the step are one divisor, so that nothing is rounded twice.
        let divisor = power_of_ten(RATE_SCALE).checked_mul(step)?;
        let exact = multiply_divide(total.0, self.rate.0, divisor, mode).and_then(|units| units.checked_mul(step));
        let most = if total < Money::ZERO { -PAYABLE_MAX } else { PAYABLE_MAX };
        Some(match exact {
            Some(exact) if exact.abs() <= PAYABLE_MAX.0 => Money(exact),
            _ => most,
        })
    }

    /// The exact total in the bill's currency, to 12 decimals, as people read it.
    pub fn converted(&self, total: Money) -> Option<Money> {
        total.share(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(rate: &str, decimals: i32) -> Exchange {
        Exchange {
            clause: ClauseId::new("eur").unwrap(),
            from: Currency::new("USD").unwrap(),
            to: Currency::new("EUR").unwrap(),
            rate: rate.parse().unwrap(),
            since: Timestamp(0),
            decimals,
        }
    }

    #[test]
    fn totals_convert_with_one_rounding() {
        fn check(total: &str, rate: &str, decimals: i32, mode: Rounding, expected: &str) {
            let found = exchange(rate, decimals).payable(total.parse().unwrap(), mode).unwrap();
            assert_eq!(found.to_string(), expected, "{total} at {rate}");
        }
        check("10.01", "0.92", 2, Rounding::HalfUp, "9.21"); // 9.2092
        check("12.34", "149.5", 0, Rounding::HalfUp, "1845"); // 1844.83
        check("2", "0.3074999", 3, Rounding::HalfUp, "0.615"); // 0.6149998
        // 0.000000000001 x 0.004999999999999999 is below half a step of any scale: rounding to 12 decimals first would not be.
        check("1", "0.004999999999999999", 2, Rounding::HalfUp, "0");
        check("1", "0.004999999999999999", 2, Rounding::Up, "0.01");
        check("-1", "0.005", 2, Rounding::HalfUp, "-0.01");
        check("1499", "1", -3, Rounding::HalfUp, "1000");
    }

    #[test]
    fn what_is_beyond_the_most_is_held_there() {
        fn check(total: i128, rate: &str, decimals: i32, expected: &str) {
            let unit = power_of_ten(SCALE);
            let found = exchange(rate, decimals).payable(Money(total * unit), Rounding::HalfUp).unwrap();
            assert_eq!(found.to_string(), expected, "{total} at {rate}");
        }
        let most = format!("1{}", "0".repeat(25));
        check(power_of_ten(18), "10000000", 2, &most);
        check(power_of_ten(18) - 1, "10000000", 2, "9999999999999999990000000");
        check(power_of_ten(18) + 1, "10000000", 2, &most);
        // 10^32 units do not fit 128 bits at all.
        check(power_of_ten(25), "10000000", 2, &most);
        check(-power_of_ten(25), "10000000", -6, &format!("-{most}"));
        check(power_of_ten(25), "10000000", 12, &most);
    }

    #[test]
    fn the_rate_at_the_end_of_the_cycle_counts() {
        let rates = [("2026-08-31", "0.9"), ("2026-09-30", "0.91"), ("2026-10-01", "0.92")];
        let rates = rates.map(|(since, rate)| DatedRate { since: since.parse().unwrap(), rate: rate.parse().unwrap() });
        let Exchange { from, to, decimals, .. } = exchange("1", 2);
        let own = Invoicing { from, to, payer: None, rates: rates.to_vec(), decimals };
        let check = |cycle: &str, expected: &str| {
            assert_eq!(own.rate_of(cycle.parse().unwrap()).rate.to_string(), expected, "{cycle}");
        };
        check("2026-08", "0.9");
        check("2026-09", "0.91");
        check("2026-10", "0.92");
        check("2027-10", "0.92");
        check("2026-07", "0.9");
    }
}
