//! A node: start-up and shutdown as lists of steps, each one call. What the parts do is in their own files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorRef};
use reckoner_client::client::{Client, ClientConfig};
use reckoner_raft::host::{Host, HostConfig};
use reckoner_raft::timings::{Limits, Timings};
use reckoner_raft::types::{ClusterId, NodeId};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::server::{self, Server};
use crate::clocks::Clocks;
use crate::condemned::Rebuilds;
use crate::config::{BadSetting, Config, SHARDS};
use crate::context::{Context, Counts, Draws, Shards};
use crate::data::admission::Admission;
use crate::data::check::AllChecks;
use crate::datadir::{DataDir, DataDirError, Identity};
use crate::joining::{self, JoinError};
use crate::keeper;
use crate::meta::group::{self as meta_group, Meta};
use crate::meta::job::DOCUMENT_BYTES_MAX;
use crate::meta::waits::{Turns, Waits};
use crate::net::Listener;
use crate::recognition::{self, Expelled};
use crate::seams::Seams;
use crate::store::attachments::BillAttachments;
use crate::store::catalogues::Catalogues;
use crate::supervisor::{self, Supervisor};
use crate::timekeeping;

/// Largest entry: a document and what surrounds it. Two of them fit a message between peers.
const ENTRY_BYTES_MAX: usize = DOCUMENT_BYTES_MAX + (64 << 10);

/// How often a start looks whether everything is there.
const READY_INTERVAL: Duration = Duration::from_millis(10);

/// How long a node that has handed its leaders over goes on as a follower before it closes its groups: at least, and at
/// most where proposals are still to be answered.
const PARTING: Duration = Duration::from_millis(50);
const PARTING_MAX: Duration = Duration::from_millis(250);

/// Why a node does not start: one line that names what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Setting(#[from] BadSetting),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("--listen: {address}: {source}; choose another address or stop who uses it")]
    Listen { address: String, source: std::io::Error },
    #[error("--data-dir: {0}")]
    Storage(#[from] reckoner_raft::error::Error),
    #[error("the node's actors do not start: {0}")]
    Actors(String),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Expelled(#[from] Expelled),
    #[error("the node is not ready after {after:?}: {what}")]
    NotReady { after: Duration, what: String },
}

/// A running node.
pub struct Node {
    context: Arc<Context>,
    supervisor: ActorRef<supervisor::Message>,
    server: Server,
    data: Option<DataDir>,
}

impl Node {
    /// Starts a node on its data directory, listening where the settings say.
    pub async fn open(config: Config) -> Result<Node, StartError> {
        config.check()?;
        let address = config.listen_address()?;
        let data = DataDir::open(&config.data_dir)?;
        let listener = listen(address).await?;
        let own = config.advertised(listener.address);
        let founders = config.founders(&own);
        let founding = (config.members.len() > 1).then(|| (new_cluster(&config, &founders), config.own_id()));
        recognition::at_start(&config, &data, &own, listener.address, founding).await?;
        let node = Node::open_in(config, data, listener, |seams| seams).await?;
        tokio::spawn(recognition::watch(Arc::downgrade(&node.context)));
        Ok(node)
    }

    /// Starts a node on a data directory that is held already, with a listener that is bound already. `change` may put
    /// other parts in place of those that serve.
    pub async fn open_in(
        config: Config,
        data: DataDir,
        listener: Listener,
        change: impl FnOnce(Seams) -> Seams,
    ) -> Result<Node, StartError> {
        let address = config.advertised(listener.address);
        let mut listener = listener;
        let identity = match data.identity()? {
            None if !config.join.is_empty() => joining::identity(&config, &data, &address, &mut listener, None).await?,
            known => identity(known, &config, &data, &address)?,
        };
        let seams = change(Seams::on_disk(data.path(), listener)?);
        let mut node = Node::start(config, identity, seams).await?;
        data.write_address(&address)?;
        node.data = Some(data);
        Ok(node)
    }

    /// Starts a node from its parts, in this order: groups, what all share, actors, doors.
    pub async fn start(config: Config, identity: Identity, seams: Seams) -> Result<Node, StartError> {
        let address = config.advertised(seams.listener.address);
        let cluster = identity.cluster_id()?;
        let host = host(&config, &identity, cluster, &seams);
        let meta = open_meta(&host, &identity, &address).await?;
        let (context, listener) = share(config, identity, cluster, address, host, meta, seams)?;
        let (supervisor, _) = Actor::spawn(None, Supervisor, context.clone())
            .await
            .map_err(|error| StartError::Actors(error.to_string()))?;
        let server = server::serve(&context, listener);
        tokio::spawn(timekeeping::keep_asking(Arc::downgrade(&context)));
        Ok(Node { context, supervisor, server, data: None })
    }

    /// The address that others are told.
    pub fn address(&self) -> &str {
        &self.context.address
    }

    pub fn id(&self) -> u64 {
        self.context.node
    }

    /// What the parts of this node share; for tests and the local cluster.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Returns once the cluster is founded, every shard of this node is open, and each has a leader.
    pub async fn ready(&self, patience: Duration) -> Result<(), StartError> {
        let deadline = Instant::now() + patience;
        loop {
            let Some(what) = self.context.missing() else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(StartError::NotReady { after: patience, what });
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    /// Returns when the node has to stop by itself, with the reason.
    pub async fn failed(&self) -> String {
        self.context.fate.wait().await
    }

    /// Whether that is because it must not be started from its directory again.
    pub fn is_expelled(&self) -> bool {
        self.context.fate.is_expelled()
    }

    /// Stops gracefully: no new usage, leaders handed over, groups closed, doors closed, stores flushed. Bounded by the
    /// settings' stop timeout.
    pub async fn stop(self) {
        let patience = Duration::from_millis(self.context.config.stop_timeout_ms);
        let steps = async {
            // Whoever pushes is sent to the next leader by this one; only then there is nothing left to take.
            keeper::hand_over(&self.context).await;
            self.server.refuse_new_work();
            self.part().await;
            let (done, stopped) = oneshot::channel();
            if self.supervisor.send_message(supervisor::Message::Stop { done }).is_ok() {
                // Dropped when the supervisor is gone already.
                let _ = stopped.await;
            }
            self.server.shut_down().await;
            self.context.host.stop().await;
            if let Err(error) = self.context.bills.flush() {
                tracing::error!(%error, "bills were not flushed, they are folded again at the next start");
            }
        };
        if timeout(patience, steps).await.is_err() {
            tracing::warn!(?patience, "the stop took too long and was cut short");
        }
        self.let_go();
    }

    /// Goes on as a follower for a moment: what was proposed here is answered once it is applied, and whoever comes is told
    /// who leads now. A group that is closed can do neither.
    async fn part(&self) {
        let begin = Instant::now();
        while begin.elapsed() < PARTING || (!self.context.admission.is_idle() && begin.elapsed() < PARTING_MAX) {
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    /// Drops everything at once, as a crash would: connections break, nothing is handed over.
    pub async fn kill(self) {
        self.server.cut();
        self.supervisor.stop_children(None);
        self.supervisor.kill();
        // Files must be closed before the directory can be opened again.
        self.context.host.stop().await;
        self.let_go();
    }

    /// Breaks the circle between the shards and what they share, so that files close.
    fn let_go(&self) {
        for shard in self.context.shards.all() {
            self.context.shards.remove(shard.id());
        }
        self.server.cut();
        if let Some(data) = &self.data {
            data.clear_address();
        }
    }
}

/// Binds an address; the error names the setting.
pub async fn listen(address: std::net::SocketAddr) -> Result<Listener, StartError> {
    let failed = |source| StartError::Listen { address: address.to_string(), source };
    Listener::bind(address).await.map_err(failed)
}

/// The identity in the directory, or a new one at the first start. What is fixed for good must not be asked otherwise.
fn identity(known: Option<Identity>, config: &Config, data: &DataDir, address: &str) -> Result<Identity, StartError> {
    let bad = |setting, message: String| StartError::Setting(BadSetting { setting, message });
    let Some(known) = known else {
        let mut founders = config.founders(address);
        founders.sort_by_key(|member| member.id);
        let shards = config.shards.unwrap_or(SHARDS);
        let identity = Identity::new(new_cluster(config, &founders), config.own_id(), shards, founders);
        data.write_identity(&identity)?;
        return Ok(identity);
    };
    if let Some(shards) = config.shards.filter(|shards| *shards != known.shards) {
        let message = format!(
            "{shards} shards are asked for, this cluster was founded with {}; leave the setting out, or start a new \
             cluster in an empty --data-dir",
            known.shards
        );
        return Err(bad("--shards", message));
    }
    if let Some(id) = config.node_id.filter(|id| *id != known.node_id) {
        let message = format!("it is {id}, the data directory is of node {}", known.node_id);
        return Err(bad("node_id", message));
    }
    if !config.members.is_empty() {
        let mut asked = config.members.clone();
        asked.sort_by_key(|member| member.id);
        if asked != known.members {
            let message = "they differ from those that founded this cluster; restore them".to_owned();
            return Err(bad("members", message));
        }
    }
    Ok(known)
}

/// A cluster's id: random for a node alone. Founding members start apart and must agree without talking, so theirs comes
/// from what they have in common.
fn new_cluster(config: &Config, founders: &[crate::config::Member]) -> u128 {
    if config.members.is_empty() {
        return rand::random();
    }
    let mut hasher = blake3::Hasher::new();
    let founders: BTreeMap<u64, &crate::config::Member> = founders.iter().map(|member| (member.id, member)).collect();
    for member in founders.into_values() {
        hasher.update(&member.id.to_be_bytes()).update(member.address.as_bytes()).update(&[0]);
    }
    let hash = hasher.finalize();
    u128::from_be_bytes(hash.as_bytes()[..16].try_into().expect("sixteen of 32 bytes"))
}

fn host(config: &Config, identity: &Identity, cluster: u128, seams: &Seams) -> Host {
    let timings = match config.election_timeout_ms {
        None => Timings::for_groups(identity.shards as usize + 1),
        Some(election_ms) => {
            let election = Duration::from_millis(election_ms);
            Timings { heartbeat: election / 3, election_min: election, election_max: election * 2 }
        }
    };
    Host::new(HostConfig {
        node: NodeId(identity.node_id),
        cluster: ClusterId(cluster),
        timings,
        limits: Limits { entry_bytes_max: ENTRY_BYTES_MAX, ..seams.limits },
        journal: seams.journal.clone(),
        snapshots: seams.snapshots.clone(),
        transport: seams.transport.clone(),
        attachments: Arc::new(BillAttachments(seams.bills.clone())),
        workers: seams.replication_workers.clone(),
        seed: seams.seed,
    })
}

async fn open_meta(host: &Host, identity: &Identity, address: &str) -> Result<Meta, StartError> {
    let (machine, seen) = meta_group::machine();
    let mut members: BTreeMap<NodeId, String> =
        identity.members.iter().map(|member| (NodeId(member.id), member.address.clone())).collect();
    // Who joined later is added by the group's leader.
    let founders = (!members.is_empty()).then(|| {
        members.insert(NodeId(identity.node_id), address.to_owned());
        members
    });
    let group = host.open(meta_group::GROUP, founders, machine).await?;
    Ok(Meta::new(group, seen))
}

fn share(
    config: Config,
    identity: Identity,
    cluster: u128,
    address: String,
    host: Host,
    meta: Meta,
    seams: Seams,
) -> Result<(Arc<Context>, Listener), StartError> {
    let settings = ClientConfig { connector: seams.connector, seed: seams.seed, ..ClientConfig::default() };
    let client = Client::lazy(std::slice::from_ref(&address), settings)
        .map_err(|error| StartError::Setting(BadSetting { setting: "advertise", message: error.to_string() }))?;
    let run = seams.seed.unwrap_or_else(rand::random);
    let context = Context {
        run,
        node: identity.node_id,
        cluster,
        shards_founded: identity.shards,
        members: identity.members,
        counts: Counts::default(),
        admission: Admission::new(config.records_in_flight_max, config.bytes_in_flight_max),
        config,
        address,
        host,
        meta,
        shards: Shards::default(),
        client,
        catalogues: Arc::new(Catalogues::new(seams.blobs.clone())),
        blobs: seams.blobs,
        bills: seams.bills,
        clock: seams.clock,
        clocks: Clocks::new(seams.trusts_own_clock),
        workers: seams.workers,
        machine: seams.machine,
        draws: Draws::new(seams.seed),
        fate: seams.fate,
        checks: AllChecks::default(),
        rebuilds: Rebuilds::default(),
        waits: Waits::default(),
        turns: Turns::default(),
        stopping: CancellationToken::new(),
    };
    Ok((Arc::new(context), seams.listener))
}
