//! Bills outside a close on both sides: interim bills by hand, by day and at a threshold, corrections, refunds. All of a
//! cycle but the refunds come to the model's one bill; the arithmetic of refunds is done here once more.

use std::collections::BTreeMap;

use num_traits::Zero;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::refusal::Reason;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::codec::{body_hash, encode};
use reckoner_shard::billing::kind::{Cause, Refund};
use reckoner_shard::billing::refund::refund;
use reckoner_shard::machine::claims::Known;
use reckoner_shard::machine::command::{BilledRoot, Claimed, Command, CommandOutcome, Done};
use reckoner_shard::placement::slot_of;

use crate::model::bill::Bills;
use crate::model::calendar::{Cycle, cycle_name};
use crate::model::exact::{Exact, exact};
use crate::pair::{Pair, cycle_id, hash_of};

impl Pair {
    /// Bills what of a cycle has no bill yet, while `meanwhile` happens. All bills of the cycle then come to the model's
    /// one bill over everything that was known at the claim; at a threshold those of who came to it.
    pub fn issue(&mut self, root: &str, cycle: Cycle, cause: Cause, meanwhile: impl FnOnce(&mut Pair)) {
        let known = &self.ledger.roots[root];
        let is_open = cycle == known.open;
        let expected = if is_open { known.early_bills(cycle) } else { known.whole_bills(cycle) };
        let postings = expected.postings.clone();
        let id = AccountId::new(root).expect("a root");
        let claim = Command::Claim { root: id, cycle: cycle_id(cycle), cause: cause.clone() };
        let claimed = match self.machine.command(claim.clone()) {
            CommandOutcome::Done(done) => done,
            CommandOutcome::Refused(refusal) => {
                let is_of_day = matches!(cause, Cause::Day(_)) && refusal.reason == Reason::CycleRunning;
                assert!(is_of_day || !is_open && refusal.reason == Reason::CycleClosed, "{refusal}");
                self.meet(if is_of_day { "no day" } else { "nothing late" });
                return;
            }
        };
        assert_eq!(self.machine.done(claim.clone()), claimed, "a claim repeats itself");
        self.meet(match cause {
            Cause::Day(_) => "day",
            Cause::Spend(_) => "threshold",
            Cause::Purchases => "purchases",
            _ if is_open => "interim",
            _ => "late billed",
        });
        meanwhile(self);
        // What came late counts in the years that go on.
        if !is_open {
            self.ledger.roots.get_mut(root).expect("a known root").post(cycle, postings);
        }
        let before = self.billed(root, cycle);
        let archive = self.archives.get(&(root.to_owned(), cycle)).cloned();
        self.bill(root, cycle, Known::Claimed(archive.as_deref()));
        if let Cause::Day(_) = cause {
            let again = self.machine.command(claim);
            assert!(matches!(again, CommandOutcome::Refused(refusal) if refusal.reason == Reason::CycleRunning));
        }
        let now = self.billed(root, cycle);
        let nothing = (Exact::zero(), Exact::zero());
        if cause == Cause::Purchases {
            // What it comes to is the fold's matter; all bills of the cycle come to one, whatever was bought before.
            let grows = now.iter().all(|(payer, now)| now.0 >= before.get(payer).unwrap_or(&nothing).0);
            assert!(grows, "a purchase takes nothing back: {before:?} {now:?}");
            self.meet(if now == before { "nothing bought" } else { "bought" });
            return;
        }
        if let Cause::Spend(least) = cause {
            let least = exact(&least.to_string());
            for (payer, whole) in &expected.payers {
                let (before, now) = (before.get(payer).unwrap_or(&nothing), now.get(payer).unwrap_or(&nothing));
                let reached = &whole.0 - &before.0 >= least;
                assert_eq!(now, if reached { whole } else { before }, "{payer} of {root} at {least}");
                self.meet(if reached { "reached" } else { "not reached" });
            }
            return;
        }
        assert_eq!(payables(now), payables(expected.payers), "bills of {root} for {}", cycle_name(cycle));
    }

    /// All bills of a cycle that was closed come to the model's one bill.
    pub(crate) fn compare_closed(&self, root: &str, cycle: Cycle, expected: Bills) {
        let billed = self.billed(root, cycle);
        assert_eq!(payables(billed), payables(expected.payers), "the close of {root} for {}", cycle_name(cycle));
    }

    /// Exact total and payable of all bills of a cycle, by payer.
    fn billed(&self, root: &str, cycle: Cycle) -> BTreeMap<String, (Exact, Exact)> {
        let mut sums: BTreeMap<String, (Exact, Exact)> = BTreeMap::new();
        for body in self.issued.get(&(root.to_owned(), cycle)).into_iter().flatten() {
            let sum = sums.entry(body.payer.to_string()).or_insert_with(|| (Exact::zero(), Exact::zero()));
            sum.0 += exact(&body.total.to_string());
            sum.1 += exact(&body.payable.to_string());
        }
        sums
    }

    /// Pays back of one of the bills of a cycle, `pick` of those that there are, while `meanwhile` happens.
    pub fn pay_back(&mut self, root: &str, cycle: Cycle, pick: usize, cents: u32, meanwhile: impl FnOnce(&mut Pair)) {
        let id = AccountId::new(root).expect("a root");
        let cycles = self.machine.state.view().cycles(&id).expect("a known root");
        let bills: Vec<_> = cycles.bills_of(cycle_id(cycle)).map(|(_, bill)| bill.clone()).collect();
        if bills.is_empty() {
            return;
        }
        let bill = &bills[pick % bills.len()];
        let amount = match bill.currency.minor_unit() {
            0 => cents.to_string(),
            _ => format!("{}.{:02}", cents / 100, cents % 100),
        };
        let bodies = &self.issued[&(root.to_owned(), cycle)];
        let own = |body: &&BillBody| body_hash(&encode(body)) == bill.body_hash;
        let billed = bodies.iter().find(own).expect("what was issued is kept").clone();
        let of = (bill.payer.to_string(), bill.number);
        let left = exact(&billed.payable.to_string()) - self.refunded.get(&of).cloned().unwrap_or_default();
        let asked = Refund {
            payer: bill.payer.clone(),
            number: bill.number,
            amount: amount.parse().expect("a drawn amount"),
            reason: "drawn".to_owned(),
            reference: format!("r-{}", self.refunds.len()),
        };
        let claim = Command::Claim { root: id.clone(), cycle: cycle_id(cycle), cause: Cause::Refund(asked.clone()) };
        let claimed = self.machine.done(claim.clone());
        assert_eq!(self.machine.done(claim.clone()), claimed, "a refund repeats itself");
        meanwhile(self);
        let cycles = self.machine.state.view().cycles(&id).expect("a known root");
        let (hash, earlier) = cycles.refund_of(cycle_id(cycle), &asked).expect("the bill is there");
        assert_eq!(hash, bill.body_hash);
        let earlier: Vec<BillBody> = earlier.iter().map(|hash| self.refunds[hash].clone()).collect();
        let body = refund(&billed, &earlier, &asked);
        let expected = exact(&amount).min(left);
        let back = body.as_ref().map(|body| -exact(&body.payable.to_string()));
        assert_eq!(back, Some(expected.clone()).filter(|back| *back > Exact::zero()), "of {of:?}");
        self.meet(match &back {
            Some(back) if *back < exact(&amount) => "refund cut",
            Some(_) => "refund",
            None => "nothing to refund",
        });
        let Done::Cut { index, .. } = claimed else { panic!("a refund was answered with {claimed:?}") };
        let (bills, claim_of) = (body.iter().map(hash_of).collect(), Some(Claimed { index, archive: None }));
        let billed = BilledRoot { root: id, cycle: cycle_id(cycle), bills, postings: Vec::new(), claim: claim_of };
        self.machine.done(Command::Billed { slot: slot_of(root), roots: vec![billed] });
        if let (Some(body), Some(back)) = (body, back) {
            assert_eq!(self.machine.done(claim), claimed, "also once it is made");
            self.refunds.insert(body_hash(&encode(&body)), body);
            *self.refunded.entry(of).or_default() += back;
        }
    }
}

/// What each payer has to pay; nothing to pay may be a bill or none.
fn payables(all: BTreeMap<String, (Exact, Exact)>) -> BTreeMap<String, Exact> {
    let payables = all.into_iter().map(|(payer, (_, payable))| (payer, payable));
    payables.filter(|(_, payable)| !payable.is_zero()).collect()
}
