//! The accounts service: who belongs to whom, hierarchies and their cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reckoner_client::proto::accounts_server::Accounts;
use reckoner_client::proto::{
    Account, AccountMembership, BalanceBefore, ContractText, DocumentsReply, DocumentsRequest, ListAccountsReply,
    ListAccountsRequest, Membership, ResolveReply, ResolveRequest, Resolved, ShowAccountReply, ShowAccountRequest,
    Version,
};
use reckoner_raft::machine::Position;
use reckoner_shard::account::directory::Membership as DirectoryEntry;
use reckoner_shard::account::tree::{self, Hierarchy as Tree};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::money::Money;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::machine::query::View;
use reckoner_shard::machine::state::ContractVersion;
use reckoner_shard::placement::slot_of;
use tonic::{Request, Response, Status, async_trait};

use super::counters;
use super::roster::{self, Asked};
use super::status::Trouble;
use super::wire;
use crate::context::Context;
use crate::data::directory;
use crate::data::reach::{self, Freshness};
use crate::workers;

/// Accounts of one question.
const RESOLVE_ACCOUNTS_MAX: usize = 1_000;

/// The door.
pub struct Door(pub Arc<Context>);

impl Door {
    /// The newest catalogue version that each root's shard has activated; absent for a root that is nowhere.
    async fn newest_catalogues(
        &self,
        roots: BTreeSet<AccountId>,
        fresh: bool,
    ) -> Result<BTreeMap<AccountId, Version>, Trouble> {
        let mut by_shard: BTreeMap<ShardId, Vec<AccountId>> = BTreeMap::new();
        for root in roots {
            by_shard.entry(reach::shard_of(&self.0, slot_of(root.as_str()))?).or_default().push(root);
        }
        let freshness = if fresh { Freshness::Linearizable } else { Freshness::AtLeast(0) };
        let mut newest = BTreeMap::new();
        for (shard, roots) in by_shard {
            let asked = Asked { roots, details: true, ..Asked::default() };
            let part = roster::of(&self.0, shard, &asked, freshness).await?;
            newest.extend(part.rows.into_iter().filter_map(|row| Some((row.root, row.catalogue?))));
        }
        Ok(newest)
    }

    async fn list_roots(&self, request: ListAccountsRequest) -> Result<ListAccountsReply, Trouble> {
        let (rows, first) = wire::page(request.page_size, &request.page_token)?;
        let epoch = self.0.meta.state().epoch();
        let fresh = |shard| wire::freshness_in(request.freshness, shard);
        let parts = roster::all(&self.0, &Asked::default(), fresh).await?;
        let positions = parts.iter().map(|part| wire::position_out(part.shard, part.position, epoch)).collect();
        let mut all: Vec<(&AccountId, &roster::Part)> =
            parts.iter().flat_map(|part| part.rows.iter().map(move |row| (&row.root, part))).collect();
        all.sort_by_key(|(root, _)| *root);
        let total = all.len();
        let mut wanted: BTreeMap<ShardId, (Vec<AccountId>, Position)> = BTreeMap::new();
        for (root, part) in all.into_iter().skip(first).take(rows) {
            wanted.entry(part.shard).or_insert_with(|| (Vec::new(), part.position)).0.push(root.clone());
        }
        let mut hierarchies = Vec::new();
        for (shard, (roots, position)) in wanted {
            let asked = Asked { roots, details: true, ..Asked::default() };
            let part = roster::of(&self.0, shard, &asked, Freshness::AtLeast(position.index)).await?;
            hierarchies.extend(part.rows.into_iter().filter_map(|row| row.hierarchy));
        }
        hierarchies.sort_by(|one, other| one.root.cmp(&other.root));
        Ok(ListAccountsReply {
            hierarchies,
            accounts: Vec::new(),
            next_page_token: wire::next_page(first, rows, total),
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
            hierarchies: vec![roster::hierarchy(&self.0, &read.view, &root, shard)?],
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
        let known = directory::memberships(&self.0, &ids, request.fresh).await?;
        let roots: BTreeSet<AccountId> = known.iter().flatten().map(|own| own.root.clone()).collect();
        let catalogues = self.newest_catalogues(roots, request.fresh).await?;
        let mut accounts = Vec::with_capacity(ids.len());
        for (id, known) in ids.iter().zip(known) {
            let mut memberships = Vec::new();
            for DirectoryEntry { root, period } in known {
                memberships.push(Membership {
                    slot: u32::from(slot_of(root.as_str()).0),
                    from_ns: period.from.0,
                    until_ns: wire::until_out(period.until),
                    catalogue: catalogues.get(&root).cloned(),
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
        let known = directory::memberships(&self.0, std::slice::from_ref(&id), true).await?;
        let mut roots: Vec<AccountId> = known.into_iter().flatten().map(|own| own.root).collect();
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
            let hierarchy = roster::hierarchy(&self.0, &read.view, &root, shard)?;
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
