//! The harness as a program: one seed in a process of its own, soaks over many seeds, and a node as a real process.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use reckoner_tests::crash::CrashPoint;
use reckoner_tests::planted::{self, Layer, Planted};
use reckoner_tests::report::Plan;
use reckoner_tests::soaking::Soak;
use reckoner_tests::{fold, groups, report, serve, simulation, soaking};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(about = "Runs Reckoner under faults, in virtual time, from a seed")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs one seed in this process and prints its trace.
    Seed {
        seed: u64,
        #[command(flatten)]
        what: What,
    },
    /// Folds random bills by engine and reference model, on all cores.
    Folds {
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        cases: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Plants every fault of a wrong engine in turn and tells after how many random cases it was found.
    Planted {
        /// How many cases to try at most.
        #[arg(long, default_value_t = fold::planted::CASES_MAX)]
        cases: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Runs a node until it is killed.
    Serve(serve::Serve),
    /// Plants every fault of a wrong cluster in turn and tells which seed found it, and by which check.
    PlantedCluster {
        /// Only these; all unless told otherwise.
        #[arg(long, value_enum, value_delimiter = ',')]
        faults: Vec<Planted>,
        /// Faults at a time.
        #[arg(long, default_value_t = 2)]
        parallel: usize,
    },
    /// Runs for as long as told: planted faults, crash points, then seeds; each run in a process of its own.
    Soak(Soak),
}

#[derive(clap::Args)]
struct What {
    /// What runs.
    #[arg(long, value_enum, default_value_t = Layer::Nodes)]
    layer: Layer,
    /// Length of the storm in virtual seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// A bug to put in on purpose.
    #[arg(long, value_enum)]
    planted: Option<Planted>,
    /// No faults but one node that is away for a while: the background of crash points.
    #[arg(long)]
    quiet: bool,
    /// Where to end a node, such as append-flushed:17.
    #[arg(long)]
    crash: Option<CrashPoint>,
    /// Tell how often each step was taken that a crash point can name.
    #[arg(long)]
    steps: bool,
}

/// Length of the storm unless told otherwise.
const STORM_SECONDS: u64 = 8;

/// The same without faults: long enough for a close and a snapshot that is sent.
const QUIET_SECONDS: u64 = 4;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off")))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    match Arguments::parse().verb {
        Verb::Serve(serve) => {
            let served = tokio::runtime::Runtime::new().map_err(anyhow::Error::from);
            let Err(error) = served.and_then(|runtime| runtime.block_on(serve::run(serve))) else {
                return ExitCode::SUCCESS;
            };
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
        Verb::Folds { cases, from } => {
            report::remember_panics();
            println!("seeds {from} to {}", (from + cases).saturating_sub(1));
            let soaked = fold::soak::run(from..from + cases);
            println!("{soaked}");
            if soaked.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Verb::Planted { cases, from } => {
            let caught = fold::planted::run(from, cases);
            println!("{:<45} | caught after", "fault");
            caught.iter().for_each(|caught| println!("{caught}"));
            let all = caught.iter().all(|caught| caught.after.is_some());
            if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Verb::Seed { seed, what } => {
            report::remember_panics();
            let seconds = what.seconds.unwrap_or(if what.quiet { QUIET_SECONDS } else { STORM_SECONDS });
            let length = Duration::from_secs(seconds);
            let plan = Plan { seed, length, planted: what.planted, crash: what.crash, quiet: what.quiet };
            let outcome = match what.layer {
                Layer::Groups => groups::run(&plan),
                Layer::Nodes => simulation::run(&plan),
            };
            match outcome {
                Ok(report) => {
                    println!("{report}");
                    if what.steps {
                        report.steps.iter().for_each(|(step, count)| println!("step {step} {count}"));
                    }
                    ExitCode::SUCCESS
                }
                Err(failure) => {
                    println!("{failure}");
                    ExitCode::FAILURE
                }
            }
        }
        Verb::PlantedCluster { faults, parallel } => with_program(|program| {
            let wanted = |fault: &&planted::Fault| faults.is_empty() || faults.contains(&fault.planted);
            let wanted: Vec<planted::Fault> = planted::FAULTS.iter().filter(wanted).copied().collect();
            println!("{}", planted::header());
            let caught = planted::run(program, &wanted, parallel, None, |caught| println!("{caught}"));
            Ok(caught.iter().all(|caught| caught.by.is_some()))
        }),
        Verb::Soak(soak) => with_program(|program| soaking::run(program, &soak)),
    }
}

/// Runs what needs this program again, in processes of their own.
fn with_program(run: impl FnOnce(&Path) -> anyhow::Result<bool>) -> ExitCode {
    let done = std::env::current_exe().map_err(anyhow::Error::from).and_then(|program| run(&program));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
