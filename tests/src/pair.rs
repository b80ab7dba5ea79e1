//! The machine and the reference model side by side: each step goes to both, and what they answer must be equal. What the
//! steps are is drawn in `it/histories.rs`.

use std::collections::BTreeMap;

use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::base::hash::Hash;
use reckoner_shard::base::id::{AccountId, Slot};
use reckoner_shard::base::money::{parse_scaled, print_scaled};
use reckoner_shard::base::refusal::Reason;
use reckoner_shard::base::time::{CycleId, Period, Timestamp};
use reckoner_shard::billing::bill::{BillBody, postings};
use reckoner_shard::billing::codec::{body_hash, encode};
use reckoner_shard::billing::cycle::BillHash;
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::machine::claims::Known;
use reckoner_shard::machine::command::{
    BatchVerdict, BilledRoot, Claimed, Command, CommandOutcome, Done, FileProgress, NO_SERIES, Verdict,
};
use reckoner_shard::placement::slot_of;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::usage::ids::ID_BYTES;
use reckoner_shard::usage::segment::{Head, HeadMode, Packed, Reference, Writer};
use reckoner_shard::usage::series::SeriesKey;
use serde_json::Value;

use crate::compare::{compare, key_of, series_of};
use crate::machine::Machine;
use crate::model::calendar::{Cycle, cycle_name, start_of};
use crate::model::exact::{Exact, text};
use crate::model::homes::Progress;
use crate::model::ledger::{self, Ledger, Root, Sending, Sent};
use crate::model::record::Row;
use crate::model::series::{Counter, Series, is_summed, list};

/// Series numbers as the last reply of a slot gave them.
#[derive(Default)]
struct Numbers {
    generation: u32,
    of: BTreeMap<SeriesKey, u32>,
}

/// A segment to be sent.
#[derive(Clone, Copy)]
pub struct Push<'a> {
    pub root: &'a str,
    pub producer: &'a str,
    pub sending: Sending,
    pub records: &'a [Sent],
    /// By the series numbers that were learnt, where there are any.
    pub numbered: bool,
}

/// Both, and what the sender learnt from the machine's answers.
pub struct Pair {
    pub machine: Machine,
    pub ledger: Ledger,
    numbers: BTreeMap<u16, Numbers>,
    /// Issued bills and archives by root and cycle, as a node keeps them.
    pub(crate) issued: BTreeMap<(String, Cycle), Vec<BillBody>>,
    pub(crate) archives: BTreeMap<(String, Cycle), Vec<u8>>,
    /// Refunds by the hash of their body, and what was paid back by payer and number of the bill.
    pub(crate) refunds: BTreeMap<Hash, BillBody>,
    pub(crate) refunded: BTreeMap<(String, u64), Exact>,
    /// How often each verdict was given: what a history never meets, it does not test.
    pub met: BTreeMap<String, u64>,
}

/// The slot of a hierarchy.
pub fn slot_of_root(root: &str) -> u16 {
    slot_of(root).0
}

pub fn cycle_id(cycle: Cycle) -> CycleId {
    cycle_name(cycle).parse().expect("a cycle")
}

impl Pair {
    /// `ids`: how many ids of records the shard keeps.
    pub fn new(stamp: i64, ids: usize) -> Pair {
        let machine = Machine::with_ids(Timestamp(stamp), ids as u64 * ID_BYTES);
        let ledger = Ledger::new(ids);
        let (issued, archives) = (BTreeMap::new(), BTreeMap::new());
        let (refunds, refunded, numbers, met) = Default::default();
        Pair { machine, ledger, numbers, issued, archives, refunds, refunded, met }
    }

    /// A new catalogue version, effective from a cycle on.
    pub fn activate(&mut self, document: &Value, effective: Cycle) {
        let parsed: CatalogueDocument = serde_json::from_value(document.clone()).expect("a catalogue document");
        self.machine.activate(&parsed);
        for root in self.ledger.roots.values_mut() {
            root.catalogues.retain(|(from, _)| *from < effective);
            root.catalogues.push((effective, document.clone()));
        }
    }

    /// Creates or amends a hierarchy.
    pub fn put_hierarchy(&mut self, document: &Value, first: Cycle, catalogue: &Value, job: &str) {
        let root = document["root"].as_str().expect("a root").to_owned();
        let parsed: HierarchyDocument = serde_json::from_value(document.clone()).expect("a hierarchy document");
        assert!(parsed.check().is_empty(), "{:#?}", parsed.check());
        self.machine.put_hierarchy(&parsed, job);
        match self.ledger.roots.get_mut(&root) {
            Some(root) => root.hierarchy = document.clone(),
            None => {
                let slot = slot_of_root(&root);
                self.ledger.roots.insert(root, Root::new(slot, document.clone(), first, catalogue.clone()));
            }
        }
    }

    /// A new version of a root's contract.
    pub fn put_contract(&mut self, document: &Value, effective: Cycle, job: &str) {
        let parsed: ContractDocument = serde_json::from_value(document.clone()).expect("a contract document");
        let root = document["root"].as_str().expect("a root");
        if self.ledger.roots[root].cuts_year(document, effective) {
            let put = Command::PutContract { document: parsed.canonical(), job: job.to_owned() };
            let refused = self.machine.command(put);
            assert!(matches!(refused, CommandOutcome::Refused(refusal) if refusal.reason == Reason::InvalidDocument));
            return self.meet("a year cut short");
        }
        self.machine.put_contract(&parsed, job);
        let versions = &mut self.ledger.roots.get_mut(root).expect("a known root").contracts;
        versions.retain(|(from, _)| *from < effective);
        versions.push((effective, document.clone()));
    }

    /// Cuts, bills, issues and archives the oldest cycle of a root; each step twice, since each is safe to repeat.
    pub fn close(&mut self, root: &str) {
        let (id, cycle) = (AccountId::new(root).expect("a root"), self.ledger.roots[root].open);
        let (ended, name) = (start_of(cycle + 1), cycle_id(cycle));
        if self.machine.stamp.0 < ended {
            let refused = self.machine.command(Command::Cut { root: id.clone(), cycle: name, manual: true });
            assert!(matches!(refused, CommandOutcome::Refused(refusal) if refusal.reason == Reason::CycleRunning));
            self.machine.stamp = Timestamp(ended);
        }
        self.meet("close");
        self.compare_bills(root, cycle);
        let cut = self.machine.done(Command::Cut { root: id.clone(), cycle: name, manual: true });
        self.ledger.roots.get_mut(root).expect("a known root").open += 1;
        assert_eq!(
            self.machine.done(Command::Cut { root: id.clone(), cycle: name, manual: true }),
            cut,
            "a cut repeats itself"
        );
        // The estimate before the cut was the bill.
        self.compare_bills(root, cycle);
        self.bill(root, cycle, Known::OnTime);
        let known = self.ledger.roots.get_mut(root).expect("a known root");
        let bills = known.bills(cycle);
        known.post(cycle, bills.postings.clone());
        self.compare_closed(root, cycle, bills);
        let issued = self.machine.done(Command::Issue { root: id.clone(), cycle: name });
        assert_eq!(self.machine.done(Command::Issue { root: id.clone(), cycle: name }), issued);
        self.compare_counters(root, cycle);
        let archive = self.machine.state.view().archive(&id, name).expect("an issued cycle is archived");
        let hash = [archive.len() as u8; 32];
        self.archives.insert((root.to_owned(), cycle), archive);
        assert_eq!(self.machine.done(Command::Archived { root: id.clone(), cycle: name, hash }), Done::Changed);
        assert_eq!(self.machine.done(Command::Archived { root: id, cycle: name, hash }), Done::Unchanged);
        self.ledger.roots.get_mut(root).expect("a known root").archived = cycle + 1;
    }

    /// Bills what is cut or claimed, twice, since it is safe to repeat.
    pub(crate) fn bill(&mut self, root: &str, cycle: Cycle, what: Known<'_>) {
        let (id, name) = (AccountId::new(root).expect("a root"), cycle_id(cycle));
        let view = self.machine.state.view();
        let source = view.known_source(&id, name, &self.machine.store, what).expect("a cycle that is billed");
        let issued = self.issued.entry((root.to_owned(), cycle)).or_default();
        let bodies = source.bills(issued).expect("nothing here overflows");
        let bills: Vec<BillHash> = bodies.iter().map(hash_of).collect();
        let claim =
            source.claim.map(|(index, archive)| Claimed { index, archive: Some(*blake3::hash(&archive).as_bytes()) });
        let billed = BilledRoot { root: id, cycle: name, bills, postings: postings(&bodies), claim };
        issued.extend(bodies);
        let billed = Command::Billed { slot: slot_of(root), roots: vec![billed] };
        assert_eq!(self.machine.done(billed.clone()), Done::Changed);
        assert_eq!(self.machine.done(billed), Done::Unchanged);
    }

    /// Bills or estimates on both sides, to the last digit.
    pub fn compare_bills(&mut self, root: &str, cycle: Cycle) {
        let id = AccountId::new(root).expect("a root");
        compare(&self.machine.bills(&id, cycle_id(cycle)), &self.ledger.roots[root].bills(cycle));
    }

    /// The machine's bills of a cycle, once they agree with the model's.
    pub fn bills(&mut self, root: &str, cycle: Cycle) -> Vec<BillBody> {
        self.compare_bills(root, cycle);
        self.machine.bills(&AccountId::new(root).expect("a root"), cycle_id(cycle))
    }

    /// Counters on both sides: what was counted in time (until it is archived) and what came late.
    pub fn compare_counters(&mut self, root: &str, cycle: Cycle) {
        let id = AccountId::new(root).expect("a root");
        let known = &self.ledger.roots[root];
        let mut expected: BTreeMap<(Series, i64), (String, String)> = BTreeMap::new();
        for late in [false, true] {
            // What others keep shows in the bills.
            for Counter { series, bucket, value, .. } in known.counters(cycle, late) {
                let zero = || ("0".to_owned(), "0".to_owned());
                let both = expected.entry((series, bucket)).or_insert_with(zero);
                if late { both.1 = text(&value) } else { both.0 = text(&value) }
            }
        }
        let archived = cycle < known.archived;
        if archived {
            expected.values_mut().for_each(|both| both.0 = "0".to_owned());
        }
        let mut found = BTreeMap::new();
        for line in self.machine.state.view().usage(&id, cycle_id(cycle)).expect("a known root") {
            if !self.meter_of(&line.series.usage_type).is_some_and(is_summed) {
                continue;
            }
            let hours = self.hours_of(&line.series.usage_type);
            let bucket = line.bucket.map_or(0, |bucket| i64::from(bucket) * hours);
            let shown = |value: i128| print_scaled(value, line.scale);
            found.insert((series_of(&line.series), bucket), (shown(line.value), shown(line.late_value)));
        }
        // A counter of nothing may be kept or left out.
        let counts = |both: &(String, String)| both.0 != "0" || both.1 != "0";
        expected.retain(|_, both| counts(both));
        found.retain(|_, both| counts(both));
        assert_eq!(found, expected, "counters of {root} in {}", cycle_name(cycle));
    }

    /// Hours of a meter's bucket.
    fn hours_of(&self, usage_type: &str) -> i64 {
        match self.meter_of(usage_type).and_then(|meter| meter["bucket"].as_str()) {
            Some("day") => 24,
            _ => 1,
        }
    }

    /// Opens a producer in its home slot, or records how much of a file it has pushed; both must answer alike.
    pub fn open(&mut self, producer: &str, epoch: Option<u64>, file: Option<Progress>) -> Option<u64> {
        let (slot, id) = (slot_of(producer), producer.parse().expect("drawn names are good"));
        let claim = file.map(|(lines, digest)| FileProgress { lines, digest: [digest; 32] });
        let found = match self.machine.command(Command::OpenProducer { slot, producer: id, epoch, file: claim }) {
            CommandOutcome::Done(Done::Producer { epoch, file }) => {
                Ok((epoch, file.map(|file| (file.lines, file.digest[0]))))
            }
            CommandOutcome::Refused(refusal) => Err(refusal.reason.code()),
            other => panic!("opening a producer gave {other:?}"),
        };
        let expected = self.ledger.homes.open(producer, epoch, file);
        assert_eq!(found, expected.map_err(str::to_owned), "opening {producer} with {epoch:?} {file:?}");
        self.meet(&found.as_ref().map_or_else(|reason| format!("open {reason}"), |_| "open".to_owned()));
        found.ok().map(|(epoch, _)| epoch)
    }

    /// Sets the times of an account with a root in the directory; both must answer alike.
    pub fn put_directory(&mut self, account: &str, root: &str, times: &[(i64, i64)]) {
        let id = |name: &str| AccountId::new(name).expect("drawn names are good");
        let periods = times.iter().map(|(from, until)| Period { from: Timestamp(*from), until: Timestamp(*until) });
        let put = Command::PutDirectory { account: id(account), root: id(root), periods: periods.collect() };
        let found = match self.machine.command(put) {
            CommandOutcome::Done(done) => Ok(done == Done::Changed),
            CommandOutcome::Refused(refusal) => Err(refusal.reason.code()),
        };
        let expected = self.ledger.homes.put_directory(account, root, times);
        assert_eq!(found, expected.map_err(str::to_owned), "{account} with {root} at {times:?}");
        self.meet(&found.map_or_else(|reason| format!("directory {reason}"), |changed| format!("directory {changed}")));
        let view = self.machine.state.view();
        for at in times.iter().flat_map(|(from, until)| [*from - 1, *from, *until - 1, *until]) {
            let found = view.resolve(&id(account), Timestamp(at)).map(|(root, _)| root.to_string());
            assert_eq!(found.as_deref(), self.ledger.homes.resolve(account, at), "{account} at {at}");
        }
    }

    /// One segment on both sides; the verdicts must agree.
    pub fn push(&mut self, root: &str, producer: &str, sending: Sending, records: &[Sent], numbered: bool) {
        self.push_all(&[Push { root, producer, sending, records, numbered }]);
    }

    /// A batch of several segments on both sides; the verdicts must agree, segment by segment.
    pub fn push_all(&mut self, pushes: &[Push<'_>]) {
        let (batch, defined) = self.pack(pushes);
        let verdict = self.machine.usage(&batch);
        for (at, push) in pushes.iter().enumerate() {
            let slot = slot_of_root(push.root);
            let expected = self.ledger.push(slot, push.producer, push.sending, push.records);
            let found = self.learn(at as u32, slot, &verdict, &defined[at], push.records.len());
            match &found {
                Ok(verdicts) => verdicts.iter().for_each(|verdict| self.meet(&format!("{verdict:?}"))),
                Err(reason) => self.meet(reason),
            }
            let (producer, records) = (push.producer, push.records);
            assert_eq!(
                found,
                expected.map_err(str::to_owned),
                "verdicts differ for {producer} in slot {slot}: {records:#?}"
            );
        }
    }

    /// One record under a series number of another table: refused whole, so the model is not even told.
    pub fn push_stale(&mut self, root: &str, producer: &str, sending: Sending, sent: &Sent) {
        let slot = slot_of_root(root);
        let generation = self.numbers.get(&slot).map_or(1, |numbers| numbers.generation + 1);
        let mut writer = Writer::new();
        writer.segment(&Head { slot: Slot(slot), generation, producer, mode: mode_of(sending) });
        let (id, start) = (sent.id.as_bytes(), Timestamp(sent.row.start));
        let (series, number) = (Reference::Number(0), sent.number);
        writer.push(&Packed { series, number, id, quantity: 1, start, end: None, amount: None, corrects: b"" });
        let verdict = self.machine.usage(&writer.finish());
        let found = self.learn(0, slot, &verdict, &[], 1);
        assert_eq!(found, Err("STALE_SERIES".to_owned()));
        self.meet("STALE_SERIES");
    }

    pub(crate) fn meet(&mut self, what: &str) {
        *self.met.entry(what.to_owned()).or_default() += 1;
    }

    /// The bytes of a batch, and the series that each of its segments defines.
    fn pack(&self, pushes: &[Push<'_>]) -> (Vec<u8>, Vec<Vec<SeriesKey>>) {
        let mut writer = Writer::new();
        let mut all = Vec::new();
        for Push { root, producer, sending, records, numbered } in pushes {
            let slot = slot_of_root(root);
            let numbers = self.numbers.get(&slot).filter(|_| *numbered);
            let generation = numbers.map_or(0, |numbers| numbers.generation);
            writer.segment(&Head { slot: Slot(slot), generation, producer, mode: mode_of(*sending) });
            let mut defined: Vec<SeriesKey> = Vec::new();
            for sent in *records {
                let key = key_of(&sent.row.series);
                let scale = self.scale_of(&sent.row);
                let series = match numbers.and_then(|numbers| numbers.of.get(&key)) {
                    Some(number) => Reference::Number(*number),
                    None => match defined.iter().position(|own| *own == key) {
                        Some(index) => Reference::Definition(index as u32),
                        None => {
                            defined.push(key.clone());
                            writer.define(&key, scale)
                        }
                    },
                };
                let quantity = parse_scaled(&sent.row.quantity, scale).expect("drawn at the meter's scale");
                let (id, start) = (sent.id.as_bytes(), Timestamp(sent.row.start));
                let end = Some(Timestamp(sent.row.end)).filter(|end| *end != start);
                let (number, corrects) = (sent.number, sent.row.corrects.as_deref().unwrap_or("").as_bytes());
                writer.push(&Packed { series, number, id, quantity, start, end, amount: None, corrects });
            }
            all.push(defined);
        }
        (writer.finish(), all)
    }

    fn meter_of(&self, usage_type: &str) -> Option<&Value> {
        let catalogues = self.ledger.roots.values().filter_map(|root| root.catalogues.last());
        let mut meters = catalogues.flat_map(|(_, catalogue)| list(catalogue, "meters"));
        meters.find(|meter| meter["usage_type"] == usage_type)
    }

    /// Decimals of the record's meter; 0 where there is none.
    fn scale_of(&self, row: &Row) -> u32 {
        self.meter_of(&row.series.usage_type).map_or(0, |meter| match meter["aggregation"].as_str() {
            Some("count" | "unique") => 0,
            _ => meter["scale"].as_u64().unwrap_or(12) as u32,
        })
    }

    /// The verdict of each record, and the series numbers that came with them.
    fn learn(
        &mut self,
        at: u32,
        slot: u16,
        verdict: &BatchVerdict,
        defined: &[SeriesKey],
        records: usize,
    ) -> Result<Vec<ledger::Verdict>, String> {
        assert_eq!(verdict.refused, None, "the batch itself is well formed");
        let Some(segment) = verdict.segment(at) else {
            assert!(defined.is_empty(), "definitions are always answered");
            return Ok(vec![ledger::Verdict::Accepted { late: false }; records]);
        };
        if let Some(refusal) = &segment.whole {
            return Err(refusal.reason.code());
        }
        let numbers = self.numbers.entry(slot).or_default();
        if numbers.generation != segment.generation {
            *numbers = Numbers { generation: segment.generation, of: BTreeMap::new() };
        }
        assert_eq!(segment.series.len(), defined.len());
        for (key, number) in defined.iter().zip(&segment.series).filter(|(_, number)| **number != NO_SERIES) {
            numbers.of.insert(key.clone(), *number);
        }
        let mut verdicts = Vec::new();
        for range in &segment.ranges {
            assert_eq!(range.first as usize, verdicts.len(), "ranges follow each other");
            let one = match &range.verdict {
                Verdict::Accepted { late } => ledger::Verdict::Accepted { late: *late },
                Verdict::Duplicate => ledger::Verdict::Duplicate,
                Verdict::Refused(refusal) => ledger::Verdict::Refused(known(&refusal.reason.code())),
            };
            verdicts.extend(std::iter::repeat_n(one, range.count as usize));
        }
        assert_eq!(verdicts.len(), records, "every record has a verdict");
        Ok(verdicts)
    }
}

pub(crate) fn hash_of(bill: &BillBody) -> BillHash {
    let body_hash = body_hash(&encode(bill));
    BillHash { payer: bill.payer.clone(), currency: bill.currency, body_hash }
}

fn mode_of(sending: Sending) -> HeadMode {
    match sending {
        Sending::Sequenced { epoch, previous } => HeadMode::Sequenced { epoch, previous },
        Sending::ById => HeadMode::ById,
        Sending::Strays { epoch } => HeadMode::Strays { epoch },
    }
}

/// The codes that the reference model knows.
fn known(code: &str) -> &'static str {
    let codes = [
        "UNKNOWN_ACCOUNT",
        "UNKNOWN_METER",
        "UNKNOWN_ATTRIBUTE",
        "NEGATIVE_QUANTITY",
        "TOO_EARLY",
        "TOO_FAR_AHEAD",
        "ID_REUSED",
        "ID_TOO_OLD",
        "INVALID_VALUE",
    ];
    codes.into_iter().find(|own| *own == code).unwrap_or_else(|| panic!("no history should be refused {code}"))
}
