//! The life of a hierarchy's cycles: open -> grace -> closing -> closed -> issued, then archived; which cycle a usage
//! time belongs to, and the chain of each payer's bills. What a bill says is computed elsewhere.

use std::collections::BTreeMap;

use super::kind::{Cause, Kind};
use crate::account::document::{Close, Grace};
use crate::base::hash::Hash;
use crate::base::id::{AccountId, Currency};
use crate::base::money::Money;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Timestamp};
use crate::contract::year::POOL_BALANCES;

/// Bills of one cycle of one hierarchy: one a payer and currency.
pub const BILLS_PER_CYCLE_MAX: usize = 100_000;
/// Lasting balances of one hierarchy, one a clause that outlives a bill; those of a catalogue's pools are not among them.
pub const BALANCES_MAX: usize = 10_000;

/// The content of one bill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BillHash {
    pub payer: AccountId,
    pub currency: Currency,
    /// blake3 of the encoded body.
    pub body_hash: Hash,
}

/// A change of a lasting balance, which counts what was used so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The balance's name within its root, as the contract's clause gives it.
    pub balance: String,
    pub amount: Money,
}

/// A bill's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedBill {
    pub payer: AccountId,
    pub currency: Currency,
    pub body_hash: Hash,
    /// Counts the payer's bills from 1.
    pub number: u64,
    pub issued_at: Timestamp,
    /// Hash of the payer's bill before; zeros for the first.
    pub previous: Hash,
    /// Hash of this bill: envelope and body.
    pub hash: Hash,
}

/// Where a cycle stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Before the hierarchy's first cycle.
    Never,
    /// Later than the two that count.
    Ahead,
    /// Runs by the log's stamps, or will be next.
    Open,
    /// Has ended; usage still counts.
    Grace,
    /// Cut: usage is late; bills are being computed.
    Closing,
    /// Its bills are agreed upon.
    Closed,
    /// Its bills have numbers.
    Issued,
    /// Its counters have left memory.
    Archived,
}

/// The versions that a cut cycle is billed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    pub catalogue_version: u64,
    pub catalogue_hash: Hash,
    /// Version and hash of the contract, where there is one.
    pub contract: Option<(u32, Hash)>,
    /// Version of the machine.
    pub machine: u32,
}

/// What became of a cut cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Closing,
    Closed(Vec<BillHash>),
    Issued(Vec<IssuedBill>),
    Archived(Vec<IssuedBill>, Hash),
}

/// A cycle after its cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutCycle {
    pub cycle: CycleId,
    /// The entry of the cut.
    pub index: u64,
    pub at: Timestamp,
    /// The cut came before the stated grace was over.
    pub ended_grace: bool,
    pub inputs: Inputs,
    pub postings: Vec<Posting>,
    pub phase: Phase,
}

/// What is being billed outside a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub cycle: CycleId,
    /// The entry that fixed what is known; it names the claim.
    pub index: u64,
    pub at: Timestamp,
    /// The cycle still counts.
    pub interim: bool,
    pub cause: Cause,
    pub inputs: Inputs,
}

impl Claim {
    /// What its bills are.
    pub fn kind(&self) -> Kind {
        self.cause.kind(self.interim)
    }
}

/// The bills of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    pub claim: Claim,
    pub bills: Vec<IssuedBill>,
    pub postings: Vec<Posting>,
    /// Of the counters of the whole cycle as they were claimed; a refund has none.
    pub archive: Option<Hash>,
}

/// Usage of an archived cycle that no bill has yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    pub records: u64,
    /// A later cycle was closed since, so that its correction is due.
    pub due: bool,
}

/// What was done unasked so far, so that the next leader does nothing twice and leaves nothing out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agenda {
    /// Of the open cycle: the latest day whose interim bills were claimed; 0 before the first.
    pub day: u8,
    /// The last look for purchases: number of the contract version, and the day since 1970.
    pub purchases: Option<(u32, i64)>,
    /// The latest cycle that was searched for shortfalls.
    pub shortfall: Option<CycleId>,
}

/// A payer's bills so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub count: u64,
    /// Hash of the latest bill; zeros before the first.
    pub last: Hash,
}

/// The cycles of one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycles {
    pub first: CycleId,
    /// The oldest cycle that is not cut. It and the next count.
    pub open: CycleId,
    /// Cut cycles, from `first` on, without gaps.
    pub cut: Vec<CutCycle>,
    pub chains: BTreeMap<AccountId, Chain>,
    pub balances: BTreeMap<String, Money>,
    /// What is being billed outside a close: one thing at a time.
    pub claim: Option<Claim>,
    /// Oldest first.
    pub extras: Vec<Extra>,
    pub late: BTreeMap<CycleId, Late>,
    pub agenda: Agenda,
}

/// Who asks for a cut, and when.
#[derive(Clone, Copy, Debug)]
pub struct CutRequest {
    pub index: u64,
    pub stamp: Timestamp,
    pub manual: bool,
    pub close: Close,
    pub grace: Grace,
}

/// A step's answer: what there is now, and whether this step made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<T> {
    pub now: T,
    pub changed: bool,
}

impl Cycles {
    pub fn new(first: CycleId) -> Cycles {
        Cycles {
            first,
            open: first,
            cut: Vec::new(),
            chains: BTreeMap::new(),
            balances: BTreeMap::new(),
            claim: None,
            extras: Vec::new(),
            late: BTreeMap::new(),
            agenda: Agenda::default(),
        }
    }

    /// What was used of each balance before a cycle: what is recorded, less what the cycle itself and later ones posted.
    pub fn balances_before(&self, cycle: CycleId) -> BTreeMap<String, Money> {
        let mut balances = self.balances.clone();
        for posting in self.postings_from(cycle) {
            if let Some(balance) = balances.get_mut(&posting.balance) {
                // It was added to this very balance, so it can be taken off.
                *balance = balance.checked_sub(posting.amount).unwrap_or_default();
            }
        }
        balances
    }

    /// Where a cycle stands at a stamp.
    pub fn status(&self, cycle: CycleId, stamp: Timestamp) -> Status {
        if cycle < self.first {
            return Status::Never;
        }
        match self.find(cycle).map(|cut| &cut.phase) {
            Some(Phase::Closing) => Status::Closing,
            Some(Phase::Closed(_)) => Status::Closed,
            Some(Phase::Issued(_)) => Status::Issued,
            Some(Phase::Archived(..)) => Status::Archived,
            None if cycle > self.open.next() => Status::Ahead,
            None if stamp < cycle.end() => Status::Open,
            None => Status::Grace,
        }
    }

    /// A cycle after its cut.
    pub fn find(&self, cycle: CycleId) -> Option<&CutCycle> {
        let index = cycle.ordinal().checked_sub(self.first.ordinal())?;
        self.cut.get(index as usize)
    }

    fn find_mut(&mut self, cycle: CycleId) -> Option<&mut CutCycle> {
        let index = cycle.ordinal().checked_sub(self.first.ordinal())?;
        self.cut.get_mut(index as usize)
    }

    /// When the open cycle may be cut without being asked by hand.
    pub fn due_at(&self, close: Close, grace: Grace) -> Option<Timestamp> {
        match close {
            Close::Manual => None,
            Close::Automatic => Some(Timestamp(self.open.end().0.saturating_add(grace.nanoseconds()))),
        }
    }

    /// Cuts a cycle: oldest first, not before its end, and once the cycle before has left memory.
    pub fn cut(&mut self, cycle: CycleId, asked: &CutRequest, inputs: Inputs) -> Result<Step<CutCycle>, Refusal> {
        if let Some(done) = self.find(cycle) {
            return Ok(Step { now: done.clone(), changed: false });
        }
        self.check_cut(cycle, asked)?;
        let due_at = Timestamp(cycle.end().0.saturating_add(asked.grace.nanoseconds()));
        let done = CutCycle {
            cycle,
            index: asked.index,
            at: asked.stamp,
            ended_grace: asked.stamp < due_at,
            inputs,
            postings: Vec::new(),
            phase: Phase::Closing,
        };
        self.cut.push(done.clone());
        self.open = cycle.next();
        self.agenda.day = 0;
        self.late.values_mut().for_each(|late| late.due = true);
        Ok(Step { now: done, changed: true })
    }

    /// Why a cycle that is not cut cannot be.
    pub fn check_cut(&self, cycle: CycleId, asked: &CutRequest) -> Result<(), Refusal> {
        let refuse = |reason, detail: String| Err(Refusal::new(reason, detail));
        if cycle < self.first {
            return refuse(
                Reason::CycleNotOpen,
                format!("cycle {cycle} is before the hierarchy's first, {}", self.first),
            );
        }
        if asked.stamp < cycle.end() {
            let detail = format!("cycle {cycle} runs until {}, it is {}; close it then", cycle.end(), asked.stamp);
            return refuse(Reason::CycleRunning, detail);
        }
        if cycle > self.open {
            return refuse(
                Reason::CloseOldestFirst,
                format!("cycle {} is older and not closed; close it first", self.open),
            );
        }
        if let Some(before) = self.cut.last().filter(|before| !matches!(before.phase, Phase::Archived(..))) {
            let detail = format!("cycle {} is still being billed and archived; try again after it", before.cycle);
            return refuse(Reason::CloseOldestFirst, detail);
        }
        if let Some(claim) = &self.claim {
            let detail = format!("bills of cycle {} are being made; try again after them", claim.cycle);
            return refuse(Reason::CloseOldestFirst, detail);
        }
        if asked.manual {
            return Ok(());
        }
        match self.due_at(asked.close, asked.grace) {
            None => refuse(Reason::CycleRunning, format!("cycle {cycle} waits in grace to be closed by hand")),
            Some(due_at) if asked.stamp < due_at => refuse(
                Reason::CycleRunning,
                format!("cycle {cycle} is in grace until {due_at}; close it by hand or wait"),
            ),
            Some(_) => Ok(()),
        }
    }

    /// Records the agreed bills of a cut cycle, sorted by (payer, currency), and posts balances.
    pub fn billed(&mut self, cycle: CycleId, bills: &[BillHash], postings: &[Posting]) -> Result<bool, Refusal> {
        check_bills(cycle, bills)?;
        let Some(cut) = self.find(cycle) else {
            let detail = format!("cycle {cycle} is not cut, so it has no bills yet; close it first");
            return Err(Refusal::new(Reason::CycleNotOpen, detail));
        };
        let recorded: Option<Vec<BillHash>> = match &cut.phase {
            Phase::Closing => None,
            Phase::Closed(bills) => Some(bills.clone()),
            Phase::Issued(issued) | Phase::Archived(issued, _) => {
                Some(issued.iter().map(IssuedBill::content).collect())
            }
        };
        if let Some(recorded) = recorded {
            if recorded == bills && cut.postings == postings {
                return Ok(false);
            }
            let detail = format!("cycle {cycle} is closed with other bills; a closed bill never changes");
            return Err(Refusal::new(Reason::CycleClosed, detail));
        }
        let balances = self.posted(postings)?;
        self.balances = balances;
        let cut = self.find_mut(cycle).expect("the cycle was found just before");
        cut.postings = postings.to_vec();
        cut.phase = Phase::Closed(bills.to_vec());
        Ok(true)
    }

    /// Gives each bill its number, time and predecessor.
    pub fn issue(&mut self, cycle: CycleId, stamp: Timestamp) -> Result<Step<Vec<IssuedBill>>, Refusal> {
        let bills = match self.find(cycle).map(|cut| &cut.phase) {
            Some(Phase::Issued(issued) | Phase::Archived(issued, _)) => {
                return Ok(Step { now: issued.clone(), changed: false });
            }
            Some(Phase::Closed(bills)) => bills.clone(),
            Some(Phase::Closing) | None => {
                let detail = format!("cycle {cycle} has no agreed bills yet; issue it once it is closed");
                return Err(Refusal::new(Reason::CycleNotOpen, detail));
            }
        };
        let issued = self.numbered(&bills, stamp);
        let cut = self.find_mut(cycle).expect("the cycle was found just before");
        cut.phase = Phase::Issued(issued.clone());
        Ok(Step { now: issued, changed: true })
    }

    /// What bills of a cycle and of later ones posted.
    pub(super) fn postings_from(&self, cycle: CycleId) -> impl Iterator<Item = &Posting> {
        let cut = self.cut.iter().rev().take_while(move |cut: &&CutCycle| cut.cycle >= cycle);
        let extras = self.extras.iter().filter(move |extra| extra.claim.cycle >= cycle);
        cut.flat_map(|cut| &cut.postings).chain(extras.flat_map(|extra| &extra.postings))
    }

    /// Balances with what bills post; refused beyond what can be counted or kept.
    pub(super) fn posted(&self, postings: &[Posting]) -> Result<BTreeMap<String, Money>, Refusal> {
        let mut balances = self.balances.clone();
        for posting in postings {
            let balance = balances.entry(posting.balance.clone()).or_default();
            *balance = balance.checked_add(posting.amount).ok_or_else(|| {
                let detail = format!("balance '{}' would pass what can be counted", posting.balance);
                Refusal::new(Reason::InvalidValue, detail)
            })?;
        }
        // Those of pools are as many as the catalogue has of them; their number stops no close.
        let own = balances.keys().filter(|name| !name.starts_with(POOL_BALANCES)).count();
        if own > BALANCES_MAX {
            let detail = format!("{own} balances, at most {BALANCES_MAX} are kept of one hierarchy");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        Ok(balances)
    }

    /// Bills with their envelopes: each the next of its payer.
    pub(super) fn numbered(&mut self, bills: &[BillHash], stamp: Timestamp) -> Vec<IssuedBill> {
        let mut issued = Vec::with_capacity(bills.len());
        for bill in bills {
            let chain = self.chains.entry(bill.payer.clone()).or_default();
            let mut next = IssuedBill {
                payer: bill.payer.clone(),
                currency: bill.currency,
                body_hash: bill.body_hash,
                number: chain.count + 1,
                issued_at: stamp,
                previous: chain.last,
                hash: [0; 32],
            };
            next.hash = bill_hash(&next);
            *chain = Chain { count: next.number, last: next.hash };
            issued.push(next);
        }
        issued
    }

    /// Records that every replica keeps the counters elsewhere.
    pub fn archived(&mut self, cycle: CycleId, hash: Hash) -> Result<bool, Refusal> {
        let cut = self.find_mut(cycle);
        match cut.map(|cut| &mut cut.phase) {
            Some(Phase::Archived(_, known)) if *known == hash => Ok(false),
            Some(Phase::Archived(..)) => {
                let detail = format!("cycle {cycle} is archived under another hash; a closed cycle never changes");
                Err(Refusal::new(Reason::CycleClosed, detail))
            }
            Some(phase @ Phase::Issued(_)) => {
                if let Phase::Issued(issued) = phase {
                    *phase = Phase::Archived(std::mem::take(issued), hash);
                }
                Ok(true)
            }
            Some(Phase::Closing | Phase::Closed(_)) | None => {
                let detail = format!("cycle {cycle} is not issued, so its counters are still needed; issue it first");
                Err(Refusal::new(Reason::CycleNotOpen, detail))
            }
        }
    }
}

impl IssuedBill {
    /// What it says, without its envelope.
    pub fn content(&self) -> BillHash {
        BillHash { payer: self.payer.clone(), currency: self.currency, body_hash: self.body_hash }
    }
}

/// Bills of one cycle come sorted by (payer, currency), once each, and are not too many.
pub(super) fn check_bills(cycle: CycleId, bills: &[BillHash]) -> Result<(), Refusal> {
    if bills.len() > BILLS_PER_CYCLE_MAX {
        let detail = format!("{} bills of one cycle, at most {BILLS_PER_CYCLE_MAX} are kept", bills.len());
        return Err(Refusal::new(Reason::LimitReached, detail));
    }
    if !bills.is_sorted_by(|one, next| (&one.payer, one.currency) < (&next.payer, next.currency)) {
        let detail = format!("the bills of cycle {cycle} are not sorted by payer and currency, once each");
        return Err(Refusal::new(Reason::InvalidDocument, detail));
    }
    Ok(())
}

/// Hash of a bill, envelope and body: what the payer's next bill names. Everything but `hash` itself goes in.
pub fn bill_hash(bill: &IssuedBill) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"reckoner bill 1");
    hasher.update(&(bill.payer.as_str().len() as u32).to_le_bytes());
    hasher.update(bill.payer.as_str().as_bytes());
    hasher.update(bill.currency.as_str().as_bytes());
    hasher.update(&bill.body_hash);
    hasher.update(&bill.number.to_le_bytes());
    hasher.update(&bill.issued_at.0.to_le_bytes());
    hasher.update(&bill.previous);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(name: &str) -> CycleId {
        name.parse().unwrap()
    }

    fn stamp(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn inputs() -> Inputs {
        Inputs { catalogue_version: 1, catalogue_hash: [1; 32], contract: None, machine: 1 }
    }

    fn asked(at: &str, manual: bool, close: Close) -> CutRequest {
        CutRequest { index: 9, stamp: stamp(at), manual, close, grace: Grace { hours: 120 } }
    }

    fn bill(payer: &str, body: u8) -> BillHash {
        BillHash {
            payer: AccountId::new(payer).unwrap(),
            currency: Currency::new("USD").unwrap(),
            body_hash: [body; 32],
        }
    }

    #[test]
    fn a_cut_waits_for_the_end_and_the_grace() {
        fn check(of: &str, at: &str, manual: bool, close: Close, expected: Result<bool, Reason>) {
            let mut cycles = Cycles::new(cycle("2024-09"));
            let result = cycles.cut(cycle(of), &asked(at, manual, close), inputs());
            let result = result.map(|step| step.now.ended_grace).map_err(|refusal| refusal.reason);
            assert_eq!(result, expected, "{of} {at} {manual} {close:?}");
        }
        use Close::{Automatic, Manual};
        check("2024-09", "2024-09-30T23:59:59Z", true, Manual, Err(Reason::CycleRunning));
        check("2024-09", "2024-10-01", true, Manual, Ok(true));
        check("2024-09", "2024-10-01", true, Automatic, Ok(true));
        check("2024-09", "2024-10-01", false, Automatic, Err(Reason::CycleRunning));
        check("2024-09", "2024-10-05T23:59:59Z", false, Automatic, Err(Reason::CycleRunning));
        check("2024-09", "2024-10-06", false, Automatic, Ok(false));
        check("2024-09", "2025-10-06", false, Manual, Err(Reason::CycleRunning));
        check("2024-08", "2025-10-06", true, Manual, Err(Reason::CycleNotOpen));
        check("2024-10", "2025-10-06", true, Manual, Err(Reason::CloseOldestFirst));
        check("2024-10", "2024-10-06", true, Manual, Err(Reason::CycleRunning));
    }

    #[test]
    fn a_cycle_goes_its_way_once_and_every_step_may_be_repeated() {
        let mut cycles = Cycles::new(cycle("2024-09"));
        let (september, october) = (cycle("2024-09"), cycle("2024-10"));
        let now = stamp("2024-12-01");
        let status = |cycles: &Cycles| cycles.status(september, now);
        assert_eq!((status(&cycles), cycles.status(september, stamp("2024-09-02"))), (Status::Grace, Status::Open));
        assert_eq!(cycles.billed(september, &[], &[]).unwrap_err().reason, Reason::CycleNotOpen);
        assert!(cycles.cut(september, &asked("2024-12-01", true, Close::Manual), inputs()).unwrap().changed);
        let again = cycles.cut(september, &asked("2024-12-09", false, Close::Manual), inputs()).unwrap();
        assert_eq!((again.changed, again.now.at), (false, now));
        assert_eq!(cycles.issue(september, now).unwrap_err().reason, Reason::CycleNotOpen);
        let bills = [bill("a", 1), bill("b", 2)];
        let postings = [Posting { balance: "credit".into(), amount: "-5".parse().unwrap() }];
        assert_eq!(
            cycles.billed(september, &[bill("b", 2), bill("a", 1)], &[]).unwrap_err().reason,
            Reason::InvalidDocument
        );
        assert_eq!(cycles.billed(september, &bills, &postings), Ok(true));
        assert_eq!(cycles.billed(september, &bills, &postings), Ok(false));
        assert_eq!(cycles.billed(september, &bills[..1], &postings).unwrap_err().reason, Reason::CycleClosed);
        assert_eq!(cycles.balances["credit"].to_string(), "-5");
        assert_eq!(cycles.archived(september, [7; 32]).unwrap_err().reason, Reason::CycleNotOpen);
        let issued = cycles.issue(september, now).unwrap();
        let repeated = cycles.issue(september, stamp("2025-01-01")).unwrap();
        assert_eq!((issued.changed, repeated.changed), (true, false));
        assert_eq!(issued.now, repeated.now);
        assert_eq!(cycles.billed(september, &bills, &postings), Ok(false));
        // Two cycles after the cut of September count; December must wait until its counters have left memory.
        assert_eq!(cycles.status(cycle("2024-12"), now), Status::Ahead);
        let early = cycles.cut(october, &asked("2024-12-01", true, Close::Manual), inputs());
        assert_eq!(early.unwrap_err().reason, Reason::CloseOldestFirst);
        assert_eq!((cycles.archived(september, [7; 32]), cycles.archived(september, [7; 32])), (Ok(true), Ok(false)));
        assert_eq!(cycles.archived(september, [8; 32]).unwrap_err().reason, Reason::CycleClosed);
        assert_eq!(cycles.issue(september, now).unwrap().now, issued.now);
        assert!(cycles.cut(october, &asked("2024-12-01", true, Close::Manual), inputs()).unwrap().changed);
        cycles.billed(october, &[bill("b", 3)], &[]).unwrap();
        let second = cycles.issue(october, now).unwrap().now;
        assert_eq!((second[0].number, second[0].previous), (2, issued.now[1].hash));
        assert_eq!((issued.now[0].number, issued.now[0].previous), (1, [0; 32]));
        assert_eq!(bill_hash(&second[0]), second[0].hash);
    }
}
