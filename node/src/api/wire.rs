//! What several doors read and write alike: positions, freshness, names, pages.

use std::sync::Arc;

use reckoner_client::proto;
use reckoner_raft::machine::Position;
use reckoner_shard::base::id::{AccountId, GroupName, ShardId};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::billing::cycle::Phase;
use reckoner_shard::placement::slot_of;

use super::status::Trouble;
use crate::context::Context;
use crate::data::reach::{self, Freshness};
use crate::data::shard::Read;

/// Rows of a page, unless the caller asks for fewer; and at most.
const PAGE_DEFAULT: u32 = 1_000;
const PAGE_MAX: u32 = 10_000;

/// A position of a shard's log.
pub fn position_out(shard: ShardId, position: Position, slot_epoch: u64) -> proto::Position {
    proto::Position { shard: shard.0, term: position.term, index: position.index, slot_epoch }
}

/// How fresh a read of `shard` must be. A position of another shard says nothing about this one, so such a read is
/// linearizable.
pub fn freshness_in(freshness: Option<proto::Freshness>, shard: ShardId) -> Freshness {
    match freshness.and_then(|freshness| freshness.at_least) {
        Some(position) if position.shard == shard.0 => Freshness::AtLeast(position.index),
        _ => Freshness::Linearizable,
    }
}

/// An account's id.
pub fn account_in(value: &str) -> Result<AccountId, Trouble> {
    AccountId::new(value).map_err(|error| Trouble::invalid(error.to_string()))
}

/// A billing group that must be named.
pub fn group_in(value: &str) -> Result<GroupName, Trouble> {
    GroupName::new(value).map_err(|error| Trouble::invalid(error.to_string()))
}

/// A cycle; `None` where the field is empty.
pub fn cycle_in(value: &str) -> Result<Option<CycleId>, Trouble> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|error: reckoner_shard::base::id::BadId| Trouble::invalid(error.to_string()))
}

/// A cycle that has to be named.
pub fn cycle_named(value: &str) -> Result<CycleId, Trouble> {
    cycle_in(value)?.ok_or_else(|| Trouble::invalid("no cycle is named; write it like 2024-09"))
}

/// A read of the shard that owns `root`, as fresh as asked.
pub async fn read_of(
    context: &Arc<Context>,
    root: &AccountId,
    freshness: Option<proto::Freshness>,
) -> Result<(ShardId, Read), Trouble> {
    let slot = slot_of(root.as_str());
    let shard = reach::shard_of(context, slot)?;
    let read = reach::read(context, shard, Some(slot), freshness_in(freshness, shard)).await?;
    Ok((shard, read))
}

/// The bounds of a page: how many rows, and from which one on. A token is the number of the first row.
pub fn page(size: u32, token: &str) -> Result<(usize, usize), Trouble> {
    let rows = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MAX) } as usize;
    if token.is_empty() {
        return Ok((rows, 0));
    }
    let first =
        token.parse().map_err(|_| Trouble::invalid(format!("'{token}' is not a page token of this service")))?;
    Ok((rows, first))
}

/// The token of the next page, empty after the last.
pub fn next_page(first: usize, rows: usize, total: usize) -> String {
    let next = first.saturating_add(rows);
    if next < total { next.to_string() } else { String::new() }
}

/// The open start or end of a membership is left out.
pub fn from_out(at: Timestamp) -> Option<i64> {
    (at.0 != i64::MIN).then_some(at.0)
}

/// As [`from_out`], for ends.
pub fn until_out(at: Timestamp) -> Option<i64> {
    (at.0 != i64::MAX).then_some(at.0)
}

/// What a cut cycle's state is called.
pub fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Closing => "closing",
        Phase::Closed(_) => "closed",
        Phase::Issued(_) | Phase::Archived(..) => "issued",
    }
}
