//! Who belongs to whom, asked of the directory's own slots wherever they are: from this node's replica of their shard, or
//! from a node that has one. All of it is a hint to a client; the roots' slots decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use reckoner_shard::account::directory::Membership;
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::time::{Period, Timestamp};
use reckoner_shard::placement::slot_of;

use super::reach::{self, Freshness};
use crate::api::status::Trouble;
use crate::context::Context;
use crate::internal::{AccountMembers, Member, MembersRequest};

/// Accounts of one question to another node.
const ASKED_MAX: usize = 10_000;

/// Memberships of each account, in order; `fresh`: as of now rather than as far as a replica is.
pub async fn memberships(
    context: &Arc<Context>,
    accounts: &[AccountId],
    fresh: bool,
) -> Result<Vec<Vec<Membership>>, Trouble> {
    let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    for (at, account) in accounts.iter().enumerate() {
        by_shard.entry(reach::shard_of(context, slot_of(account.as_str()))?).or_default().push(at);
    }
    let mut all = vec![Vec::new(); accounts.len()];
    for (shard, places) in by_shard {
        for places in places.chunks(ASKED_MAX) {
            let own: Vec<AccountId> = places.iter().map(|at| accounts[*at].clone()).collect();
            let found = match context.shards.get(shard) {
                Some(_) => here(context, shard, &own, fresh).await?,
                None => elsewhere(context, shard, &own, fresh).await?,
            };
            places.iter().zip(found).for_each(|(at, memberships)| all[*at] = memberships);
        }
    }
    Ok(all)
}

/// The same for accounts whose slots are in a shard that has a replica here.
pub async fn here(
    context: &Arc<Context>,
    id: ShardId,
    accounts: &[AccountId],
    fresh: bool,
) -> Result<Vec<Vec<Membership>>, Trouble> {
    let shard = reach::replica(context, id)?;
    if let Some(first) = accounts.first().filter(|_| fresh) {
        reach::read(context, id, Some(slot_of(first.as_str())), Freshness::Linearizable).await?;
    }
    let mut all = Vec::with_capacity(accounts.len());
    for account in accounts {
        let slot = slot_of(account.as_str());
        let view = shard.view(Some(slot)).await.map_err(|error| Trouble::of_group(error, id.0, 0))?.view;
        view.check_owned(slot)?;
        all.push(view.slot(slot).map(|slot| slot.directory.memberships(account).to_vec()).unwrap_or_default());
    }
    Ok(all)
}

async fn elsewhere(
    context: &Arc<Context>,
    shard: ShardId,
    accounts: &[AccountId],
    fresh: bool,
) -> Result<Vec<Vec<Membership>>, Trouble> {
    let accounts: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    let reply = reach::ask_holder(context, shard, |mut client| {
        let request = MembersRequest { shard: shard.0, fresh, accounts: accounts.clone() };
        async move { client.members(request).await }
    });
    reply.await?.accounts.iter().map(|account| account.members.iter().map(member_in).collect()).collect()
}

fn member_in(member: &Member) -> Result<Membership, Trouble> {
    let root = AccountId::new(&member.root).map_err(|error| Trouble::invalid(error.to_string()))?;
    Ok(Membership { root, period: Period { from: Timestamp(member.from_ns), until: Timestamp(member.until_ns) } })
}

/// Memberships as they travel between nodes.
pub fn members_out(memberships: Vec<Membership>) -> AccountMembers {
    let member = |own: Membership| Member {
        root: own.root.to_string(),
        from_ns: own.period.from.0,
        until_ns: own.period.until.0,
    };
    AccountMembers { members: memberships.into_iter().map(member).collect() }
}
