//! A spend commitment by contract year: which year a cycle is in, what counts and what is missing (BILLING.md section 3).

use super::document_scope::PercentBase;
use super::scope::Scope;
use crate::base::id::AccountId;
use crate::base::money::{Money, Rate};
use crate::base::time::CycleId;
use crate::base::wide::{Rounding, multiply_divide};

/// Cycles of a contract year.
pub const YEAR: u32 = 12;

/// A percentage over services bound to a spend commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// 0 to 1, off the net.
    pub share: Rate,
    pub base: PercentBase,
    /// Of a year that ends early only a part is committed.
    pub prorate: bool,
    /// First cycle of the first contract year.
    pub starts: CycleId,
    /// What is committed in each year.
    pub years: Vec<Money>,
    pub marketplace: Option<Scope>,
    /// 0 to 1, of the year's amount.
    pub marketplace_share: Rate,
    pub credits_reduce: bool,
    /// Whose bill has the shortfall.
    pub payer: Option<AccountId>,
    /// The shortfall is a bill of its own.
    pub own_bill: bool,
}

/// A contract year that a cycle is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Year {
    /// Its first cycle.
    pub begins: CycleId,
    pub amount: Money,
    /// The cycle is its last.
    pub closes: bool,
}

impl Commitment {
    /// The contract year of a cycle, where anything is committed in it.
    pub fn year_of(&self, cycle: CycleId) -> Option<Year> {
        let since = cycle.ordinal().checked_sub(self.starts.ordinal())?;
        let amount = *self.years.get((since / YEAR) as usize)?;
        let begins = CycleId::from_ordinal(cycle.ordinal() - since % YEAR)?;
        Some(Year { begins, amount, closes: since % YEAR == YEAR - 1 })
    }

    /// A year that ends with `cycle`, before its time.
    pub fn cut_short(&self, year: Year, cycle: CycleId) -> Option<Year> {
        let cycles = i128::from(cycle.ordinal() - year.begins.ordinal() + 1);
        let part = |amount: Money| multiply_divide(amount.0, cycles, i128::from(YEAR), Rounding::HalfUp).map(Money);
        let amount = if self.prorate { part(year.amount)? } else { year.amount };
        Some(Year { amount, closes: true, ..year })
    }

    /// What is missing of a year's amount, not below zero. `None` on overflow.
    pub fn shortfall(&self, year: &Year, retired: Money, marketplace: Money) -> Option<Money> {
        let most = year.amount.share(self.marketplace_share)?;
        let counted = retired.checked_add(marketplace.min(most).max(Money::ZERO))?;
        Some(year.amount.checked_sub(counted)?.max(Money::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commitment() -> Commitment {
        Commitment {
            share: Rate::ZERO,
            base: PercentBase::Left,
            prorate: false,
            starts: "2024-09".parse().unwrap(),
            years: vec!["1000".parse().unwrap(), "2000".parse().unwrap()],
            marketplace: None,
            marketplace_share: "0.25".parse().unwrap(),
            credits_reduce: false,
            payer: None,
            own_bill: false,
        }
    }

    #[test]
    fn years_of_twelve_cycles() {
        fn check(cycle: &str, expected: Option<(&str, &str, bool)>) {
            let year = commitment().year_of(cycle.parse().unwrap());
            let found = year.map(|year| (year.begins.to_string(), year.amount.to_string(), year.closes));
            let expected = expected.map(|(begins, amount, closes)| (begins.to_owned(), amount.to_owned(), closes));
            assert_eq!(found, expected, "{cycle}");
        }
        check("2024-08", None);
        check("2024-09", Some(("2024-09", "1000", false)));
        check("2025-08", Some(("2024-09", "1000", true)));
        check("2025-09", Some(("2025-09", "2000", false)));
        check("2026-08", Some(("2025-09", "2000", true)));
        check("2026-09", None);
    }

    #[test]
    fn a_year_may_end_early() {
        fn check(prorate: bool, cycle: &str, expected: &str) {
            let commitment = Commitment { prorate, ..commitment() };
            let cycle = cycle.parse().unwrap();
            let year = commitment.cut_short(commitment.year_of(cycle).unwrap(), cycle).unwrap();
            assert_eq!((year.amount.to_string().as_str(), year.closes), (expected, true), "{cycle}");
        }
        check(false, "2024-11", "1000");
        check(true, "2024-11", "250");
        check(true, "2025-08", "1000");
        // 2000 x 7 / 12.
        check(true, "2026-03", "1166.666666666667");
    }

    #[test]
    fn the_marketplace_counts_up_to_its_share() {
        fn check(retired: &str, marketplace: &str, expected: &str) {
            let commitment = commitment();
            let year = commitment.year_of("2025-08".parse().unwrap()).unwrap();
            let found = commitment.shortfall(&year, retired.parse().unwrap(), marketplace.parse().unwrap());
            assert_eq!(found.unwrap().to_string(), expected, "{retired} {marketplace}");
        }
        check("600", "0", "400");
        check("600", "200", "200");
        // A quarter of 1,000.
        check("600", "300", "150");
        check("1000.01", "0", "0");
    }
}
