//! The counters of a hierarchy, a page at a time.

use std::sync::Arc;

use reckoner_client::proto::{GetUsageReply, GetUsageRequest, UsageCounter};
use reckoner_client::wire::usage::attributes;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::print_scaled;
use reckoner_shard::base::time::{CycleId, DAY, HOUR, Timestamp};
use reckoner_shard::billing::cycle::Phase;
use reckoner_shard::machine::archive::read_archive;
use reckoner_shard::machine::query::{UsageLine, View};
use reckoner_shard::placement::slot_of;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::Bucket;

use super::status::Trouble;
use super::wire;
use crate::context::Context;
use crate::workers;

/// Reads counters of one cycle: on time first, what came late beside it.
pub async fn get(context: &Arc<Context>, request: GetUsageRequest) -> Result<GetUsageReply, Trouble> {
    let root = wire::account_in(&request.root)?;
    let (rows, first) = wire::page(request.page_size, &request.page_token)?;
    let (shard, read) = wire::read_of(context, &root, request.freshness).await?;
    let cycle = match wire::cycle_in(&request.cycle)? {
        Some(cycle) => cycle,
        None => read.view.cycles(&root)?.open,
    };
    let (view, account) = (read.view.clone(), request.account);
    let archived = archive_of(context, &view, &root, cycle)?;
    let (counters, total) = workers::run(context.workers.as_ref(), move || {
        let mut lines = view.usage(&root, cycle)?;
        if let Some((bytes, catalogue)) = archived {
            put_back(&mut lines, &bytes, &catalogue)?;
        }
        let wanted = lines.iter().filter(|line| account.is_empty() || line.series.account.as_str() == account);
        let counters: Vec<UsageCounter> =
            wanted.flat_map(|line| counters_out(line, cycle, kind_of(&view, &root, line))).collect();
        let total = counters.len();
        Ok::<_, Trouble>((counters.into_iter().skip(first).take(rows).collect::<Vec<_>>(), total))
    })
    .await
    .map_err(|lost| Trouble::unavailable(lost.to_string()))??;
    Ok(GetUsageReply {
        counters,
        next_page_token: wire::next_page(first, rows, total),
        cycle: cycle.to_string(),
        position: Some(wire::position_out(shard, read.position, context.meta.state().epoch())),
    })
}

/// The counters of a billed cycle, which have left memory for the store beside its bills, and the catalogue to read them.
pub(super) fn archive_of(
    context: &Context,
    view: &View,
    root: &AccountId,
    cycle: CycleId,
) -> Result<Option<(bytes::Bytes, Arc<Catalogue>)>, Trouble> {
    let cycles = view.cycles(root)?;
    let Some(cut) = cycles.find(cycle) else { return Ok(None) };
    let Phase::Archived(_, hash) = &cut.phase else { return Ok(None) };
    let missing = |what: &str| Trouble::unavailable(format!("{what} of {cycle} is not at this node yet; ask again"));
    let unreadable = |error: std::io::Error| Trouble::unavailable(error.to_string());
    let bytes = context.bills.get(Some(cycle), hash).map_err(unreadable)?;
    let catalogue = context.catalogues.load(&cut.inputs.catalogue_hash).map_err(unreadable)?;
    Ok(Some((bytes.ok_or_else(|| missing("the archive"))?, catalogue.ok_or_else(|| missing("the catalogue"))?)))
}

/// The counters that the latest bills of a cycle were made of, where they are kept beside them.
pub(super) fn billed_counters(
    context: &Context,
    view: &View,
    root: &AccountId,
    cycle: CycleId,
) -> Result<Option<bytes::Bytes>, Trouble> {
    let Some(hash) = view.cycles(root)?.archive_of(cycle) else { return Ok(None) };
    let bytes = context.bills.get(Some(cycle), &hash).map_err(|error| Trouble::unavailable(error.to_string()))?;
    let missing = || Trouble::unavailable(format!("the archive of {cycle} is not at this node yet; ask again"));
    Ok(Some(bytes.ok_or_else(missing)?))
}

/// Joins archived counters with what came late, which is still in memory; sorted as a reader expects them.
fn put_back(lines: &mut Vec<UsageLine>, bytes: &[u8], catalogue: &Catalogue) -> Result<(), Trouble> {
    let counters = read_archive(bytes, catalogue).map_err(Trouble::unavailable)?;
    let late = lines.len();
    for counter in counters {
        let meter = catalogue.meter(counter.meter);
        let place = (&counter.series, counter.bucket);
        // What came late is sorted by the same order.
        if let Ok(at) = lines[..late].binary_search_by(|line| (&line.series, line.bucket).cmp(&place)) {
            (lines[at].value, lines[at].records) = (counter.value, counter.records);
            continue;
        }
        lines.push(UsageLine {
            series: counter.series,
            meter: meter.id.clone(),
            scale: meter.scale,
            bucket: counter.bucket,
            value: counter.value,
            records: counter.records,
            late_value: 0,
            late_records: 0,
        });
    }
    lines.sort_by(|one, other| (&one.series, one.bucket).cmp(&(&other.series, other.bucket)));
    Ok(())
}

/// What the meter of a line counts by.
fn kind_of(view: &View, root: &AccountId, line: &UsageLine) -> Bucket {
    let meters = view.slot(slot_of(root.as_str())).map(|slot| slot.meters.iter()).into_iter().flatten();
    meters.into_iter().find(|meter| meter.id == line.meter).map_or(Bucket::Month, |meter| meter.bucket)
}

fn counters_out(line: &UsageLine, cycle: CycleId, kind: Bucket) -> impl Iterator<Item = UsageCounter> {
    let start = bucket_start(cycle, line.bucket, kind);
    let on_time = (line.records > 0).then(|| counter(line, start, line.value, line.records, false));
    let late = (line.late_records > 0).then(|| counter(line, start, line.late_value, line.late_records, true));
    on_time.into_iter().chain(late)
}

fn counter(line: &UsageLine, start: Timestamp, value: i128, records: u64, late: bool) -> UsageCounter {
    let series = &line.series;
    UsageCounter {
        account: series.account.to_string(),
        service: series.service.clone(),
        usage_type: series.usage_type.clone(),
        operation: series.operation.clone(),
        region: series.region.clone(),
        attributes: attributes(series.attributes.iter().map(|(name, value)| (name, value))),
        meter: line.meter.to_string(),
        bucket_start_ns: start.0,
        quantity: print_scaled(value, line.scale),
        records,
        late,
    }
}

/// First instant of a bucket, which counts hours or days from the cycle's start as its meter says.
fn bucket_start(cycle: CycleId, bucket: Option<u16>, kind: Bucket) -> Timestamp {
    let step = match kind {
        Bucket::Month => 0,
        Bucket::Day => DAY,
        Bucket::Hour => HOUR,
        Bucket::FiveMinutes => HOUR / 12,
    };
    Timestamp(cycle.start().0 + i64::from(bucket.unwrap_or(0)) * step)
}
