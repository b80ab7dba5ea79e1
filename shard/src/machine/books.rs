//! A machine with what a node keeps beside it: bodies and archives, for tests that bill something.

use std::collections::BTreeMap;

use super::claims::Known;
use super::command::{BilledRoot, Claimed, Command, Done};
use super::kit::{Kit, account, cycle, rows, time};
use super::query::DueStep;
use super::state::State;
use crate::base::hash::Hash;
use crate::base::money::Money;
use crate::billing::bill::{BillBody, postings};
use crate::billing::codec::{body_hash, encode};
use crate::billing::cycle::{BillHash, Claim, IssuedBill};
use crate::billing::kind::{Cause, Kind};
use crate::billing::refund::refund;
use crate::placement::slot_of;
use crate::usage::segment::HeadMode;

/// A machine with what a node keeps beside it.
pub struct Books {
    pub kit: Kit,
    pub bodies: BTreeMap<Hash, BillBody>,
    pub archives: BTreeMap<Hash, Vec<u8>>,
    pushed: u64,
}

impl Books {
    pub fn new(contract: Option<&str>) -> Books {
        let mut books = Books::of(Kit::acme());
        if let Some(clauses) = contract {
            books.contract(&format!(r#""clauses":[{clauses}]"#));
        }
        books
    }

    /// With a hierarchy `acme` that bills by the kit's catalogue.
    pub fn of(kit: Kit) -> Books {
        Books { kit, bodies: BTreeMap::new(), archives: BTreeMap::new(), pushed: 0 }
    }

    /// Agrees on a contract from 2024-09 on; `rest` are its fields besides.
    pub fn contract(&mut self, rest: &str) {
        let document = format!(r#"{{"kind":"Contract","root":"acme","effective":"2024-09",{rest}}}"#);
        self.kit.ok(Command::PutContract { document: document.into_bytes(), job: String::new() });
    }

    /// Account `a` uses bytes on the 10th, at a cent each.
    pub fn push(&mut self, month: &str, bytes: i128) -> String {
        self.push_of("a", month, bytes)
    }

    /// An account uses bytes on the 10th.
    pub fn push_of(&mut self, account: &str, month: &str, bytes: i128) -> String {
        let previous = (self.pushed > 0).then_some(self.pushed);
        self.pushed += 1;
        let mut row = rows(account, self.pushed, &[bytes]);
        row[0].start = time(&format!("{month}-10"));
        self.kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous }, &row)
    }

    /// Bills what is cut or claimed.
    pub fn bill(&mut self, name: &str) -> Vec<Money> {
        let (root, cycle) = (account("acme"), cycle(name));
        let view = self.kit.state.view();
        let archive = view.archive_hash(&root, cycle).map(|hash| self.archives[&hash].as_slice());
        let what = if view.claim_of(&root, cycle).is_some() { Known::Claimed(archive) } else { Known::OnTime };
        let claim = view.claim_of(&root, cycle);
        if let Some(Cause::Refund(asked)) = claim.as_ref().map(|claim| &claim.cause) {
            let (billed, earlier) = view.cycles(&root).unwrap().refund_of(cycle, asked).unwrap();
            let earlier: Vec<BillBody> = earlier.iter().map(|hash| self.bodies[hash].clone()).collect();
            let body = refund(&self.bodies[&billed], &earlier, asked);
            let claim = claim.map(|claim| Claimed { index: claim.index, archive: None });
            return self.agree(name, body.into_iter().collect(), claim);
        }
        let source = view.known_source(&root, cycle, &self.kit.blobs, what).unwrap();
        let earlier: Vec<BillBody> = source.earlier.iter().map(|bill| self.bodies[&bill.body_hash].clone()).collect();
        let bodies = source.bills(&earlier).unwrap();
        let claim = source.claim.map(|(index, archive)| {
            let hash = *blake3::hash(&archive).as_bytes();
            self.archives.insert(hash, archive);
            Claimed { index, archive: Some(hash) }
        });
        self.agree(name, bodies, claim)
    }

    /// Agrees on bills, twice.
    fn agree(&mut self, name: &str, bodies: Vec<BillBody>, claim: Option<Claimed>) -> Vec<Money> {
        let (root, cycle) = (account("acme"), cycle(name));
        let mut bills = Vec::new();
        for body in &bodies {
            let hash = body_hash(&encode(body));
            bills.push(BillHash { payer: body.payer.clone(), currency: body.currency, body_hash: hash });
            self.bodies.insert(hash, body.clone());
        }
        let billed = BilledRoot { root: root.clone(), cycle, bills, postings: postings(&bodies), claim };
        let command = Command::Billed { slot: slot_of("acme"), roots: vec![billed] };
        assert_eq!((self.kit.ok(command.clone()), self.kit.ok(command)), (Done::Changed, Done::Unchanged));
        bodies.iter().map(|body| body.payable).collect()
    }

    pub fn claim(&mut self, name: &str) -> Vec<Money> {
        self.claim_for(name, Cause::Asked)
    }

    pub fn claim_for(&mut self, name: &str, cause: Cause) -> Vec<Money> {
        self.kit.ok(Command::Claim { root: account("acme"), cycle: cycle(name), cause });
        self.bill(name)
    }

    /// What is to be claimed unasked at a time.
    pub fn due(&mut self, at: &str) -> Option<(String, Cause)> {
        let due = self.kit.state.view().due(time(at));
        due.into_iter().find_map(|due| match due.step {
            DueStep::Claim(cause) => Some((due.cycle.to_string(), cause)),
            _ => None,
        })
    }

    /// Number, kind and payable of each bill of a cycle, refunds last.
    pub fn listed(&mut self, name: &str) -> Vec<(u64, &'static str, String)> {
        let cycles = self.kit.state.view().cycles(&account("acme")).unwrap();
        let bills = cycles.bills_of(cycle(name)).chain(cycles.refunds_of(cycle(name)));
        let row = |(claim, bill): (Option<&Claim>, &IssuedBill)| {
            let kind = claim.map_or(Kind::Anniversary, Claim::kind);
            (bill.number, kind.name(), self.bodies[&bill.body_hash].payable.to_string())
        };
        bills.map(row).collect()
    }

    pub fn close(&mut self, name: &str) -> Vec<Money> {
        let (root, cycle) = (account("acme"), cycle(name));
        self.kit.stamp = cycle.end();
        self.kit.ok(Command::Cut { root: root.clone(), cycle, manual: true });
        let bills = self.bill(name);
        self.kit.ok(Command::Issue { root: root.clone(), cycle });
        let archive = self.kit.state.view().archive(&root, cycle).unwrap();
        let hash = *blake3::hash(&archive).as_bytes();
        self.archives.insert(hash, archive);
        self.kit.ok(Command::Archived { root, cycle, hash });
        bills
    }

    /// Through a snapshot: equal states go on equally.
    pub fn restart(&mut self) {
        let hash = self.kit.state.hash();
        let mut parts = Vec::new();
        self.kit.state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
        self.kit.state = State::restore(parts).unwrap();
        assert_eq!(self.kit.state.hash(), hash);
    }
}

pub fn money(amounts: &[&str]) -> Vec<Money> {
    amounts.iter().map(|amount| amount.parse().unwrap()).collect()
}
