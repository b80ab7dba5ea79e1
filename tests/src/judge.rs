//! After the end of a run with whole nodes: what every node says, against what clients were told. Everything is healed
//! by then, so everything has to answer.

use std::collections::BTreeMap;
use std::time::Duration;

use reckoner_client::client::Client;
use reckoner_client::error::Error;
use reckoner_client::proto;
use reckoner_shard::base::id::ShardId;
use reckoner_shard::placement::slot_of;

use crate::oracle::{Place, thousandths};
use crate::world::{CYCLE, NEXT, ROOTS, World, root};

/// Price of a request, and of a unit of transfer, in thousandths of a dollar.
const RATE_REQUESTS: i128 = 10;
const RATE_TRANSFER: i128 = 50;

/// A hierarchy that closes by itself may have been on its way to another shard a moment ago: how often its bill is looked
/// for, and how long between two looks.
const CLOSING_LOOKS: u32 = 50;
const CLOSING_LOOK: Duration = Duration::from_millis(200);

/// How often replicas are looked at until they have applied the same: closely at first, then for as long as a replica that was
/// sent a snapshot has to take it in.
const LOOKS_SOON: u32 = 200;
const LOOKS: u32 = LOOKS_SOON + 350;

/// Quantities on the bills of a cycle, in thousandths.
type Billed = BTreeMap<Place, i128>;

/// After the end: what every node says against what clients were told.
pub async fn judge(world: World) -> turmoil::Result {
    let client = world.client(3);
    let mut bodies = Vec::new();
    for number in 1..=ROOTS {
        let name = root(number);
        let (hashes, billed) = judge_bills(&world, &client, &name).await;
        bodies.extend(hashes);
        judge_usage(&world, &client, &name, CYCLE, Some(&billed)).await;
        judge_usage(&world, &client, &name, NEXT, None).await;
    }
    judge_replicas(&world).await;
    for machine in &world.machines {
        let Some(context) = machine.context() else { continue };
        let Some(map) = context.meta.map() else { continue };
        for (root, hash) in &bodies {
            if context.shards.get(map.shard_of(slot_of(root))).is_none() {
                continue;
            }
            match machine.bill(hash) {
                Some(body) if blake3::hash(&body).as_bytes() == hash => (),
                Some(_) => world.violated(format!("{} holds another bill of {root}", machine.victim.name)),
                None => world.violated(format!("{} lacks the bill of {root}", machine.victim.name)),
            }
        }
    }
    Ok(())
}

/// What a cycle holds. Of a closed one the node keeps in its archive what came in time, and shows it as `billed`.
async fn judge_usage(world: &World, client: &Client, root: &str, cycle: &str, billed: Option<&Billed>) {
    let mut found: BTreeMap<Place, (i128, i128)> = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = proto::GetUsageRequest {
            root: root.to_owned(),
            cycle: cycle.to_owned(),
            page_token: page_token.clone(),
            page_size: 3,
            ..Default::default()
        };
        let Some(reply) = world.insist("usage", || client.usage(request.clone())).await else { return };
        for counter in reply.counters {
            let place = Place {
                root: root.to_owned(),
                cycle: cycle.to_owned(),
                account: counter.account,
                usage_type: counter.usage_type,
            };
            let amount = match thousandths(&counter.quantity) {
                Ok(amount) => amount,
                Err(words) => return world.violated(words),
            };
            let sums = found.entry(place).or_default();
            if counter.late { sums.1 += amount } else { sums.0 += amount }
        }
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for (place, quantity) in billed.into_iter().flatten() {
        let in_time = &mut found.entry(place.clone()).or_default().0;
        if *in_time != 0 && in_time != quantity {
            world.violated(format!("{place:?} holds {in_time} after its bill charged {quantity}"));
        }
        *in_time = *quantity;
    }
    let mut shared = world.shared.lock();
    let checked = shared.oracle.check_usage(root, cycle, &found);
    if let Err(words) = checked {
        shared.run.violated(words);
    }
    let word = format!("{root} {cycle} {found:?}");
    shared.run.heard(Duration::ZERO, &word);
}

/// The bills of the closed cycle: their lines are what counted in time, at the stated prices.
async fn judge_bills(world: &World, client: &Client, root: &str) -> (Vec<(String, [u8; 32])>, Billed) {
    let request = proto::ShowBillsRequest { root: root.to_owned(), cycle: CYCLE.to_owned(), ..Default::default() };
    let mut bodies = Vec::new();
    let mut billed = Billed::new();
    let mut reply = proto::BillsReply::default();
    for _ in 0..CLOSING_LOOKS {
        let asked = world.insist("bills", || async {
            match client.bills(request.clone()).await {
                // Nothing was used in time, so there is nothing to bill; the oracle knows better if that is not so.
                Err(Error::Refused { code, .. }) if code == "NOT_FOUND" => Ok(Default::default()),
                other => other,
            }
        });
        let Some(answer) = asked.await else { return (bodies, billed) };
        reply = answer;
        let is_owed = world.shared.lock().oracle.check_billed(root, CYCLE, &billed).is_err();
        if !reply.bills.is_empty() || !is_owed {
            break;
        }
        tokio::time::sleep(CLOSING_LOOK).await;
    }
    let mut total = 0;
    for bill in &reply.bills {
        let Some(detail) = &bill.detail else {
            world.violated(format!("a bill of {root} has no detail"));
            continue;
        };
        let mut shared = world.shared.lock();
        let seen = shared.oracle.bill(root, &detail.cycle, &detail.payer, &bill.body_hash);
        if let Err(words) = seen {
            shared.run.violated(words);
        }
        drop(shared);
        if let Ok(hash) = bill.body_hash[..].try_into() {
            bodies.push((root.to_owned(), hash));
        }
        for line in detail.lines.iter().filter(|line| line.kind == "usage") {
            let place = Place {
                root: root.to_owned(),
                cycle: CYCLE.to_owned(),
                account: line.account.clone(),
                usage_type: line.usage_type.clone(),
            };
            match thousandths(line.quantity.as_deref().unwrap_or("0")) {
                Ok(quantity) => *billed.entry(place).or_default() += quantity,
                Err(words) => world.violated(words),
            }
        }
        let expected: i128 = billed
            .iter()
            .map(|(place, quantity)| {
                quantity * if place.usage_type == "requests" { RATE_REQUESTS } else { RATE_TRANSFER }
            })
            .sum();
        total += expected;
        // The total has up to six decimals: thousandths of a unit at thousandths of a dollar.
        let stated = millionths(&detail.total);
        if stated != Some(total) {
            world.violated(format!("the bill of {root} totals {}, its usage costs {total} millionths", detail.total));
        }
    }
    let shared = world.shared.lock();
    let checked = shared.oracle.check_billed(root, CYCLE, &billed);
    drop(shared);
    world.check(checked);
    (bodies, billed)
}

fn millionths(decimal: &str) -> Option<i128> {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let kept = fraction.trim_end_matches('0');
    let fraction: i128 = format!("{kept:0<6}").parse().ok()?;
    (kept.len() <= 6).then_some(whole.parse::<i128>().ok()? * 1_000_000 + fraction)
}

/// All replicas of a shard, once they have applied the same, have the same state.
async fn judge_replicas(world: &World) {
    let maps = world.machines.iter().filter_map(|machine| machine.context()?.meta.map());
    let newest = maps.max_by_key(|map| map.epoch);
    for ShardId(shard) in newest.map(|map| map.shards()).unwrap_or_default() {
        let mut same = false;
        let mut seen = String::new();
        for look in 0..LOOKS {
            let applied = |shards: &[reckoner_node::data::shard::Shard]| -> Vec<Option<u64>> {
                shards.iter().map(|shard| shard.group().status().applied.map(|at| at.index)).collect()
            };
            let shards: Vec<_> =
                world.machines.iter().filter_map(|machine| machine.context()?.shards.get(ShardId(shard))).collect();
            let before = applied(&shards);
            let mut hashes = Vec::new();
            for shard in &shards {
                hashes.push(shard.hash().await.map(|(_, hash)| hash).ok());
            }
            let (floor, replicas) = {
                let shared = world.shared.lock();
                (shared.oracle.floor(shard), shared.replicas)
            };
            seen = format!("{before:?} of {replicas} replicas, {floor} acknowledged");
            let equal = before.windows(2).all(|pair| pair[0] == pair[1]) && before == applied(&shards);
            if equal && shards.len() as u64 == replicas && before[0] >= Some(floor) {
                let differ = hashes.iter().any(|hash| hash.is_none() || *hash != hashes[0]);
                if differ {
                    world.violated(format!("replicas of shard {shard} differ at entry {:?}: {hashes:?}", before[0]));
                }
                world.heard(&format!("shard {shard} at {:?} {:?}", before[0], hashes[0]));
                same = true;
                break;
            }
            let is_soon = look < LOOKS_SOON;
            tokio::time::sleep(if is_soon { Duration::from_millis(50) } else { Duration::from_secs(1) }).await;
        }
        if !same {
            world.violated(format!("replicas of shard {shard} do not come to the same entry: {seen}"));
        }
    }
}
