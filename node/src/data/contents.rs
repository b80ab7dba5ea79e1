//! Bills and archives that slots bring along: the shard that takes slots in names them by hash, and its node must have
//! them before it serves.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use reckoner_shard::base::hash::{Hash, hex};
use tokio::time::timeout;

use super::reach;
use crate::context::Context;
use crate::internal::ContentRequest;
use crate::internal::internal_client::InternalClient;
use crate::workers;

/// Questions to other nodes at once.
const ASKED_MAX: usize = 16;

/// How long another node may take for one of them, which is rarely large.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes sure that all of `wanted` is durably here, from other nodes where it is not.
///
/// # Errors
/// No node that answers has one of them, or this node's disk fails.
pub async fn ensure(context: &Arc<Context>, wanted: Vec<Hash>) -> Result<(), String> {
    let bills = context.bills.clone();
    let missing = workers::run(context.workers.as_ref(), move || {
        // One that cannot be read counts as missing: another node's copy replaces nothing that is good.
        wanted.into_iter().filter(|hash| !bills.has(None, hash).unwrap_or(false)).collect::<Vec<Hash>>()
    });
    let missing = missing.await.map_err(|lost| lost.to_string())?;
    if missing.is_empty() {
        return Ok(());
    }
    let fetched = stream::iter(missing).map(|hash| fetch(context, hash)).buffer_unordered(ASKED_MAX);
    let fetched: Vec<Result<(), String>> = fetched.collect().await;
    fetched.into_iter().collect::<Result<(), String>>()?;
    let bills = context.bills.clone();
    let flushed = workers::run(context.workers.as_ref(), move || bills.flush().map_err(|error| error.to_string()));
    flushed.await.map_err(|lost| lost.to_string())?
}

/// Puts a content that is damaged or missing here right again, from another node.
///
/// # Errors
/// No node that answers has it, or this node's disk fails.
pub async fn mend(context: &Arc<Context>, hash: Hash) -> Result<(), String> {
    let state = context.meta.state();
    for node in state.nodes().filter(|node| node.id != context.node) {
        let Ok(Some(bytes)) = timeout(ASK_TIMEOUT, ask(context, &node.address, hash)).await else { continue };
        let bills = context.bills.clone();
        let mended = workers::run(context.workers.as_ref(), move || {
            bills.mend(&hash, bytes).and_then(|()| bills.flush()).map_err(|error| error.to_string())
        });
        return mended.await.map_err(|lost| lost.to_string())?;
    }
    Err(format!("no node that answers has the bill or archive {}", hex(&hash)))
}

async fn fetch(context: &Arc<Context>, hash: Hash) -> Result<(), String> {
    let state = context.meta.state();
    for node in state.nodes().filter(|node| node.id != context.node) {
        let Ok(Some(bytes)) = timeout(ASK_TIMEOUT, ask(context, &node.address, hash)).await else { continue };
        let bills = context.bills.clone();
        let put = workers::run(context.workers.as_ref(), move || bills.put(None, &hash, bytes));
        return put.await.map_err(|lost| lost.to_string())?.map_err(|error| error.to_string());
    }
    Err(format!("no node that answers has the bill or archive {}", hex(&hash)))
}

/// A content from another node, checked.
async fn ask(context: &Context, address: &str, hash: Hash) -> Option<Bytes> {
    let mut client = InternalClient::new(reach::channel(context, address).ok()?);
    let request = ContentRequest { hash: Bytes::copy_from_slice(&hash) };
    let mut parts = client.content(request).await.ok()?.into_inner();
    let mut bytes = BytesMut::new();
    while let Some(part) = parts.message().await.ok()? {
        bytes.extend_from_slice(&part.bytes);
    }
    (*blake3::hash(&bytes).as_bytes() == hash).then(|| bytes.freeze())
}
