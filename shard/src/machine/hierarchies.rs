//! Hierarchies, their contracts, and the directory: what a document becomes in the slot of its root.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::command::{DOCUMENT_BYTES_MAX, Done};
use super::state::{
    CONTRACT_BYTES_MAX, CONTRACT_VERSIONS_MAX, ContractVersion, JOBS_MAX, LiveSlot, RootRow, State, Unasked, governing,
};
use crate::account::document::HierarchyDocument;
use crate::account::tree::{Account, Counted, Hierarchy};
use crate::base::id::AccountId;
use crate::base::problem::Problem;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Period, Timestamp};
use crate::billing::cycle::{BALANCES_MAX, Cycles};
use crate::contract::document::ContractDocument;
use crate::contract::terms::{Clause, Contract, Mechanism};
use crate::contract::year::{POOL_BALANCES, ends_year, year_of};
use crate::placement::slot_of;
use crate::pricing::catalogue::{Catalogue, Price};
use crate::pricing::document::PoolPeriod;
use crate::usage::counter::{Meta, lane_of};
use crate::usage::series::{MEMBERS_PER_SLOT_MAX, NONE};

impl State {
    /// Creates or amends a hierarchy.
    pub(super) fn put_hierarchy(&mut self, bytes: &[u8], job: &str, generation: u32) -> Result<Done, Refusal> {
        let document: HierarchyDocument = read_document(bytes, DOCUMENT_BYTES_MAX)?;
        refuse_problems(document.check())?;
        let slot = slot_of(document.root.as_str());
        self.check_owned(slot)?;
        let stamp = self.stamp;
        let is_known = self.root_mut(&document.root).is_ok();
        if !is_known {
            self.check_catalogue(&document)?;
            return self.create_hierarchy(&document, bytes, job, generation);
        }
        let (live, number) = self.root_mut(&document.root)?;
        let row = &live.data.roots[number as usize];
        let digest = *blake3::hash(bytes).as_bytes();
        if row.document == digest || is_done(&row.jobs, job) {
            return Ok(Done::Unchanged);
        }
        if let Some(claim) = &row.cycles.claim {
            let detail = format!("bills of cycle {} are being made; apply it again after them", claim.cycle);
            return Err(Refusal::new(Reason::CloseOldestFirst, detail));
        }
        let open = row.cycles.open;
        let running = if stamp < open.end() { open } else { open.next() };
        let free_from = |account: &AccountId| free_from(live, number, account);
        let hierarchy = row.hierarchy.amend(&document, &Counted { open, running, free_from: &free_from })?;
        live.data.transfers().check(&hierarchy)?;
        check_member_room(live, number, &hierarchy)?;
        let row = &mut live.data.roots[number as usize];
        let before = std::mem::replace(&mut row.hierarchy, Arc::new(hierarchy));
        row.document = digest;
        remember(&mut row.jobs, job);
        let now = row.hierarchy.clone();
        add_members(live, number, &now);
        for gone in before.accounts().iter().filter(|account| now.account(&account.id).is_none()) {
            if let Some(member) = live.data.series.member_in(&live.series_index, gone.id.as_str(), number) {
                set_checked(live, member, true);
            }
        }
        Ok(Done::Changed)
    }

    /// A first document names a catalogue that is in use by then, and its currency.
    fn check_catalogue(&self, document: &HierarchyDocument) -> Result<(), Refusal> {
        let name = &document.catalogue;
        let Some(versions) = self.catalogues.get(name) else {
            let detail = format!("catalogue '{name}' is not in use; apply it first");
            return Err(Refusal::new(Reason::UnknownCatalogue, detail));
        };
        let Some(version) = governing(versions, document.cycles.first) else {
            let first = versions.first().map_or(document.cycles.first, |version| version.effective);
            let detail =
                format!("catalogue '{name}' is effective from {first} on; the earliest possible first cycle is that");
            return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
        };
        let currency = self.compiled.get(&version.hash).expect("every version in use was loaded").currency;
        refuse_problems(document.check_currency(currency).into_iter().collect())
    }

    fn create_hierarchy(
        &mut self,
        document: &HierarchyDocument,
        bytes: &[u8],
        job: &str,
        generation: u32,
    ) -> Result<Done, Refusal> {
        let live = self.slot_mut(slot_of(document.root.as_str()), generation)?;
        if live.data.roots.len() >= Meta::ROOTS_MAX {
            let detail = format!("the slot has {} hierarchies, which is all it may", Meta::ROOTS_MAX);
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let catalogue = catalogue_number(live, document)?;
        let number = live.data.roots.len() as u32;
        let hierarchy = Arc::new(Hierarchy::create(document));
        check_member_room(live, number, &hierarchy)?;
        let mut jobs = Arc::default();
        remember(&mut jobs, job);
        live.data.roots.push(RootRow {
            hierarchy: hierarchy.clone(),
            document: *blake3::hash(bytes).as_bytes(),
            catalogue,
            contracts: Arc::default(),
            cycles: Arc::new(Cycles::new(document.cycles.first)),
            jobs,
            series: 0,
            newest: NONE,
        });
        live.opens.push(document.cycles.first.ordinal());
        Arc::make_mut(&mut live.data.root_numbers).insert(document.root.clone(), number);
        add_members(live, number, &hierarchy);
        Ok(Done::Changed)
    }

    /// Sets the times of one account with one root in the account's own slot.
    pub(super) fn put_directory(
        &mut self,
        account: &AccountId,
        root: &AccountId,
        periods: &[Period],
        generation: u32,
    ) -> Result<Done, Refusal> {
        let live = self.slot_mut(slot_of(account.as_str()), generation)?;
        let changed = Arc::make_mut(&mut live.data.directory).put(account, root, periods)?;
        Ok(if changed { Done::Changed } else { Done::Unchanged })
    }

    /// A new version of a root's contract.
    pub(super) fn put_contract(&mut self, bytes: &[u8], job: &str) -> Result<Done, Refusal> {
        let document: ContractDocument = read_document(bytes, CONTRACT_BYTES_MAX)?;
        let (live, number) = self.root_mut(&document.root)?;
        let row = &live.data.roots[number as usize];
        let hash = *blake3::hash(bytes).as_bytes();
        if row.contracts.last().is_some_and(|latest| latest.hash == hash) || is_done(&row.jobs, job) {
            return Ok(Done::Unchanged);
        }
        let open = row.cycles.open;
        let latest = row.contracts.last().map_or(open, |latest| latest.effective);
        if document.effective < open.max(latest) {
            let detail = format!(
                "a contract version of '{}' cannot take effect in {}; the earliest possible cycle is {}",
                document.root,
                document.effective,
                open.max(latest)
            );
            return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
        }
        if row.contracts.len() >= CONTRACT_VERSIONS_MAX {
            let detail =
                format!("'{}' has {CONTRACT_VERSIONS_MAX} contract versions, which is all it may", document.root);
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let catalogue = row.hierarchy.catalogue.clone();
        let version = self.catalogues.get(&catalogue).and_then(|versions| versions.last());
        let compiled = version.and_then(|version| self.compiled.get(&version.hash)).cloned();
        let contract = Contract::compile(&document, compiled.as_deref()).map_err(|problems| refusal_of(&problems))?;
        let row = &self.root_mut(&document.root)?.0.data.roots[number as usize];
        refuse_problems(document.check_accounts(|account| row.hierarchy.account(account).is_some()))?;
        refuse_problems(document.check_groups(|group| row.hierarchy.groups().contains(group)))?;
        check_commitments(row, &contract)?;
        check_years(row, &contract, compiled.as_deref())?;
        check_balances(row, &contract)?;
        let (live, number) = self.root_mut(&document.root)?;
        let row = &mut live.data.roots[number as usize];
        check_subscribers(&contract, &row.hierarchy)?;
        let contracts = Arc::make_mut(&mut row.contracts);
        contracts.push(ContractVersion {
            version: contracts.len() as u32 + 1,
            hash,
            effective: document.effective,
            until: document.until,
            document: bytes.into(),
            unasked: Unasked { purchases: contract.has_purchases(), shortfalls: contract.bills_shortfalls() },
        });
        remember(&mut row.jobs, job);
        Ok(Done::Changed)
    }
}

/// Accounts never leave a hierarchy, so a subscriber that it has now is there in every fold.
fn check_subscribers(contract: &Contract, hierarchy: &Hierarchy) -> Result<(), Refusal> {
    let is_unknown = |account: &&AccountId| hierarchy.account(account).is_none();
    let mut subscribers = contract.subscriptions.iter().map(|subscription| subscription.who.account());
    let Some(account) = subscribers.find(is_unknown) else { return Ok(()) };
    let detail = format!("'{account}' subscribes, but hierarchy '{}' does not have it; add it first", hierarchy.root);
    Err(Refusal::new(Reason::UnknownAccount, detail))
}

/// A commitment that just vanished would never be settled: a year that runs when a version comes in must go on in it, or
/// end with a version that says when.
fn check_commitments(row: &RootRow, contract: &Contract) -> Result<(), Refusal> {
    let last = contract.effective.previous();
    let Some(governed) = row.contract_at(last) else { return Ok(()) };
    let document = serde_json::from_slice::<ContractDocument>(&governed.document).ok();
    let Some(Ok(before)) = document.map(|document| Contract::compile(&document, None)) else { return Ok(()) };
    for clause in
        before.clauses.iter().filter(|clause| clause.is_in_force(last) && clause.is_in_force(contract.effective))
    {
        let Mechanism::Commitment(commitment) = &clause.mechanism else { continue };
        let runs = before.is_in_force(contract.effective) && commitment.year_of(last).is_some_and(|year| !year.closes);
        let goes_on = |own: &Clause| {
            own.id == clause.id
                && matches!(own.mechanism, Mechanism::Commitment(_))
                && own.is_in_force(contract.effective)
        };
        if runs && !contract.clauses.iter().any(goes_on) {
            let detail = format!(
                "commitment {} runs in a year that does not end before {}; keep it in the new version, with until: {} if it is \
                 to end with that bill, which then has what is missing, or with an amount of 0 for the year",
                clause.id,
                contract.effective,
                contract.effective.next()
            );
            return Err(Refusal::new(Reason::InvalidDocument, detail));
        }
    }
    Ok(())
}

/// A contract year of a price that just broke off would leave its minimum unbilled: one that runs when a version comes in
/// must go on in it, or end with the version before.
fn check_years(row: &RootRow, contract: &Contract, catalogue: Option<&Catalogue>) -> Result<(), Refusal> {
    let yearly = |price: &&Price| price.period == PoolPeriod::ContractYear && !price.minimum.is_zero();
    let Some(catalogue) = catalogue else { return Ok(()) };
    let mut prices = catalogue.skus().iter().map(|sku| catalogue.price(sku.price));
    let Some(price) = prices.find(yearly) else { return Ok(()) };
    let (effective, first) = (contract.effective, row.cycles.first);
    if effective <= first {
        return Ok(());
    }
    let last = effective.previous();
    let document = row.contract_at(last).and_then(|own| serde_json::from_slice::<ContractDocument>(&own.document).ok());
    let before = document.and_then(|document| Contract::compile(&document, None).ok());
    let before = before.filter(|before| before.is_in_force(last));
    let starts = before.as_ref().and_then(|before| before.starts).unwrap_or(first);
    let Some(begins) = year_of(starts, last) else { return Ok(()) };
    let ends = ends_year(begins, last) || before.is_some_and(|before| before.until == Some(effective));
    let goes_on = contract.starts.and_then(|starts| year_of(starts, effective)) == Some(begins);
    if ends || goes_on {
        return Ok(());
    }
    let detail = format!(
        "price {} has a minimum of the contract year that began with {begins} and does not end before {effective}; state \
         starts: {begins} to go on with it, or let the version before end with until: {effective}",
        price.id
    );
    Err(Refusal::new(Reason::InvalidDocument, detail))
}

/// A close must never find more balances than are kept, so they are counted when a contract comes in: those that there
/// are, and those that it and the versions that still govern may use.
fn check_balances(row: &RootRow, contract: &Contract) -> Result<(), Refusal> {
    let payers = row.hierarchy.payers();
    let kept = row.cycles.balances.keys().filter(|name| !name.starts_with(POOL_BALANCES));
    let mut names: BTreeSet<String> = kept.cloned().collect();
    names.extend(contract.balances(payers));
    let governs = row.contracts.iter().rposition(|version| version.effective <= row.cycles.open).unwrap_or_default();
    for version in &row.contracts[governs.min(row.contracts.len())..] {
        // What was checked when it came in can be read; if it could not, no bill would come of it.
        let document = serde_json::from_slice::<ContractDocument>(&version.document).ok();
        if let Some(Ok(earlier)) = document.map(|document| Contract::compile(&document, None)) {
            names.extend(earlier.balances(payers));
        }
    }
    if names.len() > BALANCES_MAX {
        let detail = format!(
            "the contract would bring '{}' to {} lasting balances, at most {BALANCES_MAX} are kept; merge some clauses",
            row.hierarchy.root,
            names.len()
        );
        return Err(Refusal::new(Reason::LimitReached, detail));
    }
    Ok(())
}

fn read_document<D: serde::de::DeserializeOwned>(bytes: &[u8], max: usize) -> Result<D, Refusal> {
    let refuse = |detail| Err(Refusal::new(Reason::InvalidDocument, detail));
    if bytes.len() > max {
        return refuse(format!("the document has {} bytes, at most {max} are taken; split it", bytes.len()));
    }
    match serde_json::from_slice(bytes) {
        Ok(document) => Ok(document),
        Err(error) => refuse(format!("the document cannot be read: {error}")),
    }
}

fn refuse_problems(problems: Vec<Problem>) -> Result<(), Refusal> {
    if problems.iter().any(Problem::is_error) { Err(refusal_of(&problems)) } else { Ok(()) }
}

/// The first few problems in one sentence: a person has seen all of them before, when the file was checked.
fn refusal_of(problems: &[Problem]) -> Refusal {
    let errors: Vec<String> = problems.iter().filter(|problem| problem.is_error()).map(Problem::to_string).collect();
    let shown = errors[..errors.len().min(3)].join("; ");
    let detail = match errors.len() {
        count @ 4.. => format!("{shown}; and {} more problems", count - 3),
        _ => shown,
    };
    Refusal::new(Reason::InvalidDocument, detail)
}

pub(super) fn job_key(job: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(job.as_bytes()).as_bytes()[..16]);
    key
}

/// An empty job is not remembered.
pub(super) fn is_done(jobs: &VecDeque<[u8; 16]>, job: &str) -> bool {
    !job.is_empty() && jobs.contains(&job_key(job))
}

pub(super) fn remember(jobs: &mut Arc<VecDeque<[u8; 16]>>, job: &str) {
    if job.is_empty() {
        return;
    }
    let jobs = Arc::make_mut(jobs);
    if jobs.len() == JOBS_MAX {
        jobs.pop_front();
    }
    jobs.push_back(job_key(job));
}

fn catalogue_number(live: &mut LiveSlot, document: &HierarchyDocument) -> Result<u16, Refusal> {
    let known = live.data.catalogues.iter().position(|name| *name == document.catalogue);
    if let Some(known) = known {
        return Ok(known as u16);
    }
    // The shard keeps at most CATALOGUES_MAX catalogues, so that the number fits.
    let catalogues = Arc::make_mut(&mut live.data.catalogues);
    catalogues.push(document.catalogue.clone());
    Ok((catalogues.len() - 1) as u16)
}

/// Makes every account of a root a member of the slot, and says which must be compared with their times.
pub(super) fn add_members(live: &mut LiveSlot, root: u32, hierarchy: &Hierarchy) {
    for account in hierarchy.accounts() {
        let LiveSlot { data, series_index: index, .. } = &mut *live;
        let member = match data.series.member_in(index, account.id.as_str(), root) {
            Some(member) => member,
            None => data.series.add_member(index, &account.id, root, &mut data.roots[root as usize].newest),
        };
        let newest = data.series.member_of(index, account.id.as_str());
        let twins: Vec<u32> = data.series.twins(newest).collect();
        let checked = account.periods().is_some() || twins.len() > 1;
        set_checked(live, member, checked);
        for twin in twins.into_iter().filter(|twin| *twin != member) {
            set_checked(live, twin, true);
        }
    }
}

/// Whether the slot has room for the accounts that are new to a root.
pub(super) fn check_member_room(live: &LiveSlot, root: u32, hierarchy: &Hierarchy) -> Result<(), Refusal> {
    let (series, index) = (&live.data.series, &live.series_index);
    let room = MEMBERS_PER_SLOT_MAX - series.members.len();
    let accounts = hierarchy.accounts();
    let is_new = |account: &&Account| series.member_in(index, account.id.as_str(), root).is_none();
    if accounts.len() > room && accounts.iter().filter(is_new).count() > room {
        let detail = format!(
            "the slot of '{}' would have more than {MEMBERS_PER_SLOT_MAX} accounts, which is all it may; split the hierarchy",
            hierarchy.root
        );
        return Err(Refusal::new(Reason::LimitReached, detail));
    }
    Ok(())
}

/// Tells a member and all its counters whether times must be compared.
pub(super) fn set_checked(live: &mut LiveSlot, member: u32, checked: bool) {
    if live.data.series.members[member as usize].checked == checked {
        return;
    }
    live.data.series.members[member as usize].checked = checked;
    let numbers: Vec<u32> = live.data.series.series_of(member).collect();
    for number in numbers {
        let meta = live.data.series.meta_of(number);
        live.data.counters.set_meta(number, meta);
    }
}

/// First instant from which on nothing of the account has been counted, to the cycle; `None` = it has no series.
pub(super) fn free_from(live: &LiveSlot, root: u32, account: &AccountId) -> Option<Timestamp> {
    let data = &live.data;
    let member = data.series.member_in(&live.series_index, account.as_str(), root)?;
    let cycles = &data.roots[root as usize].cycles;
    let mut latest: Option<CycleId> = None;
    for number in data.series.series_of(member) {
        // What is archived was counted before the open cycle.
        latest = latest.max(Some(cycles.open.previous()));
        for cycle in [cycles.open, cycles.open.next()] {
            let ordinal = cycle.ordinal();
            let is_counted = data.counters.lanes[lane_of(ordinal)].read(number).1 > 0
                || data.counters.buckets.of(number, ordinal).next().is_some();
            latest = if is_counted { latest.max(Some(cycle)) } else { latest };
        }
    }
    latest.map(CycleId::end)
}
