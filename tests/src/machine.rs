//! The machine driven by hand: one shard without Raft, its entries numbered here and kept, its catalogues handed in beside
//! them as a node would. What is sent to it, and what it should answer, is up to the test.

use std::collections::BTreeMap;
use std::sync::Arc;

use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::base::hash::Hash;
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::billing::bill::{BillBody, postings};
use reckoner_shard::billing::codec::{body_hash, encode};
use reckoner_shard::billing::cycle::BillHash;
use reckoner_shard::billing::fold::fold;
use reckoner_shard::billing::pro_forma::pro_forma;
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::machine::codec::{decode_outcome, encode_commands, encode_usage_entry};
use reckoner_shard::machine::command::{BatchVerdict, BilledRoot, Command, CommandOutcome, Done, Outcome, Verdict};
use reckoner_shard::machine::state::{Blobs, State};
use reckoner_shard::placement::{SLOTS, SlotRange, slot_of};
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::segment::{Head, HeadMode, Packed, Reference, Writer};
use reckoner_shard::usage::series::SeriesKey;

/// Bytes of ids that the machine keeps: enough that no test outlives them.
const IDS_BYTES_MAX: u64 = 64 << 20;

/// Compiled catalogues by hash, as a node keeps them.
#[derive(Default)]
pub struct Store(BTreeMap<Hash, Arc<Catalogue>>);

impl Blobs for Store {
    fn catalogue(&self, hash: &Hash) -> Option<Arc<Catalogue>> {
        self.0.get(hash).cloned()
    }
}

/// One shard that owns every slot.
pub struct Machine {
    pub state: State,
    pub store: Store,
    /// Every entry applied, to be replayed.
    log: Vec<Vec<u8>>,
    /// Stamped on the next entry.
    pub stamp: Timestamp,
    generation: u32,
    version: u64,
}

impl Machine {
    pub fn new(stamp: Timestamp) -> Machine {
        Machine::with_ids(stamp, IDS_BYTES_MAX)
    }

    /// A machine that keeps at most so many bytes of ids.
    pub fn with_ids(stamp: Timestamp, ids_bytes_max: u64) -> Machine {
        let (store, log) = (Store::default(), Vec::new());
        let mut machine = Machine { state: State::new(ShardId(1)), store, log, stamp, generation: 1, version: 0 };
        let slots = vec![SlotRange { first: 0, last: SLOTS - 1 }];
        machine.done(Command::Genesis { shard: ShardId(1), slots, epoch: 1, ids_bytes_max });
        machine
    }

    fn apply(&mut self, entry: Vec<u8>) -> Outcome {
        let index = self.log.len() as u64 + 1;
        let applied = self.state.apply(index, &entry, &self.store).expect("no entry halts the machine");
        self.log.push(entry);
        decode_outcome(&applied.outcome).expect("an outcome that the machine wrote")
    }

    /// A command, whatever it comes to.
    pub fn command(&mut self, command: Command) -> CommandOutcome {
        self.generation += 1;
        match self.apply(encode_commands(self.stamp, self.generation, &[command])) {
            Outcome::Commands(mut outcomes) if outcomes.len() == 1 => outcomes.remove(0),
            other => panic!("one command gave {other:?}"),
        }
    }

    /// A command that must be done.
    pub fn done(&mut self, command: Command) -> Done {
        match self.command(command) {
            CommandOutcome::Done(done) => done,
            CommandOutcome::Refused(refusal) => panic!("a command was refused: {refusal}"),
        }
    }

    /// A batch of usage.
    pub fn usage(&mut self, batch: &[u8]) -> BatchVerdict {
        self.generation += 1;
        match self.apply(encode_usage_entry(self.stamp, self.generation, batch)) {
            Outcome::Usage(verdict) => verdict,
            other => panic!("usage was answered with {other:?}"),
        }
    }

    /// Compiles a catalogue and brings it into use from its effective cycle on.
    pub fn activate(&mut self, document: &CatalogueDocument) {
        let catalogue = Catalogue::compile(document).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let (name, hash, effective) = (catalogue.name.clone(), catalogue.hash, catalogue.effective);
        self.store.0.insert(hash, Arc::new(catalogue));
        self.version += 1;
        self.done(Command::ActivateCatalogue { name, version: self.version, hash, effective });
    }

    pub fn put_hierarchy(&mut self, document: &HierarchyDocument, job: &str) -> Done {
        self.done(Command::PutHierarchy { document: document.canonical(), job: job.to_owned() })
    }

    pub fn put_contract(&mut self, document: &ContractDocument, job: &str) -> Done {
        self.done(Command::PutContract { document: document.canonical(), job: job.to_owned() })
    }

    /// The bills of a cycle as they stand: an estimate, or after the cut the bills.
    pub fn bills(&mut self, root: &AccountId, cycle: CycleId) -> Vec<BillBody> {
        let source = self.state.view().fold_source(root, cycle, &self.store).expect("a cycle in memory");
        fold(&source.input()).expect("nothing here overflows")
    }

    /// The pro forma bills of a cycle as they stand, of all billing groups that the contract prices.
    pub fn pro_forma(&mut self, root: &AccountId, cycle: CycleId) -> Vec<BillBody> {
        let source = self.state.view().fold_source(root, cycle, &self.store).expect("a cycle in memory");
        pro_forma(&source.input()).expect("nothing here overflows")
    }

    /// Cuts, bills, issues and archives the oldest cycle of a root, once it has ended.
    pub fn close(&mut self, root: &AccountId, cycle: CycleId) {
        self.stamp = self.stamp.max(cycle.end());
        self.done(Command::Cut { root: root.clone(), cycle, manual: true });
        let bodies = self.bills(root, cycle);
        let hash = |body: &BillBody| BillHash {
            payer: body.payer.clone(),
            currency: body.currency,
            body_hash: body_hash(&encode(body)),
        };
        let (bills, postings) = (bodies.iter().map(hash).collect(), postings(&bodies));
        let billed = BilledRoot { root: root.clone(), cycle, bills, postings, claim: None };
        self.done(Command::Billed { slot: slot_of(root.as_str()), roots: vec![billed] });
        assert_eq!(self.bills(root, cycle), bodies, "a recorded bill is folded again from the same balances");
        self.done(Command::Issue { root: root.clone(), cycle });
        let hash = *blake3::hash(&self.state.view().archive(root, cycle).expect("an issued cycle")).as_bytes();
        self.done(Command::Archived { root: root.clone(), cycle, hash });
    }

    /// A snapshot of the state takes its place; it must hash alike.
    pub fn restore(&mut self) {
        let before = self.state.hash();
        let mut parts = Vec::new();
        self.state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
        self.state = State::restore(parts).expect("a snapshot restores");
        assert_eq!(self.state.hash(), before, "a restored state hashes alike");
    }

    /// The whole log on a fresh machine gives the same state.
    pub fn replay(&mut self) {
        let mut fresh = State::new(ShardId(1));
        for (index, entry) in self.log.iter().enumerate() {
            fresh.apply(index as u64 + 1, entry, &self.store).expect("what was applied applies again");
        }
        assert_eq!(fresh.hash(), self.state.hash(), "same log, same bytes");
    }
}

/// Pushes rows by id into a hierarchy's slot; every one must be accepted in time.
pub fn push_rows(machine: &mut Machine, root: &AccountId, catalogue: &CatalogueDocument, records: &[UsageRecord]) {
    let catalogue = Catalogue::compile(catalogue).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let slot = slot_of(root.as_str());
    // Well below the limit of a batch.
    for records in records.chunks(1_000) {
        let mut writer = Writer::new();
        writer.segment(&Head { slot, generation: 0, producer: "table", mode: HeadMode::ById });
        let mut defined: BTreeMap<SeriesKey, Reference> = BTreeMap::new();
        for record in records {
            let key = record.series();
            let meter = catalogue.meter_of(&key.service, &key.usage_type, &key.operation, &key.region, &key.attributes);
            let scale = catalogue.meter(meter.expect("usage of a table has a meter")).scale;
            let series = *defined.entry(key).or_insert_with_key(|key| writer.define(key, scale));
            let quantity = record.scaled(scale).expect("as fine as its meter keeps");
            let (id, start, end) = (record.id.as_bytes(), record.start, record.end);
            let corrects = record.corrects.as_deref().unwrap_or("").as_bytes();
            let amount = record.amount.map(|amount| amount.0);
            writer.push(&Packed { series, number: 0, id, quantity, start, end, amount, corrects });
        }
        let verdict = machine.usage(&writer.finish());
        assert_eq!(verdict.refused, None);
        let segment = verdict.segment(0).expect("definitions are always answered");
        assert_eq!(segment.whole, None);
        for range in &segment.ranges {
            assert_eq!(range.verdict, Verdict::Accepted { late: false }, "record {} on", range.first);
        }
    }
}
