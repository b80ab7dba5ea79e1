//! LocalCluster: several nodes in one process on free loopback ports, over real gRPC and real files; for the demo, bench
//! and tests. Faults beyond stopping and killing a node are the tests' own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reckoner_client::client::{Client, ClientConfig};
use reckoner_shard::base::id::ShardId;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::config::{Config, Member};
use crate::datadir::{DataDir, DataDirError};
use crate::node::{Node, StartError, listen};
use crate::seams::Seams;

/// How long a node may take to be ready; on a busy machine elections take a few turns.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// How long files of a killed node may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// Puts other parts in place of a node's own.
pub type Change = Arc<dyn Fn(u64, Seams) -> Seams + Send + Sync>;

/// What a cluster is made of.
#[derive(Clone)]
pub struct LocalConfig {
    /// How many nodes; ids count from 1.
    pub nodes: u64,
    pub shards: u32,
    /// Where each node gets a directory of its own; a temporary directory when absent.
    pub folder: Option<PathBuf>,
    /// Replaces the system's clock on every node.
    pub clock: Option<Arc<dyn Clock>>,
    /// Replaces parts of a node, by its id.
    pub seams: Option<Change>,
    /// All other settings.
    pub settings: Config,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { nodes: 1, shards: 2, folder: None, clock: None, seams: None, settings: Config::default() }
    }
}

/// A cluster in this process.
pub struct LocalCluster {
    config: LocalConfig,
    /// By id; the first of them founded the cluster, the others joined it.
    members: Vec<Member>,
    founders: usize,
    nodes: Vec<Option<Node>>,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl LocalCluster {
    /// Starts all nodes and waits until every shard has a leader.
    pub async fn start(config: LocalConfig) -> Result<LocalCluster, StartError> {
        let (folder, temporary) = match &config.folder {
            Some(folder) => (folder.clone(), None),
            None => {
                let io = |source| DataDirError::Io { path: std::env::temp_dir(), source };
                let temporary = tempfile::tempdir().map_err(io)?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let mut members = Vec::new();
        let mut listeners = Vec::new();
        for id in 1..=config.nodes.max(1) {
            let listener = listen(address_of(&folder, id)).await?;
            members.push(Member { id, address: listener.address.to_string() });
            listeners.push(listener);
        }
        let mut cluster =
            LocalCluster { config, founders: members.len(), members, nodes: Vec::new(), folder, _temporary: temporary };
        for (at, listener) in listeners.into_iter().enumerate() {
            let config = cluster.config_of(at);
            let data = DataDir::open(&config.data_dir)?;
            let node = Node::open_in(config, data, listener, cluster.change_of(at)).await?;
            cluster.nodes.push(Some(node));
        }
        cluster.ready(READY_PATIENCE).await?;
        Ok(cluster)
    }

    /// What is put in place of a node's own parts.
    fn change_of(&self, at: usize) -> impl FnOnce(Seams) -> Seams + use<> {
        let (id, clock, change) = (self.members[at].id, self.config.clock.clone(), self.config.seams.clone());
        move |mut seams: Seams| {
            seams.clock = clock.unwrap_or(seams.clock);
            match change {
                Some(change) => change(id, seams),
                None => seams,
            }
        }
    }

    fn config_of(&self, at: usize) -> Config {
        let member = &self.members[at];
        if at >= self.founders {
            let join = self.members.iter().map(|member| member.address.clone()).collect();
            let data_dir = node_folder(&self.folder, member.id);
            let (listen, settings) = (member.address.clone(), self.config.settings.clone());
            return Config { data_dir, listen, join, ..settings };
        }
        Config {
            data_dir: node_folder(&self.folder, member.id),
            listen: member.address.clone(),
            shards: Some(self.config.shards),
            node_id: Some(member.id),
            members: self.members[..self.founders].to_vec(),
            ..self.config.settings.clone()
        }
    }

    /// Addresses of all nodes, running or not.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// Where the nodes keep their directories.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client that knows every node.
    pub fn client(&self) -> Client {
        Client::lazy(&self.endpoints(), ClientConfig::default()).expect("addresses of bound listeners are addresses")
    }

    /// A running node by its id.
    pub fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.get(usize::try_from(id.checked_sub(1)?).ok()?)?.as_ref()
    }

    /// The running nodes.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// Waits until every running node has all it should have and every shard has a leader.
    pub async fn ready(&self, patience: Duration) -> Result<(), StartError> {
        for node in self.running() {
            node.ready(patience).await?;
        }
        Ok(())
    }

    /// The node that leads a shard, by the word of the running nodes with the highest term.
    pub fn leader_of(&self, shard: ShardId) -> Option<u64> {
        let statuses = self.running().filter_map(|node| Some(node.context().shards.get(shard)?.group().status()));
        let leaders = statuses.filter_map(|status| Some((status.term, status.leader?.0.0)));
        let (_, leader) = leaders.max()?;
        self.node(leader).map(Node::id)
    }

    /// Waits until a running node leads the shard.
    pub async fn wait_leader(&self, shard: ShardId, patience: Duration) -> Option<u64> {
        let deadline = Instant::now() + patience;
        loop {
            let leads = |node: &&Node| node.context().shards.get(shard).is_some_and(|shard| shard.leads());
            if let Some(leader) = self.running().find(leads) {
                return Some(leader.id());
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends a node as a crash would: its connections break and nothing is handed over.
    pub async fn kill(&mut self, id: u64) {
        if let Some(node) = self.take(id) {
            node.kill().await;
        }
    }

    /// Stops a node gracefully.
    pub async fn stop_node(&mut self, id: u64) {
        if let Some(node) = self.take(id) {
            node.stop().await;
        }
    }

    fn take(&mut self, id: u64) -> Option<Node> {
        self.nodes.get_mut(usize::try_from(id.checked_sub(1)?).ok()?)?.take()
    }

    /// Starts a node again on its directory and address.
    pub async fn restart(&mut self, id: u64) -> Result<(), StartError> {
        let at = id.saturating_sub(1) as usize;
        if self.nodes.get(at).is_none_or(Option::is_some) {
            return Ok(());
        }
        let deadline = Instant::now() + CLOSE_PATIENCE;
        loop {
            let config = self.config_of(at);
            let started = async {
                let listener = listen(config.listen_address()?).await?;
                let data = DataDir::open(&config.data_dir)?;
                Node::open_in(config, data, listener, self.change_of(at)).await
            };
            match started.await {
                Ok(node) => {
                    self.nodes[at] = Some(node);
                    return Ok(());
                }
                // What was killed a moment ago may still hold files or its port.
                Err(StartError::DataDir(_) | StartError::Listen { .. }) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts one more node, which joins the others; answers its id. Replicas come to it by themselves.
    pub async fn join(&mut self) -> Result<u64, StartError> {
        let id = self.members.len() as u64 + 1;
        let listener = listen(address_of(&self.folder, id)).await?;
        self.members.push(Member { id, address: listener.address.to_string() });
        let config = self.config_of(self.members.len() - 1);
        let data = DataDir::open(&config.data_dir)?;
        let node = Node::open_in(config, data, listener, self.change_of(self.members.len() - 1)).await?;
        assert!(node.id() == id, "nodes of a local cluster join one after the other");
        node.ready(READY_PATIENCE).await?;
        self.nodes.push(Some(node));
        Ok(id)
    }

    /// Stops every node gracefully.
    pub async fn stop(mut self) {
        let nodes: Vec<Node> = self.nodes.iter_mut().filter_map(Option::take).collect();
        futures::future::join_all(nodes.into_iter().map(Node::stop)).await;
    }
}

fn node_folder(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("node-{id}"))
}

/// A free port; on a directory that was used before, the port of then, since peers know it.
fn address_of(folder: &Path, id: u64) -> std::net::SocketAddr {
    let known = std::fs::read_to_string(node_folder(folder, id).join("identity.json")).ok();
    let identity = known.and_then(|text| serde_json::from_str::<crate::datadir::Identity>(&text).ok());
    let member = identity.and_then(|identity| identity.members.into_iter().find(|member| member.id == id));
    let address = member.and_then(|member| member.address.parse().ok());
    address.unwrap_or_else(|| std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
}
