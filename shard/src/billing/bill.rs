//! A bill's body: what is owed and why, complete for an accountant and free of times, numbers and status, so that an
//! estimate is byte for byte the bill that will be issued. The envelope around it, and how it is stored, live with those
//! who issue; the bytes in `codec.rs`, the form for people in `view.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cycle::Posting;
use crate::base::id::{AccountId, CatalogueName, ClauseId, Currency, GroupName, MeterId, PriceId, SkuId};
use crate::base::money::{Money, Quantity, Rate, print_scaled};
use crate::base::time::{CycleId, Period};
use crate::contract::currency::Exchange;
use crate::pricing::order::Stage;
use crate::pricing::pool::SplitKey;
use crate::usage::series::SeriesKey;

/// The first version of the machine's behaviour.
pub const FIRST_MACHINE: u32 = 1;

/// What one payer owes for one cycle in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillBody {
    pub root: AccountId,
    /// On a pro forma bill who stands for the payer.
    pub payer: AccountId,
    /// The billing group of a pro forma bill, which nobody owes.
    pub pro_forma: Option<GroupName>,
    /// What the payable is in.
    pub currency: Currency,
    /// How the total became the payable, where it was priced in another currency.
    pub exchange: Option<Exchange>,
    pub cycle: CycleId,
    pub catalogue: CatalogueVersion,
    pub contract: Option<ContractVersion>,
    /// Version of the machine's behaviour that made it, from [`FIRST_MACHINE`] on.
    pub machine: u32,
    /// The order used.
    pub stages: Vec<Stage>,
    /// Set where this is the difference to earlier bills of the same cycle.
    pub difference: Option<Difference>,
    /// Set where this pays back of another bill.
    pub refund: Option<Refunded>,
    /// The priced series, sorted by account, SKU, then their dimensions; then what clauses charge, in the order in which
    /// they did. Lines point into it.
    pub items: Vec<Item>,
    /// Ladders and free pools that several series share. Lines point into it.
    pub pools: Vec<SharedPool>,
    /// In the order of stages; within one by clause, then item, then tier. A line's id is its place, from 1.
    pub lines: Vec<Line>,
    /// Counted, but without a charge.
    pub unpriced: Vec<Unpriced>,
    /// What it takes from lasting balances of the contract, by name.
    pub balances: Vec<BalanceChange>,
    /// Exact sum of all lines but the rounding line, in the currency of the price list.
    pub total: Money,
    /// What is to be paid, at the currency's minor unit: the sum of all lines, or the total converted.
    pub payable: Money,
}

/// Which version of a catalogue priced a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueVersion {
    pub name: CatalogueName,
    pub effective: CycleId,
    pub hash: [u8; 32],
}

/// Which version of the hierarchy's contract applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractVersion {
    pub effective: CycleId,
    pub hash: [u8; 32],
}

/// What a difference leaves out: what earlier bills of the cycle booked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// True while the cycle still counts.
    pub interim: bool,
    /// Body hashes of the earlier bills, oldest first.
    pub earlier: Vec<[u8; 32]>,
}

/// The bill that a refund pays back of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refunded {
    /// Number of the payer's bill.
    pub number: u64,
    /// Hash of its body.
    pub body: [u8; 32],
    /// What was asked for.
    pub asked: Money,
    /// What of the bill's payable no refund has paid back yet.
    pub left: Money,
    pub reason: Arc<str>,
    /// Names the refund among those of the bill.
    pub reference: Arc<str>,
}

/// What a bill adds to a lasting balance, which counts what was used so far: of a credit, a prepayment, a
/// commitment; or how far a ladder was climbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceChange {
    /// The clause's id; of a payer's own balance followed by `/` and the payer, of a commitment by `/` and the first cycle
    /// of the contract year, and `/marketplace`; of a ladder over a contract year by that cycle, `/units` or `/spend`, and
    /// the payer. Units have the decimals of an amount.
    pub name: Arc<str>,
    /// When the cycle began.
    pub before: Money,
    pub change: Money,
}

/// A priced series and what it counted, or what a clause charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Of a clause's charge: who bears it, its service, and the clause as usage type.
    pub series: SeriesKey,
    /// `None` where a clause charges.
    pub meter: Option<MeterId>,
    /// Of a clause's charge: the clause.
    pub sku: SkuId,
    /// The priced unit; empty where a clause charges.
    pub unit: Arc<str>,
    /// The counter's sum over the cycle.
    pub counted: Counted,
    /// The same in the priced unit, after conversion and unit rounding.
    pub quantity: Quantity,
}

/// A counter as it stands: an integer at the meter's scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub value: i128,
    pub scale: u32,
    pub records: u64,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&print_scaled(self.value, self.scale))
    }
}

/// A ladder or free pool that more than one series of the hierarchy climbs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPool {
    /// The price, or the free pool.
    pub id: PriceId,
    /// What sets it apart from other pools of the same id.
    pub keys: Vec<(SplitKey, String)>,
    /// All that its members brought.
    pub quantity: Quantity,
    /// Of a ladder: its slices, over all members.
    pub slices: Vec<PoolSlice>,
}

/// A tier's part of a shared ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSlice {
    pub tier: Tier,
    pub quantity: Quantity,
    pub rate: Rate,
    pub amount: Money,
}

/// A step of a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier {
    /// From 1.
    pub index: u32,
    pub begin: Quantity,
    /// `None`: without end.
    pub end: Option<Quantity>,
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1: its place in the bill.
    pub id: u32,
    pub stage: Stage,
    /// Index of the series that it belongs to; `None` only on the lines of rounding and of a refund.
    pub item: Option<u32>,
    pub source: Source,
    pub quantity: Option<Quantity>,
    /// Price per unit (per package where the source has one), or the share of a percentage.
    pub rate: Option<Rate>,
    pub amount: Money,
    /// Index of the shared pool that it is a part of.
    pub pool: Option<u32>,
    /// Ids of the lines that it was derived from.
    pub from: Vec<u32>,
}

/// What made a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Units that the price itself leaves free.
    FreeUnits { price: PriceId },
    /// Units that a free pool took.
    FreePool { pool: PriceId },
    /// A tier of a price; with the size of its packages where it has any.
    Price { price: PriceId, tier: Tier, package: Option<Quantity> },
    /// What a price adds to its ladder.
    PricePart { price: PriceId, part: PricePart },
    /// A fee that a subscription takes, for `part` of the period `of`; an amount below zero takes it back.
    Fee { fee: SkuId, subscription: ClauseId, of: Period, part: Period },
    /// A clause of the contract, on `base`. Where a ladder of the clause's own chose it, its tier, with bounds in units or,
    /// of a ladder over spend, in money. `drawn`: taken from the clause's balance.
    Clause { clause: ClauseId, text: Arc<str>, base: Money, tier: Option<Tier>, drawn: bool },
    /// From the exact total to the payable.
    Rounding,
    /// Paid back of the payer's bill of that number.
    Refund { number: u64 },
}

/// What a price adds to its ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PricePart {
    /// The line's rate for each record of the series.
    PerRecord,
    /// What a pool's charge was short of `least`.
    Minimum { least: Money },
    /// What a pool's charge was beyond `most`, below zero.
    Maximum { most: Money },
}

impl PricePart {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            PricePart::PerRecord => "per_record",
            PricePart::Minimum { .. } => "minimum",
            PricePart::Maximum { .. } => "maximum",
        }
    }
}

/// The kind of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineKind {
    Usage,
    Discount,
    /// A clause that was told it may raise, and did.
    Surcharge,
    /// Settled from a credit's balance.
    Credit,
    /// Settled from what was paid in advance.
    Prepaid,
    /// Due without usage: a fee, or a line by agreement.
    Fee,
    /// What is missing of a minimum.
    TrueUp,
    /// What is missing of a commitment.
    Shortfall,
    Tax,
    Rounding,
    /// Paid back of another bill.
    Refund,
}

impl LineKind {
    /// The name on the wire and in files.
    pub fn name(self) -> &'static str {
        match self {
            LineKind::Usage => "usage",
            LineKind::Discount => "discount",
            LineKind::Surcharge => "surcharge",
            LineKind::Credit => "credit",
            LineKind::Prepaid => "prepaid",
            LineKind::Fee => "fee",
            LineKind::TrueUp => "true_up",
            LineKind::Shortfall => "shortfall",
            LineKind::Tax => "tax",
            LineKind::Rounding => "rounding",
            LineKind::Refund => "refund",
        }
    }
}

impl Line {
    pub fn kind(&self) -> LineKind {
        match &self.source {
            Source::FreeUnits { .. } | Source::FreePool { .. } | Source::Price { .. } | Source::PricePart { .. } => {
                LineKind::Usage
            }
            Source::Fee { .. } => LineKind::Fee,
            Source::Clause { drawn, .. } => match self.stage {
                Stage::CreditsBefore | Stage::CreditsAfter => LineKind::Credit,
                Stage::Prepayment if *drawn => LineKind::Prepaid,
                Stage::Fees => LineKind::Fee,
                Stage::Shortfall => LineKind::Shortfall,
                Stage::Tax => LineKind::Tax,
                Stage::Limits if self.amount > Money::ZERO => LineKind::TrueUp,
                _ if self.amount > Money::ZERO => LineKind::Surcharge,
                _ => LineKind::Discount,
            },
            Source::Rounding => LineKind::Rounding,
            Source::Refund { .. } => LineKind::Refund,
        }
    }
}

/// Counted usage without a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpriced {
    pub series: SeriesKey,
    pub meter: MeterId,
    pub counted: Counted,
    pub reason: UnpricedReason,
}

/// Why usage has no charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnpricedReason {
    /// No SKU of the catalogue matches.
    NoSku,
    /// Corrections took back more than was used, or a level was below zero at some time.
    BelowZero,
    /// More different values, or a higher level, than can be counted exactly.
    TooMuch,
}

impl UnpricedReason {
    /// The name on the wire and in files.
    pub fn name(self) -> &'static str {
        match self {
            UnpricedReason::NoSku => "no_sku",
            UnpricedReason::BelowZero => "below_zero",
            UnpricedReason::TooMuch => "too_much",
        }
    }
}

/// What a hierarchy's bills of one cycle use of balances, by name.
pub fn postings(bodies: &[BillBody]) -> Vec<Posting> {
    let mut sums: BTreeMap<&str, Money> = BTreeMap::new();
    for balance in bodies.iter().flat_map(|body| &body.balances) {
        let sum = sums.entry(&balance.name).or_default();
        *sum = sum.checked_add(balance.change).expect("the stage that drew the parts summed them before");
    }
    let posting = |(name, amount): (&str, Money)| Posting { balance: name.to_owned(), amount };
    sums.into_iter().filter(|(_, amount)| !amount.is_zero()).map(posting).collect()
}

impl BillBody {
    /// The currency of lines and exact total.
    pub fn priced_in(&self) -> Currency {
        self.exchange.as_ref().map_or(self.currency, |exchange| exchange.from)
    }

    /// The line of that id.
    pub fn line(&self, id: u32) -> Option<&Line> {
        self.lines.get((id as usize).checked_sub(1)?)
    }

    pub fn item(&self, line: &Line) -> Option<&Item> {
        line.item.map(|index| &self.items[index as usize])
    }

    pub fn pool(&self, line: &Line) -> Option<&SharedPool> {
        line.pool.map(|index| &self.pools[index as usize])
    }
}
