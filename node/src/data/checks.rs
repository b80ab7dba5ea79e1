//! Whether the replicas of a shard are equal. An entry fixes an index; every replica keeps the view that it has there,
//! hashes it in the background, asks the others and decides for itself: one that a majority differs from gives up its
//! state and is rebuilt (`crate::rebuild`); where all differ and no majority is left, each stops.
//!
//! Behind it every check looks through a part of the bills and archives that the shard names, and mends what this disk
//! has lost. When checks are made is the cycle clock's and the operator's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use reckoner_raft::group::Group;
use reckoner_raft::types::NodeId;
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::base::id::{ShardId, Slot};
use reckoner_shard::machine::digest::{Difference, Digest};
use reckoner_shard::machine::query::View;
use tokio::time::{Instant, sleep, timeout};

use super::check::{Check, End, Known};
use super::{contents, reach};
use crate::condemned::Condemned;
use crate::context::Context;
use crate::internal::internal_client::InternalClient;
use crate::internal::{DigestReply, DigestRequest};
use crate::workers;

/// Digests of a shard that are kept for whoever asks late: 140 KiB each at most.
const KEPT_MAX: usize = 4;

/// How fast a state is hashed and bills are read, at most: a tenth of what a core does.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// Between two pauses.
const BYTES_AT_ONCE: u64 = 4 << 20;

/// Bills and archives that one check looks through; the next one goes on behind them.
const SCRUBBED_BYTES_MAX: u64 = 1 << 30;

/// Between two rounds of asking other replicas; longer once they were asked often.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASK_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// How long another replica may take for one answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A check that has its majority is told as done after this, though a replica is silent.
const HASTE: Duration = Duration::from_secs(5);

/// How long is waited for replicas that are away or still hash; the next check is for them.
const PATIENCE: Duration = Duration::from_secs(300);

/// The checks of one shard on this replica.
#[derive(Clone)]
pub struct Checks {
    shard: ShardId,
    context: Arc<Context>,
    known: Arc<Mutex<Known>>,
}

impl Checks {
    pub fn new(shard: ShardId, context: &Arc<Context>) -> Self {
        Self { shard, context: context.clone(), known: context.checks.of(shard) }
    }

    /// Whether a leader should begin a check now. Shards take turns within the interval.
    pub fn is_due(&self) -> bool {
        let interval = Duration::from_millis(self.context.config.check_interval_ms);
        if interval.is_zero() {
            return false;
        }
        let now = Instant::now();
        let mut known = self.known.lock();
        match known.due {
            Some(due) if now < due => false,
            Some(_) => {
                known.due = Some(now + interval);
                true
            }
            None => {
                let turn = self.shard.0.wrapping_mul(0x9E37_79B9) >> 24;
                known.due = Some(now + interval / 2 + interval * turn / 512);
                false
            }
        }
    }

    /// The entry that fixes an index was applied: `view` is the state there.
    pub fn begin(&self, view: Arc<View>, index: u64) {
        let mut known = self.known.lock();
        if known.hashing.is_some() {
            known.next = Some((view, index));
            return;
        }
        known.hashing = Some(index);
        drop(known);
        tokio::spawn(self.clone().hash_all(view, index));
    }

    /// Hashes one view after the other, for as long as there are any.
    async fn hash_all(self, first: Arc<View>, at: u64) {
        let mut next = Some((first, at));
        while let Some((view, index)) = next {
            match self.hash(view.clone()).await {
                Ok(digest) => {
                    let digest = Arc::new(digest);
                    let at = self.context.clock.now();
                    let check = Check {
                        index,
                        at,
                        end: End::Running,
                        equal: vec![self.context.node],
                        differ: Vec::new(),
                        silent: Vec::new(),
                    };
                    {
                        let mut known = self.known.lock();
                        known.own.insert(index, digest.clone());
                        while known.own.len() > KEPT_MAX {
                            known.own.pop_first();
                        }
                        known.last = Some(check.clone());
                    }
                    tokio::spawn(self.clone().compare(digest, check));
                    self.scrub(&view).await;
                }
                Err(reason) => tracing::warn!(shard = %self.shard, index, reason, "a state is not hashed"),
            }
            let mut known = self.known.lock();
            next = known.next.take();
            known.hashing = next.as_ref().map(|(_, index)| *index);
        }
    }

    async fn hash(&self, view: Arc<View>) -> Result<Digest, String> {
        let rest = view.rest_hash();
        let numbers: Arc<Vec<u16>> = Arc::new(view.slots.keys().copied().collect());
        let (mut slots, mut at) = (BTreeMap::new(), 0);
        while at < numbers.len() {
            let begun = Instant::now();
            let (view, numbers) = (view.clone(), numbers.clone());
            let hashed = workers::run(self.context.workers.as_ref(), move || {
                let (mut hashed, mut bytes, mut at) = (Vec::new(), 0, at);
                while at < numbers.len() && bytes < BYTES_AT_ONCE {
                    if let Some((hash, count)) = view.slot_hash(Slot(numbers[at])) {
                        hashed.push((numbers[at], hash));
                        bytes += count;
                    }
                    at += 1;
                }
                (hashed, bytes, at)
            });
            let (hashed, bytes, next) = hashed.await.map_err(|lost| lost.to_string())?;
            slots.extend(hashed);
            at = next;
            pace(begun, bytes).await;
        }
        Ok(Digest { rest, slots })
    }

    /// Asks the other replicas until it is clear who is right and all have answered, or a newer check is under way.
    async fn compare(self, own: Arc<Digest>, mut check: Check) {
        let (index, node, begun, checks) = (check.index, self.context.node, Instant::now(), &self);
        let mut reports: BTreeMap<u64, Option<Hash>> = BTreeMap::from([(node, Some(own.whole()))]);
        let mut places: BTreeMap<u64, Difference> = BTreeMap::new();
        let mut pause = ASK_INTERVAL;
        loop {
            // It is not open before it has applied what it knew, and closed when it is rebuilt.
            if let Some(shard) = self.context.shards.get(self.shard) {
                let status = shard.group().status();
                let voters: BTreeSet<u64> = status.voters.iter().map(|node| node.0).collect();
                let asked = voters.iter().filter(|node| !reports.contains_key(node)).filter_map(|node| {
                    let address = status.addresses.get(&NodeId(*node))?.clone();
                    Some(async move { (*node, checks.ask(&address, index, false).await) })
                });
                let answers = join_all(asked.collect::<Vec<_>>()).await;
                for (node, reply) in answers.into_iter().filter_map(|(node, reply)| Some((node, reply?))) {
                    let hash = reply.whole.as_ref().try_into().ok();
                    if hash.is_some() || reply.passed {
                        reports.insert(node, hash);
                    }
                }
                let verdict = judge((node, own.whole()), &voters, &reports);
                for (other, hash) in reports.iter().filter_map(|(other, hash)| Some((*other, (*hash)?))) {
                    if hash != own.whole() && !places.contains_key(&other) {
                        let address = status.addresses.get(&NodeId(other)).cloned();
                        let told = self.ask(&address.unwrap_or_default(), index, true).await.and_then(digest_in);
                        places.insert(other, told.map(|other| own.difference(&other)).unwrap_or_default());
                    }
                }
                let silent = voters.difference(&reports.keys().copied().collect()).copied().collect::<Vec<u64>>();
                let is_over = silent.is_empty() || begun.elapsed() >= PATIENCE || self.is_overtaken(index);
                check = self.told(&check, verdict, &reports, &places, silent);
                match verdict {
                    Verdict::Wrong(agreed) => return self.give_up(check, agreed, &reports, &status.addresses),
                    Verdict::Split => return self.stop(check, shard.group()).await,
                    Verdict::Equal | Verdict::Open if is_over => return self.settle(check, verdict),
                    Verdict::Equal | Verdict::Open => {
                        // Those that answer at all have said something by then.
                        if verdict == Verdict::Open || begun.elapsed() < HASTE {
                            check.end = End::Running;
                        }
                        self.note(check.clone());
                    }
                }
            } else if begun.elapsed() >= PATIENCE || self.is_overtaken(index) {
                return;
            }
            tokio::select! {
                () = self.context.host.until_stopped() => return,
                () = sleep(pause) => (),
            }
            pause = (pause * 2).min(ASK_INTERVAL_MAX);
        }
    }

    /// The check with what is known by now.
    fn told(
        &self,
        check: &Check,
        verdict: Verdict,
        reports: &BTreeMap<u64, Option<Hash>>,
        places: &BTreeMap<u64, Difference>,
        silent: Vec<u64>,
    ) -> Check {
        let node = self.context.node;
        let own = reports.get(&node).copied().flatten();
        let agreed = if let Verdict::Wrong(agreed) = verdict { Some(agreed) } else { own };
        let said = reports.iter().filter_map(|(node, hash)| Some((*node, (*hash)?)));
        let differ = said.clone().filter(|(_, hash)| Some(*hash) != agreed).map(|(other, _)| {
            // This replica differs from the others where one that is right differs from it.
            let right = || reports.iter().find(|(_, hash)| **hash == agreed).and_then(|(right, _)| places.get(right));
            let where_to = if other == node { right() } else { places.get(&other) };
            (other, where_to.cloned().unwrap_or_default())
        });
        Check {
            end: match verdict {
                Verdict::Equal => End::Equal,
                Verdict::Wrong(_) => End::Wrong,
                Verdict::Split => End::Split,
                Verdict::Open => End::Running,
            },
            equal: said.clone().filter(|(_, hash)| Some(*hash) == agreed).map(|(node, _)| node).collect(),
            differ: differ.collect(),
            silent,
            ..check.clone()
        }
    }

    /// Whether a newer digest is here, which the others can be compared with as well.
    fn is_overtaken(&self, index: u64) -> bool {
        self.known.lock().own.last_key_value().is_some_and(|(newest, _)| *newest > index)
    }

    /// Keeps a check unless a newer one is known.
    fn note(&self, check: Check) {
        let mut known = self.known.lock();
        if known.last.as_ref().is_none_or(|last| last.index <= check.index) {
            known.last = Some(check);
        }
    }

    fn settle(&self, mut check: Check, verdict: Verdict) {
        let (shard, index) = (self.shard, check.index);
        if verdict == Verdict::Open {
            check.end = End::Untold;
        }
        match check.trouble(shard) {
            Some(trouble) => tracing::error!(%shard, index, trouble, "replicas differ"),
            None if verdict == Verdict::Equal => {
                tracing::debug!(%shard, index, nodes = ?check.equal, "replicas are equal");
            }
            None => tracing::debug!(%shard, index, silent = ?check.silent, "too few replicas to compare"),
        }
        self.note(check);
    }

    /// This replica's state is wrong: from here on nobody is served from it.
    fn give_up(
        &self,
        check: Check,
        agreed: Hash,
        reports: &BTreeMap<u64, Option<Hash>>,
        addresses: &BTreeMap<NodeId, String>,
    ) {
        let (shard, index) = (self.shard, check.index);
        let reason = check.trouble(shard).unwrap_or_default();
        tracing::error!(%shard, index, agreed = hex(&agreed), reason, "this replica is wrong and is rebuilt");
        let right = reports.iter().filter(|(_, hash)| **hash == Some(agreed)).map(|(node, _)| *node);
        let address = |node: &u64| addresses.get(&NodeId(*node)).cloned();
        let sources = right.filter_map(|node| Some((node, address(&node)?))).collect();
        self.context.shards.remove(shard);
        self.context.counts.differences.fetch_add(1, Ordering::Relaxed);
        self.context.rebuilds.condemn(Condemned { shard, reason, sources });
        self.note(check);
    }

    /// Nobody can say which replica is right.
    async fn stop(&self, check: Check, group: &Group) {
        let (shard, index) = (self.shard, check.index);
        let reason = check.trouble(shard).unwrap_or_default();
        tracing::error!(%shard, index, reason, "no majority of replicas is equal, this one stops");
        self.context.shards.remove(shard);
        self.context.counts.differences.fetch_add(1, Ordering::Relaxed);
        self.note(check);
        group.halt(&reason).await;
    }

    async fn ask(&self, address: &str, index: u64, places: bool) -> Option<DigestReply> {
        let mut client = InternalClient::new(reach::channel(&self.context, address).ok()?);
        let request = DigestRequest { shard: self.shard.0, index, places };
        Some(timeout(ASK_TIMEOUT, client.digest(request)).await.ok()?.ok()?.into_inner())
    }

    /// Reads a part of what the state names on this disk, and gets from others what is damaged or missing.
    async fn scrub(&self, view: &View) {
        let contents = view.contents();
        let from = self.known.lock().scrubbed;
        let begin = from.map_or(0, |last| contents.partition_point(|hash| *hash <= last));
        let mut read_bytes = 0;
        for hash in contents[begin..].iter().copied() {
            let begun = Instant::now();
            let bills = self.context.bills.clone();
            let read = workers::run(self.context.workers.as_ref(), move || {
                // A store may be careless with what it reads; the hash is not.
                let found = bills.get(None, &hash).ok().flatten();
                found.filter(|bytes| blake3::hash(bytes).as_bytes() == &hash).map(|bytes| bytes.len() as u64)
            });
            match read.await {
                Ok(Some(bytes)) => {
                    read_bytes += bytes;
                    pace(begun, bytes).await;
                }
                Ok(None) => {
                    let name = hex(&hash);
                    self.context.counts.mended.fetch_add(1, Ordering::Relaxed);
                    match contents::mend(&self.context, hash).await {
                        Ok(()) => {
                            tracing::error!(shard = %self.shard, name, "a bill or archive was damaged or missing and is mended")
                        }
                        Err(reason) => {
                            tracing::error!(shard = %self.shard, name, reason, "a bill or archive is damaged or missing")
                        }
                    }
                }
                Err(lost) => tracing::warn!(shard = %self.shard, %lost, "bills are not looked through"),
            }
            self.known.lock().scrubbed = Some(hash);
            if read_bytes >= SCRUBBED_BYTES_MAX {
                return;
            }
        }
        self.known.lock().scrubbed = None;
    }
}

/// Waits until so many bytes may have been read since `begun`.
async fn pace(begun: Instant, bytes: u64) {
    if bytes >= BYTES_AT_ONCE {
        tokio::time::sleep_until(begun + Duration::from_micros(bytes * 1_000_000 / BYTES_PER_SECOND)).await;
    }
}

fn digest_in(reply: DigestReply) -> Option<Digest> {
    let hash = |bytes: &[u8]| bytes.try_into().ok();
    let slots = reply.slots.iter().map(|slot| Some((u16::try_from(slot.slot).ok()?, hash(&slot.hash)?)));
    Some(Digest { rest: hash(&reply.rest)?, slots: slots.collect::<Option<BTreeMap<_, _>>>()? })
}

/// What the reports say to the replica that has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Not enough has been said.
    Open,
    Equal,
    /// A majority has this other hash.
    Wrong(Hash),
    /// All voters have a hash, and no majority the same.
    Split,
}

/// Judges the replica `own` by what voters reported: a hash, or that they will never have one.
fn judge(own: (u64, Hash), voters: &BTreeSet<u64>, reports: &BTreeMap<u64, Option<Hash>>) -> Verdict {
    let mut counts: BTreeMap<Hash, usize> = BTreeMap::new();
    for voter in voters {
        if let Some(Some(hash)) = reports.get(voter) {
            *counts.entry(*hash).or_default() += 1;
        }
    }
    match counts.iter().find(|(_, count)| **count * 2 > voters.len()) {
        Some((agreed, _)) if *agreed == own.1 => Verdict::Equal,
        Some((agreed, _)) => Verdict::Wrong(*agreed),
        None if !voters.is_empty() && counts.values().sum::<usize>() == voters.len() => Verdict::Split,
        None => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_voters_decides() {
        let (a, b, c) = ([1; 32], [2; 32], [3; 32]);
        let check = |own: Hash, voters: &[u64], others: &[(u64, Option<Hash>)], expected: Verdict| {
            let mut reports: BTreeMap<u64, Option<Hash>> = others.iter().copied().collect();
            reports.insert(1, Some(own));
            assert_eq!(judge((1, own), &voters.iter().copied().collect(), &reports), expected, "{voters:?} {others:?}");
        };
        check(a, &[1], &[], Verdict::Equal);
        check(a, &[1, 2, 3], &[], Verdict::Open);
        check(a, &[1, 2, 3], &[(2, Some(a))], Verdict::Equal);
        check(a, &[1, 2, 3], &[(2, Some(b))], Verdict::Open);
        check(a, &[1, 2, 3], &[(2, Some(b)), (3, None)], Verdict::Open);
        check(a, &[1, 2, 3], &[(2, Some(b)), (3, Some(b))], Verdict::Wrong(b));
        check(a, &[1, 2, 3], &[(2, Some(b)), (3, Some(a))], Verdict::Equal);
        check(a, &[1, 2, 3], &[(2, Some(b)), (3, Some(c))], Verdict::Split);
        check(a, &[1, 2], &[(2, Some(b))], Verdict::Split);
        // One without a vote is judged by those who have one.
        check(a, &[2, 3, 4], &[(2, Some(b)), (3, Some(b))], Verdict::Wrong(b));
        check(a, &[2, 3, 4], &[(2, Some(a))], Verdict::Open);
    }
}
