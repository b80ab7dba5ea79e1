//! Arguments to a verb: `serve` here, everything else in the client's command line; and the exit codes of both.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use clap::{Args, Parser, Subcommand};
use reckoner_client::cli::output::Out;
use reckoner_client::cli::{self, Exit, Globals};
use reckoner_node::config::{Config, Flags};
use reckoner_node::memory;
use reckoner_node::node::{Node, StartError};
use reckoner_node::offline::{self, NodeCommand};
use reckoner_node::recognition::Expelled;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXIT_FAILED: u8 = 1;

/// Logs are for whoever runs the node: standard error, warnings and the node's own words unless RECKONER_LOG says more.
const LOG_DEFAULT: &str = "warn,reckoner_node=info,reckoner_raft=info,openraft=error";

/// Counts usage, computes bills.
#[derive(Parser)]
#[command(name = "reckoner", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// See it work: three nodes in this process, real usage, a killed leader, an exact bill.
    Demo,
    /// Run a node.
    Serve(Serve),
    /// The settings of a node.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Work on the data directory of a node that does not run: restore a backup, recover from a lost majority
    #[command(subcommand)]
    Node(NodeCommand),
    #[command(flatten)]
    Client(cli::Command),
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Every setting as `serve` would use it, given the same flags, file and environment
    Show {
        #[command(flatten)]
        serve: Serve,
        /// Say where each value comes from: flag, environment (RECKONER_NODE_...), file or default
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Args)]
struct Serve {
    /// Directory for everything durable; made where it is missing.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one. Default 127.0.0.1:7400.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address that other nodes and clients are told; by default the one listened on.
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Shards of a new cluster, 1 to 256; fixed at the first start. Default 8.
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// Settings, as TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Nodes of the cluster to join, or that wait for `cluster init` like this one; asked at the first start only.
    #[arg(long, value_name = "SEED,...", value_delimiter = ',')]
    join: Vec<String>,
    /// Listen beyond this machine although nothing authenticates callers.
    #[arg(long)]
    insecure: bool,
}

impl Serve {
    /// The file, and what the command line says beside it.
    fn parts(self) -> (Option<PathBuf>, Flags) {
        let Serve { data_dir, listen, advertise, shards, config, join, insecure } = self;
        (config, Flags { data_dir, listen, advertise, shards, insecure, join })
    }
}

fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("reckoner: no runtime: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let code = match arguments.verb {
        Verb::Demo => runtime.block_on(demo()),
        Verb::Serve(flags) => runtime.block_on(serve(flags)),
        Verb::Config(ConfigVerb::Show { serve, origin }) => show_config(serve, origin, &arguments.globals),
        Verb::Node(command) => offline::run(command, &arguments.globals).into(),
        Verb::Client(command) => runtime.block_on(cli::run(command, &arguments.globals)).into(),
    };
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

/// Logs to standard error, in colours where the command line would use them: on a terminal, and not if NO_COLOR is set.
fn log(filter: EnvFilter) {
    let colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Standard error may be gone: that must not end the process either.
    log.with_ansi(colours).log_internal_errors(false).init();
}

async fn demo() -> ExitCode {
    // The demo kills a node: what the others say about it is not for the screen, unless asked for.
    let filter = EnvFilter::try_from_env("RECKONER_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    log(filter);
    match reckoner_node::demo::run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            eprintln!("reckoner: the demo could not go on: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn serve(flags: Serve) -> ExitCode {
    let filter = EnvFilter::try_from_env("RECKONER_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    log(filter);
    let (file, stated) = flags.parts();
    match run(file, stated).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reckoner: {error}");
            let expelled = error.is::<Expelled>() || matches!(error.downcast_ref(), Some(StartError::Expelled(_)));
            if expelled { Exit::Expelled.into() } else { ExitCode::from(EXIT_FAILED) }
        }
    }
}

/// Why a node ended by itself.
fn ended(node: &Node, reason: String) -> anyhow::Error {
    if node.is_expelled() { Expelled(reason).into() } else { anyhow::anyhow!(reason) }
}

fn show_config(serve: Serve, origin: bool, globals: &Globals) -> ExitCode {
    let (file, flags) = serve.parts();
    let out = Out::new(globals.output);
    let settings = match Config::origins(file.as_deref(), &flags) {
        Ok(settings) => settings,
        Err(error) => {
            out.error(&error);
            return ExitCode::from(EXIT_FAILED);
        }
    };
    if out.is_json() {
        out.json(&settings);
    } else {
        let rows = settings.into_iter().map(|setting| {
            let mut row = vec![setting.name, setting.value.to_string()];
            row.extend(origin.then(|| setting.origin.to_owned()));
            row
        });
        let header = if origin { &["setting", "value", "origin"][..] } else { &["setting", "value"][..] };
        out.table(header, &[], rows.collect());
    }
    ExitCode::SUCCESS
}

async fn run(file: Option<PathBuf>, flags: Flags) -> anyhow::Result<()> {
    let config = Config::load(file.as_deref(), flags)?;
    let address = config.listen_address()?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "INSECURE: whoever reaches this address can read and change everything");
    }
    let mut signals = Signals::new()?;
    let node = tokio::select! {
        node = Node::open(config) => node?,
        // It waits for its cluster; nothing is there to be stopped.
        () = signals.next() => return Ok(()),
    };
    let (context, end) = (node.context(), CancellationToken::new());
    let _ended = end.clone().drop_guard();
    tokio::spawn(memory::watch(context.admission.clone(), context.config.memory_max_bytes, end));
    say(&format!("listening on {}", node.address()));
    tokio::select! {
        ready = node.ready(Duration::from_secs(600)) => match ready {
            Ok(()) => say(&format!("ready on {}", node.address())),
            Err(error) => tracing::warn!(%error, "still waiting"),
        },
        () = signals.next() => {
            node.stop().await;
            return Ok(());
        }
        reason = node.failed() => return Err(ended(&node, reason)),
    }
    tokio::select! {
        () = signals.next() => {
            tracing::info!("stopping");
            node.stop().await;
            Ok(())
        }
        // What was not flushed must not be acknowledged: end at once, without the steps of a graceful stop.
        reason = node.failed() => Err(ended(&node, reason)),
    }
}

/// One line on standard output. Whoever listened may have gone, which is no reason to stop serving.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
