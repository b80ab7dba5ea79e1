//! A node as a process of its own, for tests that kill it: what `reckoner serve` does, with snapshots as often as a test
//! needs them and nothing else changed.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reckoner_node::config::{Config, Flags};
use reckoner_node::datadir::{DataDir, Identity};
use reckoner_node::node::{Node, listen};
use reckoner_node::seams::Seams;

/// What the process is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Serve {
    /// Directory for everything durable.
    #[arg(long, required_unless_present = "config")]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Settings, as TOML, instead of the two above.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// A snapshot is due when a group's log has grown by so many bytes.
    #[arg(long)]
    pub snapshot_bytes: Option<u64>,
}

/// Shards of the node: two, so that files are shared.
const SHARDS: u32 = 2;

/// Serves until the process is killed.
///
/// # Errors
/// What keeps the node from starting, or made it stop.
pub async fn run(serve: Serve) -> anyhow::Result<()> {
    let config = match &serve.config {
        Some(file) => Config::load(Some(file), Flags::default())?,
        None => {
            let data_dir = serve.data_dir.unwrap_or_default();
            Config { data_dir, listen: serve.listen, shards: Some(SHARDS), ..Config::default() }
        }
    };
    config.check()?;
    let data = DataDir::open(&config.data_dir)?;
    let listener = listen(config.listen_address()?).await?;
    let address = config.advertised(listener.address);
    let identity = match data.identity()? {
        Some(known) => known,
        None => {
            let shards = config.shards.unwrap_or(SHARDS);
            let identity = Identity::new(1, config.own_id(), shards, config.founders(&address));
            data.write_identity(&identity)?;
            identity
        }
    };
    let mut seams = Seams::on_disk(data.path(), listener)?;
    if let Some(bytes) = serve.snapshot_bytes {
        seams.limits.snapshot_log_bytes = bytes;
    }
    let node = Node::start(config, identity, seams).await?;
    say(&format!("listening on {}", node.address()));
    tokio::select! {
        ready = node.ready(Duration::from_secs(120)) => ready.context("the node is not ready")?,
        reason = node.failed() => anyhow::bail!(reason),
    }
    say("ready");
    anyhow::bail!(node.failed().await)
}

/// Whoever started this may have heard enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
