//! Seeded runs under faults in virtual time: replication alone, whole nodes, the same seed twice, and bugs put in on
//! purpose that the runs must find. Each seed has a process of its own.

use std::path::Path;

use reckoner_tests::soak::{self, Soaked};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reckoner-tests"))
}

/// Processes at a time: the machine that this is measured on has two cores.
const PARALLEL: usize = 2;

fn extra(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

fn soak(seeds: std::ops::Range<u64>, words: &str) -> Soaked {
    soak::run(program(), seeds, &extra(words), PARALLEL)
}

fn check_good(seeds: std::ops::Range<u64>, words: &str) {
    let soaked = soak(seeds, words);
    println!("{soaked}");
    assert!(soaked.failures.is_empty(), "{soaked}");
    assert!(soaked.faults > soaked.seeds && soaked.checked > soaked.seeds, "too little happened: {soaked}");
}

/// A planted bug must be found within a budget of seeds.
fn check_found(budget: u64, words: &str) {
    for seed in 1..=budget {
        let (good, _) = soak::seed(program(), seed, &extra(words));
        if !good {
            return;
        }
    }
    panic!("'{words}' was not found within {budget} seeds: the simulation has become blind");
}

#[test]
fn whole_nodes_keep_their_promises_under_faults() {
    check_good(1..51, "--layer nodes");
}

#[test]
fn replication_keeps_its_promises_under_faults() {
    check_good(1..21, "--layer groups");
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
fn planted_bugs_of_replication_are_found() {
    check_found(30, "--layer groups --planted early-acknowledgement");
    check_found(30, "--layer groups --planted lost-vote");
    check_found(10, "--layer groups --planted false-acknowledgement");
    check_found(5, "--layer groups --planted counted-twice");
}

#[test]
fn planted_bugs_in_whole_nodes_are_found() {
    check_found(20, "--layer nodes --planted early-acknowledgement");
    check_found(10, "--layer nodes --planted false-acknowledgement");
    check_found(5, "--layer nodes --planted fresh-numbers");
}
