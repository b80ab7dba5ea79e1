//! Seeded runs under faults in virtual time: replication alone, whole nodes, the same seed twice, a node that ends at any
//! call to its disks, and bugs put in on purpose that the runs must find. Each run has a process of its own.

use std::collections::BTreeMap;
use std::path::Path;

use reckoner_tests::planted::{self, FAULTS, Fault};
use reckoner_tests::soak;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reckoner-tests"))
}

/// Processes at a time: the machine that this is measured on has two cores.
const PARALLEL: usize = 2;

fn extra(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

fn check_good(seeds: std::ops::Range<u64>, words: &str) {
    let soaked = soak::run(program(), soak::seeds(seeds, &extra(words)), PARALLEL, None);
    println!("{soaked}");
    assert!(soaked.failures.is_empty(), "{soaked}");
    assert!(soaked.faults > soaked.seeds && soaked.checked > soaked.seeds, "too little happened: {soaked}");
}

/// Planted bugs must be found within their budgets of seeds.
fn check_found(faults: &[Fault]) {
    for caught in planted::run(program(), faults, PARALLEL, None, |caught| println!("{caught}")) {
        assert!(caught.by.is_some(), "{caught}");
    }
}

/// One crash point of every step that the run takes.
fn check_crash_points(layer: &str) {
    let points = soak::crash_points(program(), 1, layer).unwrap_or_else(|words| panic!("{words}"));
    let mut by_step: BTreeMap<String, Vec<soak::Job>> = BTreeMap::new();
    for point in points {
        let step = point.1.last().and_then(|word| word.split_once(':')).expect("a point has a step").0.to_owned();
        by_step.entry(step).or_default().push(point);
    }
    let steps = by_step.len();
    let drawn = by_step.into_values().map(|mut points| points.swap_remove(points.len() * 2 / 3));
    let drawn: Vec<soak::Job> = drawn.collect();
    let soaked = soak::run(program(), drawn, PARALLEL, None);
    println!("{steps} steps: {soaked}");
    assert!(soaked.failures.is_empty(), "{soaked}");
    assert_eq!(soaked.kinds.get("crash-points"), Some(&(steps as u64)), "every point is reached: {soaked}");
}

#[test]
fn whole_nodes_keep_their_promises_under_faults() {
    check_good(1..101, "--layer nodes");
}

#[test]
fn replication_keeps_its_promises_under_faults() {
    check_good(1..61, "--layer groups");
}

/// Runs that once broke a promise, and by what.
const FOUND: &[(u64, &str, &str)] = &[
    (
        1,
        "--layer nodes --quiet --crash vote:3",
        "a node that was away while a catalogue was staged denied that there is one",
    ),
    (46, "--layer nodes", "a node that waits for its cluster answered clients that it never heard of usage"),
    (71, "--layer nodes", "a replica was dropped by a confirmation from before the map changed its mind twice"),
    (95, "--layer nodes", "a node that had just joined denied that there are other nodes"),
];

#[test]
fn what_was_found_stays_mended() {
    for (seed, words, what) in FOUND {
        let (good, told) = soak::seed(program(), *seed, &extra(words));
        assert!(good, "{what}: {told}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for (seed, words) in [(3, "--layer nodes"), (11, "--layer nodes"), (7, "--layer groups")] {
        let (good, first) = soak::seed(program(), seed, &extra(words));
        let (_, second) = soak::seed(program(), seed, &extra(words));
        assert!(good && first.contains("trace"), "{first}");
        assert_eq!(first, second, "seed {seed} {words}");
    }
}

#[test]
fn a_node_may_end_at_any_call_to_its_disks() {
    check_crash_points("groups");
    check_crash_points("nodes");
}

/// Faults that take more seeds are looked for by soaks.
const BUDGET_MAX: u64 = 30;

#[test]
fn planted_bugs_are_found() {
    let faults: Vec<Fault> = FAULTS.iter().filter(|fault| fault.budget <= BUDGET_MAX).copied().collect();
    check_found(&faults);
}
