//! Rows of simple callers: taken by any node, packed and routed by the client library inside it, so that there is one
//! path for usage and one place for retries.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::error::Error;
use reckoner_client::proto::{PushRowsReply, PushRowsRequest, UsageRow};
use reckoner_client::wire::usage::{RowVerdicts, record};
use reckoner_shard::base::id::ProducerId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::segment::BATCH_RECORDS_MAX;

use super::status::Trouble;
use crate::context::Context;

/// What a verdict is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Number(u64),
    Id(String),
}

type Verdicts = Arc<Mutex<HashMap<Name, Verdict>>>;

/// Pushes the rows of one producer and gathers a verdict for each.
pub async fn push(context: &Arc<Context>, request: PushRowsRequest) -> Result<PushRowsReply, Trouble> {
    let producer = ProducerId::new(&request.producer).map_err(|error| Trouble::invalid(error.to_string()))?;
    check(&request)?;
    let verdicts: Verdicts = Arc::default();
    let told = verdicts.clone();
    let sink = move |settled: Settled<'_>| {
        let mut verdicts = told.lock();
        verdicts.extend(settled.numbers().map(|number| (Name::Number(number), settled.verdict.clone())));
        verdicts.extend(settled.ids().map(|id| (Name::Id(id.to_owned()), settled.verdict.clone())));
    };
    let client = context.client.clone();
    let batcher = match request.epoch {
        Some(epoch) => {
            // Rows wait for their verdicts before more are sent, so all numbers before the first have theirs.
            let resume_after = request.rows.first().map(|row| row.sequence.saturating_sub(1));
            let config = Batching { resume_after, ..Batching::default() };
            Batcher::sequenced(client, producer, epoch, config, sink).await
        }
        None => Batcher::by_id(client, producer, Batching::default(), sink).await,
    };
    let batcher = batcher.map_err(unavailable)?;
    let names = send(&batcher, &request).await?;
    batcher.flush().await.map_err(unavailable)?;
    let mut rows = RowVerdicts::default();
    let verdicts = verdicts.lock();
    for name in &names {
        match name {
            Ok(name) => rows.push(verdicts.get(name).unwrap_or(&missing())),
            Err(refusal) => rows.push(&Verdict::Refused(refusal.clone())),
        }
    }
    Ok(PushRowsReply { verdicts: rows.finish(), positions: batcher.positions() })
}

fn missing() -> Verdict {
    Verdict::Refused(Refusal::new(Reason::ResourceExhausted, "no verdict came for this row; send it again"))
}

fn unavailable(error: Error) -> Trouble {
    match error {
        Error::Refused { code, detail } => match reckoner_client::error::reason_of(&code) {
            Some(reason) => Refusal::new(reason, detail).into(),
            None => Trouble::unavailable(format!("{code}: {detail}")),
        },
        Error::Invalid { message } => Trouble::Invalid { message },
        Error::Unavailable { message, unknown: true, .. } => Trouble::Unknown { message },
        Error::Unavailable { message, .. } => Trouble::unavailable(message),
    }
}

/// Numbers must rise, and ids must differ, before any row is sent.
fn check(request: &PushRowsRequest) -> Result<(), Trouble> {
    if request.rows.len() > BATCH_RECORDS_MAX {
        let detail = format!("{} rows in one call, at most {BATCH_RECORDS_MAX} are taken", request.rows.len());
        return Err(Refusal::new(Reason::BatchTooLarge, detail).into());
    }
    if request.epoch.is_some() {
        if request.rows.first().is_some_and(|row| row.sequence == 0) {
            return Err(Trouble::invalid("row 0 has sequence 0; a sequenced producer counts from 1"));
        }
        let falls = request.rows.windows(2).position(|pair| pair[1].sequence <= pair[0].sequence);
        if let Some(at) = falls {
            let (one, next) = (request.rows[at].sequence, request.rows[at + 1].sequence);
            let message = format!("row {} has sequence {next} after {one}; numbers must rise within a call", at + 1);
            return Err(Trouble::invalid(message));
        }
    }
    Ok(())
}

/// Hands every row to the batcher and answers by which name its verdict will come.
async fn send(batcher: &Batcher, request: &PushRowsRequest) -> Result<Vec<Result<Name, Refusal>>, Trouble> {
    let sequenced = request.epoch.is_some();
    let mut names = Vec::with_capacity(request.rows.len());
    let mut seen: HashMap<&str, UsageRecord> = HashMap::new();
    for row in &request.rows {
        names.push(match parsed(row, sequenced) {
            Err(refusal) => Err(refusal),
            // The same id twice in one call: one verdict could not serve two bodies.
            Ok(record) => match seen.get(row.id.as_str()).filter(|_| !sequenced) {
                Some(first) if *first != record => Err(Refusal::new(
                    Reason::IdReused,
                    format!("id '{}' stands twice in this call with different records; give each its own", row.id),
                )),
                Some(_) => Ok(Name::Id(row.id.clone())),
                None => {
                    let number = sequenced.then_some(row.sequence);
                    batcher.push_record(number, &record).await.map_err(unavailable)?;
                    let name = number.map_or_else(|| Name::Id(row.id.clone()), Name::Number);
                    if !sequenced {
                        seen.insert(&row.id, record);
                    }
                    Ok(name)
                }
            },
        });
    }
    Ok(names)
}

fn parsed(row: &UsageRow, sequenced: bool) -> Result<UsageRecord, Refusal> {
    let mut record = record(row)?;
    if sequenced {
        record.id.clear();
    } else if record.id.is_empty() {
        let detail = "the row has no id and its producer no epoch; give it an id, or open an epoch and number the rows";
        return Err(Refusal::new(Reason::InvalidValue, detail));
    }
    Ok(record)
}
