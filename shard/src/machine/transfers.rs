//! Accounts on their way between hierarchies, which may be in different shards. The old hierarchy ends the membership, the
//! new one begins it, the directory learns, and only then does the old one stop asking usage to wait: so no record counts in
//! both, and none in neither. What the slots remember is in `transferred.rs`; who asks for the steps is the node's matter.
//!
//! Every step may come twice, and late: each names the job that it belongs to, and a job whose begin was refused, or that
//! was given up, stays so.

use std::sync::Arc;

use super::command::{AccountWay, Done, MoveStep};
use super::hierarchies::{add_members, check_member_room, free_from, is_done, job_key, remember, set_checked};
use super::state::{LiveSlot, RootRow, State};
use super::transferred::{Stand, Transfer, too_many};
use crate::base::refusal::{Reason, Refusal};
use crate::placement::slot_of;

/// In place of a document's hash once a hierarchy is not what its document says: the same document is looked at again.
const NO_DOCUMENT: [u8; 32] = [0; 32];

impl State {
    /// One step of an account's way.
    pub(super) fn move_account(&mut self, step: MoveStep, way: &AccountWay, generation: u32) -> Result<Done, Refusal> {
        if way.from == way.to || way.job.is_empty() {
            let detail =
                format!("'{}' cannot move from '{}' to '{}'; name two hierarchies", way.account, way.from, way.to);
            return Err(Refusal::new(Reason::InvalidValue, detail));
        }
        match step {
            MoveStep::End => self.end_membership(way),
            MoveStep::Begin => self.begin_membership(way),
            MoveStep::Learn => {
                let live = self.slot_mut(slot_of(way.account.as_str()), generation)?;
                let directory = Arc::make_mut(&mut live.data.directory);
                let changed = directory.transfer(&way.account, &way.from, &way.to, way.at)?;
                Ok(if changed { Done::Changed } else { Done::Unchanged })
            }
            MoveStep::Settle => self.settle_membership(way),
            MoveStep::Cancel => self.cancel_move(way),
        }
    }

    fn end_membership(&mut self, way: &AccountWay) -> Result<Done, Refusal> {
        let stamp = self.stamp;
        let (live, number) = self.root_mut(&way.from)?;
        let row = &live.data.roots[number as usize];
        if is_done(&row.jobs, &cancelled(way)) {
            let detail = format!("the move of '{}' was given up; begin another", way.account);
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        let known = live.data.transfers().get(way.account.as_str(), &way.from);
        if is_done(&row.jobs, &settled(way)) || known.is_some_and(|known| known.job == job_key(&way.job)) {
            return Ok(Done::Unchanged);
        }
        if let Some(known) = known.filter(|known| known.stand == Stand::Leaving) {
            let detail = format!("account '{}' is on its way to '{}'; wait for that", way.account, known.other);
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        check_no_claim(row)?;
        let free = free_from(live, number, &way.account);
        let mut hierarchy = live.data.roots[number as usize].hierarchy.clone();
        Arc::make_mut(&mut hierarchy).let_go(&way.account, way.at, free)?;
        let transfers = live.data.transfers_mut();
        transfers.prune(stamp);
        transfers.put(Transfer {
            account: way.account.clone(),
            root: way.from.clone(),
            other: way.to.clone(),
            at: way.at,
            job: job_key(&way.job),
            stand: Stand::Leaving,
        })?;
        let row = &mut live.data.roots[number as usize];
        row.hierarchy = hierarchy;
        row.document = NO_DOCUMENT;
        check_times(live, number, way);
        Ok(Done::Changed)
    }

    fn begin_membership(&mut self, way: &AccountWay) -> Result<Done, Refusal> {
        let stamp = self.stamp;
        let (live, number) = self.root_mut(&way.to)?;
        let row = &live.data.roots[number as usize];
        if is_done(&row.jobs, &begun(way)) {
            return Ok(Done::Unchanged);
        }
        if is_done(&row.jobs, &refused(way)) {
            let detail = format!("'{}' refused account '{}' before; begin another move", way.to, way.account);
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        check_no_claim(row)?;
        let taken = take_in(live, number, way);
        let row = &mut live.data.roots[number as usize];
        if let Err(refusal) = taken {
            remember(&mut row.jobs, &refused(way));
            return Err(refusal);
        }
        remember(&mut row.jobs, &begun(way));
        row.document = NO_DOCUMENT;
        let transfers = live.data.transfers_mut();
        transfers.prune(stamp);
        // It is here again.
        transfers.remove(way.account.as_str(), &way.to);
        // Within a slot the marks know what was sent.
        if slot_of(way.from.as_str()) != slot_of(way.to.as_str()) {
            transfers.put(Transfer {
                account: way.account.clone(),
                root: way.to.clone(),
                other: way.from.clone(),
                at: way.at,
                job: job_key(&way.job),
                stand: Stand::Arrived { until: way.at.max(stamp).cycle().end() },
            })?;
        }
        Ok(Done::Changed)
    }

    fn settle_membership(&mut self, way: &AccountWay) -> Result<Done, Refusal> {
        let (live, number) = self.root_mut(&way.from)?;
        if !is_leaving(live, way) {
            return Ok(Done::Unchanged);
        }
        let transfers = live.data.transfers_mut();
        if let Some(left) = transfers.remove(way.account.as_str(), &way.from) {
            transfers.put(Transfer { stand: Stand::Left, ..left })?;
        }
        remember(&mut live.data.roots[number as usize].jobs, &settled(way));
        Ok(Done::Changed)
    }

    fn cancel_move(&mut self, way: &AccountWay) -> Result<Done, Refusal> {
        let (live, number) = self.root_mut(&way.from)?;
        if !is_leaving(live, way) {
            return Ok(Done::Unchanged);
        }
        live.data.transfers_mut().remove(way.account.as_str(), &way.from);
        let row = &mut live.data.roots[number as usize];
        Arc::make_mut(&mut row.hierarchy).take_back(&way.account, way.at);
        remember(&mut row.jobs, &cancelled(way));
        Ok(Done::Changed)
    }
}

fn take_in(live: &mut LiveSlot, number: u32, way: &AccountWay) -> Result<(), Refusal> {
    let row = &live.data.roots[number as usize];
    let mut hierarchy = row.hierarchy.clone();
    let open = row.cycles.open;
    Arc::make_mut(&mut hierarchy).take_in(&way.account, way.at, way.payer.as_ref(), way.group.as_ref(), open)?;
    if live.data.transfers().is_full() {
        return Err(too_many());
    }
    check_member_room(live, number, &hierarchy)?;
    live.data.roots[number as usize].hierarchy = hierarchy.clone();
    add_members(live, number, &hierarchy);
    check_times(live, number, way);
    Ok(())
}

/// Times of the account are compared from now on.
fn check_times(live: &mut LiveSlot, number: u32, way: &AccountWay) {
    if let Some(member) = live.data.series.member_in(&live.series_index, way.account.as_str(), number) {
        set_checked(live, member, true);
    }
}

fn check_no_claim(row: &RootRow) -> Result<(), Refusal> {
    let Some(claim) = &row.cycles.claim else { return Ok(()) };
    let detail = format!("bills of cycle {} are being made; it goes on after them", claim.cycle);
    Err(Refusal::new(Reason::CloseOldestFirst, detail))
}

fn is_leaving(live: &LiveSlot, way: &AccountWay) -> bool {
    let known = live.data.transfers().get(way.account.as_str(), &way.from);
    known.is_some_and(|known| known.stand == Stand::Leaving && known.job == job_key(&way.job))
}

fn begun(way: &AccountWay) -> String {
    format!("{}/begun", way.job)
}

fn refused(way: &AccountWay) -> String {
    format!("{}/refused", way.job)
}

fn settled(way: &AccountWay) -> String {
    format!("{}/settled", way.job)
}

fn cancelled(way: &AccountWay) -> String {
    format!("{}/cancelled", way.job)
}
