//! The harness as a program: one seed in a process of its own, soaks over many seeds, and a node as a real process.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use reckoner_tests::faults::Planted;
use reckoner_tests::{fold, groups, report, serve, simulation, soak};
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
    /// Runs many seeds, each in a process of its own.
    Soak {
        /// How many.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Processes at a time.
        #[arg(long, default_value_t = 2)]
        parallel: usize,
        #[command(flatten)]
        what: What,
    },
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
}

#[derive(Clone, Copy, ValueEnum)]
enum Layer {
    /// Replication alone.
    Groups,
    /// Whole nodes and clients.
    Nodes,
}

/// Length of the storm unless told otherwise.
const STORM_SECONDS: u64 = 8;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off")))
        .with_writer(std::io::stderr)
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
            let length = Duration::from_secs(what.seconds.unwrap_or(STORM_SECONDS));
            let outcome = match what.layer {
                Layer::Groups => groups::run(seed, length, what.planted),
                Layer::Nodes => simulation::run(seed, length, what.planted),
            };
            match outcome {
                Ok(report) => {
                    println!("{report}");
                    ExitCode::SUCCESS
                }
                Err(failure) => {
                    println!("{failure}");
                    ExitCode::FAILURE
                }
            }
        }
        Verb::Soak { seeds, from, parallel, what } => {
            let mut extra = Vec::new();
            for (name, value) in [
                ("--layer", what.layer.to_possible_value().map(|value| value.get_name().to_owned())),
                ("--seconds", what.seconds.map(|seconds| seconds.to_string())),
                (
                    "--planted",
                    what.planted.and_then(|p| p.to_possible_value()).map(|value| value.get_name().to_owned()),
                ),
            ] {
                if let Some(value) = value {
                    extra.extend([name.to_owned(), value]);
                }
            }
            let program = match std::env::current_exe() {
                Ok(program) => program,
                Err(error) => {
                    eprintln!("this program does not find itself: {error}");
                    return ExitCode::FAILURE;
                }
            };
            let soaked = soak::run(&program, from..from + seeds, &extra, parallel);
            println!("{soaked}");
            if soaked.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}
