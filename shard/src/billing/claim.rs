//! Bills of a cycle besides those of its close (BILLING.md decisions 11 and 16, sections 2.11 and 3): interim bills while the
//! cycle counts, corrections of what came late once it is archived, purchases, shortfalls and refunds. A *claim* fixes what
//! is known at one entry; its bills are the difference to all earlier bills of the cycle, or a choice of it, and are
//! numbered like any other. Refunds alone are no part of what a cycle's bills sum to.

use std::collections::BTreeMap;

use super::cycle::{BillHash, Claim, Cycles, Extra, IssuedBill, Phase, Posting, Step, check_bills};
use super::kind::{Cause, Kind, REFUND_TEXT_MAX, Refund};
use crate::base::hash::Hash;
use crate::base::id::Currency;
use crate::base::money::{Money, SCALE};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, DAY, Timestamp};
use crate::base::wide::power_of_ten;

/// Claims with bills of one hierarchy that are kept: two a day for more than ten years.
pub const EXTRAS_MAX: usize = 10_000;

/// What a claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedBills<'a> {
    pub cycle: CycleId,
    pub index: u64,
    pub bills: &'a [BillHash],
    pub postings: &'a [Posting],
    /// A refund has none.
    pub archive: Option<Hash>,
}

/// A hierarchy's days and amount for interim bills, and what its contract asks for: what may be due unasked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan<'a> {
    /// Days of the cycle, ascending.
    pub days: &'a [u8],
    /// Of a contract of the running cycle with purchases: its version.
    pub purchases: Option<u32>,
    /// A contract that governed the last cut cycle bills shortfalls by themselves.
    pub shortfalls: bool,
}

impl Cycles {
    /// Claims what is known of a cycle now. The same claim again changes nothing.
    pub fn claim(&mut self, claim: Claim) -> Result<Step<Claim>, Refusal> {
        let refuse = |reason, detail: String| Err(Refusal::new(reason, detail));
        let cycle = claim.cycle;
        if let Some(running) = &self.claim {
            if running.cycle == cycle && running.cause == claim.cause {
                return Ok(Step { now: running.clone(), changed: false });
            }
            let detail = format!("bills of cycle {} are being made; try again after them", running.cycle);
            return refuse(Reason::CloseOldestFirst, detail);
        }
        if let Cause::Refund(refund) = &claim.cause
            && let Some(known) = self.refunded(cycle, refund)?
        {
            return Ok(Step { now: known, changed: false });
        }
        // What was bought in the running cycle does not wait until the one before is closed.
        let last = if claim.cause == Cause::Purchases { self.open.next() } else { self.open };
        if cycle < self.first || cycle > last {
            let detail =
                format!("cycle {cycle} cannot be billed: cycles {} to {} of the hierarchy can", self.first, self.open);
            return refuse(Reason::CycleNotOpen, detail);
        }
        if let Some(last) = self.cut.last().filter(|last| !matches!(last.phase, Phase::Archived(..))) {
            let detail = format!("cycle {} is still being billed and archived; try again after it", last.cycle);
            return refuse(Reason::CloseOldestFirst, detail);
        }
        self.check_due(&claim)?;
        if self.extras.len() >= EXTRAS_MAX {
            let detail = format!("{EXTRAS_MAX} bills outside closes are all that one hierarchy keeps");
            return refuse(Reason::LimitReached, detail);
        }
        match claim.cause {
            Cause::Asked | Cause::Late => drop(self.late.remove(&cycle)),
            Cause::Day(day) => self.agenda.day = day,
            Cause::Purchases => {
                let contract = claim.inputs.contract.as_ref().map_or(0, |(version, _)| *version);
                self.agenda.purchases = Some((contract, day_of(claim.at)));
            }
            Cause::Shortfall => self.agenda.shortfall = Some(cycle),
            Cause::Spend(_) | Cause::Refund(_) => {}
        }
        self.claim = Some(claim.clone());
        Ok(Step { now: claim, changed: true })
    }

    /// Why there is nothing to claim.
    fn check_due(&self, claim: &Claim) -> Result<(), Refusal> {
        let refuse = |reason, detail: String| Err(Refusal::new(reason, detail));
        let cycle = claim.cycle;
        let counts = |what: &str| match claim.interim {
            true => Ok(()),
            false => refuse(Reason::CycleClosed, format!("cycle {cycle} is closed, it has no {what} any more")),
        };
        match &claim.cause {
            Cause::Asked | Cause::Late if claim.interim => Ok(()),
            Cause::Asked | Cause::Late => {
                let late = self.late.get(&cycle).copied().unwrap_or_default();
                if late.records == 0 || !(claim.cause == Cause::Asked || late.due) {
                    let detail =
                        format!("cycle {cycle} is closed and nothing came late since; there is nothing to bill");
                    return refuse(Reason::CycleClosed, detail);
                }
                Ok(())
            }
            Cause::Day(day) => {
                counts("interim bills")?;
                if *day <= self.agenda.day || claim.at < begin_of(cycle, *day) {
                    let detail = format!("day {day} of {cycle} has its interim bill, or has not begun");
                    return refuse(Reason::CycleRunning, detail);
                }
                Ok(())
            }
            Cause::Spend(_) => counts("interim bills"),
            Cause::Purchases => counts("purchases"),
            Cause::Shortfall => {
                if claim.interim || self.agenda.shortfall >= Some(cycle) {
                    let detail = format!("cycle {cycle} was searched for shortfalls, or is not closed");
                    return refuse(Reason::CycleClosed, detail);
                }
                Ok(())
            }
            Cause::Refund(refund) => self.check_refund(cycle, refund),
        }
    }

    /// The refund of that reference, where it was made before.
    fn refunded(&self, cycle: CycleId, refund: &Refund) -> Result<Option<Claim>, Refusal> {
        let of_bill = |own: &Refund| (&own.payer, own.number) == (&refund.payer, refund.number);
        for extra in self.extras.iter().filter(|extra| extra.claim.cycle == cycle) {
            match &extra.claim.cause {
                Cause::Refund(own) if of_bill(own) && own.reference == refund.reference => {
                    if own == refund {
                        return Ok(Some(extra.claim.clone()));
                    }
                    let detail = format!(
                        "refund '{}' of this bill was made of {} for '{}'; give another reference",
                        own.reference, own.amount, own.reason
                    );
                    return Err(Refusal::new(Reason::VersionConflict, detail));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn check_refund(&self, cycle: CycleId, refund: &Refund) -> Result<(), Refusal> {
        let refuse = |reason, detail: String| Err(Refusal::new(reason, detail));
        let mut bills = self.bills_of(cycle).map(|(_, bill)| bill);
        let Some(bill) = bills.find(|bill| (&bill.payer, bill.number) == (&refund.payer, refund.number)) else {
            let detail = format!("payer '{}' has no bill {} of {cycle} to refund", refund.payer, refund.number);
            return refuse(Reason::NotFound, detail);
        };
        check_amount(refund.amount, bill.currency)?;
        for (what, text) in [("reason", &refund.reason), ("reference", &refund.reference)] {
            if text.is_empty() || text.len() > REFUND_TEXT_MAX {
                let detail = format!("a refund's {what} has {} bytes, 1 to {REFUND_TEXT_MAX} are kept", text.len());
                return refuse(Reason::InvalidValue, detail);
            }
        }
        Ok(())
    }

    /// Hashes of the bill that is refunded, and of the refunds of its payer in its cycle before.
    pub fn refund_of(&self, cycle: CycleId, refund: &Refund) -> Option<(Hash, Vec<Hash>)> {
        let is_it = |bill: &&IssuedBill| (&bill.payer, bill.number) == (&refund.payer, refund.number);
        let billed = self.bills_of(cycle).map(|(_, bill)| bill).find(is_it)?;
        let earlier = self.refunds_of(cycle).filter(|(_, bill)| bill.payer == refund.payer);
        Some((billed.body_hash, earlier.map(|(_, bill)| bill.body_hash).collect()))
    }

    /// What is to be claimed unasked at a stamp, the most urgent alone.
    pub fn claim_due(&self, plan: Plan<'_>, stamp: Timestamp) -> Option<(CycleId, Cause)> {
        if self.extras.len() >= EXTRAS_MAX {
            return None;
        }
        let last = self.cut.last().map(|cut| cut.cycle);
        if let Some(last) = last.filter(|last| plan.shortfalls && self.agenda.shortfall < Some(*last)) {
            return Some((last, Cause::Shortfall));
        }
        if let Some((cycle, _)) = self.late.iter().find(|(_, late)| late.due) {
            return Some((*cycle, Cause::Late));
        }
        let is_over = stamp >= self.open.end();
        let begun = |day: &&u8| **day > self.agenda.day && begin_of(self.open, **day) <= stamp;
        // Days that passed unseen are one bill, the last; once the cycle is over its close bills everything.
        if let Some(day) = plan.days.iter().rev().find(begun).filter(|_| !is_over) {
            return Some((self.open, Cause::Day(*day)));
        }
        let running = if is_over { self.open.next() } else { self.open };
        let is_new = |version: &u32| self.agenda.purchases != Some((*version, day_of(stamp)));
        if plan.purchases.as_ref().is_some_and(is_new) && running.period().contains(stamp) {
            return Some((running, Cause::Purchases));
        }
        None
    }

    /// Numbers the agreed bills of the running claim and posts balances; those of an earlier claim change nothing.
    pub fn claim_billed(&mut self, claimed: &ClaimedBills<'_>, stamp: Timestamp) -> Result<bool, Refusal> {
        check_bills(claimed.cycle, claimed.bills)?;
        let is_it = |claim: &Claim| (claim.cycle, claim.index) == (claimed.cycle, claimed.index);
        let Some(claim) = self.claim.clone().filter(is_it) else {
            let known = self.extras.iter().find(|extra| is_it(&extra.claim));
            let same = known.map_or(claimed.bills.is_empty(), |extra| {
                let bills = extra.bills.iter().map(IssuedBill::content);
                bills.eq(claimed.bills.iter().cloned()) && extra.postings == claimed.postings
            });
            if same {
                return Ok(false);
            }
            let detail = format!("cycle {} is not being billed as of entry {}", claimed.cycle, claimed.index);
            return Err(Refusal::new(Reason::CycleClosed, detail));
        };
        let balances = self.posted(claimed.postings)?;
        let bills = self.numbered(claimed.bills, stamp);
        (self.balances, self.claim) = (balances, None);
        if !bills.is_empty() {
            let (postings, archive) = (claimed.postings.to_vec(), claimed.archive);
            self.extras.push(Extra { claim, bills, postings, archive });
        }
        Ok(true)
    }

    /// Notes a record that came after its cycle's cut.
    pub fn note_late(&mut self, cycle: CycleId) {
        let late = self.late.entry(cycle).or_default();
        late.records = late.records.saturating_add(1);
    }

    /// The bills that a cycle has so far without its refunds, oldest first, with what made them: no claim means its close.
    pub fn bills_of(&self, cycle: CycleId) -> impl Iterator<Item = (Option<&Claim>, &IssuedBill)> {
        let extras = move |interim: bool| {
            let extras = self.extras_of(cycle).filter(move |extra| extra.claim.interim == interim);
            extras.filter(|extra| extra.claim.kind() != Kind::Refund).flat_map(with_claim)
        };
        let closed = match self.find(cycle).map(|cut| &cut.phase) {
            Some(Phase::Issued(bills) | Phase::Archived(bills, _)) => bills.as_slice(),
            Some(Phase::Closing | Phase::Closed(_)) | None => &[],
        };
        extras(true).chain(closed.iter().map(|bill| (None, bill))).chain(extras(false))
    }

    /// The refunds of a cycle's bills, oldest first.
    pub fn refunds_of(&self, cycle: CycleId) -> impl Iterator<Item = (Option<&Claim>, &IssuedBill)> {
        self.extras_of(cycle).filter(|extra| extra.claim.kind() == Kind::Refund).flat_map(with_claim)
    }

    fn extras_of(&self, cycle: CycleId) -> impl Iterator<Item = &Extra> {
        self.extras.iter().filter(move |extra| extra.claim.cycle == cycle)
    }

    /// The archive with the latest counters that bills of a cycle were made of.
    pub fn archive_of(&self, cycle: CycleId) -> Option<Hash> {
        let extra = |interim| {
            let extras = self.extras_of(cycle).filter(|extra| extra.claim.interim == interim);
            extras.filter_map(|extra| extra.archive).last()
        };
        let closed = match self.find(cycle).map(|cut| &cut.phase) {
            Some(Phase::Archived(_, archive)) => Some(*archive),
            _ => None,
        };
        extra(false).or(closed).or_else(|| extra(true))
    }

    /// What bills of later cycles drew of each balance.
    pub fn drawn_later(&self, cycle: CycleId) -> BTreeMap<String, Money> {
        let mut drawn: BTreeMap<String, Money> = BTreeMap::new();
        for posting in self.postings_from(cycle.next()) {
            let sum = drawn.entry(posting.balance.clone()).or_default();
            // It was added to this very balance, so it fits.
            *sum = sum.checked_add(posting.amount).unwrap_or(*sum);
        }
        drawn
    }
}

fn with_claim(extra: &Extra) -> impl Iterator<Item = (Option<&Claim>, &IssuedBill)> {
    extra.bills.iter().map(|bill| (Some(&extra.claim), bill))
}

/// When a day of a cycle begins.
fn begin_of(cycle: CycleId, day: u8) -> Timestamp {
    Timestamp(cycle.start().0.saturating_add((i64::from(day) - 1) * DAY))
}

/// Days since 1970.
fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY)
}

/// A refund is above zero and whole in the minor unit.
fn check_amount(amount: Money, currency: Currency) -> Result<(), Refusal> {
    let decimals = currency.minor_unit();
    if amount <= Money::ZERO || amount.0 % power_of_ten(SCALE - decimals) != 0 {
        let detail = format!("a refund of {amount} {currency} is not above zero with at most {decimals} decimals");
        return Err(Refusal::new(Reason::InvalidValue, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::document::{Close, Grace};
    use crate::base::id::{AccountId, Currency};
    use crate::billing::cycle::{Chain, CutRequest, Inputs};

    fn cycle(name: &str) -> CycleId {
        name.parse().unwrap()
    }

    fn claim(of: &str, index: u64, interim: bool) -> Claim {
        of_cause(of, index, interim, Cause::Asked)
    }

    fn of_cause(of: &str, index: u64, interim: bool, cause: Cause) -> Claim {
        let inputs = Inputs { catalogue_version: 1, catalogue_hash: [1; 32], contract: None, machine: 1 };
        Claim { cycle: cycle(of), index, at: Timestamp(index as i64), interim, cause, inputs }
    }

    fn changed(result: Result<Step<Claim>, Refusal>) -> Result<bool, Reason> {
        result.map(|step| step.changed).map_err(|refusal| refusal.reason)
    }

    /// The correction that is due.
    fn due(cycles: &Cycles) -> Option<CycleId> {
        cycles.claim_due(Plan::default(), cycles.open.start()).map(|(cycle, cause)| {
            assert_eq!(cause, Cause::Late);
            cycle
        })
    }

    fn bill(payer: &str, body: u8) -> BillHash {
        let (payer, currency) = (AccountId::new(payer).unwrap(), Currency::new("USD").unwrap());
        BillHash { payer, currency, body_hash: [body; 32] }
    }

    fn posting(amount: &str) -> Vec<Posting> {
        vec![Posting { balance: "credit".into(), amount: amount.parse().unwrap() }]
    }

    fn billed(cycles: &mut Cycles, of: &str, index: u64, body: u8, postings: &[Posting]) -> Result<bool, Reason> {
        let bills = [bill("a", body)];
        let claimed = ClaimedBills { cycle: cycle(of), index, bills: &bills, postings, archive: Some([body; 32]) };
        cycles.claim_billed(&claimed, Timestamp(1_000)).map_err(|refusal| refusal.reason)
    }

    fn close(cycles: &mut Cycles, of: &str, body: u8, postings: &[Posting]) {
        let (of, stamp) = (cycle(of), cycle(of).end());
        let asked = CutRequest { index: 9, stamp, manual: true, close: Close::Manual, grace: Grace { hours: 1 } };
        cycles.cut(of, &asked, claim("2024-09", 0, false).inputs).unwrap();
        cycles.billed(of, &[bill("a", body)], postings).unwrap();
        cycles.issue(of, stamp).unwrap();
        cycles.archived(of, [body; 32]).unwrap();
    }

    #[test]
    fn bills_before_and_after_the_close_are_numbered_with_it() {
        let mut cycles = Cycles::new(cycle("2024-09"));
        assert_eq!(changed(cycles.claim(claim("2024-09", 5, true))), Ok(true));
        assert_eq!(changed(cycles.claim(claim("2024-09", 6, true))), Ok(false));
        assert_eq!(cycles.claim.as_ref().unwrap().index, 5);
        assert_eq!(billed(&mut cycles, "2024-09", 4, 1, &[]), Err(Reason::CycleClosed));
        assert_eq!(billed(&mut cycles, "2024-09", 5, 1, &posting("5")), Ok(true));
        assert_eq!(billed(&mut cycles, "2024-09", 5, 1, &posting("5")), Ok(false));
        assert_eq!(billed(&mut cycles, "2024-09", 5, 2, &posting("5")), Err(Reason::CycleClosed));
        assert_eq!(cycles.archive_of(cycle("2024-09")), Some([1; 32]));
        close(&mut cycles, "2024-09", 2, &posting("7"));
        assert_eq!(changed(cycles.claim(claim("2024-09", 11, false))), Err(Reason::CycleClosed));
        cycles.note_late(cycle("2024-09"));
        // Not due before a later cycle is closed, unless it is asked for.
        assert_eq!(due(&cycles), None);
        assert_eq!(changed(cycles.claim(of_cause("2024-09", 12, false, Cause::Late))), Err(Reason::CycleClosed));
        close(&mut cycles, "2024-10", 3, &posting("11"));
        assert_eq!(due(&cycles), Some(cycle("2024-09")));
        assert_eq!(changed(cycles.claim(of_cause("2024-09", 13, false, Cause::Late))), Ok(true));
        assert_eq!(due(&cycles), None);
        assert_eq!(changed(cycles.claim(claim("2024-10", 14, false))), Err(Reason::CloseOldestFirst));
        assert_eq!(billed(&mut cycles, "2024-09", 13, 4, &posting("1")), Ok(true));
        let of = |name: &str| -> Vec<_> {
            let bills = cycles.bills_of(cycle(name));
            bills.map(|(claim, bill)| (claim.map(|claim| claim.interim), bill.number, bill.body_hash[0])).collect()
        };
        assert_eq!(of("2024-09"), [(Some(true), 1, 1), (None, 2, 2), (Some(false), 4, 4)]);
        assert_eq!(of("2024-10"), [(None, 3, 3)]);
        assert_eq!(cycles.archive_of(cycle("2024-09")), Some([4; 32]));
        let last: Vec<&Chain> = cycles.chains.values().collect();
        assert_eq!((last.len(), last[0].count, last[0].last), (1, 4, cycles.extras[1].bills[0].hash));
        // September's own bills drew 5 + 7 + 1 of 24.
        assert_eq!(cycles.balances["credit"].to_string(), "24");
        assert_eq!(cycles.balances_before(cycle("2024-09"))["credit"].to_string(), "0");
        assert_eq!(cycles.balances_before(cycle("2024-10"))["credit"].to_string(), "13");
        assert_eq!(cycles.drawn_later(cycle("2024-09"))["credit"].to_string(), "11");
    }

    #[test]
    fn a_claim_waits_for_others_and_others_for_it() {
        let mut cycles = Cycles::new(cycle("2024-09"));
        assert_eq!(changed(cycles.claim(claim("2024-08", 1, false))), Err(Reason::CycleNotOpen));
        assert_eq!(changed(cycles.claim(claim("2024-10", 1, true))), Err(Reason::CycleNotOpen));
        cycles.claim(claim("2024-09", 2, true)).unwrap();
        let asked = CutRequest {
            index: 9,
            stamp: cycle("2024-09").end(),
            manual: true,
            close: Close::Manual,
            grace: Grace { hours: 1 },
        };
        let inputs = || claim("2024-09", 0, false).inputs;
        let cut = cycles.cut(cycle("2024-09"), &asked, inputs());
        assert_eq!(cut.unwrap_err().reason, Reason::CloseOldestFirst);
        // A claim without anything new leaves no trace.
        let nothing = ClaimedBills { cycle: cycle("2024-09"), index: 2, bills: &[], postings: &[], archive: None };
        assert_eq!(cycles.claim_billed(&nothing, Timestamp(1)), Ok(true));
        assert_eq!(cycles.claim_billed(&nothing, Timestamp(1)), Ok(false));
        assert_eq!((cycles.extras.len(), cycles.claim.is_none()), (0, true));
        cycles.cut(cycle("2024-09"), &asked, inputs()).unwrap();
        assert_eq!(changed(cycles.claim(claim("2024-10", 3, true))), Err(Reason::CloseOldestFirst));
    }
}
