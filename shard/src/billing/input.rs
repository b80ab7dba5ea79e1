//! What a fold is given, and why there may be no bill. The fold itself lives in `fold.rs`.

use std::collections::BTreeMap;

use crate::account::tree::Hierarchy;
use crate::base::id::AccountId;
use crate::base::money::Money;
use crate::base::time::CycleId;
use crate::contract::currency::Exchange;
use crate::contract::terms::Contract;
use crate::pricing::catalogue::{Catalogue, MeterIndex};
use crate::usage::kept::Entry;
use crate::usage::series::SeriesKey;

/// Everything that a hierarchy's bills of one cycle follow from.
#[derive(Clone, Debug)]
pub struct FoldInput<'a> {
    pub hierarchy: &'a Hierarchy,
    pub cycle: CycleId,
    pub catalogue: &'a Catalogue,
    /// The version that governs the cycle; one that does not is left aside.
    pub contract: Option<&'a Contract>,
    /// In any order; those of one series are added up.
    pub counters: Vec<Counter<'a>>,
    /// What was used of the contract's lasting balances before the cycle.
    pub balances: BTreeMap<String, Money>,
    /// What bills of later cycles drew of them already: gone for what can be drawn now, no matter to what is only counted.
    pub drawn_later: BTreeMap<String, Money>,
    /// The bill is made while the cycle still counts: minima and shortfalls wait for the one that closes it (BILLING.md
    /// decision 16). An estimate is not such a bill.
    pub interim: bool,
    /// What contract years are short of is in it also where that is a bill of its own.
    pub own_shortfalls: bool,
    /// Payers that the cycle was billed to before, with how their bills were converted: a cycle's first bill settles it.
    pub settled: BTreeMap<AccountId, Option<Exchange>>,
}

/// What one series counted in one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    pub series: &'a SeriesKey,
    pub meter: MeterIndex,
    /// Day or hour of the cycle, from 0; `None` for a month.
    pub bucket: Option<u16>,
    /// At the meter's scale; its magnitude is at most the meter's ceiling.
    pub value: i128,
    /// How many records were added.
    pub records: u64,
    /// What its meter keeps beside a sum, in order of what the entries are of.
    pub kept: &'a [Entry],
}

/// Why there is no bill. The limits at push and apply keep overflow out of every fold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error("{what} does not fit 128 bits; a counter must have passed its meter's ceiling")]
    Overflow { what: String },
    #[error(
        "the cycle's earlier bills of payer '{payer}' are in another currency or at another rate; fold with what they settled"
    )]
    OtherCurrency { payer: AccountId },
    #[error("account '{0}' has usage but does not belong to the hierarchy")]
    UnknownAccount(AccountId),
}
