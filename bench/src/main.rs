//! The bench's command line: choose a scenario, run it, print a table or JSON lines. Numbers are claims only as medians of
//! several runs on a quiet machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use reckoner_bench::nodes;
use reckoner_bench::scenario::{failover, ingest, overload, read, rejoin, reshard};
use reckoner_bench::workload::Shape;
use reckoner_bench::{report, server};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "reckoner-bench", about = "Measures what Reckoner claims")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

#[derive(Subcommand)]
enum Scenario {
    /// Records acknowledged a second, durable and counted once, through the client library
    Ingest {
        /// Cluster sizes to run, one after the other
        #[arg(long, value_delimiter = ',', default_value = "1,3")]
        nodes: Vec<u64>,
        /// Seconds of measured pushing
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Runs of each size
        #[arg(long, default_value_t = 1)]
        repeat: u32,
        #[arg(long, default_value_t = 2)]
        producers: u32,
        #[arg(long, default_value_t = 8)]
        shards: u32,
        /// Records of a full batch
        #[arg(long, default_value_t = 10_000)]
        batch: usize,
        /// 10,000 counters instead of 1,000,000
        #[arg(long)]
        small: bool,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(short = 'o', long, value_enum, default_value = "table")]
        output: Form,
    },
    /// Time of an estimate, for hierarchies of different size under 20 clauses
    Read {
        /// Cluster sizes to run, one after the other
        #[arg(long, value_delimiter = ',', default_value = "1,3")]
        nodes: Vec<u64>,
        /// Linked accounts of the hierarchies
        #[arg(long, value_delimiter = ',', default_value = "1,100,10000")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
        accounts: Vec<u32>,
        /// Seconds of asking for each hierarchy
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        #[arg(short = 'o', long, value_enum, default_value = "table")]
        output: Form,
    },
    /// How long nothing is acknowledged after a leader was killed, or stopped in order
    Failover {
        /// Leaders to kill, one after the other
        #[arg(long, default_value_t = 30)]
        kills: u32,
        /// Leaders to stop in order, after that
        #[arg(long, default_value_t = 30)]
        stops: u32,
        #[arg(short = 'o', long, value_enum, default_value = "table")]
        output: Form,
    },
    /// How long a node takes to come back, and a new one to take a lost one's place
    Rejoin {
        /// Counters of the node that comes back
        #[arg(long, default_value_t = 1_000_000)]
        counters: u32,
        /// State that the new node is sent, in MiB, roughly
        #[arg(long, default_value_t = 1_024)]
        state_mib: u32,
        /// Let the new node compete with the others for the processor, instead of taking what they leave
        #[arg(long)]
        compete: bool,
        #[arg(short = 'o', long, value_enum, default_value = "table")]
        output: Form,
    },
    /// How long records wait while slots go to more shards, and back
    Reshard {
        /// Counters of the cluster
        #[arg(long, default_value_t = 1_000_000)]
        counters: u32,
        /// Shards to grow to, from 8
        #[arg(long, default_value_t = 32)]
        shards: u32,
        #[arg(short = 'o', long, value_enum, default_value = "table")]
        output: Form,
    },
    /// Ten times the producers that a node can take: what it still takes, and how soon it is itself again
    Overload {
        #[arg(long, default_value_t = 1)]
        nodes: u64,
        /// Seconds of each phase
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Producers of the peak
        #[arg(long, default_value_t = 2)]
        producers: u32,
        #[arg(short = 'o', long, value_enum, default_value = "table")]
        output: Form,
    },
    /// A node in a process of its own; started by the bench itself
    #[command(name = nodes::NODE, hide = true)]
    Node {
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        listen: String,
        #[arg(long, value_delimiter = ',')]
        join: Vec<String>,
    },
    /// The measured server; started by the bench itself
    #[command(name = server::SERVER, hide = true)]
    Server {
        #[arg(long)]
        nodes: u64,
        #[arg(long)]
        shards: u32,
        #[arg(long)]
        folder: PathBuf,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().scenario {
        Scenario::Server { nodes, shards, folder } => server::serve(nodes, shards, &folder).await,
        Scenario::Node { folder, listen, join } => nodes::serve(&folder, &listen, join).await,
        Scenario::Failover { kills, stops, output } => {
            let run = failover::run(&failover::Options { kills, stops }).await?;
            match output {
                Form::Table => report::failover_table(&run),
                Form::Json => println!("{}", serde_json::to_string(&run)?),
            }
            Ok(())
        }
        Scenario::Overload { nodes, seconds, producers, output } => {
            let run = overload::run(&overload::Options { nodes, seconds, producers }).await?;
            match output {
                Form::Table => report::overload_table(&run),
                Form::Json => println!("{}", serde_json::to_string(&run)?),
            }
            Ok(())
        }
        Scenario::Rejoin { counters, state_mib, compete, output } => {
            let run = rejoin::run(&rejoin::Options { counters, state_mib, compete }).await?;
            match output {
                Form::Table => report::rejoin_table(&run),
                Form::Json => println!("{}", serde_json::to_string(&run)?),
            }
            Ok(())
        }
        Scenario::Reshard { counters, shards, output } => {
            let run = reshard::run(&reshard::Options { counters, shards }).await?;
            match output {
                Form::Table => report::reshard_table(&run),
                Form::Json => println!("{}", serde_json::to_string(&run)?),
            }
            Ok(())
        }
        Scenario::Read { nodes, accounts, seconds, output } => {
            let mut runs = Vec::new();
            for nodes in nodes {
                runs.extend(read::run(&read::Options { nodes, accounts: accounts.clone(), seconds }).await?);
            }
            match output {
                Form::Table => report::read_table(&runs),
                Form::Json => {
                    for run in &runs {
                        println!("{}", serde_json::to_string(run)?);
                    }
                }
            }
            Ok(())
        }
        Scenario::Ingest { nodes, seconds, repeat, producers, shards, batch, small, seed, output } => {
            let shape = if small { Shape::small() } else { Shape::w() };
            let age_max = Duration::from_millis(5);
            let options =
                ingest::Options { nodes: 1, shards, seconds, producers, batch_records: batch, age_max, shape, seed };
            let runs = ingest::run_all(&options, &nodes, repeat).await?;
            match output {
                Form::Table => report::table(&runs),
                Form::Json => {
                    for run in &runs {
                        println!("{}", serde_json::to_string(run)?);
                    }
                }
            }
            Ok(())
        }
    }
}
