//! An account that goes from one hierarchy to another at a date: what that changes in the tree of each. How both agree is
//! the machine's matter.

use serde::{Deserialize, Serialize};

use super::tree::{Account, Hierarchy, NO_GROUP, Term, Terms};
use crate::base::id::{AccountId, GroupName};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Period, Timestamp};

/// Membership that never ends has this end.
const OPEN: Timestamp = Timestamp(i64::MAX);
const ALWAYS: Period = Period { from: Timestamp(i64::MIN), until: OPEN };

/// An account's way from one hierarchy to another, as a job of the cluster carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WayDocument {
    pub account: AccountId,
    /// Roots of the hierarchies.
    pub from: AccountId,
    pub to: AccountId,
    /// Usage from this instant on is the new hierarchy's.
    pub at: Timestamp,
    /// Who pays there; the root, or the first payer, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<AccountId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
}

impl Hierarchy {
    /// Ends the membership of an account at `at`. `free_from`: first instant from which on nothing of it was counted.
    ///
    /// # Errors
    /// UNKNOWN_ACCOUNT; VERSION_CONFLICT where it is root or payer, or does not belong here from before `at` on without an
    /// end; EFFECTIVE_TOO_EARLY, with the earliest possible instant, where usage from `at` on may be counted.
    pub fn let_go(&mut self, id: &AccountId, at: Timestamp, free_from: Option<Timestamp>) -> Result<(), Refusal> {
        let root = &self.root;
        if id == root || self.payers.contains(id) {
            let detail = format!("account '{id}' is the root or a payer of '{root}', which cannot leave it");
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        let place = self.place(id)?;
        let mut periods = self.accounts[place].periods().map_or_else(|| vec![ALWAYS], <[Period]>::to_vec);
        let Some(last) = periods.last_mut().filter(|last| last.until == OPEN && last.from < at) else {
            let detail = format!("account '{id}' does not belong to '{root}' from before {at} on without an end");
            return Err(Refusal::new(Reason::VersionConflict, format!("{detail}; see 'accounts show {id}'")));
        };
        if let Some(free_from) = free_from.filter(|free_from| at < *free_from) {
            let detail = format!(
                "account '{id}' may have counted usage from {at} on in '{root}'; the earliest possible date is {free_from}"
            );
            return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
        }
        last.until = at;
        self.accounts[place].periods = Some(periods.into());
        Ok(())
    }

    /// The inverse of [`Hierarchy::let_go`]; nothing where no membership ends at `at`.
    pub fn take_back(&mut self, id: &AccountId, at: Timestamp) {
        let Ok(place) = self.place(id) else { return };
        let Some(periods) = &mut self.accounts[place].periods else { return };
        if let Some(last) = periods.last_mut().filter(|last| last.until == at) {
            last.until = OPEN;
        }
        if **periods == [ALWAYS] {
            self.accounts[place].periods = None;
        }
    }

    /// Begins the membership of an account at `at`, without an end. Without `payer` it is the root's, or the first
    /// payer's. `open`: the oldest cycle that is not cut.
    ///
    /// # Errors
    /// VERSION_CONFLICT where it belongs here from `at` on already; EFFECTIVE_TOO_EARLY, with the earliest possible
    /// instant; INVALID_DOCUMENT where there is no such payer or group.
    pub fn take_in(
        &mut self,
        id: &AccountId,
        at: Timestamp,
        payer: Option<&AccountId>,
        group: Option<&GroupName>,
        open: CycleId,
    ) -> Result<(), Refusal> {
        let root = &self.root;
        let since = at.cycle();
        if since < self.first {
            let detail =
                format!("'{root}' begins with {}; the earliest possible date is {}", self.first, self.first.start());
            return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
        }
        let named = payer.unwrap_or_else(|| if self.payers.contains(root) { root } else { &self.payers[0] });
        let missing = |what: &str, name: &str| {
            let detail = format!("'{root}' has no {what} '{name}'; add it to its hierarchy first, or name another");
            Refusal::new(Reason::InvalidDocument, detail)
        };
        let payer =
            self.payers.iter().position(|known| known == named).ok_or_else(|| missing("payer", named.as_str()))?;
        let group = match group {
            None => NO_GROUP,
            Some(name) => {
                let known = self.groups.iter().position(|known| known == name);
                known.ok_or_else(|| missing("group", name.as_str()))? as u16
            }
        };
        let term = Term { since, payer: payer as u16, group };
        let begun = Period { from: at, until: OPEN };
        let place = match self.accounts.binary_search_by(|account| account.id.cmp(id)) {
            Err(place) => {
                let account = Account { id: id.clone(), periods: Some([begun].into()), terms: Terms::One(term) };
                self.accounts.insert(place, account);
                return Ok(());
            }
            Ok(place) => place,
        };
        let account = &self.accounts[place];
        let mut periods = account.periods().map_or_else(|| vec![ALWAYS], <[Period]>::to_vec);
        if let Some(last) = periods.last().filter(|last| at < last.until) {
            let detail = format!("account '{id}' belongs to '{root}' from {} to {} already", last.from, last.until);
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        let latest = *account.terms.as_slice().last().expect("an account has a term");
        if (latest.payer, latest.group) != (term.payer, term.group) {
            let earliest = open.max(latest.since);
            if since < earliest {
                let detail = format!(
                    "payer or group of account '{id}' cannot change from {since}; the earliest possible date is {}",
                    earliest.start()
                );
                return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
            }
            let mut terms = account.terms.as_slice().to_vec();
            terms.retain(|term| term.since != since);
            terms.push(term);
            self.accounts[place].terms = Terms::Many(terms.into());
        }
        periods.push(begun);
        self.accounts[place].periods = Some(periods.into());
        Ok(())
    }

    fn place(&self, id: &AccountId) -> Result<usize, Refusal> {
        let found = self.accounts.binary_search_by(|account| account.id.cmp(id));
        found.map_err(|_| {
            let detail = format!("hierarchy '{}' has no account '{id}'", self.root);
            Refusal::new(Reason::UnknownAccount, detail)
        })
    }
}
