//! Subtotals of a bill, and blended rates: a family's cost of a SKU over its quantity (BILLING.md section 1.2). For
//! display only; nothing is charged from here, so none of it is stored.

use std::collections::BTreeMap;

use super::bill::{BillBody, LineKind};
use crate::base::id::{AccountId, SkuId};
use crate::base::money::{Money, Quantity, SCALE};
use crate::base::wide::{Rounding, multiply_divide, power_of_ten, split};

/// Amounts of a part of a bill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// At public rates.
    pub usage: Money,
    /// What clauses took off, below zero, or added to usage.
    pub discounts: Money,
    /// What clauses charge beside usage: fees, true-ups, shortfalls, taxes.
    pub charges: Money,
    /// All together.
    pub net: Money,
}

impl Sums {
    fn add(&mut self, kind: LineKind, amount: Money) {
        // A bill's lines were summed without overflow when it was made, so parts of them can be.
        match kind {
            LineKind::Usage => self.usage.0 += amount.0,
            LineKind::Fee | LineKind::TrueUp | LineKind::Shortfall | LineKind::Tax => self.charges.0 += amount.0,
            LineKind::Discount | LineKind::Surcharge | LineKind::Credit | LineKind::Prepaid | LineKind::Rounding => {
                self.discounts.0 += amount.0
            }
            // Of no account, service or SKU.
            LineKind::Refund => {}
        }
        self.net.0 += amount.0;
    }
}

/// What the family used of a SKU and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkuSums {
    pub unit: String,
    pub quantity: Quantity,
    pub sums: Sums,
    /// Usage amount over quantity, rounded half up to 12 decimals; `None` without quantity.
    pub blended_rate: Option<Money>,
    /// Who used it.
    pub accounts: BTreeMap<AccountId, ShareSums>,
}

/// What an account used of a SKU and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareSums {
    pub quantity: Quantity,
    pub sums: Sums,
    /// The account's part of the family's usage amount by quantity; the accounts' parts sum to it exactly.
    pub blended: Money,
}

/// A bill summed in several ways. Each sums to the bill's exact total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtotals {
    pub accounts: BTreeMap<AccountId, Sums>,
    pub services: BTreeMap<String, Sums>,
    pub skus: BTreeMap<SkuId, SkuSums>,
}

impl BillBody {
    /// Sums of the lines by account, service, SKU, and SKU and account; the rounding line is in none.
    pub fn subtotals(&self) -> Subtotals {
        let mut subtotals = Subtotals::default();
        for line in &self.lines {
            let Some(item) = self.item(line) else { continue };
            let (kind, amount) = (line.kind(), line.amount);
            let account = &item.series.account;
            subtotals.accounts.entry(account.clone()).or_default().add(kind, amount);
            match subtotals.services.get_mut(&item.series.service) {
                Some(sums) => sums.add(kind, amount),
                None => subtotals.services.entry(item.series.service.clone()).or_default().add(kind, amount),
            }
            let sku = subtotals.skus.entry(item.sku.clone()).or_default();
            sku.sums.add(kind, amount);
            if sku.unit.is_empty() {
                sku.unit = item.unit.to_string();
            }
            let share = sku.accounts.entry(account.clone()).or_default();
            share.sums.add(kind, amount);
            if let (LineKind::Usage | LineKind::Fee, Some(quantity)) = (kind, line.quantity) {
                share.quantity.0 += quantity.0;
                sku.quantity.0 += quantity.0;
            }
        }
        for sku in subtotals.skus.values_mut().filter(|sku| !sku.quantity.is_zero()) {
            let (cost, quantity) = (sku.sums.usage.0, sku.quantity.0);
            sku.blended_rate = multiply_divide(cost, power_of_ten(SCALE), quantity, Rounding::HalfUp).map(Money);
            let weights: Vec<i128> = sku.accounts.values().map(|share| share.quantity.0).collect();
            for (share, part) in sku.accounts.values_mut().zip(split(cost, &weights).unwrap_or_default()) {
                share.blended = Money(part);
            }
        }
        subtotals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::case::{Case, data_transfer, family_of_95_tb, instance_hours};

    #[test]
    fn published_blended_rates() {
        fn check(case: &Case, sku: &str, rate: &str, accounts: &[(&str, &str)]) {
            let body = case.fold().remove(0);
            let subtotals = body.subtotals();
            let sku = &subtotals.skus[&SkuId::new(sku).unwrap()];
            assert_eq!(sku.blended_rate.unwrap().to_string(), rate);
            let found: Vec<(String, String)> =
                sku.accounts.iter().map(|(id, share)| (id.to_string(), share.blended.to_string())).collect();
            let found: Vec<(&str, &str)> = found.iter().map(|(id, amount)| (id.as_str(), amount.as_str())).collect();
            assert_eq!(found, accounts);
        }
        // BILLING.md 1.2: 16.56 / 2880 h = 0.00575 -> 12.42 + 4.14.
        check(&instance_hours(), "box", "0.00575", &[("a", "12.42"), ("b", "4.14")]);
        // 6720 / 95000 = 0.07073684210526..; a and c have 30/95 of 6720, b 35/95: remainders .74, .53 and .74, so that
        // the two odd steps go to a and c.
        let parts = [("a", "2122.105263157895"), ("b", "2475.78947368421"), ("c", "2122.105263157895")];
        check(&family_of_95_tb("prorata"), "out", "0.070736842105", &parts);
        check(&family_of_95_tb("sequence"), "out", "0.070736842105", &parts);
    }

    #[test]
    fn every_way_of_summing_gives_the_total() {
        let body = data_transfer("prorata").fold().remove(0);
        let subtotals = body.subtotals();
        let sum = |parts: Vec<Sums>| parts.iter().map(|sums| sums.net.0).sum::<i128>();
        assert_eq!(sum(subtotals.accounts.values().copied().collect()), body.total.0);
        assert_eq!(sum(subtotals.services.values().copied().collect()), body.total.0);
        assert_eq!(sum(subtotals.skus.values().map(|sku| sku.sums).collect()), body.total.0);
        for sku in subtotals.skus.values() {
            assert_eq!(sum(sku.accounts.values().map(|share| share.sums).collect()), sku.sums.net.0);
            assert_eq!(sku.accounts.values().map(|share| share.blended.0).sum::<i128>(), sku.sums.usage.0);
        }
    }
}
