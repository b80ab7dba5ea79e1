//! Folding cut cycles, on every replica: from the frozen counters to bill bodies on disk, and their hashes. Done on
//! workers, outside the shard's actor; what is agreed on is compared here before the machine records it. Every step is
//! safe to repeat: a fold is a function of what the cut froze, and bodies are kept under their own hashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::codec;
use reckoner_shard::machine::command::{BillHash, BilledRoot, Hash, hex};
use reckoner_shard::machine::query::{FoldParts, View};
use tokio::sync::watch;

use super::reach;
use crate::context::Context;
use crate::store::bills::BillStore;
use crate::workers;

/// What a fold came to: what the leader will propose, or why there is nothing.
pub type Folded = Result<Arc<BilledRoot>, String>;

type Running = watch::Receiver<Option<Folded>>;

/// The folds of one shard on this replica.
#[derive(Clone)]
pub struct Folds {
    shard: ShardId,
    context: Arc<Context>,
    running: Arc<Mutex<BTreeMap<(AccountId, CycleId), Running>>>,
}

impl Folds {
    pub fn new(shard: ShardId, context: &Arc<Context>) -> Self {
        Self { shard, context: context.clone(), running: Arc::default() }
    }

    /// Begins the fold of a cut cycle unless it was begun; the result comes through the receiver.
    pub fn ensure(&self, view: &Arc<View>, root: &AccountId, cycle: CycleId) -> Running {
        let mut running = self.running.lock();
        if let Some(begun) = running.get(&(root.clone(), cycle)) {
            return begun.clone();
        }
        let (done, result) = watch::channel(None);
        running.insert((root.clone(), cycle), result.clone());
        let (folds, view, root) = (self.clone(), view.clone(), root.clone());
        tokio::spawn(async move {
            let folded = folds.fold(view, &root, cycle).await;
            if let Err(reason) = &folded {
                tracing::error!(shard = %folds.shard, %root, %cycle, reason, "a cycle cannot be folded");
            }
            done.send_replace(Some(folded));
        });
        result
    }

    /// What is known of the fold of a cut cycle, begun now where it was not; `None` while it runs or before the cut.
    pub fn so_far(&self, view: &Arc<View>, root: &AccountId, cycle: CycleId) -> Option<Folded> {
        if !view.is_closing(root, cycle) {
            let running = self.running.lock();
            return running.get(&(root.clone(), cycle)).and_then(|running| running.borrow().clone());
        }
        self.ensure(view, root, cycle).borrow().clone()
    }

    /// Lets go of a result that is recorded.
    pub fn forget(&self, root: &AccountId, cycle: CycleId) {
        self.running.lock().remove(&(root.clone(), cycle));
    }

    /// Waits for this replica's own fold and compares it with what is about to be recorded.
    ///
    /// # Errors
    /// The two differ, or there is no fold: this replica must stop.
    pub async fn compare(&self, view: &Arc<View>, agreed: &BilledRoot) -> Result<(), String> {
        if !view.is_closing(&agreed.root, agreed.cycle) {
            // Recorded before, or refused by the machine.
            return Ok(());
        }
        let mut running = self.ensure(view, &agreed.root, agreed.cycle);
        let own = match running.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        let own = own.unwrap_or_else(|| Err("the fold ended without a result".to_owned()))?;
        if *own == *agreed {
            return Ok(());
        }
        Err(format!(
            "the bills of {} for {} differ: {} agreed, {} folded here",
            agreed.root,
            agreed.cycle,
            hex(&digest(agreed)),
            hex(&digest(&own))
        ))
    }

    async fn fold(&self, view: Arc<View>, root: &AccountId, cycle: CycleId) -> Folded {
        let hash = view.cut_inputs(root, cycle).ok_or("the cycle is not cut")?.catalogue_hash;
        reach::catalogue(&self.context, &hash).await?;
        let (context, root) = (self.context.clone(), root.clone());
        workers::run(self.context.workers.as_ref(), move || {
            let parts = view.fold_parts(&root, cycle, context.catalogues.as_ref()).map_err(|why| why.to_string())?;
            store(&parts, context.bills.as_ref())
        })
        .await
        .map_err(|lost| lost.to_string())?
        .map(Arc::new)
    }
}

/// Folds, and keeps the bodies on disk before their hashes are told to anybody.
fn store(parts: &FoldParts, bills: &dyn BillStore) -> Result<BilledRoot, String> {
    let bodies = parts.fold().map_err(|error| error.to_string())?;
    let mut hashes = Vec::with_capacity(bodies.len());
    for body in &bodies {
        let bytes = Bytes::from(codec::encode(body));
        let body_hash = *blake3::hash(&bytes).as_bytes();
        bills.put(body.cycle, &body_hash, bytes).map_err(|error| error.to_string())?;
        hashes.push(BillHash { payer: body.payer.clone(), currency: body.currency, body_hash });
    }
    bills.flush().map_err(|error| error.to_string())?;
    hashes.sort();
    Ok(BilledRoot { root: parts.root().clone(), cycle: parts.cycle(), bills: hashes, postings: Vec::new() })
}

/// One hash over all that was folded, for comparing replicas.
pub fn digest(billed: &BilledRoot) -> Hash {
    let mut hasher = blake3::Hasher::new();
    let mut text = |value: &str| {
        hasher.update(&(value.len() as u64).to_be_bytes());
        hasher.update(value.as_bytes());
    };
    text(billed.root.as_str());
    text(&billed.cycle.to_string());
    for bill in &billed.bills {
        text(bill.payer.as_str());
        text(bill.currency.as_str());
        text(&hex(&bill.body_hash));
    }
    for posting in &billed.postings {
        text(&posting.balance);
        text(&posting.amount.to_string());
    }
    *hasher.finalize().as_bytes()
}
impl Folds { pub async fn archive(&self, _: &Arc<View>, _: &AccountId, _: CycleId) -> Result<Hash, String> { Err("stub".into()) } }
