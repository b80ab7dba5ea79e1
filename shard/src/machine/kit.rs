//! What the machine's tests share: a shard with a catalogue, short ways to command and to push, verdicts as words.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::codec::{decode_outcome, encode_commands, encode_usage_entry};
use super::command::*;
use super::state::{Blobs, State};
use crate::base::hash::Hash;
use crate::base::id::{AccountId, ProducerId, ShardId, Slot};
use crate::base::refusal::Reason;
use crate::base::time::{CycleId, Timestamp};
use crate::billing::cycle::BillHash;
use crate::placement::{SLOTS, SlotRange, slot_of};
use crate::pricing::catalogue::Catalogue;
use crate::usage::segment::{Head, HeadMode, Packed, Reference, Writer};
use crate::usage::series::SeriesKey;

/// Compiled catalogues by hash.
#[derive(Clone, Default)]
pub struct Shelf(pub BTreeMap<Hash, Arc<Catalogue>>);

impl Blobs for Shelf {
    fn catalogue(&self, hash: &Hash) -> Option<Arc<Catalogue>> {
        self.0.get(hash).cloned()
    }
}

/// A shard that owns every slot, its log, and what it was fed.
pub struct Kit {
    pub state: State,
    pub blobs: Shelf,
    pub index: u64,
    pub stamp: Timestamp,
    pub effects: Vec<Effect>,
    /// Every entry so far.
    pub log: Vec<Vec<u8>>,
    /// Drawn into every entry.
    pub generation: u32,
}

pub fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

pub fn cycle(name: &str) -> CycleId {
    name.parse().unwrap()
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A catalogue with a meter of each kind: `bytes` (sum, scale 0), `fine` (sum, scale 12), `calls` (count), `hours` and
/// `days` (buckets, scale 2); `more` adds meters.
pub fn catalogue(effective: &str, rate: &str, more: &[&str]) -> Catalogue {
    Catalogue::compile(&serde_json::from_value(document(effective, rate, more)).unwrap()).unwrap()
}

/// The same as a document.
pub fn document(effective: &str, rate: &str, more: &[&str]) -> serde_json::Value {
    let mut meters = vec![
        json!({"id": "bytes", "service": "s", "usage_type": "bytes", "scale": 0, "attributes": ["class"]}),
        json!({"id": "fine", "service": "s", "usage_type": "fine"}),
        json!({"id": "calls", "service": "s", "usage_type": "calls", "aggregation": "count"}),
        json!({"id": "hours", "service": "s", "usage_type": "hours", "scale": 2, "bucket": "hour"}),
        json!({"id": "days", "service": "s", "usage_type": "days", "scale": 2, "bucket": "day"}),
    ];
    meters.extend(more.iter().map(|name| json!({"id": name, "service": "s", "usage_type": name, "scale": 0})));
    json!({
        "kind": "Catalogue", "name": "c", "currency": "USD", "effective": effective, "meters": meters,
        "skus": [{"id": "all", "match": {"service": "s", "usage_type": "bytes"}, "unit": "B", "rate": rate}],
    })
}

/// A hierarchy document; `rest` is more JSON fields, beginning with a comma.
pub fn hierarchy(root: &str, first: &str, rest: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"kind":"Hierarchy","root":"{root}","catalogue":"c","cycles":{{"first":"{first}","close":"manual"}}{rest}}}"#
    );
    let document: crate::account::document::HierarchyDocument = serde_json::from_str(&text).unwrap();
    document.canonical()
}

/// The series of an account on a meter of [`catalogue`].
pub fn key(account_name: &str, usage_type: &str) -> SeriesKey {
    SeriesKey::new(account(account_name), "s", usage_type, "", "", Vec::new())
}

/// One record of a test: series, quantity at scale 0, start.
#[derive(Clone, Debug)]
pub struct Row {
    pub number: u64,
    pub key: SeriesKey,
    pub scale: u32,
    pub quantity: i128,
    pub start: Timestamp,
    pub corrects: bool,
}

impl Kit {
    /// With the catalogue in use from 2024-01 and no hierarchies.
    pub fn new() -> Kit {
        Kit::with_ids(1 << 20)
    }

    pub fn with_ids(ids_bytes_max: u64) -> Kit {
        let state = State::new(ShardId(1));
        let mut kit = Kit {
            state,
            blobs: Shelf::default(),
            index: 0,
            stamp: time("2024-09-10"),
            effects: Vec::new(),
            log: Vec::new(),
            generation: 77,
        };
        let slots = vec![SlotRange { first: 0, last: SLOTS - 1 }];
        kit.ok(Command::Genesis { shard: ShardId(1), slots, epoch: 1, ids_bytes_max });
        kit.activate(catalogue("2024-01", "0.01", &[]), 1).unwrap();
        kit
    }

    /// With hierarchy `acme` (accounts `acme`, `a`, `b`) from 2024-09 on, closed by hand.
    pub fn acme() -> Kit {
        let mut kit = Kit::new();
        kit.put("acme", r#","accounts":[{"id":"a"},{"id":"b"}]"#).unwrap();
        kit
    }

    pub fn put(&mut self, root: &str, rest: &str) -> Result<Done, Reason> {
        self.command(Command::PutHierarchy { document: hierarchy(root, "2024-09", rest), job: String::new() })
    }

    pub fn activate(&mut self, catalogue: Catalogue, version: u64) -> Result<Done, Reason> {
        let (name, hash, effective) = (catalogue.name.clone(), catalogue.hash, catalogue.effective);
        self.blobs.0.insert(hash, Arc::new(catalogue));
        self.command(Command::ActivateCatalogue { name, version, hash, effective })
    }

    pub fn command(&mut self, command: Command) -> Result<Done, Reason> {
        let entry = encode_commands(self.stamp, self.generation, &[command]);
        match self.apply(entry) {
            Outcome::Commands(mut outcomes) => match outcomes.remove(0) {
                CommandOutcome::Done(done) => Ok(done),
                CommandOutcome::Refused(refusal) => Err(refusal.reason),
            },
            Outcome::Usage(_) => panic!("commands come back as commands"),
        }
    }

    pub fn ok(&mut self, command: Command) -> Done {
        self.command(command.clone()).unwrap_or_else(|reason| panic!("{command:?} is refused {reason:?}"))
    }

    pub fn apply(&mut self, entry: Vec<u8>) -> Outcome {
        self.index += 1;
        let applied = self.state.apply(self.index, &entry, &self.blobs).unwrap();
        self.log.push(entry);
        self.effects.extend(applied.effects);
        decode_outcome(&applied.outcome).unwrap()
    }

    pub fn push(&mut self, writer: Writer) -> BatchVerdict {
        let entry = encode_usage_entry(self.stamp, self.generation, &writer.finish());
        match self.apply(entry) {
            Outcome::Usage(verdict) => verdict,
            Outcome::Commands(_) => panic!("usage comes back as usage"),
        }
    }

    /// One segment of rows, each series defined; answers the verdicts as words.
    pub fn send(&mut self, root: &str, producer: &str, mode: HeadMode, rows: &[Row]) -> String {
        let mut writer = Writer::new();
        write(&mut writer, root, producer, mode, rows);
        words(&self.push(writer), 0, rows.len())
    }

    /// `a` of `acme` adds quantities to `bytes`, numbered from `first` on.
    pub fn sequence(&mut self, previous: Option<u64>, first: u64, quantities: &[i128]) -> String {
        let rows = rows("a", first, quantities);
        self.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous }, &rows)
    }

    pub fn value(&mut self, root: &str, cycle_name: &str, key: &SeriesKey) -> (i128, u64, i128, u64) {
        let lines = self.state.view().usage(&account(root), cycle(cycle_name)).unwrap();
        let of = lines.iter().filter(|line| line.series == *key);
        of.fold((0, 0, 0, 0), |sum, line| {
            (sum.0 + line.value, sum.1 + line.records, sum.2 + line.late_value, sum.3 + line.late_records)
        })
    }

    /// Closes a cycle to its end: cut, billed with one bill of the root, issued, archived.
    pub fn close(&mut self, root: &str, name: &str) {
        let (root, cycle) = (account(root), cycle(name));
        self.ok(Command::Cut { root: root.clone(), cycle, manual: true });
        self.ok(billed(&root, cycle, 1));
        self.ok(Command::Issue { root: root.clone(), cycle });
        self.ok(Command::Archived { root, cycle, hash: [9; 32] });
    }
}

pub fn billed(root: &AccountId, cycle: CycleId, body: u8) -> Command {
    let bill = BillHash { payer: root.clone(), currency: "USD".parse().unwrap(), body_hash: [body; 32] };
    let roots = vec![BilledRoot { root: root.clone(), cycle, bills: vec![bill], postings: Vec::new(), claim: None }];
    Command::Billed { slot: slot_of(root.as_str()), roots }
}

pub fn rows(account_name: &str, first: u64, quantities: &[i128]) -> Vec<Row> {
    let row = |(place, quantity): (usize, &i128)| Row {
        number: first + place as u64,
        key: key(account_name, "bytes"),
        scale: 0,
        quantity: *quantity,
        start: time("2024-09-10T10:00:00Z"),
        corrects: false,
    };
    quantities.iter().enumerate().map(row).collect()
}

pub fn write(writer: &mut Writer, root: &str, producer: &str, mode: HeadMode, rows: &[Row]) {
    writer.segment(&Head { slot: slot_of(root), generation: 0, producer, mode });
    let mut defined: BTreeMap<(SeriesKey, u32), Reference> = BTreeMap::new();
    for row in rows {
        let place = defined.entry((row.key.clone(), row.scale));
        let series = *place.or_insert_with(|| writer.define(&row.key, row.scale));
        let id = format!("r-{}", row.number);
        writer.push(&Packed {
            series,
            number: row.number,
            id: id.as_bytes(),
            quantity: row.quantity,
            start: row.start,
            end: None,
            amount: None,
            corrects: if row.corrects { b"r-0" } else { b"" },
        });
    }
}

/// Verdicts as words: `3 accepted, 1 late, 2 duplicate, 1 INVALID_VALUE`, or `whole: OUT_OF_ORDER`.
pub fn words(verdict: &BatchVerdict, segment: u32, records: usize) -> String {
    if let Some(refused) = &verdict.refused {
        return format!("batch: {}", refused.reason.code());
    }
    let Some(segment) = verdict.segment(segment) else {
        return format!("{records} accepted");
    };
    if let Some(whole) = &segment.whole {
        return format!("whole: {}", whole.reason.code());
    }
    let total: u32 = segment.ranges.iter().map(|range| range.count).sum();
    assert_eq!(total as usize, records, "every record has a verdict");
    let word = |range: &VerdictRange| {
        let word = match &range.verdict {
            Verdict::Accepted { late: false } => "accepted".to_owned(),
            Verdict::Accepted { late: true } => "late".to_owned(),
            Verdict::Duplicate => "duplicate".to_owned(),
            Verdict::Refused(refusal) => refusal.reason.code(),
        };
        format!("{} {word}", range.count)
    };
    segment.ranges.iter().map(word).collect::<Vec<_>>().join(", ")
}

pub fn producer(name: &str) -> ProducerId {
    ProducerId::new(name).unwrap()
}

pub fn home(name: &str) -> Slot {
    slot_of(name)
}
