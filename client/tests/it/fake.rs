//! A cluster in one process: the machine of each shard is the real one, everything around it is pretended, and faults
//! come from a seed.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_client::error::{META_LEADER_ADDRESS, META_LEADER_NODE, META_MAP_EPOCH, META_SHARD};
use reckoner_client::proto::accounts_server::{Accounts, AccountsServer};
use reckoner_client::proto::catalogue_server::{Catalogue as CatalogueDoor, CatalogueServer};
use reckoner_client::proto::cluster_server::{Cluster, ClusterServer};
use reckoner_client::proto::push_reply::Result as Pushed;
use reckoner_client::proto::usage_server::{Usage, UsageServer};
use reckoner_client::proto::*;
use reckoner_client::rows::{BatchDoor, push_rows};
use reckoner_shard::base::hash::Hash;
use reckoner_shard::base::id::{AccountId, ProducerId, ShardId, Slot};
use reckoner_shard::base::refusal::{Reason, Refusal as DomainRefusal};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::machine::codec;
use reckoner_shard::machine::command::{
    BatchVerdict, Command, CommandOutcome, Done, FileProgress, Outcome, SegmentVerdict,
};
use reckoner_shard::machine::state::{Blobs, State};
use reckoner_shard::placement::{SLOTS, ShardMap, SlotRange as Slots, slot_of};
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::usage::segment::Batch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

pub const CYCLE: &str = "2024-09";
const NOW: &str = "2024-09-20T00:00:00Z";
const NODES: u64 = 2;

/// How often what goes wrong, in percent of batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Applied, and the stream breaks before the reply.
    pub lost_reply: u32,
    /// Not applied, and answered with a failure that may be retried.
    pub dropped: u32,
    /// Not applied: the other node leads from now on.
    pub new_leader: u32,
    /// Answered STALE_SERIES without being applied.
    pub stale_series: u32,
    /// Not applied: all slots of the shard now belong to a new one.
    pub moved: u32,
}

struct Compiled(HashMap<Hash, Arc<Catalogue>>);

impl Blobs for Compiled {
    fn catalogue(&self, hash: &Hash) -> Option<Arc<Catalogue>> {
        self.0.get(hash).cloned()
    }
}

struct Shard {
    state: State,
    leader: u64,
    slots: Vec<Slots>,
}

pub struct World {
    shards: BTreeMap<u32, Shard>,
    map_epoch: u64,
    next_shard: u32,
    blobs: Compiled,
    documents: HashMap<Hash, Vec<u8>>,
    catalogue: Hash,
    directory: HashMap<String, String>,
    addresses: Vec<String>,
    random: SmallRng,
    faults: Faults,
    generation: u32,
    pub applied_batches: u64,
    pub refused: BTreeMap<Reason, u64>,
}

/// The cluster; its servers live as long as it does.
pub struct Fake {
    pub world: Arc<Mutex<World>>,
    pub endpoints: Vec<String>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

pub const CATALOGUE: &str = r#"{"kind":"Catalogue","name":"demo","currency":"USD","effective":"2024-09",
    "meters":[{"id":"calls","service":"api","usage_type":"calls","scale":3,"attributes":["model"]}],
    "skus":[{"id":"calls","match":{"service":"api","usage_type":"calls"},"unit":"calls","rate":"0.01"}]}"#;

impl Fake {
    /// Two nodes, two shards, one hierarchy a root; each root is its own only account.
    pub async fn start(roots: &[&str], faults: Faults, seed: u64) -> Fake {
        let mut world = World::new(faults, seed);
        for root in roots {
            world.add_root(root);
        }
        let world = Arc::new(Mutex::new(world));
        let mut tasks = Vec::new();
        let mut listeners = Vec::new();
        for _ in 0..NODES {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address: SocketAddr = listener.local_addr().unwrap();
            world.lock().addresses.push(address.to_string());
            listeners.push(listener);
        }
        for (at, listener) in listeners.into_iter().enumerate() {
            let door = Door { node: at as u64 + 1, world: world.clone() };
            let server = tonic::transport::Server::builder()
                .add_service(UsageServer::new(door.clone()))
                .add_service(AccountsServer::new(door.clone()))
                .add_service(CatalogueServer::new(door.clone()))
                .add_service(ClusterServer::new(door));
            tasks.push(tokio::spawn(async move {
                server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
            }));
        }
        let endpoints = world.lock().addresses.clone();
        Fake { world, endpoints, tasks }
    }

    /// Records and sum of quantities (at scale 3) counted for a root, late ones included.
    pub fn counted(&self, root: &str) -> (u64, i128) {
        let mut world = self.world.lock();
        let shard = world.shard_of(slot_of(root));
        let state = &mut world.shards.get_mut(&shard).unwrap().state;
        let root = AccountId::new(root).unwrap();
        let lines = state.view().usage(&root, CYCLE.parse::<CycleId>().unwrap()).unwrap();
        lines.iter().fold((0, 0), |(records, sum), line| {
            (records + line.records + line.late_records, sum + line.value + line.late_value)
        })
    }
}

impl World {
    fn new(faults: Faults, seed: u64) -> World {
        let document: CatalogueDocument = serde_json::from_str(CATALOGUE).unwrap();
        let catalogue = Catalogue::compile(&document).unwrap();
        let hash = catalogue.hash;
        let map = ShardMap::even(2);
        let mut world = World {
            shards: BTreeMap::new(),
            map_epoch: map.epoch,
            next_shard: 3,
            blobs: Compiled(HashMap::from([(hash, Arc::new(catalogue))])),
            documents: HashMap::from([(hash, document.canonical())]),
            catalogue: hash,
            directory: HashMap::new(),
            addresses: Vec::new(),
            random: SmallRng::seed_from_u64(seed),
            faults,
            generation: 0,
            applied_batches: 0,
            refused: BTreeMap::new(),
        };
        for shard in map.shards() {
            let slots = map.slots_of(shard);
            world.shards.insert(shard.0, Shard { state: State::new(shard), leader: 1, slots: slots.clone() });
            let genesis = Command::Genesis { shard, slots, epoch: map.epoch, ids_bytes_max: 1 << 30 };
            world.command(shard.0, genesis).unwrap();
            let activate = Command::ActivateCatalogue {
                name: document.name.clone(),
                version: 1,
                hash,
                effective: document.effective,
            };
            world.command(shard.0, activate).unwrap();
        }
        world
    }

    /// As many percent of batches are dropped from now on.
    pub fn set_dropped(&mut self, percent: u32) {
        self.faults.dropped = percent;
    }

    /// Leaders change, which the status tells.
    pub fn set_degraded(&mut self) {
        self.faults.new_leader = 1;
    }

    fn add_root(&mut self, root: &str) {
        let document = format!(
            r#"{{"kind":"Hierarchy","root":"{root}","catalogue":"demo","cycles":{{"first":"2024-09","close":"manual"}}}}"#
        );
        let document: reckoner_shard::account::document::HierarchyDocument = serde_json::from_str(&document).unwrap();
        let shard = self.shard_of(slot_of(root));
        let put = Command::PutHierarchy { document: document.canonical(), job: format!("job-{root}") };
        self.command(shard, put).unwrap();
        self.directory.insert(root.to_owned(), root.to_owned());
    }

    fn shard_of(&self, slot: Slot) -> u32 {
        let owner = self.shards.iter().find(|(_, shard)| shard.slots.iter().any(|range| range.contains(slot)));
        *owner.unwrap().0
    }

    fn next_generation(&mut self) -> u32 {
        self.generation += 1;
        self.generation
    }

    fn command(&mut self, shard: u32, command: Command) -> Result<Done, DomainRefusal> {
        let generation = self.next_generation();
        let entry = codec::encode_commands(NOW.parse().unwrap(), generation, &[command]);
        match self.apply(shard, &entry).1 {
            Outcome::Commands(outcomes) => match outcomes.into_iter().next().unwrap() {
                CommandOutcome::Done(done) => Ok(done),
                CommandOutcome::Refused(refusal) => Err(refusal),
            },
            Outcome::Usage(_) => unreachable!("commands were applied"),
        }
    }

    fn apply(&mut self, shard: u32, entry: &[u8]) -> (Vec<u8>, Outcome) {
        let shard = self.shards.get_mut(&shard).unwrap();
        let index = shard.state.index() + 1;
        let applied = shard.state.apply(index, entry, &self.blobs).unwrap();
        let outcome = codec::decode_outcome(&applied.outcome).unwrap();
        (applied.outcome, outcome)
    }

    fn redirect(&self, shard: u32) -> Redirect {
        let leader = self.shards.get(&shard).map_or(0, |shard| shard.leader);
        let leader_address = match leader {
            0 => String::new(),
            node => self.addresses[node as usize - 1].clone(),
        };
        Redirect { shard, leader_node: leader, leader_address, map_epoch: self.map_epoch }
    }

    fn hits(&mut self, percent: u32) -> bool {
        percent > 0 && self.random.random_range(0..100) < percent
    }

    /// A new shard takes over all slots of one, with its state.
    fn move_slots(&mut self, shard: u32) -> u32 {
        let to = self.next_shard;
        self.next_shard += 1;
        self.map_epoch += 1;
        let moved = self.shards.remove(&shard).unwrap();
        self.shards.insert(to, moved);
        to
    }

    /// What a batch comes to: a reply, or a broken stream.
    fn push(&mut self, node: u64, request: &PushRequest) -> Option<PushReply> {
        let failure =
            |failure| Some(PushReply { tag: request.tag, result: Some(Pushed::Failure(failure)), position: None });
        let redirected = |reason: &str, redirect| Failure {
            reason: reason.to_owned(),
            message: "elsewhere".to_owned(),
            retryable: true,
            retry_after_ms: 0,
            redirect: Some(redirect),
        };
        let Ok(batch) = Batch::read(&request.batch) else { panic!("the client packed a batch that cannot be read") };
        let owner = self.shard_of(batch.segments[0].slot);
        if owner != request.shard {
            return failure(redirected("WRONG_SHARD", self.redirect(owner)));
        }
        if self.shards[&owner].leader != node {
            return failure(redirected("NOT_LEADER", self.redirect(owner)));
        }
        if self.hits(self.faults.dropped) {
            return failure(Failure {
                reason: "UNAVAILABLE".to_owned(),
                message: "dropped".to_owned(),
                retryable: true,
                ..Failure::default()
            });
        }
        if self.hits(self.faults.new_leader) {
            let leader = &mut self.shards.get_mut(&owner).unwrap().leader;
            *leader = *leader % NODES + 1;
            return failure(redirected("NOT_LEADER", self.redirect(owner)));
        }
        if self.hits(self.faults.moved) {
            let to = self.move_slots(owner);
            return failure(redirected("WRONG_SHARD", self.redirect(to)));
        }
        if self.hits(self.faults.stale_series) {
            let segments = batch.segments.iter().enumerate().map(|(at, segment)| SegmentVerdict {
                at: at as u32,
                slot: segment.slot,
                slot_epoch: self.map_epoch,
                generation: 0,
                series: Vec::new(),
                whole: Some(DomainRefusal::new(Reason::StaleSeries, "define again")),
                ranges: Vec::new(),
            });
            let verdict = BatchVerdict { refused: None, slot_epoch: self.map_epoch, segments: segments.collect() };
            let outcome = codec::encode_outcome(&Outcome::Usage(verdict));
            return Some(PushReply { tag: request.tag, result: Some(Pushed::Outcome(outcome.into())), position: None });
        }
        let generation = self.next_generation();
        let entry = codec::encode_usage_entry(NOW.parse().unwrap(), generation, &request.batch);
        let (bytes, outcome) = self.apply(owner, &entry);
        if let Outcome::Usage(verdict) = &outcome {
            for refusal in verdict.segments.iter().filter_map(|segment| segment.whole.as_ref()) {
                *self.refused.entry(refusal.reason).or_default() += 1;
            }
        }
        self.applied_batches += 1;
        if self.hits(self.faults.lost_reply) {
            return None;
        }
        let index = self.shards[&owner].state.index();
        let position = Position { shard: owner, term: 1, index, slot_epoch: self.map_epoch };
        Some(PushReply { tag: request.tag, result: Some(Pushed::Outcome(bytes.into())), position: Some(position) })
    }
}

#[derive(Clone)]
struct Door {
    node: u64,
    world: Arc<Mutex<World>>,
}

/// The door as rows use it inside a node.
impl BatchDoor for Door {
    async fn push(&self, shard: ShardId, batch: Bytes) -> Result<PushReply, reckoner_client::error::Error> {
        let request = PushRequest { tag: 0, shard: shard.0, map_epoch: 0, batch };
        // Inside a node the leader is asked, wherever it is.
        let mut world = self.world.lock();
        let leader = world.shards.get(&shard.0).map_or(1, |shard| shard.leader);
        world.push(leader, &request).ok_or_else(|| reckoner_client::error::Error::unavailable("lost"))
    }
}

fn refused(refusal: DomainRefusal) -> Status {
    let details = ErrorDetails::with_error_info(refusal.reason.code(), ERROR_DOMAIN, HashMap::<String, String>::new());
    Status::with_error_details(Code::FailedPrecondition, refusal.detail, details)
}

fn not_leader(redirect: Redirect) -> Status {
    let meta = HashMap::from([
        (META_SHARD.to_owned(), redirect.shard.to_string()),
        (META_LEADER_NODE.to_owned(), redirect.leader_node.to_string()),
        (META_LEADER_ADDRESS.to_owned(), redirect.leader_address),
        (META_MAP_EPOCH.to_owned(), redirect.map_epoch.to_string()),
    ]);
    let details = ErrorDetails::with_error_info("NOT_LEADER", ERROR_DOMAIN, meta);
    Status::with_error_details(Code::Unavailable, "another node leads", details)
}

fn absent() -> Status {
    Status::unimplemented("the pretended cluster has no such call")
}

#[tonic::async_trait]
impl Usage for Door {
    type PushStream = Pin<Box<dyn Stream<Item = Result<PushReply, Status>> + Send>>;

    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let door = self.clone();
        let replies = request.into_inner().map(move |request| {
            let request = request?;
            let reply = door.world.lock().push(door.node, &request);
            reply.ok_or_else(|| Status::unavailable("the connection broke"))
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn push_batch(&self, request: Request<PushRequest>) -> Result<Response<PushReply>, Status> {
        let reply = self.world.lock().push(self.node, &request.into_inner());
        reply.map(Response::new).ok_or_else(|| Status::unavailable("the connection broke"))
    }

    async fn push_rows(&self, request: Request<PushRowsRequest>) -> Result<Response<PushRowsReply>, Status> {
        let endpoints = self.world.lock().addresses.clone();
        let client = reckoner_client::client::Client::lazy(&endpoints, Default::default()).unwrap();
        let reply = push_rows(&client, self, Duration::from_secs(5), &request.into_inner()).await;
        reply.map(Response::new).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    async fn open_producer(
        &self,
        request: Request<OpenProducerRequest>,
    ) -> Result<Response<OpenProducerReply>, Status> {
        let request = request.into_inner();
        let producer = ProducerId::new(&request.producer).unwrap();
        let slot = slot_of(producer.as_str());
        let mut world = self.world.lock();
        let shard = world.shard_of(slot);
        if world.shards[&shard].leader != self.node {
            return Err(not_leader(world.redirect(shard)));
        }
        let file = request
            .file
            .map(|file| FileProgress { lines: file.lines, digest: file.digest.as_ref().try_into().unwrap() });
        match world.command(shard, Command::OpenProducer { slot, producer, epoch: request.epoch, file }) {
            Ok(Done::Producer { epoch, file }) => Ok(Response::new(OpenProducerReply {
                epoch,
                file: file.map(|file| FileMark { lines: file.lines, digest: file.digest.to_vec().into() }),
                position: None,
            })),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    async fn get_usage(&self, _: Request<GetUsageRequest>) -> Result<Response<GetUsageReply>, Status> {
        Err(absent())
    }
}

#[tonic::async_trait]
impl Accounts for Door {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveReply>, Status> {
        let world = self.world.lock();
        let accounts = request.into_inner().accounts.into_iter().map(|account| {
            let memberships = world.directory.get(&account).map(|root| Membership {
                root: root.clone(),
                slot: slot_of(root).0.into(),
                from_ns: "2024-09-01".parse::<Timestamp>().unwrap().0,
                until_ns: None,
                catalogue: Some(Version { name: "demo".into(), version: 1, hash: world.catalogue.to_vec().into() }),
            });
            Resolved { account, memberships: memberships.into_iter().collect() }
        });
        Ok(Response::new(ResolveReply { accounts: accounts.collect() }))
    }

    async fn list(&self, _: Request<ListAccountsRequest>) -> Result<Response<ListAccountsReply>, Status> {
        Ok(Response::new(ListAccountsReply::default()))
    }

    async fn show(&self, request: Request<ShowAccountRequest>) -> Result<Response<ShowAccountReply>, Status> {
        let account = request.into_inner().account;
        let detail = format!("account '{account}' is in no hierarchy; apply one that lists it");
        Err(refused(DomainRefusal::new(Reason::UnknownAccount, detail)))
    }

    async fn documents(&self, _: Request<DocumentsRequest>) -> Result<Response<DocumentsReply>, Status> {
        Err(absent())
    }
}

#[tonic::async_trait]
impl CatalogueDoor for Door {
    async fn list(&self, _: Request<ListCataloguesRequest>) -> Result<Response<ListCataloguesReply>, Status> {
        Ok(Response::new(ListCataloguesReply::default()))
    }

    async fn show(&self, _: Request<ShowCatalogueRequest>) -> Result<Response<ShowCatalogueReply>, Status> {
        Err(absent())
    }

    async fn blob(&self, request: Request<BlobRequest>) -> Result<Response<BlobReply>, Status> {
        let hash: Hash = request.into_inner().hash.as_ref().try_into().unwrap();
        let json = self.world.lock().documents.get(&hash).cloned().unwrap();
        Ok(Response::new(BlobReply { json: json.into() }))
    }
}

#[tonic::async_trait]
impl Cluster for Door {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let health = if self.world.lock().faults.new_leader > 0 { "degraded" } else { "healthy" };
        let reasons = if health == "degraded" { vec!["leaders change".to_owned()] } else { Vec::new() };
        Ok(Response::new(StatusReply { health: health.to_owned(), reasons, ..StatusReply::default() }))
    }

    async fn routes(&self, _: Request<RoutesRequest>) -> Result<Response<RoutesReply>, Status> {
        let world = self.world.lock();
        let mut ranges: Vec<SlotRange> = world
            .shards
            .iter()
            .flat_map(|(id, shard)| {
                let range =
                    |range: &Slots| SlotRange { first: range.first.into(), last: range.last.into(), shard: *id };
                shard.slots.iter().map(range).collect::<Vec<_>>()
            })
            .collect();
        ranges.sort_by_key(|range| range.first);
        assert_eq!(ranges.last().unwrap().last, u32::from(SLOTS) - 1);
        let shards = world.shards.iter().map(|(id, shard)| ShardRoute {
            shard: *id,
            leader_node: shard.leader,
            term: 1,
            replicas: vec![1, 2],
        });
        let nodes = world.addresses.iter().enumerate();
        Ok(Response::new(RoutesReply {
            cluster: String::new(),
            map_epoch: world.map_epoch,
            ranges,
            shards: shards.collect(),
            nodes: nodes.map(|(at, address)| NodeRoute { node: at as u64 + 1, address: address.clone() }).collect(),
        }))
    }

    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitReply>, Status> {
        Err(absent())
    }

    async fn set_node(&self, _: Request<SetNodeRequest>) -> Result<Response<PlanReply>, Status> {
        Err(absent())
    }

    async fn set_layout(&self, _: Request<SetLayoutRequest>) -> Result<Response<LayoutReply>, Status> {
        Err(Status::unimplemented("the fake cluster has one layout"))
    }

    async fn balance_leaders(&self, _: Request<BalanceLeadersRequest>) -> Result<Response<PlanReply>, Status> {
        Err(absent())
    }

    async fn check_shards(&self, _: Request<CheckShardsRequest>) -> Result<Response<CheckShardsReply>, Status> {
        Err(absent())
    }

    async fn apply(&self, _: Request<ApplyRequest>) -> Result<Response<ApplyReply>, Status> {
        Err(absent())
    }

    async fn job(&self, _: Request<JobRequest>) -> Result<Response<JobReply>, Status> {
        Err(absent())
    }

    async fn execute(&self, _: Request<ExecuteRequest>) -> Result<Response<ExecuteReply>, Status> {
        Err(absent())
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<BackupReply>, Status> {
        Err(absent())
    }

    type ImageStream = Pin<Box<dyn Stream<Item = Result<ImagePart, Status>> + Send>>;

    async fn image(&self, _: Request<ImageRequest>) -> Result<Response<Self::ImageStream>, Status> {
        Err(absent())
    }

    type ContentsStream = Pin<Box<dyn Stream<Item = Result<ContentsPart, Status>> + Send>>;

    async fn contents(&self, _: Request<ContentsRequest>) -> Result<Response<Self::ContentsStream>, Status> {
        Err(absent())
    }

    async fn stage_blob(&self, _: Request<StageBlobRequest>) -> Result<Response<StageBlobReply>, Status> {
        Err(absent())
    }
}
