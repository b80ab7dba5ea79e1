//! What gathers a producer's records, shared by the front and the driver: bodies by shard, sealed by count, bytes and
//! age, and the counts of what is under way. What a sealed body becomes is `driver`'s matter.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use reckoner_shard::base::id::{ProducerId, ShardId};
use reckoner_shard::base::refusal::Refusal;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::segment::BATCH_RECORDS_MAX;
use reckoner_shard::usage::series::SeriesKey;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use super::records::{Astray, Body, Pending, Series, Settled};
use crate::client::Client;
use crate::directory::Home;
use crate::error::Error;
use crate::proto;

/// How records are gathered and sent.
#[derive(Clone, Debug)]
pub struct Batching {
    /// A batch goes when it has as many records; 1 to 10,000.
    pub records_max: usize,
    /// A batch goes when it has about as many bytes.
    pub bytes_max: usize,
    /// A batch goes when its first record is that old.
    pub age_max: Duration,
    /// Batches of one shard under way at once; 1 to 64. More hide a longer way, and cost more when one is lost.
    pub in_flight_max: usize,
    /// Records handed over and not settled, over all shards; full means that `push` waits.
    pub records_in_flight_max: usize,
    /// How long a slot waits after MOVING, SLOT_MOVING, WRONG_SHARD or RESOURCE_EXHAUSTED.
    pub pause: Duration,
    /// Without any verdict for so long, the batcher gives up; whether its records count is then unknown.
    pub give_up_after: Duration,
    /// For a producer that goes on where an earlier process stopped: every number up to this one has a verdict. Without
    /// it a producer begins with its first number again, and what was counted is recognised.
    pub resume_after: Option<u64>,
}

impl Default for Batching {
    fn default() -> Self {
        Batching {
            records_max: BATCH_RECORDS_MAX,
            bytes_max: 2 << 20,
            age_max: Duration::from_millis(5),
            in_flight_max: 4,
            records_in_flight_max: 400_000,
            pause: Duration::from_millis(50),
            give_up_after: Duration::from_secs(60),
            resume_after: None,
        }
    }
}

/// Told of every verdict, in order within a slot. Called on the sending task: it must not block.
pub trait Sink: Send + 'static {
    /// Records have their verdict.
    fn settled(&mut self, settled: Settled<'_>);

    /// A batch got its verdict so long after it was sent.
    fn batch(&mut self, _took: Duration) {}
}

impl<F: FnMut(Settled<'_>) + Send + 'static> Sink for F {
    fn settled(&mut self, settled: Settled<'_>) {
        self(settled);
    }
}

/// How many records came to what, since the batcher began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Counted, late ones left out.
    pub accepted: u64,
    /// Counted for a cycle that was cut before.
    pub late: u64,
    /// Counted by an earlier sending.
    pub duplicate: u64,
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub accepted: AtomicU64,
    pub late: AtomicU64,
    pub duplicate: AtomicU64,
    pub refused: AtomicU64,
}

/// What front and driver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub client: Client,
    pub config: Batching,
    pub producer: ProducerId,
    /// `None`: by id.
    pub epoch: Option<u64>,
    pub room: Arc<Semaphore>,
    /// Records pushed and not settled.
    pub outstanding: AtomicU64,
    /// There is something to do after idleness.
    pub work: Notify,
    /// Nothing is outstanding any more, or the batcher failed.
    pub done: Notify,
    pub failed: OnceLock<Error>,
    pub positions: Mutex<BTreeMap<ShardId, proto::Position>>,
    pub counts: Counts,
    pub open: Mutex<Open>,
    pub driver: mpsc::WeakUnboundedSender<Message>,
}

/// What is being gathered.
#[derive(Debug)]
pub(super) struct Open {
    /// Epoch of the shard map that the grouping follows.
    pub map_epoch: u64,
    /// Which body a slot's records go to.
    pub body_of: Box<[u16]>,
    pub bodies: Vec<Gathering>,
    pub last_number: u64,
    pub series: u32,
    pub names: HashMap<SeriesKey, Vec<(Home, Series)>>,
}

#[derive(Debug)]
pub(super) struct Gathering {
    pub body: Body,
    pub bytes: usize,
    since: Option<Instant>,
}

/// Why a record was not taken; it may be pushed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Too much is under way: wait with [`super::batcher::Batcher::room`].
    Full,
    /// A number did not rise above the last one, which is given.
    NotRising(u64),
    /// The batcher failed; [`super::batcher::Batcher::failure`] says why.
    Failed,
}

/// What the batcher hands over.
#[derive(Debug)]
pub(super) enum Message {
    /// A new series, under the next index.
    Series(SeriesKey, u8),
    /// Gathered records.
    Sealed(Body),
    /// Records that were refused where their account was, under the series of where it is.
    Found(Body),
    /// A record that was refused, and has no other home.
    Lost(Box<Astray>),
    /// A record that was refused before it was sent.
    Local { number: Option<u64>, id: String, refusal: Refusal },
}

impl Gathering {
    fn of(records_max: usize) -> Gathering {
        let body = Body { records: Vec::with_capacity(records_max), ..Body::default() };
        Gathering { body, bytes: 0, since: None }
    }

    fn is_full(&self, config: &Batching) -> bool {
        self.body.records.len() >= config.records_max || self.bytes >= config.bytes_max
    }

    #[inline]
    pub fn add(&mut self, record: Pending) {
        if self.body.records.is_empty() {
            self.since = Some(Instant::now());
        }
        self.bytes += 24;
        self.body.records.push(record);
    }
}

impl Shared {
    /// Where a series' records are gathered, with room for one more.
    #[inline]
    pub fn gathering<'o>(&self, open: &'o mut Open, series: Series) -> Result<&'o mut Gathering, NotTaken> {
        if self.failed.get().is_some() {
            return Err(NotTaken::Failed);
        }
        let at = usize::from(open.body_of[usize::from(series.slot)]);
        if !open.bodies[at].is_full(&self.config) {
            return Ok(&mut open.bodies[at]);
        }
        self.try_seal(open, at)?;
        // Sealing may have followed a new map.
        let at = usize::from(open.body_of[usize::from(series.slot)]);
        Ok(&mut open.bodies[at])
    }

    /// As many records more are outstanding.
    #[inline]
    pub fn expect(&self, count: u64) {
        if self.outstanding.fetch_add(count, Ordering::AcqRel) == 0 {
            self.work.notify_one();
        }
    }

    /// Hands a gathered body over, if there is room for its records.
    fn try_seal(&self, open: &mut Open, at: usize) -> Result<(), NotTaken> {
        if self.failed.get().is_some() {
            return Err(NotTaken::Failed);
        }
        let count = open.bodies[at].body.records.len();
        if count == 0 {
            return Ok(());
        }
        let Ok(permit) = self.room.clone().try_acquire_many_owned(count as u32) else {
            return if self.room.is_closed() { Err(NotTaken::Failed) } else { Err(NotTaken::Full) };
        };
        open.bodies[at].body.permit = Some(permit);
        self.hand_over(open, at);
        if self.client.routes().epoch() != open.map_epoch {
            self.regroup(open);
        }
        Ok(())
    }

    fn hand_over(&self, open: &mut Open, at: usize) {
        let gathering = std::mem::replace(&mut open.bodies[at], Gathering::of(self.config.records_max));
        if let Some(driver) = self.driver.upgrade() {
            let _ = driver.send(Message::Sealed(gathering.body));
        }
    }

    /// Follows a new shard map. What is gathered under the old one is handed over first, with or without room: a slot
    /// whose records were in two bodies could see them in the wrong order.
    pub fn regroup(&self, open: &mut Open) {
        for at in 0..open.bodies.len() {
            if !open.bodies[at].body.records.is_empty() {
                self.hand_over(open, at);
            }
        }
        let (epoch, map) = self.client.routes().map();
        let mut shards: Vec<ShardId> = map.to_vec();
        shards.sort_unstable();
        shards.dedup();
        for (slot, body) in open.body_of.iter_mut().enumerate() {
            let place = map.get(slot).and_then(|shard| shards.binary_search(shard).ok());
            *body = place.unwrap_or(0) as u16;
        }
        open.bodies = (0..shards.len().max(1)).map(|_| Gathering::of(self.config.records_max)).collect();
        open.map_epoch = epoch;
    }

    /// Seals what is old enough; called by the driver.
    pub fn seal_old(&self) {
        let mut open = self.open.lock();
        let mut at = 0;
        // Sealing may follow a new map, which has fewer shards.
        while let Some(body) = open.bodies.get(at) {
            let is_old = body.since.is_some_and(|since| since.elapsed() >= self.config.age_max);
            if is_old && self.try_seal(&mut open, at).is_err() {
                return;
            }
            at += 1;
        }
    }

    /// Seals everything for which there is room.
    pub fn seal_all(&self) {
        let mut open = self.open.lock();
        let mut at = 0;
        while at < open.bodies.len() {
            if self.try_seal(&mut open, at).is_err() {
                return;
            }
            at += 1;
        }
    }

    /// Adds to the totals.
    pub fn count(&self, verdict: &Verdict, count: u64) {
        let counter = match verdict {
            Verdict::Accepted { late: false } => &self.counts.accepted,
            Verdict::Accepted { late: true } => &self.counts.late,
            Verdict::Duplicate => &self.counts.duplicate,
            Verdict::Refused(_) => &self.counts.refused,
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// As many records less are outstanding.
    pub fn settle(&self, count: u64) {
        if self.outstanding.fetch_sub(count, Ordering::AcqRel) == count {
            self.done.notify_waiters();
        }
    }

    /// The first fatal error stands.
    pub fn fail(&self, error: Error) {
        let _ = self.failed.set(error);
    }
}
