//! The cluster service: status, routes, apply jobs, and the calls between nodes.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use prost::Message as _;
use reckoner_client::proto::cluster_client::ClusterClient;
use reckoner_client::proto::cluster_server::Cluster;
use reckoner_client::proto::execute_request::Target;
use reckoner_client::proto::{
    ApplyReply, ApplyRequest, BackupReply, BackupRequest, BalanceLeadersRequest, CheckShardsReply, CheckShardsRequest,
    ContentsPart, ContentsRequest, ExecuteReply, ExecuteRequest, ImagePart, ImageRequest, InitReply, InitRequest,
    JobReply, JobRequest, JobStep, LayoutReply, NodeRoute, NodeStatus, PlanReply, Position, ReplicaStatus, RoutesReply,
    RoutesRequest, SetLayoutRequest, SetNodeRequest, ShardRoute, ShardStatus, SlotRange, StageBlobReply,
    StageBlobRequest, StatusReply, StatusRequest,
};
use reckoner_raft::group::Role;
use reckoner_shard::base::id::{ShardId, Slot};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::machine::codec::{self, Entry};
use reckoner_shard::machine::query::View;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, async_trait};

use super::status::{Trouble, refusal_out};
use super::{backup, nodes, shards};
use crate::context::Context;
use crate::data::reach;
use crate::internal::DescribeRequest;
use crate::meta::command::{Command, JobRow, NodeRow, NodeState, OpenJob, RangeRow, ReplicasRow, StepState};
use crate::meta::job;
use crate::store::content::Hash;
use crate::timekeeping;
use crate::workers;

/// The longest that a job is waited for in one call.
const JOB_WAIT_MAX: Duration = Duration::from_secs(50);

/// How long a forwarded call may take.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a job waits for slots on their way: as long as they may take.
const MOVES_PATIENCE: Duration = Duration::from_secs(12);

/// How long another node may take to say how a shard is.
const DESCRIBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest id of a job, in bytes.
const JOB_ID_BYTES_MAX: usize = 128;

/// The door.
pub struct Door(pub Arc<Context>);

impl Door {
    /// The meta group's leader, when it is another node.
    fn meta_elsewhere(&self) -> Result<Option<ClusterClient<tonic::transport::Channel>>, Trouble> {
        if self.0.meta.leads() {
            return Ok(None);
        }
        let (_, address) = self
            .0
            .meta
            .leader()
            .filter(|(node, _)| *node != self.0.node)
            .ok_or_else(|| Trouble::unavailable("nobody leads the meta group now; try again"))?;
        let client = ClusterClient::new(reach::channel(&self.0, &address)?)
            .max_decoding_message_size(reach::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(reach::MESSAGE_BYTES_MAX);
        Ok(Some(client))
    }

    /// Opens a job here, on the meta group's leader: everything is checked before anything is kept.
    async fn open_job(&self, request: ApplyRequest) -> Result<ApplyReply, Trouble> {
        let context = &self.0;
        let id = request.job;
        if id.is_empty() || id.len() > JOB_ID_BYTES_MAX {
            return Err(Trouble::invalid(format!("a job's id has 1 to {JOB_ID_BYTES_MAX} bytes; choose one")));
        }
        let documents = job::parse(request.documents)?;
        let _turn = context.turns.wait();
        // A leader of late may not have applied yet what one before it recorded.
        reach::latest_map(context).await?;
        self.no_moves().await?;
        let map = context.meta.map().ok_or_else(|| Trouble::unavailable("the cluster is being founded; try again"))?;
        if context.meta.state().job(&id).is_none() {
            job::check(context, &documents).await?;
        }
        for document in &documents {
            self.keep(document.hash, document.bytes.clone()).await?;
        }
        let command = Command::OpenJob(OpenJob { job: Some(job::plan(&id, &documents, &map)) });
        let outcome = context.meta.propose(command).await;
        let outcome = outcome.map_err(|error| Trouble::of_group(error, 0, map.epoch))?;
        if let Some(reason) = Reason::from_number(outcome.refusal as u8) {
            return Err(Refusal::new(reason, outcome.detail).into());
        }
        Ok(ApplyReply { job: id })
    }

    /// Waits until no slot is on its way: the steps of a job go to the shards that have the slots now.
    async fn no_moves(&self) -> Result<(), Trouble> {
        let mut seen = self.0.meta.watch();
        let settled = timeout(MOVES_PATIENCE, seen.wait_for(|state| state.moves().is_empty())).await;
        let late = || Trouble::unavailable("slots are on their way between shards; try again");
        settled.map_err(|_| late())?.map(|_| ()).map_err(|_| late())
    }

    async fn keep(&self, hash: Hash, bytes: bytes::Bytes) -> Result<(), Trouble> {
        let blobs = self.0.blobs.clone();
        let kept = workers::run(self.0.workers.as_ref(), move || blobs.put(&hash, bytes)).await;
        let kept = kept.map_err(|lost| Trouble::unavailable(lost.to_string()))?;
        kept.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => Trouble::invalid(error.to_string()),
            _ => Trouble::Broken { message: error.to_string() },
        })
    }

    fn job_out(&self, job: &JobRow) -> JobReply {
        let next = job.next_step();
        let waits = self.0.waits.of(&job.id);
        let steps: Vec<JobStep> = job
            .steps
            .iter()
            .enumerate()
            .map(|(at, step)| {
                let refused = Reason::from_number(step.refusal as u8);
                let waiting = if Some(at) == next { waits.clone().unwrap_or_default() } else { String::new() };
                JobStep {
                    name: step.name.clone(),
                    state: state_word(step.state()).to_owned(),
                    detail: if step.state() == StepState::Waiting { waiting } else { step.detail.clone() },
                    refusal: refused.map(|reason| refusal_out(&Refusal::new(reason, step.detail.clone()))),
                    shard: step.shard,
                    document: job.documents.get(step.document as usize).map(|document| document.place),
                }
            })
            .collect();
        let refused = job.steps.iter().any(|step| step.state() == StepState::Refused);
        let state = match (next, refused) {
            (Some(_), _) => "running",
            (None, true) => "refused",
            (None, false) => "done",
        };
        JobReply { state: state.to_owned(), steps }
    }
}

/// How a shard is: from this node's replica, else from a node that has one, else what the map says.
async fn shard_status(context: &Arc<Context>, row: &ReplicasRow) -> ShardStatus {
    if let Some(status) = shard_here(context, row.shard).await {
        return status;
    }
    let request = DescribeRequest { shard: row.shard };
    let asked =
        reach::ask_holder(context, ShardId(row.shard), |mut client| async move { client.describe(request).await });
    if let Ok(Ok(reply)) = timeout(DESCRIBE_TIMEOUT, asked).await
        && let Ok(status) = ShardStatus::decode(reply.status)
    {
        return status;
    }
    let replicas = holders(row).into_iter().map(|node| ReplicaStatus { node, role: "unknown".to_owned(), matched: 0 });
    ShardStatus { replicas: replicas.collect(), ..shard_in_map(context, row) }
}

/// What the map says of a shard.
fn shard_in_map(context: &Context, row: &ReplicasRow) -> ShardStatus {
    let ranges = context.meta.map().map(|map| map.slots_of(ShardId(row.shard))).unwrap_or_default();
    ShardStatus {
        id: row.shard,
        slots: ranges.iter().map(|range| range.count() as u32).sum(),
        wanted: row.nodes.clone(),
        moving: !row.held.is_empty() && !row.is_settled(),
        ..ShardStatus::default()
    }
}

fn holders(row: &ReplicasRow) -> Vec<u64> {
    let mut holders: Vec<u64> = row.held.iter().chain(&row.nodes).copied().collect();
    holders.sort_unstable();
    holders.dedup();
    holders
}

/// How a shard is by its replica here; `None` where there is none.
pub(super) async fn shard_here(context: &Arc<Context>, id: u32) -> Option<ShardStatus> {
    let state = context.meta.state();
    let row = state.replicas().iter().find(|row| row.shard == id)?;
    let shard = context.shards.get(ShardId(id))?;
    let status = shard.group().status();
    let leader = status.leader.as_ref().map_or(0, |(node, _)| node.0);
    let replica = |node: u64| {
        let id = reckoner_raft::types::NodeId(node);
        let role = match (node == leader, status.learners.contains(&id)) {
            (true, _) => "leader",
            (false, true) => "learner",
            (false, false) => "voter",
        };
        let own = (node == context.node).then_some(status.last_log).flatten();
        let matched = own.or(status.matched.get(&id).copied().flatten()).unwrap_or(0);
        ReplicaStatus { node, role: role.to_owned(), matched }
    };
    let totals = match shard.view(None).await {
        Ok(read) => workers::run(context.workers.as_ref(), move || totals(&read.view)).await.unwrap_or_default(),
        Err(_) => Totals::default(),
    };
    Some(ShardStatus {
        leader_node: leader,
        term: status.term,
        committed: status.committed.unwrap_or(0),
        applied: status.applied.map_or(0, |position| position.index),
        replicas: holders(row).into_iter().map(replica).collect(),
        hierarchies: totals.hierarchies,
        counters: totals.counters,
        records: totals.records,
        check: context.checks.last(ShardId(id)).map(|check| shards::check_out(ShardId(id), &check)),
        ..shard_in_map(context, row)
    })
}

/// What a shard holds in memory.
#[derive(Default)]
struct Totals {
    hierarchies: u64,
    counters: u64,
    records: u64,
}

fn totals(view: &View) -> Totals {
    let mut totals = Totals::default();
    for slot in view.slots.values() {
        totals.hierarchies += slot.root_numbers.len() as u64;
        totals.counters += slot.series.rows.len() as u64;
        let counters = &slot.counters;
        let months = counters.lanes.iter().flat_map(|lane| lane.counted()).map(|(_, _, records)| records);
        let others = counters.buckets.iter().chain(counters.late.iter()).map(|(_, lot)| lot.records);
        totals.records += months.chain(others).sum::<u64>();
    }
    totals
}

/// Whether a node answered; one that the map does not know does not.
fn answers(told: &[NodeStatus], node: u64) -> bool {
    told.iter().any(|status| status.id == node && status.reachable)
}

fn state_word(state: StepState) -> &'static str {
    match state {
        StepState::Waiting => "waiting",
        StepState::Done => "done",
        StepState::Refused => "refused",
    }
}

#[async_trait]
impl Cluster for Door {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let context = &self.0;
        let state = context.meta.state();
        let mut shards = Vec::new();
        for row in state.replicas() {
            shards.push(shard_status(context, row).await);
        }
        let asked = state.nodes().map(|node| async move { (node, reach::hello(context, node).await) });
        let mut reasons = Vec::new();
        let mut told = Vec::new();
        for (node, answer) in futures::future::join_all(asked).await {
            if answer.is_none() {
                reasons.push(format!("node {} at {} does not answer", node.id, node.address));
            }
            let reachable = answer.is_some();
            let (version, clock_offset_ms) = answer.unwrap_or_default();
            told.push(NodeStatus {
                id: node.id,
                address: node.address.clone(),
                reachable,
                version,
                clock_offset_ms,
                leads: shards.iter().filter(|shard| shard.leader_node == node.id).map(|shard| shard.id).collect(),
                state: if node.state() == NodeState::Draining { "draining" } else { "active" }.to_owned(),
                replicas: nodes::holds(&state, node.id),
            });
        }
        reasons.extend(timekeeping::troubles(context));
        let mut leaderless = 0;
        for shard in &shards {
            let votes = shard.replicas.iter().filter(|replica| replica.role != "learner");
            let lost: Vec<u64> =
                votes.clone().map(|replica| replica.node).filter(|node| !answers(&told, *node)).collect();
            // Who led last may not have noticed yet that it decides nothing any more.
            if lost.len() * 2 >= votes.count().max(1) {
                leaderless += 1;
                reasons.push(format!("shard {} has no majority: nodes {lost:?} do not answer", shard.id));
            } else if shard.leader_node == 0 {
                leaderless += 1;
                reasons.push(format!("nobody leads shard {}", shard.id));
            }
            reasons.extend(shard.check.iter().map(|check| check.trouble.clone()).filter(|trouble| !trouble.is_empty()));
        }
        for (shard, reason) in context.rebuilds.running() {
            reasons.push(format!("the replica of shard {shard} on node {} is being rebuilt: {reason}", context.node));
        }
        for (shard, why) in context.shards.all_failed() {
            reasons.push(format!("the replica of shard {shard} on node {} cannot be opened: {why}", context.node));
        }
        for group in context.host.groups() {
            let status = group.status();
            if status.role == Role::Stopped {
                let why = status.failure.unwrap_or_else(|| "it was closed".to_owned());
                reasons.push(format!("the replica of group {} on node {} stopped: {why}", group.id(), context.node));
            }
        }
        if !state.is_founded() {
            reasons.push("the cluster is not founded; are a majority of its members running?".to_owned());
        }
        if !state.halted().is_empty() {
            reasons.push(format!("slots stay where they should not be: {}", state.halted()));
        }
        let health = match (reasons.is_empty(), state.is_founded() && leaderless < shards.len()) {
            (true, _) => "healthy",
            (false, true) => "degraded",
            (false, false) => "unavailable",
        };
        let slots_moving = state.moves().iter().map(|row| row.last - row.first + 1).sum();
        Ok(Response::new(StatusReply {
            health: health.to_owned(),
            reasons,
            nodes: told,
            shards,
            map_epoch: state.epoch(),
            node: context.node,
            slots_to_move: state.slots_to_move(),
            slots_moving,
            halted: state.halted().to_owned(),
        }))
    }

    async fn routes(&self, _request: Request<RoutesRequest>) -> Result<Response<RoutesReply>, Status> {
        let state = self.0.meta.state();
        if !state.is_founded() {
            return Err(Trouble::unavailable("the cluster is being founded; try again").into());
        }
        let shards = state.replicas().iter().map(|row| {
            let status = self.0.shards.get(ShardId(row.shard)).map(|shard| shard.group().status()).unwrap_or_default();
            ShardRoute {
                shard: row.shard,
                leader_node: status.leader.map_or(0, |(node, _)| node.0),
                term: status.term,
                replicas: row.nodes.clone(),
            }
        });
        let range = |row: &RangeRow| SlotRange { first: row.first, last: row.last, shard: row.shard };
        let node = |row: &NodeRow| NodeRoute { node: row.id, address: row.address.clone() };
        Ok(Response::new(RoutesReply {
            map_epoch: state.epoch(),
            ranges: state.ranges().iter().map(range).collect(),
            shards: shards.collect(),
            nodes: state.nodes().map(node).collect(),
            cluster: state.cluster().map(|cluster| format!("{cluster:032x}")).unwrap_or_default(),
        }))
    }

    async fn init(&self, _request: Request<InitRequest>) -> Result<Response<InitReply>, Status> {
        let cluster = format!("{:032x}", self.0.cluster);
        Ok(Response::new(InitReply { cluster, node: self.0.node, already: true }))
    }

    async fn set_node(&self, request: Request<SetNodeRequest>) -> Result<Response<PlanReply>, Status> {
        Ok(Response::new(nodes::set_node(&self.0, request.into_inner()).await?))
    }

    async fn balance_leaders(&self, request: Request<BalanceLeadersRequest>) -> Result<Response<PlanReply>, Status> {
        Ok(Response::new(nodes::balance_leaders(&self.0, request.into_inner().plan).await?))
    }

    async fn set_layout(&self, request: Request<SetLayoutRequest>) -> Result<Response<LayoutReply>, Status> {
        Ok(Response::new(shards::set_layout(&self.0, request.into_inner()).await?))
    }

    async fn backup(&self, _request: Request<BackupRequest>) -> Result<Response<BackupReply>, Status> {
        Ok(Response::new(backup::tables(&self.0).await?))
    }

    type ImageStream = BoxStream<'static, Result<ImagePart, Status>>;

    async fn image(&self, request: Request<ImageRequest>) -> Result<Response<Self::ImageStream>, Status> {
        Ok(Response::new(backup::image(&self.0, request.into_inner()).await?))
    }

    type ContentsStream = BoxStream<'static, Result<ContentsPart, Status>>;

    async fn contents(&self, request: Request<ContentsRequest>) -> Result<Response<Self::ContentsStream>, Status> {
        Ok(Response::new(backup::contents(&self.0, request.into_inner()).await?))
    }

    async fn check_shards(&self, request: Request<CheckShardsRequest>) -> Result<Response<CheckShardsReply>, Status> {
        Ok(Response::new(shards::check(&self.0, &request.into_inner().shards).await?))
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyReply>, Status> {
        if let Some(mut leader) = self.meta_elsewhere()? {
            let mut forwarded = Request::new(request.into_inner());
            forwarded.set_timeout(FORWARD_TIMEOUT);
            return leader.apply(forwarded).await;
        }
        Ok(Response::new(self.open_job(request.into_inner()).await?))
    }

    async fn job(&self, request: Request<JobRequest>) -> Result<Response<JobReply>, Status> {
        let request = request.into_inner();
        if let Some(mut leader) = self.meta_elsewhere()? {
            return leader.job(request).await;
        }
        // A job that was opened under the leader before is no unknown one.
        reach::latest_map(&self.0).await?;
        let deadline = Instant::now() + Duration::from_millis(request.wait_ms.into()).min(JOB_WAIT_MAX);
        let mut seen = self.0.meta.watch();
        loop {
            let state = seen.borrow_and_update().clone();
            let Some(job) = state.job(&request.job) else {
                let detail = format!("there is no job '{}', or it ended long ago", request.job);
                return Err(Trouble::Refused(Refusal::new(Reason::NotFound, detail)).into());
            };
            let left = deadline.saturating_duration_since(Instant::now());
            // Nothing changes any more on a node whose meta group has stopped.
            if job.ended() || left.is_zero() || !matches!(timeout(left, seen.changed()).await, Ok(Ok(()))) {
                let state = self.0.meta.state();
                let job = state.job(&request.job).unwrap_or(job);
                return Ok(Response::new(self.job_out(job)));
            }
        }
    }

    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteReply>, Status> {
        let request = request.into_inner();
        let id = match request.target {
            Some(Target::Shard(shard)) => ShardId(shard),
            Some(Target::Slot(slot)) => {
                let slot = u16::try_from(slot).map_err(|_| Trouble::invalid(format!("there is no slot {slot}")))?;
                reach::shard_of(&self.0, Slot(slot))?
            }
            None => return Err(Trouble::invalid("name a shard or a slot").into()),
        };
        let commands = match codec::decode_entry(&request.commands).map_err(Trouble::invalid)? {
            Entry::Commands { commands, .. } => commands,
            Entry::Usage { .. } => return Err(Trouble::invalid("usage is pushed, not executed").into()),
        };
        let shard = reach::replica(&self.0, id)?;
        let epoch = self.0.meta.state().epoch();
        let applied = shard.propose(&commands).await.map_err(|error| Trouble::of_group(error, id.0, epoch))?;
        let position =
            Position { shard: id.0, term: applied.position.term, index: applied.position.index, slot_epoch: epoch };
        Ok(Response::new(ExecuteReply { outcome: applied.outcome, position: Some(position) }))
    }

    async fn stage_blob(&self, request: Request<StageBlobRequest>) -> Result<Response<StageBlobReply>, Status> {
        let request = request.into_inner();
        let length = request.hash.len();
        let hash = request.hash.as_ref().try_into();
        let hash: Hash = hash.map_err(|_| Trouble::invalid(format!("a hash has 32 bytes, this one has {length}")))?;
        self.keep(hash, request.json).await?;
        Ok(Response::new(StageBlobReply { node: self.0.node }))
    }
}
