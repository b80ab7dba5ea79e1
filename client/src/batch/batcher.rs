//! The front of the fast path: records in, under numbers or ids; full means that the caller waits. How they are gathered
//! is `gather`'s matter, what happens to a sealed body `driver`'s.
//!
//! ```no_run
//! # async fn example(client: reckoner_client::client::Client) -> Result<(), reckoner_client::error::Error> {
//! use reckoner_client::batch::batcher::Batcher;
//! use reckoner_client::batch::gather::Batching;
//! use reckoner_client::batch::records::Settled;
//! use reckoner_shard::base::{id::{AccountId, ProducerId}, time::Timestamp};
//! use reckoner_shard::usage::series::SeriesKey;
//!
//! let producer = ProducerId::new("meter-7").unwrap();
//! let epoch = client.open_producer(&producer, None, None).await?.epoch;
//! let batcher = Batcher::sequenced(client, producer, epoch, Batching::default(), |_: Settled<'_>| {}).await?;
//! let account = AccountId::new("acme").unwrap();
//! let key = SeriesKey::new(account, "s3", "storage", "", "eu-west-1", vec![]);
//! let start: Timestamp = "2024-09-18T22:00:00Z".parse().unwrap();
//! let (series, _until) = batcher.resolve(&key, start).await?;
//! batcher.push(series, 1_500, start).await?;
//! batcher.flush().await?;
//! # Ok(()) }
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use reckoner_shard::base::id::{ProducerId, Slot};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::placement::SLOTS;
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::series::SeriesKey;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::driver::Driver;
use super::gather::{Batching, Counts, Message, NotTaken, Open, Shared, Sink, Totals};
use super::records::{Extra, Pending, Series};
use crate::client::Client;
use crate::directory::Home;
use crate::error::Error;
use crate::proto;

/// Gathers and sends the usage of one producer. Clones share it; records of one clone keep their order. Dropping the last
/// clone gives up what has no verdict: call [`Batcher::flush`] first.
#[derive(Clone, Debug)]
pub struct Batcher {
    shared: Arc<Shared>,
    driver: mpsc::UnboundedSender<Message>,
}

impl Batcher {
    /// A producer whose records are numbered, under an epoch that [`Client::open_producer`] answered.
    pub async fn sequenced(
        client: Client,
        producer: ProducerId,
        epoch: u64,
        config: Batching,
        sink: impl Sink,
    ) -> Result<Batcher, Error> {
        Batcher::start(client, producer, Some(epoch), config, Box::new(sink)).await
    }

    /// A producer whose records are known by their ids.
    pub async fn by_id(
        client: Client,
        producer: ProducerId,
        config: Batching,
        sink: impl Sink,
    ) -> Result<Batcher, Error> {
        Batcher::start(client, producer, None, config, Box::new(sink)).await
    }

    async fn start(
        client: Client,
        producer: ProducerId,
        epoch: Option<u64>,
        config: Batching,
        sink: Box<dyn Sink>,
    ) -> Result<Batcher, Error> {
        client.shard_of(Slot(0)).await?;
        let config = config.bounded();
        let (driver, inbox) = mpsc::unbounded_channel();
        let last_number = config.resume_after.unwrap_or(0);
        let open = Open {
            map_epoch: 0,
            body_of: vec![0; usize::from(SLOTS)].into(),
            bodies: Vec::new(),
            last_number,
            series: 0,
            names: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            client,
            room: Arc::new(Semaphore::new(config.records_in_flight_max)),
            config,
            producer,
            epoch,
            outstanding: AtomicU64::new(0),
            work: Notify::new(),
            done: Notify::new(),
            failed: OnceLock::new(),
            positions: Mutex::default(),
            counts: Counts::default(),
            open: Mutex::new(open),
            driver: driver.downgrade(),
        });
        shared.regroup(&mut shared.open.lock());
        tokio::spawn(Driver::new(shared.clone(), sink, inbox).run());
        Ok(Batcher { shared, driver })
    }

    /// Looks a series up: where its records go and at what scale. The handle is good for usage times up to, not including,
    /// the instant given back.
    pub async fn resolve(&self, key: &SeriesKey, at: Timestamp) -> Result<(Series, Option<Timestamp>), Error> {
        if let Some((home, series)) = self.known(key, at) {
            return Ok((series, home.until));
        }
        let home = self.shared.client.home(key, at).await?;
        let mut open = self.shared.open.lock();
        let series = self.add(&mut open, key, home.slot, home.scale);
        open.names.entry(key.clone()).or_default().push((home, series));
        Ok((series, home.until))
    }

    /// A handle for a series whose slot and scale the caller knows. Another scale than the meter's is refused by the
    /// machine.
    pub fn define(&self, key: &SeriesKey, slot: Slot, scale: u8) -> Series {
        self.add(&mut self.shared.open.lock(), key, slot, scale)
    }

    fn known(&self, key: &SeriesKey, at: Timestamp) -> Option<(Home, Series)> {
        let open = self.shared.open.lock();
        open.names.get(key)?.iter().find(|(home, _)| home.holds(at)).copied()
    }

    fn add(&self, open: &mut Open, key: &SeriesKey, slot: Slot, scale: u8) -> Series {
        let index = open.series;
        open.series += 1;
        // Under the lock, so that the driver sees series in the order of their indexes.
        let _ = self.driver.send(Message::Series(key.clone(), scale));
        Series { index, slot: slot.0 % SLOTS, scale }
    }

    /// Takes a record under the next number, or says why not now. Quantity at the series' scale.
    #[inline]
    pub fn try_push(&self, series: Series, quantity: i128, start: Timestamp) -> Result<u64, NotTaken> {
        self.shared.expect(1);
        let mut open = self.shared.open.lock();
        let number = open.last_number + 1;
        let taken = self.take(&mut open, series, number, quantity, start.0, None);
        taken.map(|()| number).inspect_err(|_| self.shared.settle(1))
    }

    /// Takes many records under the next numbers, under one lock; answers how many were taken before it was full.
    pub fn try_push_all(&self, records: &[(Series, i128, Timestamp)]) -> Result<usize, NotTaken> {
        self.shared.expect(records.len() as u64);
        let mut open = self.shared.open.lock();
        for (taken, (series, quantity, start)) in records.iter().enumerate() {
            let number = open.last_number + 1;
            if let Err(why) = self.take(&mut open, *series, number, *quantity, start.0, None) {
                drop(open);
                self.shared.settle((records.len() - taken) as u64);
                return if why == NotTaken::Full { Ok(taken) } else { Err(why) };
            }
        }
        Ok(records.len())
    }

    /// Takes a record under the next number; waits while too much is under way.
    pub async fn push(&self, series: Series, quantity: i128, start: Timestamp) -> Result<u64, Error> {
        loop {
            match self.try_push(series, quantity, start) {
                Ok(number) => return Ok(number),
                Err(why) => self.wait(why).await?,
            }
        }
    }

    /// Takes a record with its own number (above the last one) or id; looks up its series; waits while too much is under
    /// way. A record that cannot be packed is refused here, which the sink is told like any other refusal: its number is
    /// skipped, and since the same check gives the same refusal every time, a repeat is refused again.
    pub async fn push_record(&self, number: Option<u64>, record: &UsageRecord) -> Result<(), Error> {
        let key = record.series();
        let (series, extra) = match self.prepare(&key, record).await? {
            Ok(prepared) => prepared,
            Err(refusal) => return self.refuse(number, &record.id, refusal),
        };
        let quantity = match record.scaled(series.scale()) {
            Ok(quantity) => quantity,
            Err(refusal) => return self.refuse(number, &record.id, refusal),
        };
        loop {
            self.shared.expect(1);
            let taken = {
                let mut open = self.shared.open.lock();
                let next = number.unwrap_or(open.last_number + 1);
                if self.shared.epoch.is_none() {
                    self.take_id(&mut open, series, &record.id, quantity, record.start.0, extra.clone())
                } else {
                    self.take(&mut open, series, next, quantity, record.start.0, extra.clone())
                }
            };
            let Err(why) = taken else { return Ok(()) };
            self.shared.settle(1);
            self.wait(why).await?;
        }
    }

    /// Takes a record under its id, or says why not now; for batchers made with [`Batcher::by_id`].
    pub fn try_push_id(&self, series: Series, id: &str, quantity: i128, start: Timestamp) -> Result<(), NotTaken> {
        self.shared.expect(1);
        let taken = self.take_id(&mut self.shared.open.lock(), series, id, quantity, start.0, None);
        taken.inspect_err(|_| self.shared.settle(1))
    }

    async fn prepare(
        &self,
        key: &SeriesKey,
        record: &UsageRecord,
    ) -> Result<Result<(Series, Option<Extra>), Refusal>, Error> {
        if let Err(refusal) = record.check() {
            return Ok(Err(refusal));
        }
        if self.shared.epoch.is_none() && record.id.is_empty() {
            let detail = "a record of a producer by id has no id; give it one, or number the records";
            return Ok(Err(Refusal::new(Reason::InvalidValue, detail)));
        }
        let (series, _) = self.resolve(key, record.start).await?;
        let extra = (record.end.is_some() || record.amount.is_some() || record.corrects.is_some()).then(|| Extra {
            end: record.end,
            amount: record.amount.map(|amount| amount.0),
            corrects: record.corrects.clone().unwrap_or_default(),
        });
        Ok(Ok((series, extra)))
    }

    fn refuse(&self, number: Option<u64>, id: &str, refusal: Refusal) -> Result<(), Error> {
        let number = {
            let mut open = self.shared.open.lock();
            let number = self.shared.epoch.map(|_| number.unwrap_or(open.last_number + 1));
            open.last_number = open.last_number.max(number.unwrap_or(0));
            number
        };
        self.shared.expect(1);
        let sent = self.driver.send(Message::Local { number, id: id.to_owned(), refusal });
        sent.map_err(|_| self.failure())
    }

    /// Puts a record into its body. The caller has added it to what is outstanding.
    #[inline]
    fn take(
        &self,
        open: &mut Open,
        series: Series,
        number: u64,
        quantity: i128,
        start: i64,
        extra: Option<Extra>,
    ) -> Result<(), NotTaken> {
        if number <= open.last_number {
            return Err(NotTaken::NotRising(open.last_number));
        }
        let gathering = self.shared.gathering(open, series)?;
        let has_extra = extra.is_some();
        if let Some(extra) = extra {
            gathering.bytes += 64 + extra.corrects.len();
            gathering.body.extras.insert(number, extra);
        }
        gathering.add(Pending { quantity, number, start, series: series.index, slot: series.slot, has_extra });
        open.last_number = number;
        Ok(())
    }

    fn take_id(
        &self,
        open: &mut Open,
        series: Series,
        id: &str,
        quantity: i128,
        start: i64,
        extra: Option<Extra>,
    ) -> Result<(), NotTaken> {
        let gathering = self.shared.gathering(open, series)?;
        let number = gathering.body.ids.push(id);
        gathering.bytes += id.len();
        let has_extra = extra.is_some();
        if let Some(extra) = extra {
            gathering.bytes += 64 + extra.corrects.len();
            gathering.body.extras.insert(number, extra);
        }
        gathering.add(Pending { quantity, number, start, series: series.index, slot: series.slot, has_extra });
        Ok(())
    }

    /// Waits until there is room for a batch.
    pub async fn room(&self) -> Result<(), Error> {
        let records = self.shared.config.records_max as u32;
        let permit = self.shared.room.acquire_many(records).await;
        permit.map(drop).map_err(|_| self.failure())
    }

    async fn wait(&self, why: NotTaken) -> Result<(), Error> {
        match why {
            NotTaken::Full => self.room().await,
            NotTaken::Failed => Err(self.failure()),
            NotTaken::NotRising(last) => Err(Error::invalid(format!(
                "a record's number does not rise above {last}; numbers count records in order"
            ))),
        }
    }

    /// Sends what is gathered and waits until everything has its verdict.
    pub async fn flush(&self) -> Result<Totals, Error> {
        loop {
            let done = self.shared.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            self.shared.seal_all();
            let settled = self.shared.outstanding.load(Ordering::Acquire) == 0;
            // After the count: a failure is told before the last of its records is settled.
            if self.shared.failed.get().is_some() {
                return Err(self.failure());
            }
            if settled {
                return Ok(self.totals());
            }
            // Sealing may have found no room: the verdicts that make room also wake this loop, by time at the latest.
            let _ = tokio::time::timeout(Duration::from_millis(20), done).await;
        }
    }

    /// How many records came to what so far.
    pub fn totals(&self) -> Totals {
        let counts = &self.shared.counts;
        Totals {
            accepted: counts.accepted.load(Ordering::Relaxed),
            late: counts.late.load(Ordering::Relaxed),
            duplicate: counts.duplicate.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
        }
    }

    /// Records pushed and not settled.
    pub fn outstanding(&self) -> u64 {
        self.shared.outstanding.load(Ordering::Acquire)
    }

    /// The last number given or taken; 0 before the first.
    pub fn last_number(&self) -> u64 {
        self.shared.open.lock().last_number
    }

    /// Positions of the latest acknowledgements, one a shard: a read *at least* there sees all that is settled.
    pub fn positions(&self) -> Vec<proto::Position> {
        self.shared.positions.lock().values().copied().collect()
    }

    /// Why the batcher failed; where it did not, that it has stopped.
    pub fn failure(&self) -> Error {
        self.shared.failed.get().cloned().unwrap_or_else(|| Error::unavailable("the batcher has stopped"))
    }
}
