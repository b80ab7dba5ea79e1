//! A hierarchy as the machine keeps it: root, payers, groups, accounts with their times, and what a second document may
//! change in it. The document's own form and checks live in [`super::document`].

use std::collections::BTreeMap;

use super::document::{AccountDocument, Close, CyclesDocument, Grace, HierarchyDocument, HierarchyKind, Interim};
use crate::base::id::{AccountId, CatalogueName, Currency, GroupName};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Period, Timestamp};

/// Accounts billed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub root: AccountId,
    pub catalogue: CatalogueName,
    /// The catalogue's where it is `None`.
    pub currency: Option<Currency>,
    pub first: CycleId,
    pub close: Close,
    pub grace: Grace,
    pub interim: Interim,
    /// In the order in which they were added: terms point into it, so nothing is ever removed.
    pub(super) payers: Vec<AccountId>,
    /// As `payers`.
    pub(super) groups: Vec<GroupName>,
    /// Sorted by id; root and payers included.
    pub(super) accounts: Vec<Account>,
}

/// One account of a hierarchy. Small, since there may be millions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    /// When it belongs to the hierarchy, in order; `None` = always.
    pub(super) periods: Option<Box<[Period]>>,
    /// Payer and group from a cycle's start on, in order; the first also holds before its cycle.
    pub(super) terms: Terms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub since: CycleId,
    pub payer: u16,
    /// `u16::MAX` = none.
    pub group: u16,
}

pub(super) const NO_GROUP: u16 = u16::MAX;

/// Almost every account has one term for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    One(Term),
    Many(Box<[Term]>),
}

impl Terms {
    pub fn as_slice(&self) -> &[Term] {
        match self {
            Terms::One(term) => std::slice::from_ref(term),
            Terms::Many(terms) => terms,
        }
    }

    fn at(&self, cycle: CycleId) -> Term {
        let terms = self.as_slice();
        let after = terms.partition_point(|term| term.since <= cycle);
        terms[after.saturating_sub(1)]
    }
}

impl Account {
    /// Whether it belongs to the hierarchy at that instant.
    pub fn is_member_at(&self, at: Timestamp) -> bool {
        self.periods.as_ref().is_none_or(|periods| periods.iter().any(|period| period.contains(at)))
    }

    /// When it belongs to the hierarchy; `None` = always.
    pub fn periods(&self) -> Option<&[Period]> {
        self.periods.as_deref()
    }
}

/// What an amendment of a hierarchy may look at: how far each account's usage reaches, and which cycle is running.
pub struct Counted<'a> {
    /// The oldest cycle that is not cut: everything before is fixed.
    pub open: CycleId,
    /// The first cycle that still runs by the log's stamps, at or after `open`.
    pub running: CycleId,
    /// First instant from which on nothing of the account has been counted; `None` = nothing ever.
    pub free_from: &'a dyn Fn(&AccountId) -> Option<Timestamp>,
}

impl Hierarchy {
    /// The tree of a first document, which must have passed its own check.
    pub fn create(document: &HierarchyDocument) -> Hierarchy {
        let mut hierarchy = Hierarchy {
            root: document.root.clone(),
            catalogue: document.catalogue.clone(),
            currency: document.currency,
            first: document.cycles.first,
            close: document.cycles.close,
            grace: document.cycles.grace,
            interim: document.cycles.interim.clone(),
            payers: document.payers(),
            groups: document.groups.clone(),
            accounts: Vec::new(),
        };
        let first = document.cycles.first;
        hierarchy.accounts =
            hierarchy.rows_of(document).into_iter().map(|row| hierarchy.account_of(row, first)).collect();
        hierarchy
    }

    /// The tree after a second document of the same root. Accounts, periods, payers and groups may be added at any
    /// time; payer and group change at a cycle's start; a period changes only where no usage would lose its owner.
    pub fn amend(&self, document: &HierarchyDocument, counted: &Counted<'_>) -> Result<Hierarchy, Refusal> {
        self.check_fixed(document)?;
        let mut next = self.clone();
        (next.close, next.grace) = (document.cycles.close, document.cycles.grace);
        next.interim = document.cycles.interim.clone();
        for payer in document.payers() {
            if !next.payers.contains(&payer) {
                next.payers.push(payer);
            }
        }
        for group in &document.groups {
            if !next.groups.contains(group) {
                next.groups.push(group.clone());
            }
        }
        let rows = next.rows_of(document);
        let mut accounts = Vec::with_capacity(rows.len());
        let mut old = self.accounts.iter().peekable();
        for row in rows {
            while let Some(gone) = old.next_if(|account| account.id < *row.id) {
                check_removed(gone, counted)?;
            }
            let since = row.since.unwrap_or(counted.running);
            match old.next_if(|account| account.id == *row.id) {
                Some(account) => accounts.push(next.amended(account, row, since, counted)?),
                None => accounts.push(next.account_of(row, since)),
            }
        }
        for gone in old {
            check_removed(gone, counted)?;
        }
        next.accounts = accounts;
        Ok(next)
    }

    /// What a document may never change.
    fn check_fixed(&self, document: &HierarchyDocument) -> Result<(), Refusal> {
        let fixed = |what: &str, was: String, is: String| {
            let detail = format!("{what} of hierarchy '{}' is {was} and cannot become {is}; use a new root", self.root);
            Err(Refusal::new(Reason::VersionConflict, detail))
        };
        if document.catalogue != self.catalogue {
            return fixed("catalogue", format!("'{}'", self.catalogue), format!("'{}'", document.catalogue));
        }
        if document.cycles.first != self.first {
            return fixed("first cycle", self.first.to_string(), document.cycles.first.to_string());
        }
        if document.currency != self.currency {
            let name = |currency: Option<Currency>| currency.map_or("the catalogue's".to_owned(), |c| c.to_string());
            return fixed("currency", name(self.currency), name(document.currency));
        }
        Ok(())
    }

    /// The document's rows by account, the implied rows of root and payers added.
    fn rows_of<'a>(&self, document: &'a HierarchyDocument) -> Vec<Row<'a>> {
        let payers: &'a [AccountId] = &document.payers;
        let mut rows: BTreeMap<&'a AccountId, Row<'a>> = BTreeMap::new();
        for account in &document.accounts {
            let row = rows.entry(&account.id).or_insert_with(|| Row::empty(&account.id));
            row.add(account);
        }
        for id in payers.iter().chain([&document.root]) {
            rows.entry(id).or_insert_with(|| Row::empty(id));
        }
        let default = document.default_payer();
        let all_payers = document.payers();
        rows.into_values()
            .map(|mut row| {
                row.periods.sort();
                let own = all_payers.contains(row.id).then(|| row.id.clone());
                row.pays = Some(own.or_else(|| row.payer.cloned()).unwrap_or_else(|| default.clone()));
                row
            })
            .collect()
    }

    fn term_of(&self, row: &Row<'_>, since: CycleId) -> Term {
        let payer = row.pays.as_ref().and_then(|payer| self.payers.iter().position(|known| known == payer));
        let group = row.group.and_then(|group| self.groups.iter().position(|known| known == group));
        Term {
            since,
            payer: payer.expect("every row's payer was checked and added") as u16,
            group: group.map_or(NO_GROUP, |group| group as u16),
        }
    }

    fn account_of(&self, row: Row<'_>, since: CycleId) -> Account {
        let terms = Terms::One(self.term_of(&row, since));
        Account { id: row.id.clone(), periods: row.into_periods(), terms }
    }

    fn amended(
        &self,
        account: &Account,
        row: Row<'_>,
        since: CycleId,
        counted: &Counted<'_>,
    ) -> Result<Account, Refusal> {
        let wanted = self.term_of(&row, since);
        let latest = *account.terms.as_slice().last().expect("an account has a term");
        let mut terms = account.terms.clone();
        if (latest.payer, latest.group) != (wanted.payer, wanted.group) {
            if since < counted.open || since < latest.since {
                let earliest = counted.open.max(latest.since);
                let detail = format!(
                    "payer or group of account '{}' cannot change from {since}; the earliest possible cycle is {earliest}",
                    account.id
                );
                return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
            }
            let mut all = terms.as_slice().to_vec();
            all.retain(|term| term.since != since);
            all.push(wanted);
            terms = if all.len() == 1 { Terms::One(all[0]) } else { Terms::Many(all.into()) };
        }
        let periods = row.into_periods();
        if periods != account.periods {
            check_periods(account, periods.as_deref(), counted)?;
        }
        Ok(Account { id: account.id.clone(), periods, terms })
    }

    /// Accounts sorted by id, root and payers among them.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    pub fn account(&self, id: &AccountId) -> Option<&Account> {
        let found = self.accounts.binary_search_by(|account| account.id.cmp(id));
        found.ok().map(|index| &self.accounts[index])
    }

    /// Accounts that receive bills, in the order in which they were added.
    pub fn payers(&self) -> &[AccountId] {
        &self.payers
    }

    pub fn groups(&self) -> &[GroupName] {
        &self.groups
    }

    /// Who pays for the account's usage of a cycle; `None` for a stranger.
    pub fn payer_of(&self, account: &AccountId, cycle: CycleId) -> Option<&AccountId> {
        self.account(account).map(|account| self.payer_at(account, cycle))
    }

    /// Who pays for usage of a cycle, the account at hand.
    pub fn payer_at(&self, account: &Account, cycle: CycleId) -> &AccountId {
        &self.payers[usize::from(account.terms.at(cycle).payer)]
    }

    /// The account's billing group in a cycle.
    pub fn group_of(&self, account: &AccountId, cycle: CycleId) -> Option<&GroupName> {
        self.account(account).and_then(|account| self.group_at(account, cycle))
    }

    /// The billing group in a cycle, the account at hand.
    pub fn group_at(&self, account: &Account, cycle: CycleId) -> Option<&GroupName> {
        match account.terms.at(cycle).group {
            NO_GROUP => None,
            group => Some(&self.groups[usize::from(group)]),
        }
    }
}

impl Hierarchy {
    /// The accounts that a billing group has in a cycle, for a pro forma bill: `account`, which may be none of them, pays for
    /// all of them.
    pub fn of_group(&self, group: &GroupName, account: &AccountId, cycle: CycleId) -> Hierarchy {
        let in_group = |own: &&Account| self.group_at(own, cycle) == Some(group) || own.id == *account;
        let of = |own: &Account| {
            let group = if self.group_at(own, cycle) == Some(group) { 0 } else { NO_GROUP };
            Account {
                id: own.id.clone(),
                periods: own.periods.clone(),
                terms: Terms::One(Term { since: self.first, payer: 0, group }),
            }
        };
        Hierarchy {
            payers: vec![account.clone()],
            groups: vec![group.clone()],
            accounts: self.accounts.iter().filter(in_group).map(of).collect(),
            root: self.root.clone(),
            catalogue: self.catalogue.clone(),
            currency: self.currency,
            first: self.first,
            close: self.close,
            grace: self.grace,
            interim: Interim::default(),
        }
    }

    /// The tree as a document that can be applied again: payers and groups as of a cycle, or as they were last set.
    /// Payers and groups that nobody has any more are left out, and so is what goes without saying.
    pub fn document(&self, cycle: Option<CycleId>) -> HierarchyDocument {
        let term_of = |account: &Account| match cycle {
            Some(cycle) => account.terms.at(cycle),
            None => *account.terms.as_slice().last().expect("an account has a term"),
        };
        let payer_of = |account: &Account| &self.payers[usize::from(term_of(account).payer)];
        let group_of = |account: &Account| self.groups.get(usize::from(term_of(account).group));
        let payers: Vec<AccountId> =
            self.accounts.iter().filter(|own| *payer_of(own) == own.id).map(|own| own.id.clone()).collect();
        let default = if payers.contains(&self.root) { Some(&self.root) } else { payers.first() };
        let mut groups: Vec<GroupName> = self.accounts.iter().filter_map(group_of).cloned().collect();
        groups.sort();
        groups.dedup();
        let mut accounts = Vec::with_capacity(self.accounts.len());
        for account in &self.accounts {
            let (payer, group) = (payer_of(account), group_of(account));
            let implied = *payer == account.id || account.id == self.root && Some(payer) == default;
            if implied && group.is_none() && account.periods.is_none() {
                continue;
            }
            let row = |from, until| AccountDocument {
                id: account.id.clone(),
                payer: (*payer != account.id && Some(payer) != default).then(|| payer.clone()),
                group: group.cloned(),
                from,
                until,
                since: None,
            };
            let bound = |at: Timestamp, open: i64| (at.0 != open).then_some(at);
            match account.periods() {
                None => accounts.push(row(None, None)),
                Some(periods) => accounts.extend(
                    periods.iter().map(|period| row(bound(period.from, i64::MIN), bound(period.until, i64::MAX))),
                ),
            }
        }
        HierarchyDocument {
            kind: HierarchyKind::Hierarchy,
            root: self.root.clone(),
            catalogue: self.catalogue.clone(),
            currency: self.currency,
            payers: if payers == [self.root.clone()] { Vec::new() } else { payers },
            groups,
            accounts,
            cycles: CyclesDocument {
                first: self.first,
                close: self.close,
                grace: self.grace,
                interim: self.interim.clone(),
            },
        }
    }
}

/// A hierarchy taken apart, for durable bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    pub root: AccountId,
    pub catalogue: CatalogueName,
    pub currency: Option<Currency>,
    pub first: CycleId,
    pub close: Close,
    pub grace: Grace,
    pub interim: Interim,
    pub payers: Vec<AccountId>,
    pub groups: Vec<GroupName>,
    pub accounts: Vec<AccountParts>,
}

/// An account taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountParts {
    pub id: AccountId,
    pub periods: Option<Vec<Period>>,
    pub terms: Vec<TermParts>,
}

/// Payer and group (places in their lists) from a cycle on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermParts {
    pub since: CycleId,
    pub payer: u16,
    pub group: Option<u16>,
}

impl Hierarchy {
    /// Takes a hierarchy apart.
    pub fn parts(&self) -> Parts {
        let term = |term: &Term| {
            let group = (term.group != NO_GROUP).then_some(term.group);
            TermParts { since: term.since, payer: term.payer, group }
        };
        let account = |account: &Account| AccountParts {
            id: account.id.clone(),
            periods: account.periods.as_ref().map(|periods| periods.to_vec()),
            terms: account.terms.as_slice().iter().map(term).collect(),
        };
        Parts {
            root: self.root.clone(),
            catalogue: self.catalogue.clone(),
            currency: self.currency,
            first: self.first,
            close: self.close,
            grace: self.grace,
            interim: self.interim.clone(),
            payers: self.payers.clone(),
            groups: self.groups.clone(),
            accounts: self.accounts.iter().map(account).collect(),
        }
    }

    /// Puts a hierarchy together again; `None` where the parts do not fit each other.
    pub fn from_parts(parts: Parts) -> Option<Hierarchy> {
        let mut accounts = Vec::with_capacity(parts.accounts.len());
        for account in parts.accounts {
            let mut terms = Vec::with_capacity(account.terms.len());
            for term in account.terms {
                let knows_group = term.group.is_none_or(|group| usize::from(group) < parts.groups.len());
                if usize::from(term.payer) >= parts.payers.len() || !knows_group {
                    return None;
                }
                terms.push(Term { since: term.since, payer: term.payer, group: term.group.unwrap_or(NO_GROUP) });
            }
            let terms = match terms.as_slice() {
                [] => return None,
                [one] => Terms::One(*one),
                many => Terms::Many(many.into()),
            };
            accounts.push(Account { id: account.id, periods: account.periods.map(Into::into), terms });
        }
        accounts.is_sorted_by(|one, next| one.id < next.id).then_some(Hierarchy {
            root: parts.root,
            catalogue: parts.catalogue,
            currency: parts.currency,
            first: parts.first,
            close: parts.close,
            grace: parts.grace,
            interim: parts.interim,
            payers: parts.payers,
            groups: parts.groups,
            accounts,
        })
    }
}

/// An account's rows of a document, gathered.
struct Row<'a> {
    id: &'a AccountId,
    payer: Option<&'a AccountId>,
    /// `payer` with the defaults filled in.
    pays: Option<AccountId>,
    group: Option<&'a GroupName>,
    since: Option<CycleId>,
    periods: Vec<Period>,
}

impl<'a> Row<'a> {
    fn empty(id: &'a AccountId) -> Row<'a> {
        Row { id, payer: None, pays: None, group: None, since: None, periods: Vec::new() }
    }

    fn add(&mut self, account: &'a AccountDocument) {
        self.payer = self.payer.or(account.payer.as_ref());
        self.group = self.group.or(account.group.as_ref());
        self.since = self.since.max(account.since);
        self.periods.push(account.period());
    }

    /// `None` for membership without bounds, so that it costs nothing to check.
    fn into_periods(self) -> Option<Box<[Period]>> {
        let always = Period { from: Timestamp(i64::MIN), until: Timestamp(i64::MAX) };
        let bounded = !self.periods.is_empty() && !self.periods.contains(&always);
        bounded.then(|| self.periods.into())
    }
}

fn check_removed(account: &Account, counted: &Counted<'_>) -> Result<(), Refusal> {
    let Some(free_from) = (counted.free_from)(&account.id) else {
        return Ok(());
    };
    let detail = format!(
        "account '{}' has counted usage and cannot be removed; keep its row and give it until, at the earliest {free_from}",
        account.id
    );
    Err(Refusal::new(Reason::VersionConflict, detail))
}

/// A period may change where no instant that may hold counted usage loses its membership.
fn check_periods(account: &Account, next: Option<&[Period]>, counted: &Counted<'_>) -> Result<(), Refusal> {
    let (Some(next), Some(free_from)) = (next, (counted.free_from)(&account.id)) else {
        return Ok(());
    };
    let always = [Period { from: Timestamp(i64::MIN), until: Timestamp(i64::MAX) }];
    for was in account.periods().unwrap_or(&always) {
        let used = Period { from: was.from, until: was.until.min(free_from) };
        // Walks what was a member and may be used; every instant of it must stay inside some period.
        let mut at = used.from;
        while at < used.until {
            match next.iter().find(|period| period.contains(at)) {
                Some(period) => at = period.until,
                None => {
                    let detail = format!(
                        "account '{}' may have counted usage from {at} on and before {free_from}, which its new times \
                         leave out; the earliest possible end is {free_from}",
                        account.id
                    );
                    return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rest: &str) -> HierarchyDocument {
        let text =
            format!(r#"{{"kind":"Hierarchy","root":"acme","catalogue":"aws","cycles":{{"first":"2024-09"}}{rest}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn account(name: &str) -> AccountId {
        AccountId::new(name).unwrap()
    }

    fn cycle(name: &str) -> CycleId {
        name.parse().unwrap()
    }

    #[test]
    fn payers_and_groups_hold_from_a_cycle_on() {
        let first = document(
            r#","payers":["acme","b"],"groups":["g"],"accounts":[{"id":"x"},{"id":"y","payer":"b","group":"g"}]"#,
        );
        let hierarchy = Hierarchy::create(&first);
        let names: Vec<&str> = hierarchy.accounts().iter().map(|account| account.id.as_str()).collect();
        assert_eq!(names, ["acme", "b", "x", "y"]);
        let second = document(
            r#","payers":["acme","b"],"groups":["g"],"accounts":[{"id":"x","payer":"b","group":"g"},{"id":"y","payer":"b"}]"#,
        );
        let counted = Counted { open: cycle("2024-09"), running: cycle("2024-10"), free_from: &|_| None };
        let next = hierarchy.amend(&second, &counted).unwrap();
        let check = |id: &str, at: &str, payer: &str, group: Option<&str>| {
            assert_eq!(next.payer_of(&account(id), cycle(at)).unwrap().as_str(), payer, "{id} {at}");
            assert_eq!(next.group_of(&account(id), cycle(at)).map(GroupName::as_str), group, "{id} {at}");
        };
        check("acme", "2024-09", "acme", None);
        check("b", "2024-09", "b", None);
        check("x", "2024-09", "acme", None);
        check("x", "2024-10", "b", Some("g"));
        check("y", "2024-09", "b", Some("g"));
        check("y", "2024-11", "b", None);
        assert_eq!(next.payer_of(&account("stranger"), cycle("2024-09")), None);
        assert_eq!(next.amend(&second, &counted).unwrap(), next);
        assert_eq!(Hierarchy::from_parts(next.parts()), Some(next));
    }

    #[test]
    fn a_tree_is_a_document_again() {
        fn check(rest: &str, expected: &str) {
            let tree = Hierarchy::create(&document(rest));
            let again = tree.document(None);
            assert_eq!(again, document(expected), "{rest}");
            assert!(again.check().is_empty());
            assert_eq!(Hierarchy::create(&again).accounts().len(), tree.accounts().len());
            assert_eq!(Hierarchy::create(&again).document(None), again);
        }
        check("", "");
        check(r#","payers":["acme"],"groups":["unused"],"accounts":[{"id":"acme"}]"#, "");
        check(r#","accounts":[{"id":"b"},{"id":"a","payer":"acme"}]"#, r#","accounts":[{"id":"a"},{"id":"b"}]"#);
        check(
            r#","payers":["p","acme"],"groups":["g"],"accounts":[{"id":"a","payer":"p","group":"g"},{"id":"p","group":"g"}]"#,
            r#","payers":["acme","p"],"groups":["g"],"accounts":[{"id":"a","payer":"p","group":"g"},{"id":"p","group":"g"}]"#,
        );
        let periods = r#","payers":["p"],"accounts":[{"id":"a","until":"2024-10-01"},{"id":"a","from":"2024-11-01"}]"#;
        check(periods, periods);
        let first = Hierarchy::create(&document(r#","payers":["acme","p"],"accounts":[{"id":"a","payer":"p"}]"#));
        let counted = Counted { open: cycle("2024-09"), running: cycle("2024-10"), free_from: &|_| None };
        let next = first.amend(&document(r#","accounts":[{"id":"a"},{"id":"p"}]"#), &counted).unwrap();
        assert_eq!(next.document(Some(cycle("2024-09"))), first.document(None), "as of the cycle before");
        assert_eq!(next.document(None), document(r#","accounts":[{"id":"a"},{"id":"p"}]"#));
    }

    #[test]
    fn a_second_document_keeps_what_was_counted() {
        fn check(first: &str, second: &str, expected: Result<(), Reason>) {
            let hierarchy = Hierarchy::create(&document(first));
            let free_from = |id: &AccountId| (id.as_str() == "used").then(|| "2024-10-01".parse().unwrap());
            let counted = Counted { open: cycle("2024-09"), running: cycle("2024-09"), free_from: &free_from };
            let result = hierarchy.amend(&document(second), &counted).map(|_| ());
            assert_eq!(result.map_err(|refusal| refusal.reason), expected, "{first} {second}");
        }
        let with = |row: &str| format!(r#","accounts":[{{"id":{row}}}]"#);
        check(&with(r#""used""#), "", Err(Reason::VersionConflict));
        check(&with(r#""idle""#), "", Ok(()));
        check("", &with(r#""new""#), Ok(()));
        check(&with(r#""used""#), &with(r#""used","until":"2024-09-20""#), Err(Reason::EffectiveTooEarly));
        check(&with(r#""used""#), &with(r#""used","until":"2024-10-01""#), Ok(()));
        check(&with(r#""used""#), &with(r#""used","from":"2024-09-01""#), Err(Reason::EffectiveTooEarly));
        check(&with(r#""used","from":"2024-09-05""#), &with(r#""used","from":"2024-09-01""#), Ok(()));
        check(&with(r#""idle""#), &with(r#""idle","until":"2024-09-20""#), Ok(()));
        check("", r#","currency":"EUR""#, Err(Reason::VersionConflict));
        check(r#","groups":["g"]"#, r#","groups":["g","h"]"#, Ok(()));
        check(
            r#","groups":["g"],"accounts":[{"id":"used"}]"#,
            r#","groups":["g"],"accounts":[{"id":"used","group":"g","since":"2024-08"}]"#,
            Err(Reason::EffectiveTooEarly),
        );
    }
}
