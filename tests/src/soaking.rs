//! `soak`: how long, which parts, and where it is written down. One run is [`crate::soak`]'s matter, the log
//! [`crate::soak_log`]'s.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::places;
use crate::planted::{self, Layer, word};
use crate::processes;
use crate::soak::{self, Soaked};
use crate::soak_log::{self, Row};

/// A part of a soak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Faults put in on purpose, each until it is found.
    Planted,
    /// A node ended at every call to its disks, one run each.
    CrashPoints,
    /// Seeds under drawn faults, until the time or the number is over.
    Seeds,
}

/// What the command line says.
#[derive(Debug, Clone, clap::Args)]
pub struct Soak {
    /// Seeds of each layer; 100 unless --minutes is given.
    #[arg(long)]
    seeds: Option<u64>,
    /// Until so many minutes are over.
    #[arg(long)]
    minutes: Option<u64>,
    /// The first seed; by default one that is drawn from the time, so that each soak runs others.
    #[arg(long)]
    from: Option<u64>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2)]
    parallel: usize,
    /// One layer instead of both.
    #[arg(long, value_enum)]
    layer: Option<Layer>,
    /// Length of the storm in virtual seconds; of processes, of all of it.
    #[arg(long)]
    seconds: Option<u64>,
    /// Which parts.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Planted, Part::CrashPoints, Part::Seeds])]
    parts: Vec<Part>,
    /// Write a row to this file; tests/SOAK.md when it has no name.
    #[arg(long, num_args = 0..=1)]
    log: Option<Option<PathBuf>>,
    /// Three real processes instead of the simulation; needs --minutes or --seconds.
    #[arg(long)]
    processes: bool,
    /// The program of those processes; `reckoner` beside this one, else this one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Run nothing and add up the rows since the product last changed.
    #[arg(long)]
    sum: bool,
}

/// Seeds of a soak that is bounded by nothing else.
const SEEDS: u64 = 100;

/// Of the time of a soak, what planted faults and crash points may take at most, in quarters.
const QUARTERS: [u32; 2] = [1, 2];

/// Runs a soak; whether everything kept its promises and every planted fault was found.
///
/// # Errors
/// When the log cannot be read or written, or git does not say what this is.
pub fn run(program: &Path, soak: &Soak) -> anyhow::Result<bool> {
    let root = soak_log::root();
    let file = soak.log.clone().flatten().unwrap_or_else(soak_log::file);
    if soak.sum {
        let trees = soak_log::trees(&root)?;
        println!("{}", soak_log::told(&soak_log::sum(&std::fs::read_to_string(&file)?, &trees), &trees));
        return Ok(true);
    }
    if soak.processes {
        return processes(program, soak, &root, &file);
    }
    let begin = Instant::now();
    let whole = soak.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let until = whole.map(|whole| begin + whole);
    let layers = soak.layer.map_or_else(|| vec![Layer::Groups, Layer::Nodes], |layer| vec![layer]);
    let has = |part| soak.parts.contains(&part);
    let mut planted = (0, 0);
    if has(Part::Planted) {
        let faults: Vec<_> = planted::FAULTS.iter().filter(|fault| layers.contains(&fault.layer)).copied().collect();
        let until = whole.map(|whole| begin + whole * QUARTERS[0] / 4);
        println!("{}", planted::header());
        let caught = planted::run(program, &faults, soak.parallel, until, |caught| println!("{caught}"));
        planted = (caught.iter().filter(|caught| caught.by.is_some()).count() as u64, caught.len() as u64);
    }
    let mut soaked = Soaked::default();
    let mut points = (0, 0);
    if has(Part::CrashPoints) {
        let until = whole.map(|whole| begin + whole * (QUARTERS[0] + QUARTERS[1]) / 4);
        let mut jobs = Vec::new();
        for layer in &layers {
            let number = soak.from.unwrap_or(1);
            jobs.extend(soak::crash_points(program, number, &word(*layer)).map_err(anyhow::Error::msg)?);
        }
        // In an order that is drawn: what a bounded soak leaves out is not always the same.
        jobs.shuffle(&mut SmallRng::from_os_rng());
        points.1 = jobs.len() as u64;
        let run = soak::run(program, jobs, soak.parallel, until);
        println!("crash points: {run}");
        points.0 = run.seeds;
        soaked = soaked.and(run);
    }
    if has(Part::Seeds) {
        let drawn = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let from = soak.from.unwrap_or(drawn);
        let count = soak.seeds.unwrap_or(if until.is_some() { u64::MAX - from } else { SEEDS });
        let mut extra: Vec<Vec<String>> = Vec::new();
        for layer in &layers {
            let mut own = vec!["--layer".to_owned(), word(*layer)];
            own.extend(soak.seconds.into_iter().flat_map(|seconds| ["--seconds".to_owned(), seconds.to_string()]));
            extra.push(own);
        }
        let jobs = (from..from + count).flat_map(|seed| extra.clone().into_iter().map(move |own| (seed, own)));
        let run = soak::run(program, jobs, soak.parallel, until);
        println!("seeds from {from}: {run}");
        soaked = soaked.and(run);
    }
    soaked.elapsed = begin.elapsed();
    if soak.log.is_some() {
        let row = Row { crash_points: points, planted, ..Row::now(&root, "simulation", &soaked)? };
        soak_log::append(&file, &row)?;
    }
    Ok(soaked.failures.is_empty() && planted.0 == planted.1)
}

/// Real processes, in namespaces where that is permitted.
fn processes(program: &Path, soak: &Soak, root: &Path, file: &Path) -> anyhow::Result<bool> {
    if let Some(inside) = places::enter() {
        return Ok(inside?.success());
    }
    let seconds = soak.minutes.map(|minutes| 60 * minutes).or(soak.seconds).unwrap_or(60);
    let beside = program.with_file_name("reckoner");
    let own = if beside.exists() { beside } else { program.to_owned() };
    let binary = soak.binary.clone().unwrap_or(own);
    let seed = soak.from.unwrap_or_else(rand::random);
    println!("{} for {seconds} s, seed {seed}", binary.display());
    let runtime = tokio::runtime::Runtime::new()?;
    let begin = Instant::now();
    let ran = runtime.block_on(processes::run(&binary, Duration::from_secs(seconds), seed));
    // What failed is written down as well.
    let soaked = ran.unwrap_or_else(|error| Soaked {
        seeds: 1,
        failures: vec![(format!("--processes --from {seed}"), format!("{error:#}"))],
        elapsed: begin.elapsed(),
        ..Soaked::default()
    });
    println!("{soaked}");
    if soak.log.is_some() {
        soak_log::append(file, &Row::now(root, "processes", &soaked)?)?;
    }
    Ok(soaked.failures.is_empty())
}
