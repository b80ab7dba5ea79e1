//! A record that lasts some time, of a meter that spreads: all its parts count, or none. To those who send it, it is one
//! record with one verdict; in the counters each part is one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::place::{add_to_lane, bucket_of, is_late, member_series};
use super::record::{Record, check_kind};
use super::state::LiveSlot;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Period, Timestamp};
use crate::pricing::catalogue::counted_of;
use crate::pricing::spread::parts;
use crate::usage::counter::{BUCKET_LOTS_MAX, LATE_LOTS_MAX, SideKey, add, lane_of};

/// What is added to one lot.
struct Share {
    root: usize,
    cycle: CycleId,
    late: bool,
    quantity: i128,
}

/// Counts a record from its start to `end`; true = some of it is late.
pub(super) fn count_spread(live: &mut LiveSlot, record: &Record<'_>, end: Timestamp) -> Result<bool, Refusal> {
    let meter = live.data.meter_of(record.series);
    let (id, bucket, since, ceiling) = (meter.id.clone(), meter.bucket, meter.since, meter.ceiling);
    let counted = counted_of(meter.of_amount, id.as_str(), record.quantity, record.amount)?;
    check_kind(meter, counted, record.corrects)?;
    let time = Period { from: record.start, until: end };
    let mut shares: BTreeMap<SideKey, Share> = BTreeMap::new();
    for part in parts(counted, &time, bucket, &moves(live, record.series))? {
        let series = member_series(live, record.series, part.at)?;
        let (cycle, data) = (part.at.cycle(), &live.data);
        let root = data.series.members[data.series.rows[series as usize].member as usize].root as usize;
        let late = is_late(&data.roots[root], cycle.ordinal(), part.at)?;
        if cycle.ordinal() < since {
            let first = CycleId::from_ordinal(since).map_or(String::new(), |cycle| cycle.to_string());
            let detail = format!("meter {id} is declared from cycle {first} on; usage before has no meter");
            return Err(Refusal::new(Reason::UnknownMeter, detail));
        }
        let key = SideKey { number: series, cycle: cycle.ordinal(), bucket: bucket_of(bucket, part.at) };
        let share = shares.entry(key).or_insert(Share { root, cycle, late, quantity: 0 });
        // Parts of one record, which fits.
        share.quantity += part.quantity;
    }
    check_room(live, &shares, ceiling)?;
    let data = &mut live.data;
    for (key, Share { root, cycle, late, quantity }) in &shares {
        let join = |value| add(value, *quantity, ceiling);
        if *late {
            data.counters.late.add(*key, join, LATE_LOTS_MAX)?;
            Arc::make_mut(&mut data.roots[*root].cycles).note_late(*cycle);
        } else if key.bucket.is_some() {
            data.counters.buckets.add(*key, join, BUCKET_LOTS_MAX)?;
        } else {
            let sum = join(data.counters.lanes[lane_of(key.cycle)].read(key.number).0)?;
            add_to_lane(data, key.number, key.cycle, sum);
        }
    }
    Ok(shares.values().any(|share| share.late))
}

/// Where the account of a series may go from one hierarchy to another.
fn moves(live: &LiveSlot, series: u32) -> Vec<Timestamp> {
    let data = &live.data;
    let member = &data.series.members[data.series.rows[series as usize].member as usize];
    if !member.checked {
        return Vec::new();
    }
    let newest = data.series.member_of(&live.series_index, member.account.as_str());
    let mut moves = Vec::new();
    for twin in data.series.twins(newest) {
        let root = data.series.members[twin as usize].root as usize;
        let account = data.roots[root].hierarchy.account(&member.account);
        let periods = account.and_then(|account| account.periods()).unwrap_or(&[]);
        moves.extend(periods.iter().flat_map(|period| [period.from, period.until]));
    }
    moves
}

/// Whether each lot can take its share and there is room for those that are new, so that nothing counts where not all does.
fn check_room(live: &LiveSlot, shares: &BTreeMap<SideKey, Share>, ceiling: i128) -> Result<(), Refusal> {
    let counters = &live.data.counters;
    let (mut late, mut buckets) = (counters.late.len(), counters.buckets.len());
    for (key, share) in shares {
        let lot = match (share.late, key.bucket) {
            (true, _) => counters.late.get(key),
            (false, Some(_)) => counters.buckets.get(key),
            (false, None) => None,
        };
        let value = match (share.late, key.bucket) {
            (false, None) => counters.lanes[lane_of(key.cycle)].read(key.number).0,
            _ => lot.unwrap_or_default().value,
        };
        add(value, share.quantity, ceiling)?;
        late += usize::from(share.late && lot.is_none());
        buckets += usize::from(!share.late && key.bucket.is_some() && lot.is_none());
    }
    for (lots, max) in [(late, LATE_LOTS_MAX), (buckets, BUCKET_LOTS_MAX)] {
        if lots > max {
            let detail = format!("the slot keeps {max} such counters, which is all it may; use a coarser meter");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
    }
    Ok(())
}
