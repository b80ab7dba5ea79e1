//! The measured server: this binary started again as one process that holds a whole cluster, so that the server's CPU
//! and memory are told from the client's. It ends when its standard input closes, so it never outlives the bench.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use reckoner_node::local::{LocalCluster, LocalConfig};

/// The word that starts a server instead of a scenario.
pub const SERVER: &str = "server";

/// Runs a cluster until standard input ends. The first line on standard output names the endpoints.
pub async fn serve(nodes: u64, shards: u32, folder: &Path) -> Result<()> {
    let config = LocalConfig { nodes, shards, folder: Some(folder.to_owned()), ..LocalConfig::default() };
    let cluster = LocalCluster::start(config).await?;
    println!("{}", cluster.endpoints().join(","));
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    cluster.stop().await;
    Ok(())
}

/// A server process of this bench.
pub struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    pub endpoints: Vec<String>,
}

impl Server {
    pub fn start(nodes: u64, shards: u32, folder: &Path) -> Result<Server> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([SERVER, "--nodes", &nodes.to_string(), "--shards", &shards.to_string(), "--folder"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server process cannot be started")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the server process has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim().is_empty() {
            let status = child.wait()?;
            bail!("the server process ended before it was ready: {status}");
        }
        let endpoints = line.trim().split(',').map(str::to_owned).collect();
        Ok(Server { child, stdin, endpoints })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the server and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        drop(self.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Only after a failure: a stopped server has been waited for, and then this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
