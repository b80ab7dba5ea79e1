//! The calls of the contract, typed, each inside a deadline: find the right node, follow redirects, try again. Usage at
//! speed goes through [`crate::batch`], which shares the routes kept here.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reckoner_shard::base::id::{AccountId, GroupName, ProducerId, ShardId, Slot};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::placement::slot_of;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::directory::Directory;
use crate::error::Error;
use crate::proto;
use crate::retry::Waits;
use crate::routes::{Connector, Routes};
use crate::stubs::{accounts_of, bills, catalogue, cluster, lasting, usage};

/// Largest message in either direction, both sides: a bill of a large hierarchy is far above gRPC's usual 4 MiB.
pub const MESSAGE_BYTES_MAX: usize = crate::stubs::MESSAGE_BYTES_MAX;
/// Default of [`ClientConfig::deadline`].
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// Default of [`ClientConfig::attempt`].
pub const ATTEMPT_DEFAULT: Duration = Duration::from_secs(10);

/// What a client may be told.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// A call that has not succeeded by then fails with the last reason; tries in between are the client's matter.
    pub deadline: Duration,
    /// One try is given up after this, and another node is asked.
    pub attempt: Duration,
    /// Another way to reach nodes than TCP; for simulations.
    pub connector: Option<Connector>,
    /// Makes all jitter the same every time; for simulations.
    pub seed: Option<u64>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig { deadline: DEADLINE_DEFAULT, attempt: ATTEMPT_DEFAULT, connector: None, seed: None }
    }
}

/// Who can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Any,
    Slot(Slot),
    Shard(ShardId),
}

/// Between two tries to found a cluster on a node that does not answer yet.
const INIT_INTERVAL: Duration = Duration::from_millis(200);

/// A connection to a cluster. Cheap to clone; clones share routes, connections and caches.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    deadline: Duration,
}

#[derive(Debug)]
struct Inner {
    routes: Routes,
    directory: Directory,
    config: ClientConfig,
    /// One question for the map at a time; the others wait for its answer.
    asking: tokio::sync::Mutex<()>,
}

impl Client {
    /// Connects to the first of `endpoints` (`host:port`) that answers and learns the shard map and leaders from it.
    pub async fn connect(endpoints: &[String], config: ClientConfig) -> Result<Client, Error> {
        let client = Client::lazy(endpoints, config)?;
        client.refresh_routes().await?;
        Ok(client)
    }

    /// A client that asks nobody before its first call.
    pub fn lazy(endpoints: &[String], config: ClientConfig) -> Result<Client, Error> {
        let routes = Routes::new(endpoints, config.connector.clone())?;
        let deadline = config.deadline;
        let inner = Inner { routes, directory: Directory::default(), config, asking: tokio::sync::Mutex::new(()) };
        Ok(Client { inner: Arc::new(inner), deadline })
    }

    /// The same client with another deadline for each call.
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client { inner: self.inner.clone(), deadline }
    }

    /// The routes as last learnt.
    pub fn routes(&self) -> &Routes {
        &self.inner.routes
    }

    /// The accounts and catalogues as last learnt.
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// What the client was told.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// Asks for the shard map and leaders, and keeps them.
    pub async fn refresh_routes(&self) -> Result<proto::RoutesReply, Error> {
        let reply = self
            .ask(Target::Any, proto::RoutesRequest {}, |channel, request| async move {
                cluster(channel).routes(request).await
            })
            .await?;
        self.inner.routes.learn(&reply)?;
        Ok(reply)
    }

    /// The shard that owns a slot; asks for the map when none is known.
    pub async fn shard_of(&self, slot: Slot) -> Result<ShardId, Error> {
        if self.inner.routes.shard_of(slot).is_none() {
            let _one = self.inner.asking.lock().await;
            if self.inner.routes.shard_of(slot).is_none() {
                self.refresh_routes().await?;
            }
        }
        self.inner.routes.shard_of(slot).ok_or_else(|| Error::invalid(format!("the shard map has no slot {slot}")))
    }

    // ---- usage ----

    /// Pushes one batch of packed segments to the shard that owns its slots. The reply has the outcome or the failure.
    pub async fn push_batch(&self, shard: ShardId, batch: Bytes) -> Result<proto::PushReply, Error> {
        let map_epoch = self.inner.routes.epoch();
        let request = proto::PushRequest { tag: 0, shard: shard.0, map_epoch, batch };
        self.ask(
            Target::Shard(shard),
            request,
            |channel, request| async move { usage(channel).push_batch(request).await },
        )
        .await
    }

    /// Pushes rows of strings; any node takes them. Verdicts of kind RETRY ask for the same row again.
    pub async fn push_rows(&self, request: proto::PushRowsRequest) -> Result<proto::PushRowsReply, Error> {
        self.ask(Target::Any, request, |channel, request| async move { usage(channel).push_rows(request).await }).await
    }

    /// Opens the next epoch of a sequenced producer (or exactly `epoch`), in the producer's home slot.
    pub async fn open_producer(
        &self,
        producer: &ProducerId,
        epoch: Option<u64>,
        file: Option<proto::FileMark>,
    ) -> Result<proto::OpenProducerReply, Error> {
        let target = Target::Slot(slot_of(producer.as_str()));
        let request = proto::OpenProducerRequest { producer: producer.to_string(), epoch, file };
        self.ask(target, request, |channel, request| async move { usage(channel).open_producer(request).await }).await
    }

    /// A page of the counters of a hierarchy; without a cycle, of the oldest that still counts.
    pub async fn usage(&self, request: proto::GetUsageRequest) -> Result<proto::GetUsageReply, Error> {
        let target = Target::Slot(slot_of(&request.root));
        self.ask(target, request, |channel, request| async move { usage(channel).get_usage(request).await }).await
    }

    // ---- accounts ----

    /// Memberships of accounts over time; `fresh` asks their own slots rather than a node's cache.
    pub async fn resolve(&self, accounts: Vec<String>, fresh: bool) -> Result<proto::ResolveReply, Error> {
        let request = proto::ResolveRequest { accounts, fresh };
        self.ask(Target::Any, request, |channel, request| async move { accounts_of(channel).resolve(request).await })
            .await
    }

    /// A page of the hierarchies, or of the accounts of one.
    pub async fn list_accounts(&self, request: proto::ListAccountsRequest) -> Result<proto::ListAccountsReply, Error> {
        let target = if request.root.is_empty() { Target::Any } else { Target::Slot(slot_of(&request.root)) };
        self.ask(target, request, |channel, request| async move { accounts_of(channel).list(request).await }).await
    }

    /// One account with its memberships.
    pub async fn show_account(&self, account: &AccountId) -> Result<proto::ShowAccountReply, Error> {
        let request = proto::ShowAccountRequest { account: account.to_string(), freshness: None };
        self.ask(Target::Any, request, |channel, request| async move { accounts_of(channel).show(request).await }).await
    }

    /// A hierarchy and its contracts as documents: what a cycle's bills are made of, or everything as it stands.
    pub async fn documents(&self, root: &AccountId, cycle: Option<CycleId>) -> Result<proto::DocumentsReply, Error> {
        let request = proto::DocumentsRequest { root: root.to_string(), cycle: text(cycle), freshness: None };
        self.ask(at(root), request, |channel, request| async move { accounts_of(channel).documents(request).await })
            .await
    }

    // ---- bills ----

    /// The bills that will be issued if no more usage arrives; all payers unless one is named.
    pub async fn estimate(
        &self,
        root: &AccountId,
        payer: Option<&AccountId>,
        cycle: Option<CycleId>,
        form: proto::BillForm,
    ) -> Result<proto::BillsReply, Error> {
        let request = proto::EstimateRequest {
            root: root.to_string(),
            payer: text(payer),
            cycle: text(cycle),
            form: form.into(),
            freshness: None,
            pro_forma: String::new(),
        };
        self.ask(at(root), request, |channel, request| async move { bills(channel).estimate(request).await }).await
    }

    /// The pro forma bill of a billing group as of now; none where nothing is on it.
    pub async fn pro_forma(
        &self,
        root: &AccountId,
        group: &GroupName,
        cycle: Option<CycleId>,
        form: proto::BillForm,
    ) -> Result<proto::BillsReply, Error> {
        let request = proto::EstimateRequest {
            root: root.to_string(),
            payer: String::new(),
            cycle: text(cycle),
            form: form.into(),
            freshness: None,
            pro_forma: group.to_string(),
        };
        self.ask(at(root), request, |channel, request| async move { bills(channel).estimate(request).await }).await
    }

    /// Closes a cycle of a hierarchy and waits for its bills, up to the deadline. Safe to repeat.
    pub async fn close(&self, root: &AccountId, cycle: CycleId) -> Result<proto::CloseReply, Error> {
        let request = proto::CloseRequest { root: root.to_string(), cycle: cycle.to_string() };
        self.ask(at(root), request, |channel, request| async move { bills(channel).close(request).await }).await
    }

    /// Bills what is known of a cycle and has no bill yet: an interim bill while the cycle counts, a correction where
    /// usage came late. Waits for it up to the deadline. Safe to repeat.
    pub async fn issue(&self, root: &AccountId, cycle: CycleId) -> Result<proto::CloseReply, Error> {
        let request = proto::CloseRequest { root: root.to_string(), cycle: cycle.to_string() };
        self.ask(at(root), request, |channel, request| async move { bills(channel).issue(request).await }).await
    }

    /// Pays back of a bill, cut to what it leaves, and waits for the document up to the deadline; without one in the answer
    /// nothing is left. Safe to repeat by the reference.
    pub async fn refund(&self, root: &AccountId, request: proto::RefundRequest) -> Result<proto::CloseReply, Error> {
        self.ask(at(root), request, |channel, request| async move { bills(channel).refund(request).await }).await
    }

    /// Closes a cycle of all hierarchies; progress arrives until a message says `done`. Safe to repeat.
    pub async fn close_all(&self, cycle: CycleId) -> Result<Streaming<proto::CloseProgress>, Error> {
        let request = proto::CloseAllRequest { cycle: cycle.to_string() };
        // The stream lives as long as the run: only its beginning is subject to the deadline.
        self.ask(
            Target::Any,
            request,
            |channel, request| async move { bills(channel).close_all(lasting(request)).await },
        )
        .await
    }

    /// Issued bills of a cycle, or the one with a number.
    pub async fn bills(&self, request: proto::ShowBillsRequest) -> Result<proto::BillsReply, Error> {
        let target = Target::Slot(slot_of(&request.root));
        self.ask(target, request, |channel, request| async move { bills(channel).show(request).await }).await
    }

    /// Bills in short, newest cycle first.
    pub async fn list_bills(
        &self,
        root: &AccountId,
        payer: Option<&AccountId>,
        cycle: Option<CycleId>,
    ) -> Result<proto::ListBillsReply, Error> {
        let request =
            proto::ListBillsRequest { root: root.to_string(), payer: text(payer), cycle: text(cycle), freshness: None };
        self.ask(at(root), request, |channel, request| async move { bills(channel).list(request).await }).await
    }

    /// A bill with the entries and counters behind it, or behind one line.
    pub async fn explain(&self, request: proto::ExplainRequest) -> Result<proto::ExplainReply, Error> {
        let target = Target::Slot(slot_of(&request.root));
        self.ask(target, request, |channel, request| async move { bills(channel).explain(request).await }).await
    }

    // ---- catalogue ----

    /// All versions of all catalogues, or of one.
    pub async fn list_catalogues(&self, name: Option<&str>) -> Result<proto::ListCataloguesReply, Error> {
        let request = proto::ListCataloguesRequest { name: name.unwrap_or_default().to_owned() };
        self.ask(Target::Any, request, |channel, request| async move { catalogue(channel).list(request).await }).await
    }

    /// One version of a catalogue as it was written; the newest unless a version is named.
    pub async fn show_catalogue(&self, name: &str, version: Option<u32>) -> Result<proto::ShowCatalogueReply, Error> {
        let request = proto::ShowCatalogueRequest { name: name.to_owned(), version: version.unwrap_or(0) };
        self.ask(Target::Any, request, |channel, request| async move { catalogue(channel).show(request).await }).await
    }

    /// The canonical JSON of a catalogue version by hash; bytes that have another hash are an error.
    pub async fn blob(&self, hash: &[u8; 32]) -> Result<Bytes, Error> {
        let request = proto::BlobRequest { hash: Bytes::copy_from_slice(hash) };
        let reply = self
            .ask(Target::Any, request, |channel, request| async move { catalogue(channel).blob(request).await })
            .await?;
        let found = blake3::hash(&reply.json);
        if found.as_bytes() != hash {
            let asked = blake3::Hash::from_bytes(*hash);
            return Err(Error::invalid(format!("a node answered blob {found} when asked for {asked}; ask another")));
        }
        Ok(reply.json)
    }

    // ---- cluster ----

    /// Health of nodes and shards.
    pub async fn status(&self) -> Result<proto::StatusReply, Error> {
        self.ask(Target::Any, proto::StatusRequest {}, |channel, request| async move {
            cluster(channel).status(request).await
        })
        .await
    }

    /// What a backup keeps of the cluster itself, as of now.
    pub async fn backup(&self) -> Result<proto::BackupReply, Error> {
        self.ask(Target::Any, proto::BackupRequest {}, |channel, request| async move {
            cluster(channel).backup(request).await
        })
        .await
    }

    /// The state of a shard as of now, in parts.
    pub async fn image(&self, shard: ShardId) -> Result<Streaming<proto::ImagePart>, Error> {
        let request = proto::ImageRequest { shard: shard.0 };
        // Only its beginning is subject to the deadline.
        self.ask(Target::Shard(shard), request, |channel, request| async move {
            cluster(channel).image(lasting(request)).await
        })
        .await
    }

    /// Bills and archives by hash, in parts, from a node with a replica of the shard that names them.
    pub async fn contents(&self, shard: ShardId, hashes: &[[u8; 32]]) -> Result<Streaming<proto::ContentsPart>, Error> {
        let hashes = hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect();
        let request = proto::ContentsRequest { hashes };
        self.ask(Target::Shard(shard), request, |channel, request| async move {
            cluster(channel).contents(lasting(request)).await
        })
        .await
    }

    /// Founds a cluster on the first endpoint, and on no other: a second node that was asked too would found a second
    /// one. 0 shards leave the number to the node.
    pub async fn init(&self, shards: u32) -> Result<proto::InitReply, Error> {
        let address = self.inner.routes.first();
        let deadline = Instant::now() + self.deadline;
        loop {
            let mut request = Request::new(proto::InitRequest { shards });
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let error = match cluster(self.inner.routes.channel(address)?).init(request).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => Error::from_status(&status),
            };
            let is_over = Instant::now() + INIT_INTERVAL >= deadline;
            if is_over || !matches!(error, Error::Unavailable { .. }) {
                return Err(error);
            }
            tokio::time::sleep(INIT_INTERVAL).await;
        }
    }

    /// Says what is wanted of a node, or asks what would come of it.
    pub async fn set_node(&self, request: proto::SetNodeRequest) -> Result<proto::PlanReply, Error> {
        self.ask(Target::Any, request, |channel, request| async move { cluster(channel).set_node(request).await }).await
    }

    /// Gives every shard to the node that should lead it, or asks which.
    pub async fn balance_leaders(&self, plan: bool) -> Result<proto::PlanReply, Error> {
        let request = proto::BalanceLeadersRequest { plan };
        self.ask(
            Target::Any,
            request,
            |channel, request| async move { cluster(channel).balance_leaders(request).await },
        )
        .await
    }

    /// Says which shards should have which slots, or asks what would come of it.
    pub async fn set_layout(&self, mut request: proto::SetLayoutRequest) -> Result<proto::LayoutReply, Error> {
        // Its answer may be lost and the request sent again: a shard is split once.
        if request.id.is_empty() && !request.plan {
            request.id = format!("{:032x}", rand::random::<u128>());
        }
        self.ask(Target::Any, request, |channel, request| async move { cluster(channel).set_layout(request).await })
            .await
    }

    /// Begins to compare the replicas of these shards, or of all.
    pub async fn check_shards(&self, shards: &[u32]) -> Result<proto::CheckShardsReply, Error> {
        let request = proto::CheckShardsRequest { shards: shards.to_vec() };
        self.ask(Target::Any, request, |channel, request| async move { cluster(channel).check_shards(request).await })
            .await
    }

    /// Starts a job that applies documents; the same id again is the same job.
    pub async fn apply(&self, job: &str, documents: Vec<proto::Document>) -> Result<proto::ApplyReply, Error> {
        let request = proto::ApplyRequest { job: job.to_owned(), documents };
        self.ask(Target::Any, request, |channel, request| async move { cluster(channel).apply(request).await }).await
    }

    /// How far a job is; waits up to `wait` for it to end.
    pub async fn job(&self, job: &str, wait: Duration) -> Result<proto::JobReply, Error> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request = proto::JobRequest { job: job.to_owned(), wait_ms };
        self.ask(Target::Any, request, |channel, request| async move { cluster(channel).job(request).await }).await
    }

    /// Proposes encoded commands in the shard that owns a slot; nodes use it among themselves.
    pub async fn execute_at(&self, slot: Slot, commands: Bytes) -> Result<proto::ExecuteReply, Error> {
        let target = proto::execute_request::Target::Slot(slot.0.into());
        self.execute(Target::Slot(slot), target, commands).await
    }

    /// Proposes encoded commands in a shard; nodes use it among themselves.
    pub async fn execute_in(&self, shard: ShardId, commands: Bytes) -> Result<proto::ExecuteReply, Error> {
        let target = proto::execute_request::Target::Shard(shard.0);
        self.execute(Target::Shard(shard), target, commands).await
    }

    /// Puts a catalogue's canonical bytes on the disk of one node.
    pub async fn stage_blob(
        &self,
        address: &str,
        hash: &[u8; 32],
        json: Bytes,
    ) -> Result<proto::StageBlobReply, Error> {
        let request = proto::StageBlobRequest { hash: Bytes::copy_from_slice(hash), json };
        let mut request = Request::new(request);
        request.set_timeout(self.deadline);
        let reply = cluster(self.inner.routes.channel(address)?).stage_blob(request).await;
        reply.map(Response::into_inner).map_err(|status| Error::from_status(&status))
    }

    async fn execute(
        &self,
        to: Target,
        target: proto::execute_request::Target,
        commands: Bytes,
    ) -> Result<proto::ExecuteReply, Error> {
        let map_epoch = self.inner.routes.epoch();
        let request = proto::ExecuteRequest { target: Some(target), commands, map_epoch };
        self.ask(to, request, |channel, request| async move { cluster(channel).execute(request).await }).await
    }

    /// Sends a request to whoever should have it, until an answer, a refusal or the deadline.
    async fn ask<M, T, F, Fut>(&self, target: Target, message: M, call: F) -> Result<T, Error>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut waits = Waits::new(Instant::now() + self.deadline, self.inner.config.seed);
        let (mut tries, mut followed) = (0_u32, false);
        let mut sent_to: Option<String> = None;
        loop {
            tries += 1;
            let (shard, address) = match (target, sent_to.take()) {
                (Target::Any, Some(address)) => (None, address),
                (target, _) => self.whom(target),
            };
            let timeout = waits.left().min(self.inner.config.attempt.max(self.deadline / 2));
            let mut request = Request::new(message.clone());
            request.set_timeout(timeout);
            self.inner.routes.mark(&mut request);
            let channel = self.inner.routes.channel(&address)?;
            // The server knows the timeout too; the margin lets its own answer come first.
            let answer = tokio::time::timeout(timeout + Duration::from_millis(200), call(channel, request)).await;
            let error = match answer {
                Ok(Ok(reply)) => {
                    if self.inner.routes.wants_refresh() {
                        let client = self.clone();
                        tokio::spawn(async move { client.learn_map().await });
                    }
                    return Ok(reply.into_inner());
                }
                Ok(Err(status)) => Error::from_status(&status),
                Err(_) => Error::Unavailable {
                    message: format!("no answer within {} ms", timeout.as_millis()),
                    unknown: true,
                    retry_after: None,
                    redirect: None,
                },
            };
            let Error::Unavailable { message: why, unknown, retry_after, redirect } = error else { return Err(error) };
            tracing::debug!(%address, why, tries, "call failed, trying again");
            if let (Target::Any, Some(redirect)) = (target, &redirect)
                && !redirect.leader_address.is_empty()
            {
                sent_to = Some(redirect.leader_address.clone());
            }
            if let (Target::Shard(asked), Some(redirect)) = (target, &redirect)
                && redirect.shard != asked.0
            {
                // What was sent belongs to another shard: only the caller can cut it anew.
                self.follow(redirect).await;
                return Err(Error::Unavailable {
                    message: why,
                    unknown,
                    retry_after,
                    redirect: Some(redirect.clone()),
                });
            }
            let wait = self.learn(shard, &address, redirect.as_ref(), &mut followed, retry_after, &mut waits).await;
            let Some(wait) = wait else {
                let spent = self.deadline.as_secs_f32();
                let message = format!("{why}; {tries} tries in {spent} s, the last at {address}");
                return Err(Error::Unavailable { message, unknown, retry_after, redirect });
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn whom(&self, target: Target) -> (Option<ShardId>, String) {
        let routes = &self.inner.routes;
        let shard = match target {
            Target::Any => None,
            Target::Slot(slot) => routes.shard_of(slot),
            Target::Shard(shard) => Some(shard),
        };
        let leader = shard.and_then(|shard| routes.leader_of(shard));
        (shard, leader.unwrap_or_else(|| routes.any()))
    }

    /// Takes over what a failed try taught; answers how long to wait, `None` at the deadline.
    async fn learn(
        &self,
        shard: Option<ShardId>,
        address: &str,
        redirect: Option<&proto::Redirect>,
        followed: &mut bool,
        hint: Option<Duration>,
        waits: &mut Waits,
    ) -> Option<Duration> {
        let routes = &self.inner.routes;
        let Some(redirect) = redirect else {
            if let Some(shard) = shard {
                routes.forget_leader(shard, address);
            }
            *followed = false;
            return waits.next(hint);
        };
        if routes.learn_redirect(redirect) && waits.left() > Duration::ZERO {
            self.learn_map().await;
        }
        // A redirect to a known leader is followed at once, but not two in a row: nodes that disagree are not chased.
        *followed = !*followed && !redirect.leader_address.is_empty() && waits.left() > Duration::ZERO;
        if *followed { Some(Duration::ZERO) } else { waits.next(hint) }
    }

    /// Takes over a redirect that came inside an answer, and the newer map that it may speak of.
    pub(crate) async fn follow(&self, redirect: &proto::Redirect) {
        if self.inner.routes.learn_redirect(redirect) {
            self.learn_map().await;
        }
    }

    /// One try to get a newer map; a failure shows at the next call anyway.
    async fn learn_map(&self) {
        let Ok(channel) = self.inner.routes.channel(&self.inner.routes.any()) else { return };
        let mut request = Request::new(proto::RoutesRequest {});
        request.set_timeout(Duration::from_secs(1));
        self.inner.routes.mark(&mut request);
        if let Ok(reply) = cluster(channel).routes(request).await
            && let Err(error) = self.inner.routes.learn(&reply.into_inner())
        {
            tracing::warn!(%error, "a shard map was not understood");
        }
    }
}

fn at(root: &AccountId) -> Target {
    Target::Slot(slot_of(root.as_str()))
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
