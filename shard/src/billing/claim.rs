//! Bills of a cycle besides those of its close (BILLING.md decisions 11 and 16): interim bills of what was used so far
//! while the cycle counts, and corrections of what came late once it is archived. A *claim* fixes what is known at one
//! entry; its bills are the difference to all earlier bills of the cycle, and are numbered like any other.

use std::collections::BTreeMap;

use super::cycle::{BillHash, Claim, Cycles, Extra, IssuedBill, Phase, Posting, check_bills};
use crate::base::hash::Hash;
use crate::base::money::Money;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Timestamp};

/// Claims with bills of one hierarchy that are kept: more than two a week for ten years.
pub const EXTRAS_MAX: usize = 1_200;

/// What a claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedBills<'a> {
    pub cycle: CycleId,
    pub index: u64,
    pub bills: &'a [BillHash],
    pub postings: &'a [Posting],
    pub archive: Hash,
}

impl Cycles {
    /// Claims what is known of a cycle now. The same claim again changes nothing.
    pub fn claim(&mut self, claim: Claim, manual: bool) -> Result<bool, Refusal> {
        let refuse = |reason, detail: String| Err(Refusal::new(reason, detail));
        let cycle = claim.cycle;
        if let Some(running) = &self.claim {
            if running.cycle == cycle {
                return Ok(false);
            }
            let detail = format!("bills of cycle {} are being made; try again after them", running.cycle);
            return refuse(Reason::CloseOldestFirst, detail);
        }
        if cycle < self.first || cycle > self.open {
            let detail =
                format!("cycle {cycle} cannot be billed: cycles {} to {} of the hierarchy can", self.first, self.open);
            return refuse(Reason::CycleNotOpen, detail);
        }
        if let Some(last) = self.cut.last().filter(|last| !matches!(last.phase, Phase::Archived(..))) {
            let detail = format!("cycle {} is still being billed and archived; try again after it", last.cycle);
            return refuse(Reason::CloseOldestFirst, detail);
        }
        if !claim.interim {
            let late = self.late.get(&cycle).copied().unwrap_or_default();
            if late.records == 0 || !(manual || late.due) {
                let detail = format!("cycle {cycle} is closed and nothing came late since; there is nothing to bill");
                return refuse(Reason::CycleClosed, detail);
            }
        }
        if self.extras.len() >= EXTRAS_MAX {
            let detail = format!("{EXTRAS_MAX} interim bills and corrections are all that one hierarchy keeps");
            return refuse(Reason::LimitReached, detail);
        }
        self.late.remove(&cycle);
        self.claim = Some(claim);
        Ok(true)
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

    /// The oldest cycle whose correction is due.
    pub fn correction_due(&self) -> Option<CycleId> {
        self.late.iter().find(|(_, late)| late.due).map(|(cycle, _)| *cycle)
    }

    /// The bills that a cycle has so far, oldest first, with what made them: no claim means its close.
    pub fn bills_of(&self, cycle: CycleId) -> impl Iterator<Item = (Option<&Claim>, &IssuedBill)> {
        let extras = move |interim: bool| {
            let own = move |extra: &&Extra| extra.claim.cycle == cycle && extra.claim.interim == interim;
            let extras = self.extras.iter().filter(own);
            extras.flat_map(|extra| extra.bills.iter().map(|bill| (Some(&extra.claim), bill)))
        };
        let closed = match self.find(cycle).map(|cut| &cut.phase) {
            Some(Phase::Issued(bills) | Phase::Archived(bills, _)) => bills.as_slice(),
            Some(Phase::Closing | Phase::Closed(_)) | None => &[],
        };
        extras(true).chain(closed.iter().map(|bill| (None, bill))).chain(extras(false))
    }

    /// The archive with the latest counters that bills of a cycle were made of.
    pub fn archive_of(&self, cycle: CycleId) -> Option<Hash> {
        let extra = |interim| {
            let mut extras = self.extras.iter().rev();
            let found = extras.find(|extra| extra.claim.cycle == cycle && extra.claim.interim == interim);
            found.map(|extra| extra.archive)
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
        let inputs = Inputs { catalogue_version: 1, catalogue_hash: [1; 32], contract: None };
        Claim { cycle: cycle(of), index, at: Timestamp(index as i64), interim, inputs }
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
        let claimed = ClaimedBills { cycle: cycle(of), index, bills: &bills, postings, archive: [body; 32] };
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
        let reason = |result: Result<bool, Refusal>| result.map_err(|refusal| refusal.reason);
        assert_eq!(cycles.claim(claim("2024-09", 5, true), true), Ok(true));
        assert_eq!(cycles.claim(claim("2024-09", 6, true), true), Ok(false));
        assert_eq!(cycles.claim.as_ref().unwrap().index, 5);
        assert_eq!(billed(&mut cycles, "2024-09", 4, 1, &[]), Err(Reason::CycleClosed));
        assert_eq!(billed(&mut cycles, "2024-09", 5, 1, &posting("5")), Ok(true));
        assert_eq!(billed(&mut cycles, "2024-09", 5, 1, &posting("5")), Ok(false));
        assert_eq!(billed(&mut cycles, "2024-09", 5, 2, &posting("5")), Err(Reason::CycleClosed));
        assert_eq!(cycles.archive_of(cycle("2024-09")), Some([1; 32]));
        close(&mut cycles, "2024-09", 2, &posting("7"));
        assert_eq!(reason(cycles.claim(claim("2024-09", 11, false), true)), Err(Reason::CycleClosed));
        cycles.note_late(cycle("2024-09"));
        // Not due before a later cycle is closed, unless it is asked for.
        assert_eq!(cycles.correction_due(), None);
        assert_eq!(reason(cycles.claim(claim("2024-09", 12, false), false)), Err(Reason::CycleClosed));
        close(&mut cycles, "2024-10", 3, &posting("11"));
        assert_eq!(cycles.correction_due(), Some(cycle("2024-09")));
        assert_eq!(cycles.claim(claim("2024-09", 13, false), false), Ok(true));
        assert_eq!(cycles.correction_due(), None);
        assert_eq!(reason(cycles.claim(claim("2024-10", 14, false), true)), Err(Reason::CloseOldestFirst));
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
        let reason = |result: Result<bool, Refusal>| result.map_err(|refusal| refusal.reason);
        assert_eq!(reason(cycles.claim(claim("2024-08", 1, false), true)), Err(Reason::CycleNotOpen));
        assert_eq!(reason(cycles.claim(claim("2024-10", 1, true), true)), Err(Reason::CycleNotOpen));
        cycles.claim(claim("2024-09", 2, true), true).unwrap();
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
        let nothing = ClaimedBills { cycle: cycle("2024-09"), index: 2, bills: &[], postings: &[], archive: [0; 32] };
        assert_eq!(cycles.claim_billed(&nothing, Timestamp(1)), Ok(true));
        assert_eq!(cycles.claim_billed(&nothing, Timestamp(1)), Ok(false));
        assert_eq!((cycles.extras.len(), cycles.claim.is_none()), (0, true));
        cycles.cut(cycle("2024-09"), &asked, inputs()).unwrap();
        assert_eq!(reason(cycles.claim(claim("2024-10", 3, true), true)), Err(Reason::CloseOldestFirst));
    }
}
