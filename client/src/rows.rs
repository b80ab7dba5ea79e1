//! Rows of strings, grouped by slot, packed, pushed and answered row by row: what a node does for callers without the
//! packed form, and what small callers of this library may use instead of a batcher. Nothing is kept between calls.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use reckoner_shard::base::id::{ProducerId, ShardId, Slot};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::machine::codec;
use reckoner_shard::machine::command::{BatchVerdict, Outcome, Verdict};
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::segment::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Head, HeadMode, Packed, Reference, Writer};
use reckoner_shard::usage::series::SeriesKey;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::proto;
use crate::proto::push_reply::Result as PushResult;
use crate::retry::Waits;
use crate::wire::usage::{RowVerdicts, record};

/// A batch ends before a record could take it over the limit.
const BATCH_BYTES_FULL: usize = BATCH_BYTES_MAX - 64 * 1024;

/// Takes packed batches to a shard: the network, or the node's own shards.
pub trait BatchDoor: Sync {
    /// Pushes one batch; errors are those of [`Client::push_batch`].
    fn push(&self, shard: ShardId, batch: Bytes) -> impl Future<Output = Result<proto::PushReply, Error>> + Send;
}

impl BatchDoor for Client {
    fn push(&self, shard: ShardId, batch: Bytes) -> impl Future<Output = Result<proto::PushReply, Error>> + Send {
        self.push_batch(shard, batch)
    }
}

/// A row that may be sent.
struct Row {
    place: usize,
    number: u64,
    key: SeriesKey,
    record: UsageRecord,
    quantity: i128,
    slot: Slot,
    scale: u8,
}

/// Pushes rows and answers one verdict for each. What cannot be decided before the client's deadline gets the verdict
/// RETRY: the caller sends the same row again, a sequenced one before any row with a higher number.
pub async fn push_rows(
    client: &Client,
    door: &impl BatchDoor,
    deadline: Duration,
    request: &proto::PushRowsRequest,
) -> Result<proto::PushRowsReply, Error> {
    let producer = ProducerId::new(&request.producer).map_err(|bad| Error::invalid(bad.to_string()))?;
    if request.rows.len() > BATCH_RECORDS_MAX {
        let rows = request.rows.len();
        let detail = format!("the request has {rows} rows, at most {BATCH_RECORDS_MAX} are taken; send smaller ones");
        return Err(Refusal::new(Reason::BatchTooLarge, detail).into());
    }
    check_numbers(request)?;
    let mut pushing = Pushing {
        client,
        door,
        producer,
        epoch: request.epoch,
        verdicts: vec![None; request.rows.len()],
        positions: BTreeMap::new(),
        resumed: Vec::new(),
    };
    let waiting = pushing.prepare(&request.rows).await?;
    pushing.push(waiting, Instant::now() + deadline).await?;
    Ok(pushing.reply())
}

fn check_numbers(request: &proto::PushRowsRequest) -> Result<(), Error> {
    if request.epoch.is_none() {
        return Ok(());
    }
    let mut last = 0;
    for (place, row) in request.rows.iter().enumerate() {
        if row.sequence <= last {
            let number = row.sequence;
            return Err(Error::invalid(format!(
                "row {place} has number {number} after {last}; numbers rise from 1 in the producer's own order"
            )));
        }
        last = row.sequence;
    }
    Ok(())
}

struct Pushing<'a, D> {
    client: &'a Client,
    door: &'a D,
    producer: ProducerId,
    epoch: Option<u64>,
    verdicts: Vec<Option<Verdict>>,
    positions: BTreeMap<u32, proto::Position>,
    /// Slots that know the producer from an earlier request.
    resumed: Vec<Slot>,
}

impl<D: BatchDoor> Pushing<'_, D> {
    /// Reads the rows and finds their slots; what cannot be sent is refused at once.
    async fn prepare(&mut self, rows: &[proto::UsageRow]) -> Result<BTreeMap<Slot, Vec<Row>>, Error> {
        let records: Vec<Result<UsageRecord, Refusal>> = rows.iter().map(record).collect();
        let accounts: Vec<_> = records.iter().flatten().map(|record| record.account.clone()).collect();
        self.client.prefetch(&accounts).await?;
        let mut waiting: BTreeMap<Slot, Vec<Row>> = BTreeMap::new();
        for (place, record) in records.into_iter().enumerate() {
            let record = match record {
                Ok(record) if self.epoch.is_none() && record.id.is_empty() => {
                    let detail = "the row has no id; give it one, or open the producer and number the rows";
                    self.verdicts[place] = Some(Verdict::Refused(Refusal::new(Reason::InvalidValue, detail)));
                    continue;
                }
                Ok(record) => record,
                Err(refusal) => {
                    self.verdicts[place] = Some(Verdict::Refused(refusal));
                    continue;
                }
            };
            let key = record.series();
            let home = self.client.home(&key, record.start).await?;
            match record.scaled(home.scale.into()) {
                Ok(quantity) => {
                    let number = rows[place].sequence;
                    let row = Row { place, number, key, record, quantity, slot: home.slot, scale: home.scale };
                    waiting.entry(row.slot).or_default().push(row);
                }
                Err(refusal) => self.verdicts[place] = Some(Verdict::Refused(refusal)),
            }
        }
        Ok(waiting)
    }

    /// Sends until everything has a verdict or the deadline comes.
    async fn push(&mut self, mut waiting: BTreeMap<Slot, Vec<Row>>, deadline: Instant) -> Result<(), Error> {
        let mut waits = Waits::new(deadline, self.client.config().seed);
        loop {
            let mut by_shard: BTreeMap<ShardId, Vec<Vec<Row>>> = BTreeMap::new();
            for (slot, rows) in std::mem::take(&mut waiting) {
                by_shard.entry(self.client.shard_of(slot).await?).or_default().push(rows);
            }
            for (shard, segments) in by_shard {
                for batch in cut(segments) {
                    self.send(shard, batch, &mut waiting).await?;
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            // Rows that have not been sent at all keep no verdict here; `reply` says RETRY for them.
            let Some(wait) = waits.next(None) else { return Ok(()) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn send(
        &mut self,
        shard: ShardId,
        segments: Vec<Vec<Row>>,
        waiting: &mut BTreeMap<Slot, Vec<Row>>,
    ) -> Result<(), Error> {
        let batch = self.pack(&segments);
        let reply = match self.door.push(shard, batch).await {
            Ok(reply) => reply,
            Err(error @ Error::Unavailable { .. }) => {
                let refusal = Refusal::new(Reason::ResourceExhausted, error.to_string());
                self.again(segments.into_iter().flatten(), &refusal, waiting);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(position) = reply.position {
            self.positions.insert(shard.0, position);
        }
        match reply.result {
            Some(PushResult::Outcome(bytes)) => match codec::decode_outcome(&bytes) {
                Ok(Outcome::Usage(verdict)) => self.settle(segments, &verdict, waiting),
                Ok(Outcome::Commands(_)) => return Err(Error::invalid("a batch was answered with commands")),
                Err(why) => {
                    return Err(Error::invalid(format!("a batch was answered with what cannot be read: {why}")));
                }
            },
            Some(PushResult::Failure(failure)) => match Error::from_failure(failure) {
                Error::Unavailable { message, redirect, .. } => {
                    if let Some(redirect) = redirect {
                        self.client.follow(&redirect).await;
                    }
                    let refusal = Refusal::new(Reason::ResourceExhausted, message);
                    self.again(segments.into_iter().flatten(), &refusal, waiting);
                }
                error => return Err(error),
            },
            None => return Err(Error::invalid("a batch was answered with nothing")),
        }
        Ok(())
    }

    fn pack(&self, segments: &[Vec<Row>]) -> Bytes {
        let mut writer = Writer::new();
        for rows in segments {
            let Some(first) = rows.first() else { continue };
            let mode = match self.epoch {
                Some(epoch) => {
                    let previous = self.resumed.contains(&first.slot).then_some(0);
                    HeadMode::Sequenced { epoch, previous }
                }
                None => HeadMode::ById,
            };
            let producer = self.producer.as_str();
            writer.segment(&Head { slot: first.slot, generation: 0, producer, mode });
            let mut defined: BTreeMap<(&SeriesKey, u8), Reference> = BTreeMap::new();
            for row in rows {
                let series = match defined.get(&(&row.key, row.scale)) {
                    Some(series) => *series,
                    None => {
                        let series = writer.define(&row.key, row.scale.into());
                        defined.insert((&row.key, row.scale), series);
                        series
                    }
                };
                writer.push(&Packed {
                    series,
                    number: row.number,
                    id: if self.epoch.is_some() { &[] } else { row.record.id.as_bytes() },
                    quantity: row.quantity,
                    start: row.record.start,
                    end: row.record.end,
                    amount: row.record.amount.map(|amount| amount.0),
                    corrects: row.record.corrects.as_deref().unwrap_or_default().as_bytes(),
                });
            }
        }
        writer.finish().into()
    }

    fn settle(&mut self, segments: Vec<Vec<Row>>, verdict: &BatchVerdict, waiting: &mut BTreeMap<Slot, Vec<Row>>) {
        for (at, rows) in segments.into_iter().enumerate() {
            let listed = verdict.segment(at as u32);
            let whole = verdict.refused.as_ref().or(listed.and_then(|segment| segment.whole.as_ref()));
            if let Some(refusal) = whole {
                if refusal.reason == Reason::OutOfOrder
                    && let Some(first) = rows.first()
                    && !self.resumed.contains(&first.slot)
                {
                    self.resumed.push(first.slot);
                }
                if refusal.reason.heals() {
                    self.again(rows, refusal, waiting);
                } else {
                    for row in rows {
                        self.verdicts[row.place] = Some(Verdict::Refused(refusal.clone()));
                    }
                }
                continue;
            }
            let Some(segment) = listed else {
                for row in rows {
                    self.verdicts[row.place] = Some(Verdict::Accepted { late: false });
                }
                continue;
            };
            for range in &segment.ranges {
                let from = (range.first as usize).min(rows.len());
                let to = from.saturating_add(range.count as usize).min(rows.len());
                for row in &rows[from..to] {
                    self.verdicts[row.place] = Some(range.verdict.clone());
                }
            }
        }
    }

    /// Rows go again in the next round; should there be none, their verdict is why.
    fn again(
        &mut self,
        rows: impl IntoIterator<Item = Row>,
        refusal: &Refusal,
        waiting: &mut BTreeMap<Slot, Vec<Row>>,
    ) {
        for row in rows {
            self.verdicts[row.place] = Some(Verdict::Refused(refusal.clone()));
            waiting.entry(row.slot).or_default().push(row);
        }
    }

    fn reply(self) -> proto::PushRowsReply {
        let mut verdicts = RowVerdicts::default();
        let late =
            Verdict::Refused(Refusal::new(Reason::ResourceExhausted, "not sent before the deadline; send it again"));
        for verdict in &self.verdicts {
            verdicts.push(verdict.as_ref().unwrap_or(&late));
        }
        proto::PushRowsReply { verdicts: verdicts.finish(), positions: self.positions.into_values().collect() }
    }
}

/// Cuts what goes to one shard into batches that are small enough, by an upper bound of each row's bytes. A slot's rows
/// may be cut too: their second part is sent after the first has its verdict.
fn cut(segments: Vec<Vec<Row>>) -> Vec<Vec<Vec<Row>>> {
    let mut batches: Vec<Vec<Vec<Row>>> = vec![Vec::new()];
    let mut bytes = 0;
    for rows in segments {
        let mut segment: Vec<Row> = Vec::new();
        for row in rows {
            let attributes: usize = row.key.attributes.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
            let texts = row.key.service.len() + row.key.usage_type.len() + row.key.operation.len();
            let ids = row.record.id.len() + row.record.corrects.as_ref().map_or(0, String::len);
            let size = 96 + row.key.account.as_str().len() + texts + row.key.region.len() + attributes + ids;
            if bytes + size > BATCH_BYTES_FULL {
                if let Some(batch) = batches.last_mut() {
                    batch.push(std::mem::take(&mut segment));
                }
                batches.push(Vec::new());
                bytes = 0;
            }
            bytes += size;
            segment.push(row);
        }
        if let (Some(batch), false) = (batches.last_mut(), segment.is_empty()) {
            batch.push(segment);
        }
    }
    for batch in &mut batches {
        batch.retain(|segment| !segment.is_empty());
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}
