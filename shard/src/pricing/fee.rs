//! Fees: amounts for a part of the calendar, and how much of one is due (BILLING.md decision 2). Who takes a fee, and from
//! when to when, is a contract's business: `contract/subscription.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ethnum::I256;

use super::catalogue::{Convert, Fee, Lookup, Meter, MeterIndex, Price, PriceIndex, SeriesPattern, Sku, SkuIndex};
use super::compile::Compiler;
use super::document::{Aggregation, Bucket, LevelDocument};
use super::document_fee::{FeeDocument, FeeDue, FeePeriod, Prorate};
use super::ladders::number;
use super::limits::FEE_MAX;
use super::selector::Pattern;
use crate::base::id::{MeterId, PriceId, SkuId, check_name};
use crate::base::money::{Money, Quantity, Rate, SCALE};
use crate::base::time::{CycleId, DAY, Period, Timestamp};
use crate::base::wide::{Rounding, divide, power_of_ten};

/// A part of a fee that is due in some cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeePart {
    /// The whole period.
    pub of: Period,
    /// What of it is charged, or taken back.
    pub part: Period,
    /// Below zero where a fee paid in advance is taken back.
    pub amount: Money,
}

impl Fee {
    /// What of `quantity` of the fee, taken from `from` to before `to`, is due in a cycle; in order of time. `None` on
    /// overflow, which the limits exclude.
    pub fn due_in(
        &self,
        cycle: CycleId,
        quantity: Quantity,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Option<Vec<FeePart>> {
        let within = cycle.period();
        if self.period == FeePeriod::Once {
            let whole = Period { from, until: from };
            let amount = self.share(quantity, &whole, &whole)?;
            let is_due = within.contains(from) && !amount.is_zero();
            let due = is_due.then_some(FeePart { of: whole, part: whole, amount });
            return Some(due.into_iter().collect());
        }
        let (from, to) = match self.prorate {
            Prorate::Time => (from, to),
            Prorate::Days | Prorate::None => (day_of(from), to.map(day_of)),
        };
        let end = to.unwrap_or(Timestamp(i64::MAX));
        let mut parts = Vec::new();
        let mut of = period_of(self.period, within.from);
        while of.from < within.until {
            let begin = from.max(of.from);
            let used = Period { from: begin, until: end.min(of.until) };
            let paid = Period { from: begin, until: of.until };
            if used.from < used.until {
                match self.due {
                    FeeDue::Arrears if within.from < used.until && used.until <= within.until => {
                        parts.push(FeePart { of, part: used, amount: self.share(quantity, &used, &of)? });
                    }
                    FeeDue::Arrears => {}
                    FeeDue::Advance => {
                        let whole = self.share(quantity, &paid, &of)?;
                        if within.contains(begin) {
                            parts.push(FeePart { of, part: paid, amount: whole });
                        }
                        if within.contains(end) && end < of.until {
                            let kept = self.share(quantity, &used, &of)?;
                            let part = Period { from: end, until: of.until };
                            parts.push(FeePart { of, part, amount: kept.checked_sub(whole)? });
                        }
                    }
                }
            }
            of = period_of(self.period, of.until);
        }
        parts.retain(|part| !part.amount.is_zero());
        Some(parts)
    }

    /// What `part` of the period `of` costs.
    fn share(&self, quantity: Quantity, part: &Period, of: &Period) -> Option<Money> {
        let (mut active, mut whole) = (part.until.0 - part.from.0, of.until.0 - of.from.0);
        if part == of || self.prorate == Prorate::None {
            (active, whole) = (1, 1);
        } else if let Some(days) = self.days {
            whole = i64::from(days) * DAY;
            active = active.min(whole);
        }
        // 10^21 * 10^21 * 3.2 * 10^16 stays far below 256 bits.
        let product = I256::from(self.amount.0) * I256::from(quantity.0) * I256::from(active);
        let amount = divide(product, I256::from(power_of_ten(SCALE)) * I256::from(whole), Rounding::HalfUp);
        i128::try_from(amount).ok().map(Money)
    }
}

fn day_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(DAY) * DAY)
}

/// The part of the UTC calendar that holds an instant.
fn period_of(kind: FeePeriod, at: Timestamp) -> Period {
    let months = |length: u8| {
        let mut first = at.cycle();
        first.month -= (first.month - 1) % length;
        let until = (0..length).fold(first, |cycle, _| cycle.next());
        Period { from: first.start(), until: until.start() }
    };
    match kind {
        FeePeriod::Once => Period { from: at, until: at },
        FeePeriod::Week => {
            // The epoch was a Thursday, three days into its week.
            let day = at.0.div_euclid(DAY);
            let monday = day - (day + 3).rem_euclid(7);
            Period { from: Timestamp(monday * DAY), until: Timestamp((monday + 7) * DAY) }
        }
        FeePeriod::Month => months(1),
        FeePeriod::Quarter => months(3),
        FeePeriod::Year => months(12),
    }
}

impl Compiler<'_> {
    /// Reads the fees. Each stands among the meters, SKUs and prices behind all that the document declares, so that what
    /// is said of SKUs can be said of it; no record reaches it.
    pub(super) fn fees(
        &mut self,
        meters: &mut Vec<Meter>,
        skus: &mut Vec<Sku>,
        prices: &mut Vec<Price>,
    ) -> (Vec<Fee>, BTreeMap<Arc<str>, u32>) {
        let declared = skus.len();
        let (mut fees, mut ids, mut seen) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (index, fee) in self.document.fees.iter().enumerate() {
            let place = self.top.key("fees").index(index);
            self.unique("fee", "fees", &fee.id, index, &mut seen);
            // Two fees of one id were told just before; those of earlier fees come behind the document's own.
            if let Some(sku) = skus[..declared].iter().position(|sku| sku.id.as_str() == fee.id) {
                let message = format!("fee {} has the id of a sku (skus[{sku}])", fee.id);
                self.problems.error(&place.key("id"), message, "give it another; bills show both in one column");
            }
            let compiled = self.fee(fee, &place, meters.len(), skus.len());
            let Some((fee, meter, mut sku)) = compiled else { continue };
            sku.price = PriceIndex(prices.len() as u32);
            let id = PriceId::new(sku.id.as_str()).unwrap_or_else(|_| super::compile::unnamed());
            prices.push(Price::per_unit(id, Rate::ZERO));
            ids.entry(sku.id.as_str().into()).or_insert(fees.len() as u32);
            fees.push(fee);
            meters.push(meter);
            skus.push(sku);
        }
        (fees, ids)
    }

    fn fee(
        &mut self,
        fee: &FeeDocument,
        place: &crate::base::problem::Place,
        meter: usize,
        sku: usize,
    ) -> Option<(Fee, Meter, Sku)> {
        let id = self.read(SkuId::new(&fee.id), &place.key("id"))?;
        self.read(check_name("service", &fee.service), &place.key("service"))?;
        self.read(check_name("unit", &fee.unit), &place.key("unit"))?;
        let amount = number(&fee.amount, "amount", FEE_MAX, &place.key("amount"), &mut self.problems);
        if fee.period == FeePeriod::Once && (fee.due != FeeDue::Arrears || fee.prorate != Prorate::Days) {
            let message = format!("fee {} is due once, so it is neither in advance nor prorated", fee.id);
            self.problems.error(place, message, "drop in and prorate, or give it a period");
        }
        if let Some(days) = fee.days
            && (!(1..=366).contains(&days) || fee.prorate != Prorate::Days || fee.period == FeePeriod::Once)
        {
            let message = format!("fee {} divides by {days} days", fee.id);
            self.problems.error(&place.key("days"), message, "state 1 to 366, with a period and prorate: days");
        }
        let (service, usage_type): (Arc<str>, Arc<str>) = (fee.service.as_str().into(), fee.id.as_str().into());
        let own = Fee {
            sku: SkuIndex(sku as u32),
            meter: MeterIndex(meter as u32),
            amount,
            period: fee.period,
            due: fee.due,
            prorate: fee.prorate,
            days: fee.days,
        };
        let meter = Meter {
            id: self.read(MeterId::new(&fee.id), &place.key("id"))?,
            service: service.clone(),
            usage_type: usage_type.clone(),
            operation: Pattern::Any,
            region: Pattern::Any,
            aggregation: Aggregation::Sum,
            scale: 0,
            bucket: Bucket::Month,
            level: LevelDocument::default(),
            of_amount: false,
            keeps_records: false,
            spreads: false,
            attributes: Vec::new(),
            // Nothing is ever counted.
            ceiling: 0,
            chooses_tiers: false,
            names_hours: false,
            skus: vec![own.sku],
            skus_by_region: Lookup::default(),
            skus_of_any_region: Vec::new(),
        };
        let sku = Sku {
            id,
            name: fee.name.as_deref().map(Arc::from),
            matches: SeriesPattern {
                hours: None,
                service: Pattern::Exact(service),
                usage_type: Pattern::Exact(usage_type),
                operation: Pattern::Any,
                region: Pattern::Any,
                attributes: BTreeMap::new(),
            },
            unit: fee.unit.as_str().into(),
            convert: Convert { divide: Quantity::ONE, by_hours_of_cycle: false },
            price: PriceIndex(0),
            pools: Vec::new(),
        };
        Some((own, meter, sku))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fee(period: FeePeriod, due: FeeDue, prorate: Prorate, days: Option<u32>) -> Fee {
        Fee { sku: SkuIndex(0), meter: MeterIndex(0), amount: "30".parse().unwrap(), period, due, prorate, days }
    }

    /// Each part as `from..until amount`, days of the month.
    fn check(fee: &Fee, cycle: &str, from: &str, to: &str, expected: &[&str]) {
        let to = (!to.is_empty()).then(|| to.parse().unwrap());
        let parts = fee.due_in(cycle.parse().unwrap(), Quantity::ONE, from.parse().unwrap(), to).unwrap();
        let day = |at: Timestamp| at.date().strftime("%m-%d").to_string();
        let shown: Vec<String> = parts
            .iter()
            .map(|part| format!("{}..{} {}", day(part.part.from), day(part.part.until), part.amount))
            .collect();
        assert_eq!(shown, expected, "{fee:?} in {cycle} from {from} to {to:?}");
    }

    #[test]
    fn months_in_arrears() {
        let month = fee(FeePeriod::Month, FeeDue::Arrears, Prorate::Days, None);
        check(&month, "2026-09", "2026-01-15", "", &["09-01..10-01 30"]);
        // 15 of 30 days; the first day counts, the end day does not.
        check(&month, "2026-09", "2026-09-16", "", &["09-16..10-01 15"]);
        check(&month, "2026-09", "2026-09-16T23:00:00Z", "2026-09-18T22:00:00Z", &["09-16..09-18 2"]);
        check(&month, "2026-09", "2026-08-01", "2026-09-01", &[]);
        check(&month, "2026-09", "2026-10-01", "", &[]);
        let fixed = fee(FeePeriod::Month, FeeDue::Arrears, Prorate::Days, Some(60));
        check(&fixed, "2026-09", "2026-09-16", "", &["09-16..10-01 7.5"]);
        check(&fixed, "2026-09", "2026-09-01", "", &["09-01..10-01 30"]);
        let whole = fee(FeePeriod::Month, FeeDue::Arrears, Prorate::None, None);
        check(&whole, "2026-09", "2026-09-30", "", &["09-30..10-01 30"]);
        let time = fee(FeePeriod::Month, FeeDue::Arrears, Prorate::Time, None);
        check(&time, "2026-09", "2026-09-30T12:00:00Z", "", &["09-30..10-01 0.5"]);
    }

    #[test]
    fn longer_and_shorter_periods() {
        let week = fee(FeePeriod::Week, FeeDue::Arrears, Prorate::Days, None);
        // September 2026 begins on a Tuesday: the week of August 31 ends on the 7th, the last one that ends by October 1
        // on September 28. From the 12th on: 2/7, 7/7, 7/7.
        check(
            &week,
            "2026-09",
            "2026-09-12",
            "",
            &["09-12..09-14 8.571428571429", "09-14..09-21 30", "09-21..09-28 30"],
        );
        let quarter = fee(FeePeriod::Quarter, FeeDue::Arrears, Prorate::Days, None);
        check(&quarter, "2026-08", "2026-07-01", "", &[]);
        // July to September have 92 days, 46 from August 16 on.
        check(&quarter, "2026-09", "2026-08-16", "", &["08-16..10-01 15"]);
        // An end within the period makes it due at once: 31 of 92 days.
        check(&quarter, "2026-08", "2026-07-01", "2026-08-01", &[]);
        check(&quarter, "2026-07", "2026-07-01", "2026-08-01", &["07-01..08-01 10.108695652174"]);
        check(
            &fee(FeePeriod::Once, FeeDue::Arrears, Prorate::Days, None),
            "2026-09",
            "2026-09-30",
            "",
            &["09-30..09-30 30"],
        );
        check(&fee(FeePeriod::Once, FeeDue::Arrears, Prorate::Days, None), "2026-10", "2026-09-30", "", &[]);
    }

    #[test]
    fn what_was_paid_in_advance_and_not_used_comes_back() {
        let year = fee(FeePeriod::Year, FeeDue::Advance, Prorate::Days, None);
        check(&year, "2026-01", "2026-01-01", "2026-07-01", &["01-01..01-01 30"]);
        check(&year, "2026-02", "2026-01-01", "2026-07-01", &[]);
        // July to December: 184 of 365 days.
        check(&year, "2026-07", "2026-01-01", "2026-07-01", &["07-01..01-01 -15.123287671233"]);
        // Begun on July 1: 184 of 365 days.
        check(&year, "2026-07", "2026-07-01", "", &["07-01..01-01 15.123287671233"]);
        check(&year, "2027-01", "2026-07-01", "", &["01-01..01-01 30"]);
        let month = fee(FeePeriod::Month, FeeDue::Advance, Prorate::Days, None);
        check(&month, "2026-09", "2026-09-11", "2026-09-21", &["09-11..10-01 20", "09-21..10-01 -10"]);
        let whole = fee(FeePeriod::Month, FeeDue::Advance, Prorate::None, None);
        check(&whole, "2026-09", "2026-09-11", "2026-09-21", &["09-11..10-01 30"]);
    }
}
