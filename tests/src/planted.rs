//! Faults of a cluster that are put in on purpose, to see that the simulation finds them: each is a bug that a real one
//! could have, in what surrounds the product's code (its disks, its wire, its clock, its clients), never in that code.
//! Where each takes effect is in [`crate::seams`], [`crate::faults`], [`crate::groups`] and [`crate::simulation`].

use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::ValueEnum;

use crate::soak;

/// A bug put in on purpose, chosen when a run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Planted {
    /// The journal says "on disk" before it is.
    EarlyAcknowledgement,
    /// The journal says that a vote is on disk and never writes it.
    LostVote,
    /// The journal believes a disk that refused a flush, and goes on.
    IgnoredRefusal,
    /// The journal does not drop the entries that another leader's replace.
    LostTruncation,
    /// The journal drops more entries than the snapshot holds.
    PurgedTooFar,
    /// A record that a crash tore is taken for good: its place holds what was written there before.
    TornTail,
    /// A node comes back under its old id with an empty disk.
    WipedDisk,
    /// A snapshot becomes the current one, and the log behind it goes, before its files are synced.
    UnsyncedSnapshot,
    /// The transport answers appends with success that never arrived.
    FalseAcknowledgement,
    /// The transport grants votes that were never asked for.
    FalseVote,
    /// A leader reads its own state without asking whether it still leads.
    UnconfirmedRead,
    /// The machine counts a repeat again.
    CountedTwice,
    /// A snapshot claims an entry that it does not contain.
    SnapshotLacksEntry,
    /// Snapshots lack the numbers up to which producers were heard.
    MarksNotKept,
    /// Snapshots lack the ids that were seen.
    IdsNotKept,
    /// Snapshots lack the verdicts of refused records.
    RefusalsNotKept,
    /// Snapshots lack what was counted late.
    LateNotKept,
    /// A producer without a verdict sends its records again under new numbers.
    FreshNumbers,
    /// Bills are announced before they are on disk, and never get there.
    BillsNotFlushed,
    /// Documents are announced before they are on disk.
    BlobsNotKept,
    /// One node reads a price list whose checksum it does not look at.
    WrongPrices,
    /// One node's clock is a day ahead, and every leader stamps by its own.
    ClockAhead,
    /// One node's snapshots hold other sums than were counted.
    FlippedCounter,
    /// Series numbers mean other series after a restart, and are accepted as before.
    StaleNumbers,
    /// Snapshots lack the accounts that moved: usage of them is refused, or taken for a repeat.
    TransfersNotKept,
    /// A cycle that was cut counts again after a restart: what is late counts as in time.
    CutForgotten,
}

/// Which simulation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layer {
    /// Replication alone.
    Groups,
    /// Whole nodes and clients.
    Nodes,
}

/// A planted bug with the simulation that has to find it.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The bug.
    pub planted: Planted,
    /// Where it is put in.
    pub layer: Layer,
    /// Seeds, from 1 on, within which it must be found: about three times what it took when this was written, or more.
    pub budget: u64,
}

const fn fault(planted: Planted, layer: Layer, budget: u64) -> Fault {
    Fault { planted, layer, budget }
}

/// Every fault that has to be found.
pub const FAULTS: &[Fault] = &[
    fault(Planted::EarlyAcknowledgement, Layer::Groups, 30),
    fault(Planted::EarlyAcknowledgement, Layer::Nodes, 20),
    fault(Planted::LostVote, Layer::Groups, 30),
    fault(Planted::IgnoredRefusal, Layer::Groups, 20),
    fault(Planted::LostTruncation, Layer::Groups, 150),
    fault(Planted::PurgedTooFar, Layer::Groups, 20),
    fault(Planted::TornTail, Layer::Groups, 30),
    fault(Planted::WipedDisk, Layer::Groups, 20),
    fault(Planted::UnsyncedSnapshot, Layer::Groups, 20),
    fault(Planted::FalseAcknowledgement, Layer::Groups, 10),
    fault(Planted::FalseAcknowledgement, Layer::Nodes, 10),
    fault(Planted::FalseVote, Layer::Groups, 10),
    fault(Planted::UnconfirmedRead, Layer::Groups, 30),
    fault(Planted::CountedTwice, Layer::Groups, 5),
    fault(Planted::SnapshotLacksEntry, Layer::Groups, 10),
    fault(Planted::MarksNotKept, Layer::Nodes, 20),
    fault(Planted::IdsNotKept, Layer::Nodes, 20),
    fault(Planted::RefusalsNotKept, Layer::Nodes, 30),
    fault(Planted::LateNotKept, Layer::Nodes, 20),
    fault(Planted::FreshNumbers, Layer::Nodes, 5),
    fault(Planted::BillsNotFlushed, Layer::Nodes, 30),
    fault(Planted::BlobsNotKept, Layer::Nodes, 20),
    fault(Planted::WrongPrices, Layer::Nodes, 20),
    fault(Planted::ClockAhead, Layer::Nodes, 20),
    fault(Planted::FlippedCounter, Layer::Nodes, 20),
    fault(Planted::StaleNumbers, Layer::Nodes, 20),
    fault(Planted::CutForgotten, Layer::Nodes, 20),
    fault(Planted::TransfersNotKept, Layer::Nodes, 20),
];

/// The word of a value on the command line.
pub fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// When a fault was found.
pub struct Caught {
    /// What was put in.
    pub fault: Fault,
    /// The first seed that failed, and why; none within the budget.
    pub by: Option<(u64, String)>,
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { planted, layer, budget } = self.fault;
        let (seed, check) = match &self.by {
            Some((seed, check)) => (seed.to_string(), check.as_str()),
            None => ("-".to_owned(), "NOT FOUND: the simulation has become blind"),
        };
        write!(f, "{:<22} | {:<6} | {budget:>6} | {seed:>4} | {check}", word(planted), word(layer))
    }
}

/// The header of a table of [`Caught`].
pub fn header() -> String {
    format!("{:<22} | {:<6} | {:>6} | {:>4} | found by", "fault", "layer", "budget", "seed")
}

/// Looks for one fault within its budget.
pub fn find(program: &Path, fault: Fault) -> Caught {
    let extra = ["--layer", &word(fault.layer), "--planted", &word(fault.planted)].map(str::to_owned);
    let by = (1..=fault.budget).find_map(|seed| {
        let (good, words) = soak::seed(program, seed, &extra);
        (!good).then(|| (seed, complaint(&words)))
    });
    Caught { fault, by }
}

/// Looks for every one of `faults`, `parallel` at a time, and tells of each as it is found; in their order at the end.
/// Those that were not begun before `until` are left out.
pub fn run(
    program: &Path,
    faults: &[Fault],
    parallel: usize,
    until: Option<Instant>,
    tell: impl Fn(&Caught) + Sync,
) -> Vec<Caught> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, Caught)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..parallel.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = until.is_some_and(|until| Instant::now() >= until);
                    let Some(fault) = faults.get(at).filter(|_| !is_over) else { break };
                    let caught = find(program, *fault);
                    tell(&caught);
                    found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((at, caught));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, caught)| caught).collect()
}

/// Bytes of a complaint in a table.
const COMPLAINT_MAX: usize = 110;

/// What a failed seed said, in a line: a broken promise, or where a node panicked.
fn complaint(words: &str) -> String {
    let broken = words.lines().find_map(|line| line.split_once(" FAILED: ").map(|(_, why)| why.to_owned()));
    let panicked = words.lines().find_map(|line| line.split_once("first of all ").map(|(_, why)| why.to_owned()));
    let line = broken.filter(|why| !why.contains("panicked at")).or(panicked).unwrap_or_else(|| words.to_owned());
    // A file of a library is told without the folder that the library is in.
    let line = match (line.split_once("panicked at "), line.split_once("/src/index.crates.io-")) {
        (Some(_), Some((_, file))) => format!("panic at {}", file.split_once('/').map_or(file, |(_, file)| file)),
        _ => line,
    };
    line.chars().take(COMPLAINT_MAX).collect()
}
