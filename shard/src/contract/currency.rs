//! Bills in another currency than the catalogue's: which rate is in force, and what an exact total comes to (BILLING.md
//! decision 18). Lines are never converted.

use super::compile::Compiler;
use super::document_clause::CurrencyDocument;
use super::terms::{Clause, Mechanism};
use crate::base::id::{AccountId, ClauseId, Currency};
use crate::base::money::{Money, RATE_SCALE, Rate, SCALE};
use crate::base::problem::Place;
use crate::base::time::{CycleId, Timestamp};
use crate::base::wide::{Rounding, multiply_divide, power_of_ten};
use crate::pricing::ladders::rate;

/// Dated rates of one clause: a rate a day for over two years.
const RATES_MAX: usize = 1_000;
/// Highest exchange rate: the widest known pair is below 10^6. A bill's total converts without overflow up to 10^19 units.
const EXCHANGE_MAX: Rate = Rate(power_of_ten(7 + RATE_SCALE));

/// Decimals of a payable: a rate's unit and the step of the coarsest are one divisor of 10^36, which fits 128 bits.
const DECIMALS: std::ops::RangeInclusive<i32> = -6..=12;

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
    /// What an exact total comes to: multiplied exactly and rounded once. `None` on overflow.
    pub fn payable(&self, total: Money, mode: Rounding) -> Option<Money> {
        let step = power_of_ten(SCALE.checked_add_signed(-self.decimals)?);
        // The unit of a rate and the step are one divisor, so that nothing is rounded twice.
        let divisor = power_of_ten(RATE_SCALE).checked_mul(step)?;
        multiply_divide(total.0, self.rate.0, divisor, mode)?.checked_mul(step).map(Money)
    }

    /// The exact total in the bill's currency, to 12 decimals, as people read it.
    pub fn converted(&self, total: Money) -> Option<Money> {
        total.share(self.rate)
    }
}

impl Compiler<'_> {
    pub(super) fn currency(&mut self, own: &CurrencyDocument, effective: CycleId, place: &Place) -> Mechanism {
        let id = &own.id;
        if let Some(catalogue) = self.catalogue.filter(|catalogue| catalogue.currency != own.from) {
            let message = format!(
                "clause {id} converts from {}, but catalogue {} is in {}",
                own.from, catalogue.name, catalogue.currency
            );
            self.problems.error(&place.key("from"), message, format!("write from: {}", catalogue.currency));
        }
        if own.from == own.to {
            let message = format!("clause {id} converts {} to itself", own.from);
            self.problems.error(&place.key("to"), message, "drop the clause: bills are in the catalogue's currency");
        }
        let rates_place = place.key("rates");
        if own.rates.is_empty() || own.rates.len() > RATES_MAX {
            let message = format!("clause {id} has {} rates", own.rates.len());
            let help = format!("list 1 to {RATES_MAX}, as {{effective: {effective}-01, rate: \"0.92\"}}");
            self.problems.error(&rates_place, message, help);
        }
        let mut rates: Vec<DatedRate> = Vec::with_capacity(own.rates.len());
        for (index, row) in own.rates.iter().enumerate() {
            let place = rates_place.index(index);
            let value = rate(&row.rate, &place.key("rate"), &mut self.problems);
            if value.is_zero() || value > EXCHANGE_MAX {
                let message = format!("clause {id} has an exchange rate of {}", row.rate);
                let help = format!("write what one {} is in {}: above zero, at most {EXCHANGE_MAX}", own.from, own.to);
                self.problems.error(&place.key("rate"), message, help);
            }
            if rates.last().is_some_and(|last| last.since >= row.effective) {
                let message = format!("the rate of {} does not follow the one before it", row.effective);
                self.problems.error(&place.key("effective"), message, "list rates by date, one for each");
            }
            rates.push(DatedRate { since: row.effective, rate: value });
        }
        let first = effective.max(self.document.effective);
        if let Some(row) = own.rates.first().filter(|row| row.effective >= first.end()) {
            self.problems.error(
                &rates_place.index(0).key("effective"),
                format!(
                    "clause {id} has no rate from {} to {} for cycle {first}: the first is in force from {} on",
                    own.from, own.to, row.effective
                ),
                format!("add the rate that is in force when {first} ends, or let the clause begin later"),
            );
        }
        let decimals = own.decimals.unwrap_or(own.to.minor_unit() as i32);
        if !DECIMALS.contains(&decimals) {
            let message = format!("rounding to {decimals} decimals is outside -6 to 12");
            self.problems.error(&place.key("decimals"), message, "leave it out for the currency's minor unit");
        }
        if rates.is_empty() {
            rates.push(DatedRate { since: Timestamp(i64::MIN), rate: Rate::ONE });
        }
        let (from, to, payer) = (own.from, own.to, own.payer.clone());
        Mechanism::Currency(Box::new(Invoicing {
            from,
            to,
            payer,
            rates,
            decimals: decimals.clamp(*DECIMALS.start(), *DECIMALS.end()),
        }))
    }

    /// A payer's bill of a cycle has one currency.
    pub(super) fn check_currencies(&mut self, clauses: &[Clause]) {
        let currencies: Vec<(usize, &Clause, &Invoicing)> = clauses
            .iter()
            .enumerate()
            .filter_map(|(index, clause)| match &clause.mechanism {
                Mechanism::Currency(own) => Some((index, clause, &**own)),
                _ => None,
            })
            .collect();
        for (at, (index, clause, own)) in currencies.iter().enumerate() {
            let rival = currencies[..at].iter().find(|(_, other, rival)| {
                rival.payer == own.payer && super::conflicts::in_force_together(clause, other)
            });
            if let Some((_, rival, _)) = rival {
                let whom = own.payer.as_ref().map_or("every payer".to_owned(), |payer| format!("payer '{payer}'"));
                self.problems.error(
                    &Place::top().key("clauses").index(*index),
                    format!("clauses {} and {} both say what currency {whom} is billed in", rival.id, clause.id),
                    "drop one, or let one end before the other begins",
                );
            }
        }
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
    fn what_does_not_fit_is_told() {
        assert_eq!(exchange("10000000", 2).payable(Money(i128::MAX), Rounding::HalfUp), None);
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
