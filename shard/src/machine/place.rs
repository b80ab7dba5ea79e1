//! Where a record counts: in whose series, in which cycle, in which bucket of it. What is added there is up to `ingest.rs`
//! and `spread.rs`.

use super::state::{LiveSlot, RootRow, SlotData};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{DAY, HOUR, Timestamp};
use crate::pricing::document::Bucket;
use crate::usage::counter::lane_of;
use crate::usage::series::{SERIES_PER_ACCOUNT_MAX, SERIES_PER_ROOT_MAX, TableFull};

/// The series that usage of an instant counts in: of the root that has the account at that time.
pub(super) fn member_series(live: &mut LiveSlot, series: u32, at: Timestamp) -> Result<u32, Refusal> {
    let data = &live.data;
    let row = data.series.rows[series as usize];
    let member = &data.series.members[row.member as usize];
    if !member.checked {
        return Ok(series);
    }
    let newest = data.series.member_of(&live.series_index, member.account.as_str());
    let is_member = |number: &u32| {
        let root = data.series.members[*number as usize].root as usize;
        let account = data.roots[root].hierarchy.account(&member.account);
        account.is_some_and(|account| account.is_member_at(at))
    };
    let Some(owner) = data.series.twins(newest).find(is_member) else {
        let detail = format!("account '{}' belongs to no hierarchy here at {at}", member.account);
        return Err(Refusal::new(Reason::UnknownAccount, format!("{detail}; resolve it for that time")));
    };
    if owner == row.member {
        return Ok(series);
    }
    // The same account under another root of this slot: the same dimensions there, if its catalogue is the same.
    let thing = &data.series.things[row.thing as usize];
    let root = data.series.members[owner as usize].root as usize;
    if data.roots[root].catalogue != thing.catalogue {
        let detail = format!(
            "account '{}' belongs to '{}' at {at}, under another catalogue; define the series again",
            member.account, data.roots[root].hierarchy.root
        );
        return Err(Refusal::new(Reason::UnknownMeter, detail));
    }
    series_number(live, owner, row.thing)
}

/// The number of a member's series, made where it is new.
pub(super) fn series_number(live: &mut LiveSlot, member: u32, thing: u32) -> Result<u32, Refusal> {
    let LiveSlot { data, series_index: index, .. } = live;
    if let Some(number) = data.series.row_of(index, member, thing) {
        return Ok(number);
    }
    let root = data.series.members[member as usize].root as usize;
    if data.roots[root].series >= SERIES_PER_ROOT_MAX {
        return Err(full(TableFull { what: "series of one hierarchy", max: SERIES_PER_ROOT_MAX as usize }));
    }
    let owner = &data.series.members[member as usize];
    if owner.series >= SERIES_PER_ACCOUNT_MAX {
        let detail = format!(
            "account '{}' has {SERIES_PER_ACCOUNT_MAX} series, which is all it may; leave attributes out whose values never repeat",
            owner.account
        );
        return Err(Refusal::new(Reason::SeriesLimit, detail));
    }
    let number = data.series.add_row(index, member, thing).map_err(full)?;
    data.roots[root].series += 1;
    Ok(number)
}

pub(super) fn full(full: TableFull) -> Refusal {
    let detail = format!("the slot has {} {}, which is all it may; split the hierarchy", full.max, full.what);
    Refusal::new(Reason::SeriesLimit, detail)
}

/// Whether usage of that cycle is late; refused where the cycle does not count.
pub(super) fn is_late(row: &RootRow, ordinal: u32, start: Timestamp) -> Result<bool, Refusal> {
    let cycles = &row.cycles;
    let root = &row.hierarchy.root;
    if ordinal < cycles.first.ordinal() {
        let detail = format!("usage of {start} is before the first cycle of '{root}', {}", cycles.first);
        return Err(Refusal::new(Reason::TooEarly, detail));
    }
    if ordinal > cycles.open.next().ordinal() {
        let (open, next) = (cycles.open, cycles.open.next());
        let detail = format!("usage of {start} is after cycle {next}: only {open} and {next} of '{root}' count");
        return Err(Refusal::new(Reason::TooFarAhead, format!("{detail}; close {open} first")));
    }
    Ok(ordinal < cycles.open.ordinal())
}

/// Ordinal of the day or hour within the cycle.
pub(super) fn bucket_of(bucket: Bucket, start: Timestamp) -> Option<u16> {
    let length = match bucket {
        Bucket::Month => return None,
        Bucket::Day => DAY,
        Bucket::Hour => HOUR,
        Bucket::FiveMinutes => HOUR / 12,
    };
    Some(((start.0 - start.cycle().start().0) / length) as u16)
}

/// Sets the sum of a month's lot that took in one more record.
pub(super) fn add_to_lane(data: &mut SlotData, series: u32, ordinal: u32, sum: i128) {
    let lane = &mut data.counters.lanes[lane_of(ordinal)];
    if lane.lot_mut(series).is_none() {
        let (series_table, count) = (&data.series, data.series.rows.len());
        lane.cover(series, count, &|number| series_table.meta_of(number));
    }
    let lot = lane.lot_mut(series).expect("the lot's chunk was covered just before");
    if lot.count(sum) {
        lane.first_or_carry(series);
    }
}
