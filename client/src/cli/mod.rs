//! The command line's verbs, all but those that start a node. Each verb turns arguments into calls and answers into a
//! table or JSON; data goes to stdout, talk to stderr.
//!
//! The binary flattens [`Command`] beside its own verbs:
//! ```no_run
//! use clap::Parser;
//! use reckoner_client::cli::{self, Globals};
//!
//! #[derive(Parser)]
//! #[command(name = "reckoner")]
//! struct Cli {
//!     #[command(flatten)]
//!     globals: Globals,
//!     #[command(subcommand)]
//!     verb: Verb,
//! }
//!
//! #[derive(clap::Subcommand)]
//! enum Verb {
//!     Serve,
//!     #[command(flatten)]
//!     Client(cli::Command),
//! }
//!
//! # async fn example() -> std::process::ExitCode {
//! match cli::parse::<Cli>() {
//!     Err(exit) => exit.into(),
//!     Ok(Cli { globals, verb: Verb::Client(command) }) => cli::run(command, &globals).await.into(),
//!     Ok(_) => std::process::ExitCode::SUCCESS,
//! }
//! # }
//! ```

pub mod accounts;
mod accounts_move;
pub mod against;
pub mod backup;
pub mod bills;
pub mod catalogue;
pub mod checks;
pub mod close;
pub mod cluster;
pub mod diff;
pub mod documents;
pub mod export;
pub mod import;
pub mod nodes;
pub mod output;
pub mod printed;
pub mod push;
pub mod schema;
pub mod shards;
pub mod simulate;
mod summary;
pub mod usage;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::client::{Client, ClientConfig};
use crate::error::Error;
use output::{Form, Out};

/// What the process says when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failed or refused.
    Failed = 1,
    /// Differences were found.
    Differences = 2,
    /// The cluster works, but not as it should.
    Degraded = 3,
    /// Nobody could be reached in time.
    Unavailable = 4,
    /// A node must not serve from its data directory any more.
    Expelled = 5,
    /// The command line makes no sense.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

// Options that every verb understands. No doc comment: clap would print it as the program's description.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Nodes to ask, host:port; the others are learnt from the first that answers
    #[arg(long, global = true, env = "RECKONER_ENDPOINT", value_delimiter = ',', value_name = "ADDR")]
    #[arg(default_value = "127.0.0.1:7400", help_heading = "Global options")]
    pub endpoint: Vec<String>,
    /// How to print data: a table for people, JSON for programs (decimals are strings)
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Form::Table, value_name = "FORM")]
    #[arg(help_heading = "Global options")]
    pub output: Form,
    /// Give a call up after so many seconds
    #[arg(long, global = true, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    #[arg(value_name = "SECONDS", help_heading = "Global options")]
    pub timeout: u64,
}

impl Globals {
    /// Connects to the cluster.
    pub async fn connect(&self) -> Result<Client, Error> {
        let config = ClientConfig { deadline: Duration::from_secs(self.timeout), ..ClientConfig::default() };
        Client::connect(&self.endpoint, config).await
    }
}

// The verbs. No doc comment, as above.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Check catalogues, hierarchies and contracts without a server
    Validate(documents::Files),
    /// Apply catalogues, hierarchies and contracts to the cluster
    Apply(documents::Files),
    /// Tell what applying files would change in the cluster; exit 2 where they differ from it
    Diff(documents::Files),
    /// Print the JSON Schema of a kind of document
    Schema(schema::SchemaArguments),
    /// Push usage and read counters
    #[command(subcommand)]
    Usage(usage::UsageCommand),
    /// Estimate, close, show and explain bills
    #[command(subcommand)]
    Bills(bills::BillsCommand),
    /// Hierarchies and their accounts
    #[command(subcommand)]
    Accounts(accounts::AccountsCommand),
    /// Catalogues and their versions
    #[command(subcommand)]
    Catalogue(catalogue::CatalogueCommand),
    /// The state of nodes and shards
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Compute bills from files, with the function that computes them in the cluster: of usage in a file, or of what a cycle
    /// really counted
    Simulate(simulate::Simulate),
}

/// Parses the process's arguments. A mistake is told and becomes exit code 64; help and version become 0.
pub fn parse<C: Parser>() -> Result<C, Exit> {
    parse_from(std::env::args_os())
}

/// The same for given arguments, the program's name first.
pub fn parse_from<C: Parser, T: Into<std::ffi::OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
) -> Result<C, Exit> {
    C::try_parse_from(arguments).map_err(|error| {
        // A closed pipe is no reason to fail twice.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
            _ => Exit::Usage,
        }
    })
}

/// Runs a verb; failures are told on stderr.
pub async fn run(command: Command, globals: &Globals) -> Exit {
    let out = Out::new(globals.output);
    let result = match command {
        Command::Validate(files) => documents::validate(&files, &out),
        Command::Apply(files) => documents::apply(&files, globals, &out).await,
        Command::Diff(files) => diff::run(&files, globals, &out).await,
        Command::Schema(arguments) => schema::run(&arguments, &out),
        Command::Usage(command) => usage::run(command, globals, &out).await,
        Command::Bills(command) => bills::run(command, globals, &out).await,
        Command::Accounts(command) => accounts::run(command, globals, &out).await,
        Command::Catalogue(command) => catalogue::run(command, globals, &out).await,
        Command::Cluster(command) => cluster::run(command, globals, &out).await,
        Command::Simulate(arguments) => simulate::run(&arguments, globals, &out).await,
    };
    result.unwrap_or_else(|error| {
        out.error(&error);
        match error {
            Error::Refused { .. } | Error::Invalid { .. } => Exit::Failed,
            Error::Unavailable { .. } => {
                out.next(
                    "check that a node runs there ('reckoner serve', 'reckoner cluster status'), or name another \
                          with --endpoint",
                );
                Exit::Unavailable
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug)]
    #[command(name = "reckoner")]
    struct Cli {
        #[command(flatten)]
        globals: Globals,
        #[command(subcommand)]
        command: Command,
    }

    fn cli(line: &str) -> Result<Cli, Exit> {
        parse_from(line.split_whitespace())
    }

    #[test]
    fn every_verb_is_understood() {
        for line in [
            "reckoner validate -f a.yaml b.yaml",
            "reckoner apply -f examples -o json",
            "reckoner usage push -f usage.jsonl",
            "reckoner usage push -f usage.csv --producer meter-7",
            "reckoner usage get --root acme --cycle 2024-09",
            "reckoner usage get --root acme",
            "reckoner catalogue import --from oci -f prices.json --name oci --effective 2026-09",
            "reckoner catalogue import --from aws-offer -f a.json b.json --name aws --effective 2026-09 --currency USD \
             --after old.yaml --out aws.yaml --apply",
            "reckoner diff -f examples/quickstart -o json",
            "reckoner schema Contract",
            "reckoner simulate --against 2024-09 --root acme -f contract.yaml",
            "reckoner bills export --root acme --cycle 2024-09 --out acme.json",
            "reckoner bills export --root acme --payer p --cycle 2024-09 --out acme.json",
            "reckoner bills verify acme.json -o json",
            "reckoner bills estimate --root acme --cycle 2024-09",
            "reckoner bills estimate --root acme --payer p --cycle 2024-09",
            "reckoner bills close --root acme --cycle 2024-09",
            "reckoner bills close --all --cycle 2024-09",
            "reckoner bills show --root acme --cycle 2024-09",
            "reckoner bills list --root acme",
            "reckoner bills explain --root acme --cycle 2024-09 --line 3",
            "reckoner accounts list",
            "reckoner accounts list --root acme",
            "reckoner accounts show acme",
            "reckoner accounts move team-7 --to globex --at 2026-12-01 --plan",
            "reckoner catalogue list",
            "reckoner catalogue show aws-public",
            "reckoner cluster status --endpoint a:1,b:2",
            "reckoner cluster backup --to backups/monday -o json",
            "reckoner cluster backup verify backups/monday",
            "reckoner simulate -f c.yaml h.yaml --usage usage.jsonl --cycle 2024-09 --billed b.json --interim -o json",
        ] {
            assert!(cli(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn mistakes_exit_with_64_and_help_with_0() {
        fn check(line: &str, expected: Exit) {
            assert_eq!(cli(line).err(), Some(expected), "{line}");
        }
        check("reckoner", Exit::Usage);
        check("reckoner frobnicate", Exit::Usage);
        check("reckoner validate", Exit::Usage);
        check("reckoner bills close --root acme", Exit::Usage);
        check("reckoner bills close --cycle 2024-09", Exit::Usage);
        check("reckoner bills close --all --root acme --cycle 2024-09", Exit::Usage);
        check("reckoner bills estimate --root acme --cycle 2024-13", Exit::Usage);
        check("reckoner usage get --root acme -o xml", Exit::Usage);
        check("reckoner bills explain --root acme --cycle 2024-09 --line 0", Exit::Usage);
        check("reckoner cluster backup", Exit::Usage);
        check("reckoner cluster backup --to a verify b", Exit::Usage);
        check("reckoner --help", Exit::Ok);
        check("reckoner bills estimate --help", Exit::Ok);
    }

    #[test]
    fn endpoints_are_a_list() {
        let parsed = cli("reckoner cluster status --endpoint a:1,b:2").unwrap();
        assert_eq!(parsed.globals.endpoint, ["a:1", "b:2"]);
    }
}
