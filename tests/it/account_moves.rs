//! Accounts go from one hierarchy to another, in another shard, while their usage comes, a leader is killed and a producer
//! begins anew: each record is in one hierarchy, once, and the bills say so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_client::proto;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::account::transfer::WayDocument;
use reckoner_shard::base::id::{AccountId, ProducerId, ShardId};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::placement::slot_of;
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::series::SeriesKey;
use reckoner_tests::push::{document, units};
use reckoner_tests::replicas::replicas_agree;
use serde_json::json;

const ACCOUNTS: u64 = 24;
const SEPTEMBER: &str = "2024-09-10T00:00:00Z";
const OCTOBER: &str = "2024-10-10T00:00:00Z";
const PATIENCE: Duration = Duration::from_secs(60);

fn account(number: u64) -> AccountId {
    AccountId::new(&format!("a-{}", number % ACCOUNTS)).expect("a name")
}

fn hierarchy(root: &str, accounts: u64) -> proto::Document {
    let accounts: Vec<_> = (0..accounts).map(|number| json!({ "id": account(number) })).collect();
    let cycles = json!({ "first": "2024-09", "close": "manual" });
    let own =
        json!({ "kind": "Hierarchy", "root": root, "catalogue": "units", "accounts": accounts, "cycles": cycles });
    document("Hierarchy", own)
}

async fn job(client: &Client, id: &str, documents: Vec<proto::Document>) -> anyhow::Result<proto::JobReply> {
    client.apply(id, documents).await?;
    Ok(client.job(id, PATIENCE).await?)
}

fn way(account: &AccountId, from: &str, to: &str) -> anyhow::Result<proto::Document> {
    let at = "2024-10-01".parse()?;
    let (from, to) = (AccountId::new(from)?, AccountId::new(to)?);
    let way = WayDocument { account: account.clone(), from, to, at, payer: None, group: None };
    Ok(document("AccountMove", serde_json::to_value(way)?))
}

/// A numbered producer with the refusals that it was told.
async fn producer(client: &Client) -> anyhow::Result<(Batcher, Arc<Mutex<Vec<String>>>)> {
    let producer = ProducerId::new("meter")?;
    let epoch = client.open_producer(&producer, None, None).await?.epoch;
    let refused: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = refused.clone();
    let sink = move |settled: Settled<'_>| {
        if let Verdict::Refused(refusal) = settled.verdict {
            told.lock().push(refusal.to_string());
        }
    };
    let batching = Batching { records_max: 50, give_up_after: PATIENCE, ..Batching::default() };
    Ok((Batcher::sequenced(client.clone(), producer, epoch, batching, sink).await?, refused))
}

async fn push(batcher: &Batcher, number: u64, at: &str) -> anyhow::Result<()> {
    let start: Timestamp = at.parse()?;
    let key = SeriesKey::new(account(number), "units", "unit", "", "", vec![]);
    let (series, _) = batcher.resolve(&key, start).await?;
    ensure!(batcher.push(series, units(number), start).await? == number, "a number is skipped");
    Ok(())
}

/// Whether an account belongs to a hierarchy in October.
async fn belongs(client: &Client, account: &AccountId, root: &str) -> anyhow::Result<bool> {
    let october: Timestamp = OCTOBER.parse()?;
    let known = client.show_account(account).await?.memberships;
    let mut own = known.iter().filter(|own| own.hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.root == root));
    Ok(own
        .any(|own| own.account.as_ref().is_some_and(|account| account.until_ns.is_none_or(|until| until > october.0))))
}

/// Records and units of accounts.
type Sums = BTreeMap<String, (u64, i128)>;

/// What each account has in a hierarchy's cycle.
async fn counted(client: &Client, root: &str, cycle: &str) -> anyhow::Result<Sums> {
    let request = proto::GetUsageRequest { root: root.into(), cycle: cycle.into(), ..Default::default() };
    let mut all = Sums::new();
    for counter in client.usage(request).await?.counters {
        let own = all.entry(counter.account).or_default();
        *own = (own.0 + counter.records, own.1 + counter.quantity.parse::<i128>()?);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_move_under_load() -> anyhow::Result<()> {
    let mut cluster = LocalCluster::start(LocalConfig { nodes: 3, shards: 4, ..LocalConfig::default() }).await?;
    let client = cluster.client();
    let shard = |root: &str| client.shard_of(slot_of(root));
    // The second root is in another shard than the first.
    let north = "north";
    let mut south = "south".to_owned();
    while shard(&south).await? == shard(north).await? {
        south.push('s');
    }
    let catalogue = json!({
        "kind": "Catalogue", "name": "units", "currency": "USD", "effective": "2024-08",
        "meters": [{ "id": "unit", "service": "units", "usage_type": "unit", "scale": 0 }],
        "skus": [{ "id": "unit", "match": { "usage_type": "unit" }, "unit": "unit", "rate": "0.50" }],
    });
    let documents = vec![document("Catalogue", catalogue), hierarchy(north, ACCOUNTS), hierarchy(&south, 0)];
    let reply = job(&client, "set-up", documents).await?;
    ensure!(reply.state == "done", "{reply:?}");

    let (batcher, refused) = producer(&client).await?;
    let mut times: BTreeMap<u64, &str> = BTreeMap::new();
    let mut last = 0;
    for _ in 0..ACCOUNTS * 5 {
        last += 1;
        times.insert(last, SEPTEMBER);
        push(&batcher, last, SEPTEMBER).await?;
    }
    batcher.flush().await?;
    // Where October goes is looked up before anything moves.
    for number in 0..ACCOUNTS {
        let key = SeriesKey::new(account(number), "units", "unit", "", "", vec![]);
        batcher.resolve(&key, OCTOBER.parse()?).await?;
    }

    // Each account in its turn begins to use October while it is on its way, and what resolved it knows it in the north.
    let mut owners: BTreeMap<String, bool> = BTreeMap::new();
    let mut begun: Vec<u64> = Vec::new();
    let mut killed = None;
    for number in 0..ACCOUNTS {
        let own = account(number);
        let moving = tokio::spawn({
            let (client, document, id) = (client.clone(), way(&own, north, &south)?, format!("move-{number}"));
            async move { job(&client, &id, vec![document]).await }
        });
        // Not before its end there is known: what is counted from then on would stay.
        while number % 8 != 7 && !moving.is_finished() && belongs(&client, &own, north).await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.push(number);
        for round in 0..30 {
            for at in [SEPTEMBER, OCTOBER] {
                let who = begun[(round * 7 + begun.len()) % begun.len()];
                last += 1;
                while last % ACCOUNTS != who {
                    // Numbers choose accounts; those between are of September.
                    times.insert(last, SEPTEMBER);
                    push(&batcher, last, SEPTEMBER).await?;
                    last += 1;
                }
                times.insert(last, at);
                push(&batcher, last, at).await?;
            }
        }
        if number == ACCOUNTS / 2 {
            let lost = cluster.wait_leader(shard(&south).await?, PATIENCE).await.context("somebody leads")?;
            cluster.kill(lost).await;
            killed = Some(lost);
        }
        let reply = moving.await??;
        let moved = match reply.state.as_str() {
            "done" => true,
            _ => {
                let refusal = reply.steps.iter().find_map(|step| step.refusal.as_ref());
                let reason = refusal.map(|refusal| refusal.reason.as_str());
                ensure!(reason == Some("EFFECTIVE_TOO_EARLY"), "{reply:?}");
                false
            }
        };
        owners.insert(own.to_string(), moved);
    }
    if let Some(lost) = killed {
        cluster.restart(lost).await?;
    }
    batcher.flush().await?;
    assert_eq!(*refused.lock(), Vec::<String>::new(), "nothing is refused");
    let moved = owners.values().filter(|moved| **moved).count();
    assert!(moved * 2 > owners.len(), "most accounts moved: {owners:?}");
    // A job that is repeated is the same; a move of what has moved is refused.
    let first = owners.iter().find(|(_, moved)| **moved).map(|(own, _)| AccountId::new(own)).context("one moved")??;
    assert!(client.apply("again", vec![way(&first, north, &south)?]).await.is_err(), "it is not in the north any more");
    // So is a file that still has it.
    let old = job(&client, "old file", vec![hierarchy(north, ACCOUNTS)]).await;
    assert!(old.is_err() || old.is_ok_and(|reply| reply.state != "done"), "a file does not bring it back");

    // The producer begins anew, knows nothing, and sends all of it again.
    let (again, told) = producer(&cluster.client()).await?;
    for (number, at) in &times {
        push(&again, *number, at).await?;
    }
    let totals = again.flush().await?;
    assert_eq!((totals.accepted, totals.late, told.lock().clone()), (0, 0, Vec::new()), "{totals:?}");
    assert_eq!(totals.duplicate, last);

    // A simple caller, by id.
    let simple =
        Batcher::by_id(cluster.client(), ProducerId::new("simple")?, Batching::default(), |_: Settled<'_>| {}).await?;
    let record: UsageRecord = serde_json::from_value(json!({
        "id": "one", "account": first, "service": "units", "usage_type": "unit", "quantity": "7", "start": OCTOBER,
    }))?;
    simple.push_record(None, &record).await?;
    assert_eq!(simple.flush().await?.accepted, 1);

    let mut expected: BTreeMap<(bool, &str), Sums> = BTreeMap::new();
    for (number, at) in &times {
        let own = account(*number).to_string();
        let in_south = *at == OCTOBER && owners[&own];
        let cycle = if *at == OCTOBER { "2024-10" } else { "2024-09" };
        let sum = expected.entry((in_south, cycle)).or_default().entry(own).or_default();
        *sum = (sum.0 + 1, sum.1 + units(*number));
    }
    let simple = expected.entry((true, "2024-10")).or_default().entry(first.to_string()).or_default();
    *simple = (simple.0 + 1, simple.1 + 7);
    for (in_south, cycle) in [(false, "2024-09"), (true, "2024-09"), (false, "2024-10"), (true, "2024-10")] {
        let root = if in_south { south.as_str() } else { north };
        let wanted = expected.remove(&(in_south, cycle)).unwrap_or_default();
        assert_eq!(counted(&client, root, cycle).await?, wanted, "{root} {cycle}");
        client.close(&AccountId::new(root)?, cycle.parse()?).await?;
        let listed = client.list_bills(&AccountId::new(root)?, None, Some(cycle.parse()?)).await?.bills;
        let units: i128 = wanted.values().map(|own| own.1).sum();
        let payable: Vec<String> = listed.into_iter().map(|bill| bill.payable).collect();
        let half = format!("{}{}", units / 2, if units % 2 == 1 { ".5" } else { "" });
        assert!(payable == [half.clone()] || units == 0, "{root} {cycle}: {payable:?}, {units} units");
    }
    for shard in 1..=4 {
        replicas_agree(&cluster, ShardId(shard), 3).await?;
    }
    cluster.stop().await;
    Ok(())
}
