//! The machine and the reference model side by side: each step goes to both, and what they answer must be equal. What the
//! steps are is drawn in `it/histories.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::base::id::{AccountId, CatalogueName, ShardId, Slot};
use reckoner_shard::base::money::parse_scaled;
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::machine::apply::Blobs;
use reckoner_shard::machine::codec::{decode_outcome, encode_commands, encode_usage_entry};
use reckoner_shard::machine::command::{BatchVerdict, Command, CommandOutcome, Done, Hash, NO_SERIES, Outcome, Verdict};
use reckoner_shard::machine::state::State;
use reckoner_shard::placement::{SLOTS, SlotRange, slot_of};
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::usage::segment::{Head, HeadMode, Packed, Reference, Writer};
use reckoner_shard::usage::series::SeriesKey;
use serde_json::Value;

use crate::model::bill::Series;
use crate::model::ledger::{self, Cycle, Ledger, Root, Row, Sending, Sent, cycle_name};

/// Bytes of ids that the machine keeps: enough that no history outlives them.
const IDS_BYTES_MAX: u64 = 64 << 20;

/// Compiled catalogues by hash, as a node keeps them.
#[derive(Default)]
pub struct Store(BTreeMap<Hash, Arc<Catalogue>>);

impl Blobs for Store {
    fn catalogue(&self, hash: &Hash) -> Option<Arc<Catalogue>> {
        self.0.get(hash).cloned()
    }
}

/// Series numbers as the last reply of a slot gave them.
#[derive(Default)]
struct Numbers {
    generation: u32,
    of: BTreeMap<SeriesKey, u32>,
}

/// Both, with everything that was put into the log so far.
pub struct Pair {
    pub state: State,
    pub ledger: Ledger,
    pub store: Store,
    /// Every entry applied, to be replayed.
    pub log: Vec<Vec<u8>>,
    pub stamp: Timestamp,
    generation: u32,
    version: u64,
    numbers: BTreeMap<u16, Numbers>,
}

/// The slot of a hierarchy.
pub fn slot_of_root(root: &str) -> u16 {
    slot_of(root).0
}

pub fn cycle_id(cycle: Cycle) -> CycleId {
    cycle_name(cycle).parse().expect("a cycle")
}

fn key_of(series: &Series) -> SeriesKey {
    let account = AccountId::new(&series.account).expect("drawn names are good");
    let Series { service, usage_type, operation, region, attributes, .. } = series;
    SeriesKey::new(account, service, usage_type, operation, region, attributes.clone())
}

impl Pair {
    pub fn new(stamp: i64) -> Pair {
        let mut pair = Pair {
            state: State::new(ShardId(1)),
            ledger: Ledger::default(),
            store: Store::default(),
            log: Vec::new(),
            stamp: Timestamp(stamp),
            generation: 1,
            version: 0,
            numbers: BTreeMap::new(),
        };
        let slots = vec![SlotRange { first: Slot(0), last: Slot(SLOTS - 1) }];
        pair.done(Command::Genesis { shard: ShardId(1), slots, epoch: 1, ids_bytes_max: IDS_BYTES_MAX });
        pair
    }

    fn apply(&mut self, entry: Vec<u8>) -> Outcome {
        let index = self.log.len() as u64 + 1;
        let applied = self.state.apply(index, &entry, &self.store).expect("no entry halts the machine");
        self.log.push(entry);
        decode_outcome(&applied.outcome).expect("an outcome that the machine wrote")
    }

    /// A command that must be done.
    pub fn done(&mut self, command: Command) -> Done {
        let shown = format!("{command:?}");
        match self.command(command) {
            CommandOutcome::Done(done) => done,
            CommandOutcome::Refused(refusal) => panic!("{shown} was refused: {refusal}"),
        }
    }

    /// A command on the machine alone.
    pub fn command(&mut self, command: Command) -> CommandOutcome {
        self.generation += 1;
        let entry = encode_commands(self.stamp, self.generation, &[command]);
        match self.apply(entry.to_vec()) {
            Outcome::Commands(mut outcomes) if outcomes.len() == 1 => outcomes.remove(0),
            other => panic!("one command gave {other:?}"),
        }
    }

    /// A new catalogue version, effective from a cycle on.
    pub fn activate(&mut self, document: &Value, effective: Cycle) {
        let parsed: CatalogueDocument = serde_json::from_value(document.clone()).expect("a catalogue document");
        let catalogue = Catalogue::compile(&parsed).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let (name, hash) = (CatalogueName::new("random").expect("a name"), catalogue.hash);
        self.store.0.insert(hash, Arc::new(catalogue));
        self.version += 1;
        self.done(Command::ActivateCatalogue { name, version: self.version, hash, effective: cycle_id(effective) });
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
        self.done(Command::PutHierarchy { document: parsed.canonical(), job: job.to_owned() });
        match self.ledger.roots.get_mut(&root) {
            Some(root) => root.hierarchy = document.clone(),
            None => {
                let slot = slot_of_root(&root);
                self.ledger.roots.insert(root, Root::new(slot, document.clone(), first, catalogue.clone()));
            }
        }
    }

    /// The epoch of a producer, opened in its home slot.
    pub fn open_producer(&mut self, producer: &str) -> u64 {
        let (slot, producer) = (slot_of(producer), producer.parse().expect("drawn names are good"));
        match self.done(Command::OpenProducer { slot, producer, epoch: None, file: None }) {
            Done::Producer { epoch, .. } => epoch,
            other => panic!("opening a producer gave {other:?}"),
        }
    }

    /// One segment on both sides; the verdicts must agree.
    pub fn push(&mut self, root: &str, producer: &str, sending: Sending, records: &[Sent], numbered: bool) {
        let slot = slot_of_root(root);
        let (batch, defined) = self.pack(slot, producer, sending, records, numbered);
        self.generation += 1;
        let entry = encode_usage_entry(self.stamp, self.generation, &batch);
        let Outcome::Usage(verdict) = self.apply(entry.to_vec()) else { panic!("usage was answered with commands") };
        let expected = self.ledger.push(slot, producer, sending, records);
        let found = self.learn(slot, &verdict, &defined, records.len());
        assert_eq!(found, expected.map_err(str::to_owned), "verdicts differ for {producer} in slot {slot}: {records:#?}");
    }

    /// The bytes of one segment, and the series that it defines.
    fn pack(
        &self,
        slot: u16,
        producer: &str,
        sending: Sending,
        records: &[Sent],
        numbered: bool,
    ) -> (Vec<u8>, Vec<SeriesKey>) {
        let numbers = self.numbers.get(&slot).filter(|_| numbered);
        let mode = match sending {
            Sending::Sequenced { epoch, previous } => HeadMode::Sequenced { epoch, previous },
            Sending::ById => HeadMode::ById,
        };
        let mut writer = Writer::new();
        let generation = numbers.map_or(0, |numbers| numbers.generation);
        writer.segment(&Head { slot: Slot(slot), generation, producer, mode });
        let mut defined: Vec<SeriesKey> = Vec::new();
        for sent in records {
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
            let number = sent.number;
            writer.push(&Packed { series, number, id, quantity, start, end: None, amount: None, corrects: b"" });
        }
        (writer.finish(), defined)
    }

    /// Decimals of the record's meter; 0 where there is none.
    fn scale_of(&self, row: &Row) -> u32 {
        let catalogues = self.ledger.roots.values().filter_map(|root| root.catalogues.last());
        let meters = catalogues.flat_map(|(_, catalogue)| crate::model::bill::list(catalogue, "meters"));
        let own = |meter: &&Value| meter["usage_type"] == row.series.usage_type.as_str();
        meters.into_iter().find(own).map_or(0, |meter| match meter["aggregation"].as_str() {
            Some("count") => 0,
            _ => meter["scale"].as_u64().unwrap_or(12) as u32,
        })
    }

    /// The verdict of each record, and the series numbers that came with them.
    fn learn(
        &mut self,
        slot: u16,
        verdict: &BatchVerdict,
        defined: &[SeriesKey],
        records: usize,
    ) -> Result<Vec<ledger::Verdict>, String> {
        assert_eq!(verdict.refused, None, "the batch itself is well formed");
        let Some(segment) = verdict.segment(0) else {
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

/// The codes that the reference model knows.
fn known(code: &str) -> &'static str {
    let codes = [
        "UNKNOWN_ACCOUNT", "UNKNOWN_METER", "UNKNOWN_ATTRIBUTE", "NEGATIVE_QUANTITY", "TOO_EARLY", "TOO_FAR_AHEAD",
        "ID_REUSED",
    ];
    codes.into_iter().find(|own| *own == code).unwrap_or_else(|| panic!("no history should be refused {code}"))
}

