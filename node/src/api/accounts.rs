//! The accounts service: who belongs to whom, hierarchies and their cycles.

use std::collections::BTreeMap;
use std::sync::Arc;

use reckoner_client::proto::accounts_server::Accounts;
use reckoner_client::proto::{
    Account, AccountMembership, BalanceBefore, ContractText, Cycle, DocumentsReply, DocumentsRequest, Hierarchy,
    ListAccountsReply, ListAccountsRequest, Membership, ResolveReply, ResolveRequest, Resolved, ShowAccountReply,
    ShowAccountRequest, Version,
};
use reckoner_shard::account::tree::{self, Hierarchy as Tree};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::money::Money;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::{CycleId, Period, Timestamp};
use reckoner_shard::billing::cycle::{Cycles, Phase, Status as CycleStatus};
use reckoner_shard::machine::query::View;
use reckoner_shard::machine::state::{Blobs as _, ContractVersion};
use reckoner_shard::placement::slot_of;
use tonic::{Request, Response, Status, async_trait};

use super::counters;
use super::status::Trouble;
use super::wire;
use crate::context::Context;
use crate::data::reach::{self, Freshness};
use crate::workers;

/// Accounts of one question.
const RESOLVE_ACCOUNTS_MAX: usize = 1_000;

/// The door.
pub struct Door(pub Arc<Context>);

impl Door {
    /// Memberships of one account as the directory knows them.
    async fn memberships(&self, account: &AccountId) -> Result<Vec<(AccountId, Period)>, Trouble> {
        let slot = slot_of(account.as_str());
        let id = reach::shard_of(&self.0, slot)?;
        let shard = reach::replica(&self.0, id)?;
        let read = shard.view(Some(slot)).await.map_err(|error| Trouble::of_group(error, id.0, 0))?;
        read.view.check_owned(slot)?;
        let known = read.view.slot(slot).map(|slot| slot.directory.memberships(account).to_vec()).unwrap_or_default();
        Ok(known.into_iter().map(|membership| (membership.root, membership.period)).collect())
    }

    /// Makes the replicas here as fresh as a linearizable read, for all shards that own one of `accounts`.
    async fn refresh<'a>(&self, accounts: impl Iterator<Item = &'a AccountId>) -> Result<(), Trouble> {
        let mut asked = BTreeMap::new();
        for account in accounts {
            let slot = slot_of(account.as_str());
            asked.insert(reach::shard_of(&self.0, slot)?, slot);
        }
        for (shard, slot) in asked {
            reach::read(&self.0, shard, Some(slot), Freshness::Linearizable).await?;
        }
        Ok(())
    }

    /// The newest catalogue version that the root's shard has activated, where the shard is here.
    async fn newest_catalogue(&self, root: &AccountId) -> Option<Version> {
        let slot = slot_of(root.as_str());
        let shard = self.0.shards.get(reach::shard_of(&self.0, slot).ok()?)?;
        let read = shard.view(Some(slot)).await.ok()?;
        let hierarchy = read.view.hierarchy(root).ok()?;
        let newest = read.view.catalogues.get(&hierarchy.catalogue)?.last()?;
        Some(Version {
            name: hierarchy.catalogue.to_string(),
            version: u32::try_from(newest.version).unwrap_or(u32::MAX),
            hash: newest.hash.to_vec().into(),
        })
    }

    fn hierarchy_out(&self, view: &View, root: &AccountId, shard: ShardId) -> Result<Hierarchy, Trouble> {
        let tree = view.hierarchy(root)?;
        let cycles = view.cycles(root)?;
        let now = view.stamp.max(self.0.clock.now());
        let newest = view.catalogues.get(&tree.catalogue).and_then(|versions| versions.last());
        let compiled = newest.and_then(|version| self.0.catalogues.catalogue(&version.hash));
        let currency = tree.currency.or(compiled.map(|catalogue| catalogue.currency));
        let contract = view.contracts(root)?;
        let in_force = contract
            .iter()
            .rev()
            .find(|version| version.effective <= cycles.open && version.until.is_none_or(|until| cycles.open < until));
        Ok(Hierarchy {
            root: root.to_string(),
            catalogue: tree.catalogue.to_string(),
            currency: currency.map_or_else(String::new, |currency| currency.to_string()),
            payers: tree.payers().len() as u32,
            accounts: tree.accounts().len() as u64,
            slot: u32::from(slot_of(root.as_str()).0),
            shard: shard.0,
            contract: in_force.map(|version| Version {
                name: root.to_string(),
                version: version.version,
                hash: version.hash.to_vec().into(),
            }),
            cycles: cycles_out(&tree, &cycles, now),
        })
    }

    async fn list_roots(&self, request: ListAccountsRequest) -> Result<ListAccountsReply, Trouble> {
        let (rows, first) = wire::page(request.page_size, &request.page_token)?;
        let epoch = self.0.meta.state().epoch();
        let mut all = Vec::new();
        let mut positions = Vec::new();
        let reads = reach::read_all(&self.0, |shard| wire::freshness_in(request.freshness, shard)).await?;
        for (shard, read) in reads {
            positions.push(wire::position_out(shard, read.position, epoch));
            all.extend(read.view.roots().map(|(_, root)| (root.clone(), shard, read.view.clone())));
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let page = all.iter().skip(first).take(rows);
        let hierarchies = page.map(|(root, shard, view)| self.hierarchy_out(view, root, *shard));
        Ok(ListAccountsReply {
            hierarchies: hierarchies.collect::<Result<_, _>>()?,
            accounts: Vec::new(),
            next_page_token: wire::next_page(first, rows, all.len()),
            positions,
        })
    }

    async fn documents_of(&self, request: DocumentsRequest) -> Result<DocumentsReply, Trouble> {
        let root = wire::account_in(&request.root)?;
        let cycle = wire::cycle_in(&request.cycle)?;
        let (shard, read) = wire::read_of(&self.0, &root, request.freshness).await?;
        let tree = read.view.hierarchy(&root)?;
        let (catalogue, contracts) = match cycle {
            Some(cycle) => {
                let (catalogue, contract) = read.view.versions_of(&root, cycle)?;
                (Some(catalogue), contract.into_iter().collect())
            }
            None => {
                let open = read.view.cycles(&root)?.open;
                let catalogue = read.view.versions_of(&root, open).ok().map(|(catalogue, _)| catalogue);
                (catalogue, read.view.contracts(&root)?.to_vec())
            }
        };
        let contract_out = |contract: &ContractVersion| ContractText {
            version: Some(Version {
                name: root.to_string(),
                version: contract.version,
                hash: contract.hash.to_vec().into(),
            }),
            effective: contract.effective.to_string(),
            until: contract.until.map_or_else(String::new, |until| until.to_string()),
            json: contract.document.to_vec().into(),
        };
        let archived =
            cycle.map(|cycle| counters::billed_counters(&self.0, &read.view, &root, cycle)).transpose()?.flatten();
        let cycles = read.view.cycles(&root)?;
        let balances = cycle.map(|cycle| cycles.balances_before(cycle)).unwrap_or_default();
        let drawn_later = cycle.map(|cycle| cycles.drawn_later(cycle)).unwrap_or_default();
        let balances_out = |balances: &BTreeMap<String, Money>| {
            balances.iter().map(|(name, used)| BalanceBefore { name: name.clone(), used: used.to_string() }).collect()
        };
        let (view, own, name) = (read.view.clone(), tree.clone(), root.clone());
        let (hierarchy, counters) = workers::run(self.0.workers.as_ref(), move || {
            let counters = match (archived, cycle) {
                (Some(bytes), _) => bytes,
                (None, Some(cycle)) => view.packed(&name, cycle)?.into(),
                (None, None) => bytes::Bytes::new(),
            };
            Ok::<_, Trouble>((own.document(cycle).canonical(), counters))
        })
        .await
        .map_err(|lost| Trouble::unavailable(lost.to_string()))??;
        Ok(DocumentsReply {
            hierarchy: hierarchy.into(),
            counters,
            contracts: contracts.iter().map(contract_out).collect(),
            catalogue: catalogue.map(|version| Version {
                name: tree.catalogue.to_string(),
                version: u32::try_from(version.version).unwrap_or(u32::MAX),
                hash: version.hash.to_vec().into(),
            }),
            position: Some(wire::position_out(shard, read.position, self.0.meta.state().epoch())),
            balances: balances_out(&balances),
            drawn_later: balances_out(&drawn_later),
        })
    }

    async fn list_of(&self, request: ListAccountsRequest) -> Result<ListAccountsReply, Trouble> {
        let root = wire::account_in(&request.root)?;
        let (rows, first) = wire::page(request.page_size, &request.page_token)?;
        let (shard, read) = wire::read_of(&self.0, &root, request.freshness).await?;
        let tree = read.view.hierarchy(&root)?;
        let at = running(&read.view, &root, self.0.clock.now())?;
        let page = tree.accounts().iter().skip(first).take(rows);
        Ok(ListAccountsReply {
            hierarchies: vec![self.hierarchy_out(&read.view, &root, shard)?],
            accounts: page.flat_map(|account| account_out(&tree, account, at)).collect(),
            next_page_token: wire::next_page(first, rows, tree.accounts().len()),
            positions: vec![wire::position_out(shard, read.position, self.0.meta.state().epoch())],
        })
    }
}

/// The cycle whose payers and groups are shown: the calendar's, unless the hierarchy begins later.
fn running(view: &View, root: &AccountId, now: Timestamp) -> Result<CycleId, Trouble> {
    let cycles = view.cycles(root)?;
    Ok(now.cycle().max(cycles.open))
}

/// One row a period of membership.
fn account_out(tree: &Tree, account: &tree::Account, at: CycleId) -> Vec<Account> {
    let row = |from_ns, until_ns| Account {
        id: account.id.to_string(),
        payer: tree.payer_at(account, at).to_string(),
        group: tree.group_at(account, at).map_or_else(String::new, |group| group.to_string()),
        from_ns,
        until_ns,
    };
    match account.periods() {
        None => vec![row(None, None)],
        Some(periods) => {
            periods.iter().map(|period| row(wire::from_out(period.from), wire::until_out(period.until))).collect()
        }
    }
}

/// Cycles that are not yet issued, and the last that is; oldest first.
fn cycles_out(tree: &Tree, cycles: &Cycles, now: Timestamp) -> Vec<Cycle> {
    let cut = cycles.cut.last().map(|cut| Cycle {
        cycle: cut.cycle.to_string(),
        state: phase_word(&cut.phase).to_owned(),
        cut_index: Some(cut.index),
        grace_until_ns: None,
    });
    let open = [cycles.open, cycles.open.next()].into_iter().filter_map(|cycle| {
        let state = match cycles.status(cycle, now) {
            CycleStatus::Open if cycle == cycles.open || cycle.start() <= now => "open",
            CycleStatus::Grace => "grace",
            _ => return None,
        };
        let due = cycles.due_at(tree.close, tree.grace).filter(|_| cycle == cycles.open);
        Some(Cycle {
            cycle: cycle.to_string(),
            state: state.to_owned(),
            cut_index: None,
            grace_until_ns: due.map(|due| due.0),
        })
    });
    cut.into_iter().chain(open).collect()
}

/// What a cut cycle's state is called.
pub(super) fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Closing => "closing",
        Phase::Closed(_) => "closed",
        Phase::Issued(_) | Phase::Archived(..) => "issued",
    }
}

#[async_trait]
impl Accounts for Door {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveReply>, Status> {
        let request = request.into_inner();
        if request.accounts.len() > RESOLVE_ACCOUNTS_MAX {
            let asked = request.accounts.len();
            return Err(Trouble::invalid(format!("{asked} accounts asked for, at most {RESOLVE_ACCOUNTS_MAX}")).into());
        }
        let ids: Vec<AccountId> =
            request.accounts.iter().map(|account| wire::account_in(account)).collect::<Result<_, _>>()?;
        if request.fresh {
            self.refresh(ids.iter()).await?;
        }
        let mut catalogues: BTreeMap<AccountId, Option<Version>> = BTreeMap::new();
        let mut accounts = Vec::with_capacity(ids.len());
        for id in &ids {
            let mut memberships = Vec::new();
            for (root, period) in self.memberships(id).await? {
                if !catalogues.contains_key(&root) {
                    if request.fresh {
                        self.refresh(std::iter::once(&root)).await?;
                    }
                    catalogues.insert(root.clone(), self.newest_catalogue(&root).await);
                }
                memberships.push(Membership {
                    slot: u32::from(slot_of(root.as_str()).0),
                    from_ns: period.from.0,
                    until_ns: wire::until_out(period.until),
                    catalogue: catalogues.get(&root).cloned().flatten(),
                    root: root.to_string(),
                });
            }
            accounts.push(Resolved { account: id.to_string(), memberships });
        }
        Ok(Response::new(ResolveReply { accounts }))
    }

    async fn list(&self, request: Request<ListAccountsRequest>) -> Result<Response<ListAccountsReply>, Status> {
        let request = request.into_inner();
        let reply = if request.root.is_empty() { self.list_roots(request).await } else { self.list_of(request).await };
        Ok(Response::new(reply?))
    }

    async fn show(&self, request: Request<ShowAccountRequest>) -> Result<Response<ShowAccountReply>, Status> {
        let request = request.into_inner();
        let id = wire::account_in(&request.account)?;
        self.refresh(std::iter::once(&id)).await?;
        let mut roots: Vec<AccountId> = self.memberships(&id).await?.into_iter().map(|(root, _)| root).collect();
        roots.dedup();
        if roots.is_empty() {
            let detail = format!("account '{id}' is in no hierarchy; apply one that lists it");
            return Err(Trouble::Refused(Refusal::new(Reason::UnknownAccount, detail)).into());
        }
        let epoch = self.0.meta.state().epoch();
        let (mut memberships, mut positions) = (Vec::new(), Vec::new());
        for root in roots {
            let (shard, read) = wire::read_of(&self.0, &root, request.freshness).await?;
            positions.push(wire::position_out(shard, read.position, epoch));
            let Ok(tree) = read.view.hierarchy(&root) else { continue };
            let Some(account) = tree.account(&id) else { continue };
            let hierarchy = self.hierarchy_out(&read.view, &root, shard)?;
            let at = running(&read.view, &root, self.0.clock.now())?;
            memberships.extend(
                account_out(&tree, account, at)
                    .into_iter()
                    .map(|account| AccountMembership { hierarchy: Some(hierarchy.clone()), account: Some(account) }),
            );
        }
        Ok(Response::new(ShowAccountReply { memberships, positions }))
    }

    async fn documents(&self, request: Request<DocumentsRequest>) -> Result<Response<DocumentsReply>, Status> {
        Ok(Response::new(self.documents_of(request.into_inner()).await?))
    }
}
