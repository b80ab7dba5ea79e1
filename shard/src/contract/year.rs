//! Ladders of a contract that go on over its years: which cycles make one year, and the balance that says how far earlier
//! cycles of it have climbed; pools of a catalogue that last such a year have balances of the same kind. What climbs, and what a step is worth, is up to `tiered_rate.rs` and `volume.rs`.

use super::commitment::YEAR;
use super::document_scope::Per;
use crate::base::id::{AccountId, ClauseId, PriceId};
use crate::base::time::CycleId;

/// Contract years of one clause: each is a balance that a hierarchy may have to keep.
pub const YEARS_MAX: u32 = 20;

/// A ladder that begins anew with each contract year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yearly {
    /// First cycle of the first contract year.
    pub starts: CycleId,
    pub of: Climbed,
}

/// What climbs a ladder. A balance of units has the decimals of an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Climbed {
    Units,
    Spend,
}

impl Climbed {
    /// The word in the balance's name.
    pub fn name(self) -> &'static str {
        match self {
            Climbed::Units => "units",
            Climbed::Spend => "spend",
        }
    }
}

/// First cycle of the year that a cycle is in, where years count from `starts`; `None` before the first.
pub fn year_of(starts: CycleId, cycle: CycleId) -> Option<CycleId> {
    let since = cycle.ordinal().checked_sub(starts.ordinal())?;
    CycleId::from_ordinal(cycle.ordinal() - since % YEAR)
}

/// Whether a year that begins with a cycle ends with another.
pub fn ends_year(begins: CycleId, cycle: CycleId) -> bool {
    cycle.ordinal() - begins.ordinal() == YEAR - 1
}

/// What the names of balances that stand for a catalogue's pools begin with; no clause has such an id.
pub const POOL_BALANCES: &str = "pool/";

/// What is carried of a price's pool through a contract year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// What climbed the ladder. As an amount it has the decimals of units.
    Units,
    /// What was free before the ladder.
    Free,
    /// What ladder, records, minimum and maximum came to.
    Charge,
}

/// The balance of a price's pool of a contract year: of one payer, or of all together.
pub fn pool_balance(price: &PriceId, begins: CycleId, of: Carried, payer: Option<&AccountId>) -> String {
    let of = match of {
        Carried::Units => "units",
        Carried::Free => "free",
        Carried::Charge => "charge",
    };
    match payer {
        Some(payer) => format!("{POOL_BALANCES}{price}/{begins}/{of}/{payer}"),
        None => format!("{POOL_BALANCES}{price}/{begins}/{of}"),
    }
}

impl Yearly {
    /// First cycle of the contract year that a cycle is in; `None` before the first year.
    pub fn begins(&self, cycle: CycleId) -> Option<CycleId> {
        year_of(self.starts, cycle)
    }

    /// First cycle after the last year; `None` beyond the calendar.
    pub fn end(&self) -> Option<CycleId> {
        CycleId::from_ordinal(self.starts.ordinal() + YEARS_MAX * YEAR)
    }

    /// The balance of what climbed in the contract year that begins with a cycle: of one payer, or of all together.
    pub fn balance(&self, clause: &ClauseId, begins: CycleId, payer: Option<&AccountId>) -> String {
        let of = self.of.name();
        match payer {
            Some(payer) => format!("{clause}/{begins}/{of}/{payer}"),
            None => format!("{clause}/{begins}/{of}"),
        }
    }

    /// All balances that a clause may use until a cycle.
    pub fn balances(&self, clause: &ClauseId, per: Per, payers: &[AccountId], until: Option<CycleId>) -> Vec<String> {
        let years = (0..YEARS_MAX).filter_map(|year| CycleId::from_ordinal(self.starts.ordinal() + year * YEAR));
        let years = years.take_while(|begins| until.is_none_or(|until| *begins < until));
        let of_year = |begins: CycleId| match per {
            Per::Root => vec![self.balance(clause, begins, None)],
            Per::Payer => payers.iter().map(|payer| self.balance(clause, begins, Some(payer))).collect(),
        };
        years.flat_map(of_year).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_is_twelve_cycles() {
        fn check(cycle: &str, expected: Option<&str>) {
            let yearly = Yearly { starts: "2024-09".parse().unwrap(), of: Climbed::Units };
            let begins = yearly.begins(cycle.parse().unwrap());
            assert_eq!(begins.map(|begins| begins.to_string()).as_deref(), expected, "{cycle}");
        }
        check("2024-08", None);
        check("2024-09", Some("2024-09"));
        check("2025-08", Some("2024-09"));
        check("2025-09", Some("2025-09"));
        check("2030-01", Some("2029-09"));
    }
}
