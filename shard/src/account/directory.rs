//! Account -> root, for the accounts whose own slot is here. It is a hint for routing and the guard against one account
//! in two hierarchies at once; the truth about membership is in the root's slot.

use std::collections::BTreeMap;

use crate::base::id::AccountId;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{Period, Timestamp};

/// Times of one account in the directory: as many as a hierarchy allows it, over a few hierarchies.
pub const ENTRIES_PER_ACCOUNT_MAX: usize = 256;

/// One time of one account with one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub root: AccountId,
    pub period: Period,
}

/// The directory of one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    accounts: BTreeMap<AccountId, Vec<Membership>>,
}

impl Directory {
    /// The root that the account belongs to at that instant.
    pub fn resolve(&self, account: &AccountId, at: Timestamp) -> Option<&AccountId> {
        let entries = self.accounts.get(account)?;
        entries.iter().find(|entry| entry.period.contains(at)).map(|entry| &entry.root)
    }

    /// Every time of an account, in order.
    pub fn memberships(&self, account: &AccountId) -> &[Membership] {
        self.accounts.get(account).map_or(&[], Vec::as_slice)
    }

    /// In order of account, for snapshots.
    pub fn iter(&self) -> impl Iterator<Item = (&AccountId, &[Membership])> {
        self.accounts.iter().map(|(account, entries)| (account, entries.as_slice()))
    }

    /// Sets the account's times with one root; an empty list removes them. True where something changed. Refused where
    /// another hierarchy has the account at the same time.
    pub fn put(&mut self, account: &AccountId, root: &AccountId, periods: &[Period]) -> Result<bool, Refusal> {
        let old = self.memberships(account);
        for period in periods {
            if period.from >= period.until {
                let detail = format!("membership of account '{account}' in '{root}' ends before it begins; swap them");
                return Err(Refusal::new(Reason::InvalidDocument, detail));
            }
            let other = old.iter().find(|entry| entry.root != *root && entry.period.overlaps(period));
            if let Some(other) = other {
                let detail = format!(
                    "account '{account}' already belongs to '{}' at a time at which '{root}' names it; end its \
                     membership there first",
                    other.root
                );
                return Err(Refusal::new(Reason::VersionConflict, detail));
            }
        }
        let mut entries: Vec<Membership> = old.iter().filter(|entry| entry.root != *root).cloned().collect();
        entries.extend(periods.iter().map(|period| Membership { root: root.clone(), period: *period }));
        entries.sort_by_key(|entry| entry.period);
        if entries.len() > ENTRIES_PER_ACCOUNT_MAX {
            let detail =
                format!("account '{account}' would have more than {ENTRIES_PER_ACCOUNT_MAX} periods; join some");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let changed = entries.as_slice() != old;
        if entries.is_empty() {
            self.accounts.remove(account);
        } else if changed {
            self.accounts.insert(account.clone(), entries);
        }
        Ok(changed)
    }

    /// From `at` on the account belongs to `to` and no longer to `from`. True where something changed.
    pub fn transfer(
        &mut self,
        account: &AccountId,
        from: &AccountId,
        to: &AccountId,
        at: Timestamp,
    ) -> Result<bool, Refusal> {
        let of = |root: &AccountId| {
            let own = self.memberships(account).iter().filter(|entry| entry.root == *root);
            own.map(|entry| entry.period).collect::<Vec<Period>>()
        };
        let (mut left, mut joined) = (of(from), of(to));
        left.retain(|period| period.from < at);
        left.iter_mut().for_each(|period| period.until = period.until.min(at));
        if !joined.iter().any(|period| period.contains(at)) {
            joined.push(Period { from: at, until: Timestamp(i64::MAX) });
        }
        let before = self.memberships(account).to_vec();
        self.put(account, from, &left)?;
        if let Err(refusal) = self.put(account, to, &joined) {
            match before.is_empty() {
                true => self.accounts.remove(account),
                false => self.accounts.insert(account.clone(), before),
            };
            return Err(refusal);
        }
        Ok(self.memberships(account) != before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_belongs_to_one_root_at_a_time() {
        let id = |name: &str| AccountId::new(name).unwrap();
        let period = |from: i64, until: i64| Period { from: Timestamp(from), until: Timestamp(until) };
        let mut directory = Directory::default();
        let mut check = |root: &str, periods: &[Period], expected: Result<bool, Reason>| {
            let result = directory.put(&id("a"), &id(root), periods).map_err(|refusal| refusal.reason);
            assert_eq!(result, expected, "{root} {periods:?}");
        };
        check("r", &[period(0, 10)], Ok(true));
        check("r", &[period(0, 10)], Ok(false));
        check("s", &[period(9, 20)], Err(Reason::VersionConflict));
        check("s", &[period(10, 20)], Ok(true));
        check("s", &[period(12, 12)], Err(Reason::InvalidDocument));
        check("r", &[], Ok(true));
        check("s", &[period(9, 20), period(30, 40)], Ok(true));
        let at = |at: i64| directory.resolve(&id("a"), Timestamp(at)).map(AccountId::as_str);
        assert_eq!([at(8), at(9), at(19), at(20), at(30)], [None, Some("s"), Some("s"), None, Some("s")]);
    }
}
