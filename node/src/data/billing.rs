//! Folding cut cycles, on every replica: from the frozen counters to bill bodies on disk, and their hashes. Done on
//! workers, outside the shard's actor; what is agreed on is compared here before the machine records it. Every step is
//! safe to repeat: a fold is a function of what the cut froze, and bodies are kept under their own hashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::bill::{BillBody, postings};
use reckoner_shard::billing::codec;
use reckoner_shard::billing::cycle::{BillHash, Phase, Status};
use reckoner_shard::billing::fold::fold;
use reckoner_shard::billing::input::FoldError;
use reckoner_shard::machine::command::BilledRoot;
use reckoner_shard::machine::query::{FoldSource, NoSource, View};
use tokio::sync::{mpsc, oneshot, watch};

use super::reach;
use crate::context::Context;
use crate::store::bills::BillStore;
use crate::workers::{self, Workers};

/// What a fold came to: what the leader will propose, or why there is nothing.
pub type Folded = Result<Arc<BilledRoot>, String>;

type Running = watch::Receiver<Option<Folded>>;

/// The folds of one shard on this replica.
#[derive(Clone)]
pub struct Folds {
    shard: ShardId,
    context: Arc<Context>,
    running: Arc<Mutex<BTreeMap<(AccountId, CycleId), Running>>>,
    /// One waiter a running fold, so as many as cycles that are cut.
    flushes: mpsc::UnboundedSender<Flushed>,
}

impl Folds {
    pub fn new(shard: ShardId, context: &Arc<Context>) -> Self {
        let (flushes, asked) = mpsc::unbounded_channel();
        tokio::spawn(flush_for_all(context.bills.clone(), context.workers.clone(), asked));
        Self { shard, context: context.clone(), running: Arc::default(), flushes }
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
        if is_closing(view, root, cycle) {
            return self.ensure(view, root, cycle).borrow().clone();
        }
        let running = self.running.lock();
        running.get(&(root.clone(), cycle)).and_then(|running| running.borrow().clone())
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
        if !is_closing(view, &agreed.root, agreed.cycle) {
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

    /// Writes the counters of issued cycles beside their bills, durably with one flush, and answers the hash of each.
    pub async fn archive(
        &self,
        view: &Arc<View>,
        cycles: Vec<(AccountId, CycleId)>,
    ) -> Result<Vec<(AccountId, CycleId, Hash)>, String> {
        let (view, bills) = (view.clone(), self.context.bills.clone());
        let archived = workers::run(self.context.workers.as_ref(), move || {
            let mut archived = Vec::with_capacity(cycles.len());
            for (root, cycle) in cycles {
                let bytes = Bytes::from(view.archive(&root, cycle).map_err(|refusal| refusal.to_string())?);
                let hash = *blake3::hash(&bytes).as_bytes();
                bills.put(Some(cycle), &hash, bytes).map_err(|error| error.to_string())?;
                archived.push((root, cycle, hash));
            }
            bills.flush().map_err(|error| error.to_string())?;
            Ok(archived)
        });
        archived.await.map_err(|lost| lost.to_string())?
    }

    /// Makes sure that this replica's own archives are on disk and those that are about to be recorded: the counters
    /// leave memory with that entry.
    ///
    /// # Errors
    /// One differs, or the disk fails: this replica must stop.
    pub async fn compare_archives(
        &self,
        view: &Arc<View>,
        agreed: Vec<(AccountId, CycleId, Hash)>,
    ) -> Result<(), String> {
        // Others were recorded before, or the machine refuses them.
        let issued =
            agreed.into_iter().filter(|(root, cycle, _)| view.cycle_status(root, *cycle) == Ok(Status::Issued));
        let agreed: Vec<_> = issued.collect();
        if agreed.is_empty() {
            return Ok(());
        }
        let own = self.archive(view, agreed.iter().map(|(root, cycle, _)| (root.clone(), *cycle)).collect()).await?;
        for ((root, cycle, agreed), (.., own)) in agreed.iter().zip(&own) {
            if agreed != own {
                let (agreed, own) = (hex(agreed), hex(own));
                return Err(format!("the archives of {root} for {cycle} differ: {agreed} agreed, {own} here"));
            }
        }
        Ok(())
    }

    async fn fold(&self, view: Arc<View>, root: &AccountId, cycle: CycleId) -> Folded {
        let source = source(&self.context, &view, root, cycle).await.map_err(|why| why.to_string())?;
        let bills = self.context.bills.clone();
        let stored = workers::run(self.context.workers.as_ref(), move || store(&source, bills.as_ref()));
        let stored = stored.await.map_err(|lost| lost.to_string())??;
        self.flushed().await?;
        Ok(Arc::new(stored))
    }

    /// Returns after a flush that began now or later: folds that end together share one.
    async fn flushed(&self) -> Result<(), String> {
        let gone = || "the node stops".to_owned();
        let (done, flushed) = oneshot::channel();
        self.flushes.send(done).map_err(|_| gone())?;
        flushed.await.map_err(|_| gone())?
    }
}

type Flushed = oneshot::Sender<Result<(), String>>;

/// Flushes the BillStore for all who wait, again and again until nobody can ask any more.
async fn flush_for_all(
    bills: Arc<dyn BillStore>,
    workers: Arc<dyn Workers>,
    mut asked: mpsc::UnboundedReceiver<Flushed>,
) {
    while let Some(first) = asked.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = asked.try_recv() {
            waiting.push(next);
        }
        let bills = bills.clone();
        let flushed = workers::run(workers.as_ref(), move || bills.flush().map_err(|error| error.to_string())).await;
        let result = flushed.unwrap_or_else(|lost| Err(lost.to_string()));
        for waiter in waiting {
            // One that gave up needs no answer.
            let _ = waiter.send(result.clone());
        }
    }
}

fn is_closing(view: &View, root: &AccountId, cycle: CycleId) -> bool {
    view.cycle_status(root, cycle) == Ok(Status::Closing)
}

/// The input of a fold, once every catalogue that it needs is compiled here.
pub async fn source(
    context: &Arc<Context>,
    view: &Arc<View>,
    root: &AccountId,
    cycle: CycleId,
) -> Result<FoldSource, NoSource> {
    loop {
        let (asked, catalogues, root) = (view.clone(), context.catalogues.clone(), root.clone());
        let gathered =
            workers::run(context.workers.as_ref(), move || asked.fold_source(&root, cycle, catalogues.as_ref()));
        match gathered.await {
            Ok(Err(NoSource::BlobMissing(hash))) => {
                reach::catalogue(context, &hash).await.map_err(|_| NoSource::BlobMissing(hash))?;
            }
            Ok(result) => return result,
            Err(lost) => {
                return Err(Refusal::new(Reason::ResourceExhausted, lost.to_string()).into());
            }
        }
    }
}

/// The bills of a source: the one function behind estimate and close.
pub fn bodies(source: &FoldSource) -> Result<Vec<BillBody>, FoldError> {
    fold(&source.input())
}

/// Folds and puts the bodies; a flush must follow before their hashes are told to anybody.
fn store(source: &FoldSource, bills: &dyn BillStore) -> Result<BilledRoot, String> {
    let bodies = bodies(source).map_err(|error| error.to_string())?;
    let mut hashes = Vec::with_capacity(bodies.len());
    for body in &bodies {
        let bytes = Bytes::from(codec::encode(body));
        let body_hash = codec::body_hash(&bytes);
        bills.put(Some(body.cycle), &body_hash, bytes).map_err(|error| error.to_string())?;
        hashes.push(BillHash { payer: body.payer.clone(), currency: body.currency, body_hash });
    }
    hashes.sort();
    let root = source.hierarchy.root.clone();
    Ok(BilledRoot { root, cycle: source.cycle, bills: hashes, postings: postings(&bodies) })
}

/// Everything in the BillStore that a state names: bodies of bills and archives, each under its own hash.
pub fn contents_of(view: &View) -> Vec<Hash> {
    let mut contents = Vec::new();
    for (_, root) in view.roots() {
        let Ok(cycles) = view.cycles(root) else { continue };
        for cut in &cycles.cut {
            match &cut.phase {
                Phase::Closing => (),
                Phase::Closed(bills) => contents.extend(bills.iter().map(|bill| bill.body_hash)),
                Phase::Issued(bills) => contents.extend(bills.iter().map(|bill| bill.body_hash)),
                Phase::Archived(bills, archive) => {
                    contents.extend(bills.iter().map(|bill| bill.body_hash));
                    contents.push(*archive);
                }
            }
        }
    }
    contents.sort_unstable();
    contents.dedup();
    contents
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
