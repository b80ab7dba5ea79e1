//! The command line inside a test: words in, exit code out.

use clap::Parser;
use reckoner_client::cli::{Command, Exit, Globals, parse_from, run};

#[derive(Parser, Debug)]
#[command(name = "reckoner")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Runs a line of words without spaces against nodes at `endpoint`.
pub async fn reckoner(endpoint: &str, line: &str) -> Exit {
    let words = ["reckoner", "--endpoint", endpoint].into_iter().chain(line.split_whitespace());
    match parse_from::<Cli, &str>(words) {
        Ok(cli) => run(cli.command, &cli.globals).await,
        Err(exit) => exit,
    }
}
