//! Golden logs: entries as a version of the machine wrote them, with the bills that they were billed with and the state
//! that they gave. Replayed they must give the same bytes for good, whatever the code has become; what is to be otherwise
//! is a new version of the machine (`MACHINE_VERSION`), and the old logs stay.
//!
//! A new one is written by `RECKONER_GOLDEN=write cargo test -p reckoner-shard --lib golden`, only where there is none of
//! the version.
//!
//! ```text
//! machine 1               the version
//! catalogue {...}         a document that entries name
//! shard 1                 a log begins
//! entry <hex>             the next of it
//! bill <hash>             a body that the entry before it had billed here
//! state <hash>            after the last entry
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::books::Books;
use super::claims::Known;
use super::codec::{Entry, decode_entry};
use super::command::*;
use super::kit::*;
use super::moves_test::empty;
use super::state::{MACHINE_VERSION, State};
use crate::base::hash::{Hash, hex};
use crate::base::id::ShardId;
use crate::billing::bill::BillBody;
use crate::billing::codec::{body_hash, decode, encode};
use crate::billing::cycle::Status;
use crate::billing::kind::Cause;
use crate::placement::{SlotRange, slot_of};
use crate::pricing::catalogue::Catalogue;
use crate::usage::segment::HeadMode;

/// Where the log of a version is.
fn path(version: u32) -> String {
    format!("{}/golden/v{version}.log", env!("CARGO_MANIFEST_DIR"))
}

const CLAUSES: &str = r#"{"id":"d","mechanism":"percent","kind":"cross_service","percent":"10"}"#;

/// The catalogue of [`Kit::new`].
fn priced() -> serde_json::Value {
    document("2024-01", "0.01", &[])
}

/// A history of two shards in which every command is done: hierarchies and a contract, usage of all kinds, a claim, closes,
/// late usage, an account that moves, slots that move.
fn history() -> Vec<Kit> {
    let mut books = Books::new(Some(CLAUSES));
    books.kit.put("globex", r#","accounts":[{"id":"g"}]"#).unwrap();
    books.kit.ok(Command::Raise { version: 1 });
    let file = Some(FileProgress { lines: 10, digest: [7; 32] });
    let open = |epoch, file| Command::OpenProducer { slot: home("p"), producer: producer("p"), epoch, file };
    books.kit.ok(open(None, None));
    books.kit.ok(open(Some(1), file));
    let periods = vec![crate::base::time::Period { from: time("2024-09-01"), until: time("2025-01-01") }];
    books.kit.ok(Command::PutDirectory { account: account("b"), root: account("acme"), periods });
    books.push("2024-09", 150);
    books.push_of("b", "2024-09", 30);
    let mut fine = rows("a", 1, &[25, 26]);
    for row in &mut fine {
        (row.key, row.scale) = (key("a", "days"), 2);
    }
    assert_eq!(books.kit.send("acme", "ids", HeadMode::ById, &fine), "2 accepted");
    assert_eq!(books.kit.send("acme", "ids", HeadMode::ById, &fine), "2 duplicate");
    let stray = HeadMode::Strays { epoch: 1 };
    assert_eq!(books.kit.send("globex", "p", stray, &rows("g", 900, &[4])), "1 accepted");
    books.claim("2024-09");
    books.push("2024-09", 50);
    books.kit.ok(Command::Tick);
    books.close("2024-09");
    books.push("2024-09", 5);
    books.push("2024-10", 70);
    books.kit.ok(Command::Digest);
    let way = AccountWay {
        account: account("b"),
        from: account("acme"),
        to: account("globex"),
        at: time("2024-11-01"),
        payer: None,
        group: None,
        job: "move".to_owned(),
    };
    for step in [MoveStep::End, MoveStep::Begin, MoveStep::Learn, MoveStep::Settle] {
        books.kit.ok(Command::MoveAccount { step, way: way.clone() });
    }
    books.close("2024-10");
    books.claim_for("2024-09", Cause::Late);
    let mut other = empty(1 << 20);
    let (id, slot) = (1, slot_of("acme").0);
    let slots = SlotRange { first: slot, last: slot };
    books.kit.ok(Command::FreezeSlots { id, slots });
    let (chunks, seal) = books.kit.state.view().pack_slots(slots).unwrap();
    for (at, chunk) in chunks.into_iter().enumerate() {
        other.ok(Command::StageSlots { id, slots, at: at as u32, chunk });
    }
    other.ok(Command::SealSlots { id, slots, seal });
    other.ok(Command::SettleSlots { id, slots, epoch: Some(2) });
    books.kit.ok(Command::SettleSlots { id, slots, epoch: None });
    other.stamp = books.kit.stamp;
    std::mem::swap(&mut books.kit, &mut other);
    books.push("2024-11", 9);
    books.close("2024-11");
    vec![other, books.kit]
}

/// What is replayed and what comes of it.
struct Replay {
    state: State,
    index: u64,
    blobs: Shelf,
    bodies: BTreeMap<Hash, BillBody>,
    archives: BTreeMap<Hash, Vec<u8>>,
    /// Bodies that the last entry billed.
    billed: Vec<Hash>,
}

impl Replay {
    fn new(shard: u32, blobs: &Shelf) -> Replay {
        let (bodies, archives) = (BTreeMap::new(), BTreeMap::new());
        Replay {
            state: State::new(ShardId(shard)),
            index: 0,
            blobs: blobs.clone(),
            bodies,
            archives,
            billed: Vec::new(),
        }
    }

    /// Applies an entry; what it says of bills and archives is computed here too.
    fn entry(&mut self, bytes: &[u8]) {
        self.billed.clear();
        if let Entry::Commands { commands, .. } = decode_entry(bytes).expect("an entry is read for good") {
            for command in &commands {
                match command {
                    Command::Billed { roots, .. } => roots.iter().for_each(|agreed| self.bill(agreed)),
                    Command::Archived { root, cycle, hash } => {
                        let archive = self.state.view().archive(root, *cycle).unwrap();
                        assert_eq!(blake3::hash(&archive).as_bytes(), hash, "the archive of {root} for {cycle}");
                        self.archives.insert(*hash, archive);
                    }
                    _ => (),
                }
            }
        }
        self.index += 1;
        self.state.apply(self.index, bytes, &self.blobs).expect("an entry applies for good");
    }

    fn bill(&mut self, agreed: &BilledRoot) {
        let view = self.state.view();
        let (root, cycle) = (&agreed.root, agreed.cycle);
        let claim = view.claim_of(root, cycle);
        let is_it = claim.as_ref().map(|claim| claim.index) == agreed.claim.as_ref().map(|claim| claim.index);
        if !is_it || claim.is_none() && view.cycle_status(root, cycle) != Ok(Status::Closing) {
            // Told once more.
            return;
        }
        let archive = view.archive_hash(root, cycle).map(|hash| self.archives[&hash].as_slice());
        let what = if claim.is_some() { Known::Claimed(archive) } else { Known::OnTime };
        let source = view.known_source(root, cycle, &self.blobs, what).unwrap();
        let earlier: Vec<BillBody> = source.earlier.iter().map(|bill| self.bodies[&bill.body_hash].clone()).collect();
        let bodies = source.bills(&earlier).unwrap();
        if let Some((_, archive)) = source.claim {
            self.archives.insert(*blake3::hash(&archive).as_bytes(), archive);
        }
        let hashes: Vec<Hash> = bodies.iter().map(|body| body_hash(&encode(body))).collect();
        let told: Vec<Hash> = agreed.bills.iter().map(|bill| bill.body_hash).collect();
        assert_eq!(hashes, told, "the bills of {root} for {cycle} are other bytes than they were");
        self.billed.extend(&hashes);
        self.bodies.extend(hashes.into_iter().zip(bodies));
    }
}

/// The log of a history as text.
fn written() -> String {
    let mut text = format!("machine {MACHINE_VERSION}\ncatalogue {}\n", priced());
    let blobs = shelf(&[priced()]);
    for kit in history() {
        let shard = kit.state.shard();
        let mut replay = Replay::new(shard.0, &blobs);
        text.push_str(&format!("shard {shard}\n"));
        for entry in &kit.log {
            replay.entry(entry);
            let bytes: String = entry.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("entry {bytes}\n"));
            replay.billed.iter().for_each(|hash| text.push_str(&format!("bill {}\n", hex(hash))));
        }
        text.push_str(&format!("state {}\n", hex(&replay.state.hash())));
    }
    text
}

fn shelf(documents: &[serde_json::Value]) -> Shelf {
    let compiled = documents.iter().map(|document| {
        let catalogue = Catalogue::compile(&serde_json::from_value(document.clone()).unwrap()).unwrap();
        (catalogue.hash, Arc::new(catalogue))
    });
    Shelf(compiled.collect())
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The word for each command; a new one has to be in the newest log.
fn kind(command: &Command) -> &'static str {
    match command {
        Command::Genesis { .. } => "genesis",
        Command::OpenProducer { .. } => "open-producer",
        Command::PutHierarchy { .. } => "put-hierarchy",
        Command::PutDirectory { .. } => "put-directory",
        Command::PutContract { .. } => "put-contract",
        Command::ActivateCatalogue { .. } => "activate-catalogue",
        Command::Cut { .. } => "cut",
        Command::Claim { .. } => "claim",
        Command::Billed { .. } => "billed",
        Command::Issue { .. } => "issue",
        Command::Archived { .. } => "archived",
        Command::FreezeSlots { .. } => "freeze-slots",
        Command::StageSlots { .. } => "stage-slots",
        Command::SealSlots { .. } => "seal-slots",
        Command::SettleSlots { .. } => "settle-slots",
        Command::MoveAccount { .. } => "move-account",
        Command::Tick => "tick",
        Command::Digest => "digest",
        Command::Raise { .. } => "raise",
    }
}

/// All of them.
const KINDS: usize = 19;

#[test]
fn golden_logs_give_the_same_bytes() {
    if std::env::var("RECKONER_GOLDEN").as_deref() == Ok("write") {
        let path = path(MACHINE_VERSION);
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(known.is_empty(), "{path} is there: what a version did is not rewritten, raise MACHINE_VERSION");
        std::fs::write(&path, written()).unwrap();
        return;
    }
    for version in 1..=MACHINE_VERSION {
        let text = std::fs::read_to_string(path(version)).expect("every version has its log");
        let mut kinds = BTreeSet::new();
        let mut documents = Vec::new();
        let mut replay: Option<Replay> = None;
        let (mut states, mut bills) = (0, 0);
        for (at, line) in text.lines().enumerate() {
            let (word, rest) = line.split_once(' ').unwrap();
            match word {
                "machine" => assert_eq!(rest, version.to_string()),
                "catalogue" => documents.push(serde_json::from_str(rest).unwrap()),
                "shard" => replay = Some(Replay::new(rest.parse().unwrap(), &shelf(&documents))),
                "entry" => {
                    let bytes = unhex(rest);
                    if let Entry::Commands { commands, .. } = decode_entry(&bytes).unwrap() {
                        kinds.extend(commands.iter().map(kind));
                    }
                    replay.as_mut().unwrap().entry(&bytes);
                }
                "bill" => {
                    let billed = &mut replay.as_mut().unwrap().billed;
                    assert_eq!(hex(&billed.remove(0)), rest, "version {version}, line {}", at + 1);
                    bills += 1;
                }
                "state" => {
                    let hash = hex(&replay.as_mut().unwrap().state.hash());
                    assert_eq!(hash, rest, "version {version}, line {}: the same log gives another state", at + 1);
                    states += 1;
                }
                other => panic!("line {} begins with {other}", at + 1),
            }
        }
        assert!(states == 2 && bills >= 4, "{states} states, {bills} bills");
        if version == MACHINE_VERSION {
            assert_eq!(kinds.len(), KINDS, "the log of version {version} has only {kinds:?}");
        }
    }
}

#[test]
fn versions_rise_by_an_entry_and_are_not_guessed_at() {
    let mut kit = Kit::acme();
    let raise = |version| super::codec::encode_commands(time("2024-09-10"), 1, &[Command::Raise { version }]);
    let before = kit.state.hash();
    let index = kit.index + 1;
    let halt = kit.state.apply(index, &raise(MACHINE_VERSION + 1), &kit.blobs).unwrap_err();
    let known = MACHINE_VERSION;
    assert_eq!(halt, Halt::NewerMachine { index, version: known + 1, known });
    assert_eq!(kit.state.hash(), before, "nothing was done");
    // As a newer program would.
    let mut newer = State::new(ShardId(1)).supporting(MACHINE_VERSION + 1);
    kit.log.iter().zip(1..).for_each(|(entry, index)| drop(newer.apply(index, entry, &kit.blobs).unwrap()));
    assert_eq!((newer.hash(), newer.machine()), (before, 1));
    newer.apply(index, &raise(MACHINE_VERSION + 1), &kit.blobs).unwrap();
    assert_eq!(newer.machine(), MACHINE_VERSION + 1);
    newer.apply(index + 1, &raise(MACHINE_VERSION), &kit.blobs).unwrap();
    assert_eq!(newer.machine(), MACHINE_VERSION + 1, "versions only rise");
    let mut parts = Vec::new();
    newer.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
    let refused = State::restore(parts.clone()).unwrap_err().to_string();
    assert!(refused.contains("follows version 2 of the machine, this program knows up to 1"), "{refused}");
    let mut again = State::restore_supporting(MACHINE_VERSION + 1, parts).unwrap();
    assert_eq!(again.hash(), newer.hash());
    // What is cut now is billed by the version of now, and says so.
    let root = account("acme");
    let source = again.view().fold_source(&root, cycle("2024-09"), &kit.blobs).unwrap();
    assert_eq!(source.machine, MACHINE_VERSION + 1);
    let bodies = source.bills(&[]).unwrap();
    assert!(bodies.iter().all(|body| body.machine == MACHINE_VERSION + 1));
    let decoded = bodies.iter().map(|body| decode(&encode(body)).unwrap());
    assert_eq!(decoded.collect::<Vec<_>>(), bodies);
}
