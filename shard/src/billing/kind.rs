//! The kinds of bills (BILLING.md section 2.11 and decision 16): what makes a bill, and what of a fold is on it. How claims
//! come to be lives in `claim.rs`; how lines are chosen, in `choose.rs` and `refund.rs`.

use crate::base::id::AccountId;
use crate::base::money::Money;

/// What a bill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Of its cycle's close.
    Anniversary,
    /// Of what was used so far, before the close.
    Interim,
    /// Of what came late, after it.
    Correction,
    /// Of what was bought: fees billed at once, prepayments.
    Purchase,
    /// Of what a contract year is short of.
    Shortfall,
    /// Pays back of another bill.
    Refund,
}

impl Kind {
    /// The name on the wire and in files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Anniversary => "anniversary",
            Kind::Interim => "interim",
            Kind::Correction => "correction",
            Kind::Purchase => "purchase",
            Kind::Shortfall => "shortfall",
            Kind::Refund => "refund",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Kind> {
        let all = [Kind::Anniversary, Kind::Interim, Kind::Correction, Kind::Purchase, Kind::Shortfall, Kind::Refund];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// Made while the cycle counts: minima and shortfalls wait.
    pub fn is_early(self) -> bool {
        matches!(self, Kind::Interim | Kind::Purchase)
    }

    /// Has what a contract year is short of, also where that is a bill of its own.
    pub fn has_shortfalls(self) -> bool {
        matches!(self, Kind::Correction | Kind::Shortfall)
    }
}

/// Why bills are made outside a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By hand: all of a cycle that counts, what came late of one that is archived.
    Asked,
    /// A cycle was closed since usage came late.
    Late,
    /// This day of the cycle has begun.
    Day(u8),
    /// So much is not billed yet of a payer, as the leader saw it; only such payers have a bill.
    Spend(Money),
    /// Something may have been bought.
    Purchases,
    /// A contract year may have ended short.
    Shortfall,
    Refund(Refund),
}

impl Cause {
    /// The kind of the bills that it makes, of a cycle that counts or of one that does not.
    pub fn kind(&self, interim: bool) -> Kind {
        match self {
            Cause::Purchases => Kind::Purchase,
            Cause::Shortfall => Kind::Shortfall,
            Cause::Refund(_) => Kind::Refund,
            Cause::Asked | Cause::Late | Cause::Day(_) | Cause::Spend(_) if interim => Kind::Interim,
            Cause::Asked | Cause::Late | Cause::Day(_) | Cause::Spend(_) => Kind::Correction,
        }
    }
}

/// What is to be paid back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Of whose bill.
    pub payer: AccountId,
    /// The bill's number.
    pub number: u64,
    /// Above zero, in the bill's currency; what the bill does not leave is not paid back.
    pub amount: Money,
    /// For people.
    pub reason: String,
    /// Names the refund among those of the bill, so that asking again pays nothing twice.
    pub reference: String,
}

/// Bytes of a reason and of a reference: a sentence, not a letter.
pub const REFUND_TEXT_MAX: usize = 500;
