//! Nodes as processes of their own, with default settings on loopback: started, killed, started again, waited for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use reckoner_client::client::Client;
use reckoner_node::config::Config;
use reckoner_node::node::Node;
use tracing_subscriber::EnvFilter;

/// The word that starts a node instead of a scenario.
pub const NODE: &str = "node";

/// A node that was started again is up to date within this.
pub const RETURN_MAX: Duration = Duration::from_secs(300);

/// Runs a node until it is killed or told to stop by a signal. The first line on standard output names its address; what
/// `RUST_LOG` asks for goes to standard error.
pub async fn serve(folder: &Path, listen: &str, join: Vec<String>) -> Result<()> {
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(std::io::stderr);
    log.with_ansi(false).init();
    let config = Config { data_dir: folder.to_owned(), listen: listen.to_owned(), join, ..Config::default() };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let node = Node::open(config).await?;
    println!("{}", node.address());
    std::io::stdout().flush()?;
    tokio::select! {
        _ = terminate.recv() => node.stop().await,
        reason = node.failed() => bail!(reason),
    }
    Ok(())
}

/// A node process of this bench; killed when dropped, by its own id.
pub struct Process {
    child: Child,
    /// Its data.
    pub folder: PathBuf,
    /// Where it listens.
    pub address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts one and waits until it listens.
    pub fn start(folder: PathBuf, listen: &str, join: &[String]) -> Result<Process> {
        Process::launch(Command::new(std::env::current_exe()?), folder, listen, join)
    }

    /// The same for a node that only gets the processor time that all others leave.
    pub fn start_behind(folder: PathBuf, listen: &str, join: &[String]) -> Result<Process> {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(std::env::current_exe()?);
        Process::launch(command, folder, listen, join)
    }

    fn launch(mut command: Command, folder: PathBuf, listen: &str, join: &[String]) -> Result<Process> {
        command.arg(NODE).arg("--folder").arg(&folder).args(["--listen", listen]);
        if !join.is_empty() {
            command.args(["--join", &join.join(",")]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("a node does not start")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a node has no output")?).read_line(&mut line)?;
        ensure!(!line.trim().is_empty(), "a node ended before it was ready");
        Ok(Process { child, folder, address: line.trim().to_owned() })
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end, and starts it again on its directory and address.
    pub fn again(&mut self, join: &[String]) -> Result<()> {
        self.child.wait()?;
        *self = Process::start(self.folder.clone(), &self.address.clone(), join)?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn tell(&self, signal: i32) -> Result<()> {
        let told = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status()?;
        ensure!(told.success(), "the signal was not sent");
        Ok(())
    }
}

/// Returns once every node answers and every replica is in its place.
pub async fn in_place(client: &Client, nodes: usize) -> Result<()> {
    let begin = Instant::now();
    loop {
        let status = client.status().await?;
        let is_there = status.shards.iter().all(|shard| {
            !shard.moving && shard.leader_node != 0 && shard.replicas.len() == nodes && !shard.wanted.is_empty()
        });
        if status.nodes.len() == nodes && status.nodes.iter().all(|node| node.reachable) && is_there {
            return Ok(());
        }
        ensure!(begin.elapsed() < RETURN_MAX, "the cluster does not settle: {:?}", status.reasons);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The same, and every follower of a leader is close behind it: what a node missed while it was gone is sent within moments.
pub async fn settled(client: &Client, nodes: usize) -> Result<()> {
    in_place(client, nodes).await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    Ok(())
}
