//! What a backup is made of, for whoever takes one: the cluster's own tables, a shard's image, bills and archives by hash.
//! The calls arrive in [`super::cluster`]; which files become of it is the client's matter.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reckoner_client::proto::{
    BackupReply, ContentsPart, ContentsRequest, ImageHead, ImagePart, ImageRequest, KeptCatalogue, SlotRange,
};
use reckoner_raft::image::Image;
use reckoner_raft::store::snapshot::PageSource;
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::base::id::ShardId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status::Trouble;
use crate::context::Context;
use crate::data::{contents, reach};
use crate::meta::command::JobRow;
use crate::meta::state::MetaState;
use crate::workers;

/// Format of what is told here.
const FORMAT: u32 = 1;

/// Bytes of one part, about.
const PART_BYTES: usize = 1 << 20;

/// Hashes of one part.
const PART_HASHES: usize = 8_192;

/// Bills and archives that one call may ask for.
const CONTENTS_MAX: usize = 256;

/// Parts that wait for a slow taker.
const PARTS_WAITING: usize = 2;

/// The end of a call with parts.
type Parts<T> = BoxStream<'static, Result<T, Status>>;

/// What a backup keeps of the cluster itself, as of now.
pub async fn tables(context: &Arc<Context>) -> Result<BackupReply, Trouble> {
    reach::latest_map(context).await?;
    let state = context.meta.state();
    let Some(cluster) = state.cluster() else {
        return Err(Trouble::unavailable("the cluster is being founded; try again"));
    };
    let mut shards: Vec<u32> = state.replicas().iter().map(|row| row.shard).collect();
    shards.sort_unstable();
    let ranges = state.ranges().iter().map(|row| SlotRange { first: row.first, last: row.last, shard: row.shard });
    let catalogues = state.catalogues().iter().map(|row| KeptCatalogue {
        name: row.name.clone(),
        version: row.version,
        hash: row.hash.clone(),
        effective: row.effective,
    });
    let (last_node, last_move, last_shard) = state.last_ids();
    Ok(BackupReply {
        format: FORMAT,
        cluster: format!("{cluster:032x}"),
        map_epoch: state.epoch(),
        ranges: ranges.collect(),
        shards,
        catalogues: catalogues.collect(),
        last_node,
        last_move,
        last_shard,
        busy: busy(&state).unwrap_or_default(),
        mark: Bytes::copy_from_slice(&state.mark()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Why images of several shards would not fit each other now.
fn busy(state: &MetaState) -> Option<String> {
    if let Some(moving) = state.moves().first() {
        let (first, last) = (moving.first, moving.last);
        return Some(format!("slots {first} to {last} are on their way to shard {}", moving.to));
    }
    if state.slots_to_move() > 0 && state.halted().is_empty() {
        return Some(format!("{} slots are to go to other shards", state.slots_to_move()));
    }
    let open = state.jobs().iter().find(|job: &&JobRow| !job.ended())?;
    Some(format!("job {} is under way", open.id))
}

/// A shard's state, from the replica here once that has seen all that was acknowledged before the call.
pub async fn image(context: &Arc<Context>, request: ImageRequest) -> Result<Parts<ImagePart>, Trouble> {
    let shard = reach::replica(context, ShardId(request.shard))?;
    let (give, parts) = mpsc::channel(PARTS_WAITING);
    let context = context.clone();
    tokio::spawn(async move {
        let epoch = context.meta.state().epoch();
        let taken = async {
            reach::read_index(&context, &shard).await?;
            let of_group = |error| Trouble::of_group(error, shard.id().0, epoch);
            shard.group().image().await.map_err(of_group)
        };
        match taken.await {
            Ok(image) => send_image(&context, request.shard, epoch, image, &give).await,
            // Whoever asked may be gone.
            Err(trouble) => drop(give.send(Err(trouble.into())).await),
        }
    });
    Ok(ReceiverStream::new(parts).boxed())
}

async fn send_image(
    context: &Context,
    shard: u32,
    slot_epoch: u64,
    image: Image,
    give: &mpsc::Sender<Result<ImagePart, Status>>,
) {
    let (at, named) = (image.at(), image.attachments());
    let head = ImageHead {
        shard,
        index: at.index,
        term: at.term,
        slot_epoch,
        bytes: image.byte_count(),
        digest: image.digest(),
        contents: named.len() as u64,
    };
    let head = ImagePart { head: Some(head), ..ImagePart::default() };
    let names = named.chunks(PART_HASHES).map(|some| ImagePart { contents: some.to_vec(), ..ImagePart::default() });
    for part in std::iter::once(head).chain(names) {
        if give.send(Ok(part)).await.is_err() {
            return;
        }
    }
    let mut pages = match image.pages() {
        Ok(pages) => pages,
        Err(error) => return drop(give.send(Err(lost(&error))).await),
    };
    loop {
        // Read a little at a time, so that no worker waits for a slow taker.
        let read = workers::run(context.workers.as_ref(), move || gather(pages)).await;
        let (bytes, rest) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return drop(give.send(Err(lost(&error))).await),
            Err(error) => return drop(give.send(Err(lost(&error))).await),
        };
        if bytes.is_empty() || give.send(Ok(ImagePart { bytes: bytes.into(), ..ImagePart::default() })).await.is_err() {
            return;
        }
        pages = rest;
    }
}

fn lost(error: &dyn std::fmt::Display) -> Status {
    Trouble::unavailable(format!("the image cannot be read: {error}")).into()
}

fn gather(mut pages: Box<dyn PageSource>) -> std::io::Result<(Vec<u8>, Box<dyn PageSource>)> {
    let mut bytes = Vec::with_capacity(PART_BYTES + (64 << 10));
    while bytes.len() < PART_BYTES {
        match pages.next()? {
            Some(page) => bytes.extend_from_slice(&page),
            None => break,
        }
    }
    Ok((bytes, pages))
}

/// Bills and archives, in the order asked.
pub async fn contents(context: &Arc<Context>, request: ContentsRequest) -> Result<Parts<ContentsPart>, Trouble> {
    if request.hashes.len() > CONTENTS_MAX {
        let asked = request.hashes.len();
        return Err(Trouble::invalid(format!("{asked} bills and archives are asked for, at most {CONTENTS_MAX}")));
    }
    let hash = |bytes: &Bytes| Hash::try_from(bytes.as_ref()).map_err(|_| Trouble::invalid("a hash has 32 bytes"));
    let hashes = request.hashes.iter().map(hash).collect::<Result<Vec<Hash>, Trouble>>()?;
    let (give, parts) = mpsc::channel(PARTS_WAITING);
    let context = context.clone();
    tokio::spawn(async move {
        if let Err(trouble) = send_contents(&context, hashes, &give).await {
            // Whoever asked may be gone.
            let _ = give.send(Err(trouble.into())).await;
        }
    });
    Ok(ReceiverStream::new(parts).boxed())
}

async fn send_contents(
    context: &Arc<Context>,
    hashes: Vec<Hash>,
    give: &mpsc::Sender<Result<ContentsPart, Status>>,
) -> Result<(), Trouble> {
    contents::ensure(context, hashes.clone()).await.map_err(Trouble::unavailable)?;
    for hash in hashes {
        let bills = context.bills.clone();
        let read = workers::run(context.workers.as_ref(), move || bills.get(None, &hash)).await;
        let read = read.map_err(|lost| Trouble::unavailable(lost.to_string()))?;
        let bytes = read.map_err(|error| Trouble::unavailable(error.to_string()))?;
        let mut left = bytes.ok_or_else(|| Trouble::unavailable(format!("{} is not here any more", hex(&hash))))?;
        loop {
            let bytes = left.split_to(left.len().min(PART_BYTES));
            let last = left.is_empty();
            let part = ContentsPart { hash: Bytes::copy_from_slice(&hash), bytes, last };
            if give.send(Ok(part)).await.is_err() {
                return Ok(());
            }
            if last {
                break;
            }
        }
    }
    Ok(())
}
