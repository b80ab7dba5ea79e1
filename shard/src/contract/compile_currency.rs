//! Currencies of bills, from a document: each clause by itself, and what two of them say of the same payer.

use super::compile::Compiler;
use super::currency::{DatedRate, Invoicing};
use super::document_clause::CurrencyDocument;
use super::terms::{Clause, Mechanism};
use crate::base::money::{RATE_SCALE, Rate};
use crate::base::problem::Place;
use crate::base::time::{CycleId, Timestamp};
use crate::base::wide::power_of_ten;
use crate::pricing::ladders::rate;

/// Dated rates of one clause: a rate a day for over two years.
const RATES_MAX: usize = 1_000;
/// Highest exchange rate: the widest known pair is below 10^6. Up to 10^18 units a bill's total converts as it is.
const EXCHANGE_MAX: Rate = Rate(power_of_ten(7 + RATE_SCALE));
/// Decimals of a payable: a rate's unit and the step of the coarsest are one divisor of 10^36, which fits 128 bits.
const DECIMALS: std::ops::RangeInclusive<i32> = -6..=12;

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
