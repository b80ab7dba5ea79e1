//! What a slot knows of accounts that left its hierarchies for others, or came to them from elsewhere. The steps are in
//! `transfers.rs`.

use std::collections::BTreeMap;

use super::codec::{account, text};
use super::wire_moves;
use crate::account::tree::Hierarchy;
use crate::base::id::AccountId;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{DAY, Timestamp};

/// Accounts that moved, of one slot: each costs about 200 bytes for ever.
pub const TRANSFERS_PER_SLOT_MAX: usize = 65_536;
/// How long it is remembered which usage is recognised by its own number: far longer than anyone sends again.
const ARRIVED_KEPT: i64 = 400 * DAY;

/// Where an account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Its membership here has ended, and begins elsewhere in a moment: usage waits.
    Leaving,
    /// It is elsewhere.
    Left,
    /// It came from another slot. Usage from `at` to `until` may have been refused there and sent again as strays, or may
    /// come again by a producer that does not know of it any more, whatever the mark of this slot says: each record is
    /// recognised by itself.
    Arrived { until: Timestamp },
}

/// One account of one hierarchy here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub account: AccountId,
    /// The hierarchy here, and the other one.
    pub root: AccountId,
    pub other: AccountId,
    pub at: Timestamp,
    pub job: [u8; 16],
    pub stand: Stand,
}

/// The transfers of one slot, by account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transfers {
    rows: BTreeMap<Box<str>, Vec<Transfer>>,
    count: usize,
    leaving: usize,
    arrived: usize,
}

impl Transfers {
    pub const NONE: &'static Transfers = &Transfers { rows: BTreeMap::new(), count: 0, leaving: 0, arrived: 0 };

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.count >= TRANSFERS_PER_SLOT_MAX
    }

    /// Whether usage of any account waits.
    pub fn some_leave(&self) -> bool {
        self.leaving > 0
    }

    /// Whether usage of any account is recognised by itself.
    pub fn some_arrived(&self) -> bool {
        self.arrived > 0
    }

    /// In order of account, then of coming.
    pub fn iter(&self) -> impl Iterator<Item = &Transfer> {
        self.rows.values().flatten()
    }

    /// How an account left a hierarchy here.
    pub fn get(&self, account: &str, root: &AccountId) -> Option<&Transfer> {
        self.of(account).iter().find(|own| own.is_departure(root))
    }

    fn of(&self, account: &str) -> &[Transfer] {
        self.rows.get(account).map_or(&[], Vec::as_slice)
    }

    /// Whether usage of an account that ends after `end` waits.
    pub fn waits(&self, account: &str, end: Timestamp) -> Option<&Transfer> {
        self.of(account).iter().find(|own| own.stand == Stand::Leaving && end >= own.at)
    }

    /// Whether usage of an account at that instant is recognised by itself.
    pub fn is_by_itself(&self, account: &str, at: Timestamp) -> bool {
        let arrived = |own: &Transfer| matches!(own.stand, Stand::Arrived { until } if own.at <= at && at < until);
        self.of(account).iter().any(arrived)
    }

    /// Takes a transfer; a departure takes the place of an earlier one of the account from that hierarchy.
    ///
    /// # Errors
    /// LIMIT_REACHED beyond [`TRANSFERS_PER_SLOT_MAX`].
    pub fn put(&mut self, transfer: Transfer) -> Result<(), Refusal> {
        if !matches!(transfer.stand, Stand::Arrived { .. }) {
            self.remove(transfer.account.as_str(), &transfer.root);
        }
        if self.is_full() {
            return Err(too_many());
        }
        self.tally(&transfer, 1);
        self.rows.entry(transfer.account.as_str().into()).or_default().push(transfer);
        Ok(())
    }

    /// Forgets how an account left a hierarchy.
    pub fn remove(&mut self, account: &str, root: &AccountId) -> Option<Transfer> {
        self.take(account, |own| own.is_departure(root))
    }

    fn take(&mut self, account: &str, wanted: impl Fn(&Transfer) -> bool) -> Option<Transfer> {
        let own = self.rows.get_mut(account)?;
        let gone = own.remove(own.iter().position(wanted)?);
        if own.is_empty() {
            self.rows.remove(account);
        }
        self.tally(&gone, -1);
        Some(gone)
    }

    /// Forgets arrivals that nobody sends usage of again.
    pub fn prune(&mut self, stamp: Timestamp) {
        let is_old = |own: &&Transfer| matches!(own.stand, Stand::Arrived { until } if until.0.saturating_add(ARRIVED_KEPT) < stamp.0);
        let old: Vec<Transfer> = self.iter().filter(is_old).cloned().collect();
        for gone in old {
            self.take(gone.account.as_str(), |own| *own == gone);
        }
    }

    fn tally(&mut self, transfer: &Transfer, by: isize) {
        self.count = self.count.wrapping_add_signed(by);
        match transfer.stand {
            Stand::Leaving => self.leaving = self.leaving.wrapping_add_signed(by),
            Stand::Arrived { .. } => self.arrived = self.arrived.wrapping_add_signed(by),
            Stand::Left => {}
        }
    }

    /// A document must not bring back what moved away.
    ///
    /// # Errors
    /// MOVING while an account of the hierarchy is on its way; VERSION_CONFLICT where the hierarchy names one that left.
    pub fn check(&self, hierarchy: &Hierarchy) -> Result<(), Refusal> {
        for own in self.iter().filter(|own| own.root == hierarchy.root) {
            if own.stand == Stand::Leaving {
                let detail =
                    format!("account '{}' is on its way to '{}'; try again in a moment", own.account, own.other);
                return Err(Refusal::new(Reason::Moving, detail));
            }
            let stays = || {
                let periods = hierarchy.account(&own.account).map(|account| account.periods());
                periods.is_some_and(|periods| {
                    periods.is_none_or(|own_periods| own_periods.iter().any(|one| one.until > own.at))
                })
            };
            if own.stand == Stand::Left && stays() {
                let detail = format!(
                    "account '{}' moved to '{}' at {}; give it until: {} in this hierarchy, or take it out",
                    own.account, own.other, own.at, own.at
                );
                return Err(Refusal::new(Reason::VersionConflict, detail));
            }
        }
        Ok(())
    }

    pub fn from_wire(rows: &[wire_moves::Transfer]) -> Result<Transfers, String> {
        let mut transfers = Transfers::default();
        for row in rows {
            let stand = match row.state {
                0 => Stand::Leaving,
                1 => Stand::Left,
                2 => Stand::Arrived { until: Timestamp(row.until) },
                state => return Err(format!("state {state} of a moved account is unknown")),
            };
            let transfer = Transfer {
                account: account(&row.account)?,
                root: account(&row.root)?,
                other: account(&row.other)?,
                at: Timestamp(row.at),
                job: row.job.as_slice().try_into().map_err(|_| "a job has not 16 bytes")?,
                stand,
            };
            transfers.put(transfer).map_err(text)?;
        }
        Ok(transfers)
    }
}

/// Too many accounts of one slot moved.
pub(super) fn too_many() -> Refusal {
    let detail = format!("{TRANSFERS_PER_SLOT_MAX} accounts of the slot have moved, which is all that may");
    Refusal::new(Reason::LimitReached, detail)
}

impl Transfer {
    fn is_departure(&self, root: &AccountId) -> bool {
        self.root == *root && !matches!(self.stand, Stand::Arrived { .. })
    }

    pub fn to_wire(&self) -> wire_moves::Transfer {
        let (state, until) = match self.stand {
            Stand::Leaving => (0, 0),
            Stand::Left => (1, 0),
            Stand::Arrived { until } => (2, until.0),
        };
        wire_moves::Transfer {
            account: self.account.to_string(),
            root: self.root.to_string(),
            other: self.other.to_string(),
            at: self.at.0,
            job: self.job.to_vec(),
            state,
            until,
        }
    }
}
