//! The usage service: packed batches, rows, producers, counters.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use reckoner_client::proto::push_reply::Result as Pushed;
use reckoner_client::proto::usage_server::Usage;
use reckoner_client::proto::{
    FileMark, GetUsageReply, GetUsageRequest, OpenProducerReply, OpenProducerRequest, PushReply, PushRequest,
    PushRowsReply, PushRowsRequest,
};
use reckoner_raft::error::Error;
use reckoner_raft::machine::Position;
use reckoner_shard::base::id::{ProducerId, ShardId, Slot};
use reckoner_shard::machine::command::{Command, CommandOutcome, Done, FileProgress};
use reckoner_shard::placement::slot_of;
use reckoner_shard::usage::segment::Batch;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::status::{STOPPING, Trouble, UNAVAILABLE_RETRY};
use super::wire;
use crate::context::Context;
use crate::data::reach;

/// Batches of one stream that are under way at once: enough to keep the log busy over a round trip, little enough that
/// one stream does not take all the room.
const BATCHES_IN_FLIGHT: usize = 16;

/// How long a batch waits for the next leader, so that its sender is told where to go: an election of few groups.
const ELECTION_MAX: Duration = Duration::from_secs(1);

/// The same where the replica leads and a majority has still to say so; without one others elect.
pub const CONFIRM_MAX: Duration = Duration::from_millis(200);

/// The door.
pub struct Door(pub Arc<Context>);

/// Checks, admits and proposes one batch, and waits until it is applied. Nothing here yields before the proposal is
/// handed over, so batches of one stream enter the log in the order in which they came. One that came to a replica that
/// does not lead is never proposed here, not even where this node leads after the wait: later ones may be ahead of it.
async fn push(context: Arc<Context>, shard: ShardId, batch: Bytes) -> Result<(Bytes, Position), Trouble> {
    let replica = reach::replica(&context, shard).map_err(|trouble| stopping(&context).unwrap_or(trouble))?;
    let elsewhere = |leader: Option<(u64, String)>| {
        let trouble = if leader.is_none() { stopping(&context) } else { None };
        trouble.unwrap_or_else(|| {
            let message = format!("node {} did not lead shard {shard} when it was asked", context.node);
            Trouble::not_leader(message, shard.0, leader, context.meta.state().epoch())
        })
    };
    let leads = replica.leads();
    if let Some(other) = replica.leader().filter(|_| !leads) {
        return Err(elsewhere(Some(other)));
    }
    if let Some(stopping) = stopping(&context) {
        return Err(stopping);
    }
    let (records, slot) = weigh(&Batch::read(&batch)?);
    let permit = context.admission.admit(records, batch.len(), slot).inspect_err(|_| {
        context.counts.full.fetch_add(1, Ordering::Relaxed);
    })?;
    let applied = if leads { replica.push(&batch).await } else { Err(Error::NotLeader { leader: None }) };
    let applied = match applied {
        // Nobody leads for a moment. Who is told where to go loses less time than who comes back later.
        Err(Error::NotLeader { leader: None }) => return Err(elsewhere(replica.next_leader(ELECTION_MAX).await)),
        Err(error @ Error::Unavailable { .. }) => {
            let known = replica.next_leader(CONFIRM_MAX).await.map(|leader| elsewhere(Some(leader)));
            return Err(known.unwrap_or_else(|| Trouble::of_group(error, shard.0, context.meta.state().epoch())));
        }
        applied => applied.map_err(|error| Trouble::of_group(error, shard.0, context.meta.state().epoch()))?,
    };
    drop(permit);
    context.counts.batches.fetch_add(1, Ordering::Relaxed);
    context.counts.records.fetch_add(records.into(), Ordering::Relaxed);
    Ok((applied.outcome, applied.position))
}

/// What a node that goes down says.
fn stopping(context: &Context) -> Option<Trouble> {
    context.stopping.is_cancelled().then(|| Trouble::Unavailable {
        reason: STOPPING,
        message: format!("node {} is stopping; ask another node", context.node),
        retry_after: UNAVAILABLE_RETRY,
    })
}

/// How many records, and the slot that most of them are of, if there is one.
fn weigh(batch: &Batch<'_>) -> (u32, Option<Slot>) {
    let largest = batch.segments.iter().max_by_key(|segment| segment.records);
    let most = largest.filter(|segment| segment.records as usize * 2 > batch.records);
    (u32::try_from(batch.records).unwrap_or(u32::MAX), most.map(|segment| segment.slot))
}

async fn answer(context: Arc<Context>, request: PushRequest) -> PushReply {
    let shard = ShardId(request.shard);
    let epoch = context.meta.state().epoch();
    match push(context, shard, request.batch).await {
        Ok((outcome, position)) => PushReply {
            tag: request.tag,
            result: Some(Pushed::Outcome(outcome)),
            position: Some(wire::position_out(shard, position, epoch)),
        },
        Err(trouble) => {
            PushReply { tag: request.tag, result: Some(Pushed::Failure(trouble.failure())), position: None }
        }
    }
}

#[async_trait]
impl Usage for Door {
    type PushStream = BoxStream<'static, Result<PushReply, Status>>;

    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let context = self.0.clone();
        let replies = request
            .into_inner()
            .map_ok(move |request| {
                let context = context.clone();
                async move { Ok(answer(context, request).await) }
            })
            .try_buffered(BATCHES_IN_FLIGHT);
        Ok(Response::new(replies.boxed()))
    }

    async fn push_batch(&self, request: Request<PushRequest>) -> Result<Response<PushReply>, Status> {
        let request = request.into_inner();
        let (shard, epoch) = (ShardId(request.shard), self.0.meta.state().epoch());
        let (outcome, position) = push(self.0.clone(), shard, request.batch).await?;
        Ok(Response::new(PushReply {
            tag: request.tag,
            result: Some(Pushed::Outcome(outcome)),
            position: Some(wire::position_out(shard, position, epoch)),
        }))
    }

    async fn push_rows(&self, request: Request<PushRowsRequest>) -> Result<Response<PushRowsReply>, Status> {
        let request = request.into_inner();
        let rows = u32::try_from(request.rows.len()).unwrap_or(u32::MAX);
        let bytes = prost::Message::encoded_len(&request);
        let _permit = self.0.admission.admit(rows, bytes, None).map_err(Trouble::from)?;
        Ok(Response::new(super::rows::push(&self.0, request).await?))
    }

    async fn open_producer(
        &self,
        request: Request<OpenProducerRequest>,
    ) -> Result<Response<OpenProducerReply>, Status> {
        let request = request.into_inner();
        let producer = ProducerId::new(&request.producer).map_err(|error| Trouble::invalid(error.to_string()))?;
        let slot = slot_of(producer.as_str());
        let file = request.file.as_ref().map(file_in).transpose()?;
        let command = Command::OpenProducer { slot, producer, epoch: request.epoch, file };
        let (shard, outcomes, position) = reach::execute_in(&self.0, slot, &[command]).await?;
        match outcomes.into_iter().next() {
            Some(CommandOutcome::Done(Done::Producer { epoch, file })) => Ok(Response::new(OpenProducerReply {
                epoch,
                file: file.map(|file| FileMark { lines: file.lines, digest: file.digest.to_vec().into() }),
                position: Some(wire::position_out(shard, position, self.0.meta.state().epoch())),
            })),
            Some(CommandOutcome::Refused(refusal)) => Err(Trouble::Refused(refusal).into()),
            other => Err(Trouble::unavailable(format!("the shard answered {other:?} to an open producer")).into()),
        }
    }

    async fn get_usage(&self, request: Request<GetUsageRequest>) -> Result<Response<GetUsageReply>, Status> {
        Ok(Response::new(super::counters::get(&self.0, request.into_inner()).await?))
    }
}

fn file_in(mark: &FileMark) -> Result<FileProgress, Trouble> {
    let digest = match mark.digest.len() {
        0 => *blake3::hash(b"").as_bytes(),
        32 => mark.digest.as_ref().try_into().map_err(|_| Trouble::invalid("a digest has 32 bytes"))?,
        other => return Err(Trouble::invalid(format!("a digest has 32 bytes, this one has {other}"))),
    };
    Ok(FileProgress { lines: mark.lines, digest })
}
