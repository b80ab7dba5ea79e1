//! Folding cut and claimed cycles, on every replica: from the frozen counters to bill bodies on disk, and their hashes. Done on
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
use reckoner_shard::billing::cycle::{BillHash, Cycles, Status};
use reckoner_shard::billing::kind::{Cause, Kind, Refund};
use reckoner_shard::billing::refund::refund;
use reckoner_shard::machine::claims::Known;
use reckoner_shard::machine::command::{BilledRoot, Claimed};
use reckoner_shard::machine::query::{FoldSource, NoSource, View};
use tokio::sync::{mpsc, oneshot, watch};

use super::reach;
use crate::context::Context;
use crate::store::bills::BillStore;
use crate::workers::{self, Workers};

/// Why what a majority agreed on is not recorded here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// This replica's own is another one: its state is wrong.
    Differs(String),
    /// This replica has none of its own.
    Failed(String),
}

/// What a fold came to: what the leader will propose, or why there is nothing.
pub type Folded = Result<Arc<BilledRoot>, String>;

type Running = watch::Receiver<Option<Folded>>;

/// What is folded: a cut cycle, or the claim at an entry.
type Bill = (AccountId, CycleId, Option<u64>);

/// The folds of one shard on this replica.
#[derive(Clone)]
pub struct Folds {
    shard: ShardId,
    context: Arc<Context>,
    running: Arc<Mutex<BTreeMap<Bill, Running>>>,
    /// One waiter a running fold, so as many as cycles that are cut.
    flushes: mpsc::UnboundedSender<Flushed>,
}

impl Folds {
    pub fn new(shard: ShardId, context: &Arc<Context>) -> Self {
        let (flushes, asked) = mpsc::unbounded_channel();
        tokio::spawn(flush_for_all(context.bills.clone(), context.workers.clone(), asked));
        Self { shard, context: context.clone(), running: Arc::default(), flushes }
    }

    /// Begins the fold of a cut or claimed cycle unless it was begun; the result comes through the receiver.
    pub fn ensure(&self, view: &Arc<View>, root: &AccountId, cycle: CycleId) -> Running {
        let mut running = self.running.lock();
        let bill = (root.clone(), cycle, view.claim_of(root, cycle).map(|claim| claim.index));
        if let Some(begun) = running.get(&bill) {
            return begun.clone();
        }
        let (done, result) = watch::channel(None);
        running.insert(bill, result.clone());
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
        is_due(view, root, cycle).then(|| self.ensure(view, root, cycle).borrow().clone()).flatten()
    }

    /// Lets go of results that are recorded.
    pub fn forget(&self, root: &AccountId, cycle: CycleId) {
        self.running.lock().retain(|(own, of, _), _| (own, *of) != (root, cycle));
    }

    /// Waits for this replica's own fold and compares it with what is about to be recorded.
    ///
    /// # Errors
    /// The two differ, or there is no fold: this replica must stop.
    pub async fn compare(&self, view: &Arc<View>, agreed: &BilledRoot) -> Result<(), Doubt> {
        let claim = view.claim_of(&agreed.root, agreed.cycle).map(|claim| claim.index);
        let is_it = claim == agreed.claim.as_ref().map(|claim| claim.index);
        if !is_it || !is_due(view, &agreed.root, agreed.cycle) {
            // Recorded before, or refused by the machine.
            return Ok(());
        }
        let mut running = self.ensure(view, &agreed.root, agreed.cycle);
        let own = match running.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        let own = own.unwrap_or_else(|| Err("the fold ended without a result".to_owned())).map_err(Doubt::Failed)?;
        if *own == *agreed {
            return Ok(());
        }
        Err(Doubt::Differs(format!(
            "the bills of {} for {} differ: {} agreed, {} folded here",
            agreed.root,
            agreed.cycle,
            hex(&digest(agreed)),
            hex(&digest(&own))
        )))
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
    ) -> Result<(), Doubt> {
        // Others were recorded before, or the machine refuses them.
        let issued =
            agreed.into_iter().filter(|(root, cycle, _)| view.cycle_status(root, *cycle) == Ok(Status::Issued));
        let agreed: Vec<_> = issued.collect();
        if agreed.is_empty() {
            return Ok(());
        }
        let own = self.archive(view, agreed.iter().map(|(root, cycle, _)| (root.clone(), *cycle)).collect()).await;
        let own = own.map_err(Doubt::Failed)?;
        for ((root, cycle, agreed), (.., own)) in agreed.iter().zip(&own) {
            if agreed != own {
                let (agreed, own) = (hex(agreed), hex(own));
                let why = format!("the archives of {root} for {cycle} differ: {agreed} agreed, {own} here");
                return Err(Doubt::Differs(why));
            }
        }
        Ok(())
    }

    async fn fold(&self, view: Arc<View>, root: &AccountId, cycle: CycleId) -> Folded {
        let bills = self.context.bills.clone();
        let claim = view.claim_of(root, cycle);
        let stored = match claim.map(|claim| (claim.index, claim.cause)) {
            Some((index, Cause::Refund(asked))) => {
                let cycles = view.cycles(root).map_err(|refusal| refusal.to_string())?;
                let root = root.clone();
                let refund = move || refunded(&cycles, root, cycle, index, &asked, bills.as_ref());
                workers::run(self.context.workers.as_ref(), refund).await
            }
            _ => {
                let source = source(&self.context, &view, root, cycle, Wanted::Due).await;
                let source = source.map_err(|why| why.to_string())?;
                workers::run(self.context.workers.as_ref(), move || store(source, bills.as_ref())).await
            }
        };
        let stored = stored.map_err(|lost| lost.to_string())??;
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

/// Whether bills of the cycle are to be made.
fn is_due(view: &View, root: &AccountId, cycle: CycleId) -> bool {
    view.cycle_status(root, cycle) == Ok(Status::Closing) || view.claim_of(root, cycle).is_some()
}

/// What of a cycle is to be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What was cut or claimed.
    Due,
    /// What is known now.
    Now,
}

/// The input of a fold, once every catalogue that it needs is compiled here.
pub async fn source(
    context: &Arc<Context>,
    view: &Arc<View>,
    root: &AccountId,
    cycle: CycleId,
    wanted: Wanted,
) -> Result<FoldSource, NoSource> {
    loop {
        let (asked, here, root) = (view.clone(), context.clone(), root.clone());
        let gathered = workers::run(context.workers.as_ref(), move || gather(&here, &asked, &root, cycle, wanted));
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

fn gather(
    context: &Context,
    view: &View,
    root: &AccountId,
    cycle: CycleId,
    wanted: Wanted,
) -> Result<FoldSource, NoSource> {
    let hash = view.archive_hash(root, cycle);
    let missing = |why: String| Refusal::new(Reason::ResourceExhausted, format!("the archive of {cycle}: {why}"));
    let read = |hash| match context.bills.get(Some(cycle), &hash) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(missing("it is not at this node yet; ask again".to_owned())),
        Err(error) => Err(missing(error.to_string())),
    };
    let archive = hash.map(read).transpose()?;
    let is_claimed = wanted == Wanted::Due && view.claim_of(root, cycle).is_some();
    let what = match (is_claimed, archive.as_deref()) {
        (true, archive) => Known::Claimed(archive),
        (false, Some(archive)) => Known::WithLate(archive),
        (false, None) => Known::OnTime,
    };
    view.known_source(root, cycle, context.catalogues.as_ref(), what)
}

/// The bills of a source: the one function behind estimates and everything that is issued.
///
/// # Errors
/// The fold's, or an earlier bill of the cycle that is not on this node's disk.
pub fn bodies(source: &FoldSource, bills: &dyn BillStore) -> Result<Vec<BillBody>, String> {
    source.bills(&earlier(source, bills)?).map_err(|error| error.to_string())
}

/// The bills that would come next: of the close, and where the contract has it so, of what a year is short of.
pub fn estimates(mut source: FoldSource, bills: &dyn BillStore) -> Result<Vec<(Kind, BillBody)>, String> {
    let mut earlier = earlier(&source, bills)?;
    let bodies = source.bills(&earlier).map_err(|error| error.to_string())?;
    let mut estimates: Vec<(Kind, BillBody)> = bodies.into_iter().map(|body| (source.kind, body)).collect();
    let bills_shortfalls = source.contract.as_ref().is_some_and(|own| own.contract.bills_shortfalls());
    if source.kind == Kind::Anniversary && bills_shortfalls {
        source.kind = Kind::Shortfall;
        earlier.extend(estimates.iter().map(|(_, body)| body.clone()));
        let shortfalls = source.bills(&earlier).map_err(|error| error.to_string())?;
        estimates.extend(shortfalls.into_iter().map(|body| (source.kind, body)));
    }
    Ok(estimates)
}

fn earlier(source: &FoldSource, bills: &dyn BillStore) -> Result<Vec<BillBody>, String> {
    source.earlier.iter().map(|bill| read(source.cycle, &bill.body_hash, bills)).collect()
}

/// A bill's body from this node's disk.
fn read(cycle: CycleId, hash: &Hash, bills: &dyn BillStore) -> Result<BillBody, String> {
    let named = |why: String| format!("bill {} of {cycle}: {why}", hex(hash));
    let bytes = bills.get(Some(cycle), hash).map_err(|error| named(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| named("it is not at this node yet".to_owned()))?;
    codec::decode(&bytes).map_err(|error| named(error.to_string()))
}

/// What of a bill is paid back, put beside it.
fn refunded(
    cycles: &Cycles,
    root: AccountId,
    cycle: CycleId,
    index: u64,
    asked: &Refund,
    bills: &dyn BillStore,
) -> Result<BilledRoot, String> {
    let (billed, earlier) = cycles
        .refund_of(cycle, asked)
        .ok_or_else(|| format!("payer {} has no bill {} of {cycle}", asked.payer, asked.number))?;
    let earlier = earlier.iter().map(|hash| read(cycle, hash, bills)).collect::<Result<Vec<_>, _>>()?;
    let body = refund(&read(cycle, &billed, bills)?, &earlier, asked);
    let bills = body.iter().map(|body| put(body, bills)).collect::<Result<_, _>>()?;
    let claim = Some(Claimed { index, archive: None });
    Ok(BilledRoot { root, cycle, bills, postings: Vec::new(), claim })
}

/// Puts a body under its hash.
fn put(body: &BillBody, bills: &dyn BillStore) -> Result<BillHash, String> {
    let bytes = Bytes::from(codec::encode(body));
    let body_hash = codec::body_hash(&bytes);
    bills.put(Some(body.cycle), &body_hash, bytes).map_err(|error| error.to_string())?;
    Ok(BillHash { payer: body.payer.clone(), currency: body.currency, body_hash })
}

/// Folds and puts the bodies, of a claim its counters too; a flush must follow before their hashes are told to anybody.
fn store(source: FoldSource, bills: &dyn BillStore) -> Result<BilledRoot, String> {
    let bodies = bodies(&source, bills)?;
    let (root, cycle) = (source.hierarchy.root.clone(), source.cycle);
    let mut hashes = bodies.iter().map(|body| put(body, bills)).collect::<Result<Vec<_>, _>>()?;
    hashes.sort();
    let claim = match source.claim {
        None => None,
        Some((index, archive)) => {
            let hash = *blake3::hash(&archive).as_bytes();
            bills.put(Some(cycle), &hash, archive.into()).map_err(|error| error.to_string())?;
            Some(Claimed { index, archive: Some(hash) })
        }
    };
    Ok(BilledRoot { root, cycle, bills: hashes, postings: postings(&bodies), claim })
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
    if let Some(claim) = &billed.claim {
        text(&claim.index.to_string());
        text(&claim.archive.map_or(String::new(), |hash| hex(&hash)));
    }
    *hasher.finalize().as_bytes()
}
