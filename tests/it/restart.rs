//! The power goes everywhere at once, in the open cycle and after its close: what was acknowledged is counted, what was
//! billed is the same bill, positions do not run back, and sending everything again adds nothing.

use std::sync::Arc;
use std::time::Duration;

use reckoner_client::client::Client;
use reckoner_client::proto;
use reckoner_node::clock::ManualClock;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::Money;
use reckoner_tests::push::{CYCLE, Producer, ROOT, counted, set_clocks, set_up, units_through};

const PATIENCE: Duration = Duration::from_secs(60);

async fn power_loss(cluster: &mut LocalCluster) -> anyhow::Result<()> {
    for node in 1..=3 {
        cluster.kill(node).await;
    }
    for node in 1..=3 {
        cluster.restart(node).await?;
    }
    Ok(cluster.ready(PATIENCE).await?)
}

async fn position(client: &Client) -> anyhow::Result<(u32, u64)> {
    let request = proto::GetUsageRequest { root: ROOT.into(), cycle: CYCLE.into(), ..Default::default() };
    let position = client.usage(request).await?.position.unwrap_or_default();
    Ok((position.shard, position.index))
}

async fn bills(client: &Client) -> anyhow::Result<Vec<(String, Vec<u8>, String)>> {
    let request = proto::ShowBillsRequest { root: ROOT.into(), cycle: CYCLE.into(), ..Default::default() };
    let reply = client.bills(request).await?;
    let row = |bill: &proto::Bill| {
        (bill.number.clone(), bill.body_hash.to_vec(), bill.detail.clone().unwrap_or_default().payable)
    };
    Ok(reply.bills.iter().map(row).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_at_once_lose_nothing_that_was_acknowledged() -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at("2024-09-20T00:00:00Z".parse()?));
    let config = LocalConfig { nodes: 3, shards: 2, clock: Some(clock.clone()), ..LocalConfig::default() };
    let mut cluster = LocalCluster::start(config).await?;
    let client = cluster.client();
    set_up(&client).await?;
    Producer::begin(&client).await?.push(1..=1_000).await?;
    let producer = Producer::begin(&client).await?;
    producer.push(1..=1_000).await?;
    producer.flush().await?;
    let before = position(&client).await?;

    power_loss(&mut cluster).await?;
    assert_eq!(counted(&client).await?, (1_000, units_through(1_000)));
    let after = position(&client).await?;
    assert!(after.0 == before.0 && after.1 >= before.1, "position {before:?} ran back to {after:?}");
    let again = Producer::begin(&client).await?;
    again.push(1..=1_200).await?;
    again.flush().await?;
    assert_eq!(again.heard.lock().duplicates, 1_000);
    assert_eq!(counted(&client).await?, (1_200, units_through(1_200)));

    set_clocks(&clock, "2024-10-02T00:00:00Z").await?;
    let closed = client.close(&AccountId::new(ROOT)?, CYCLE.parse()?).await?;
    assert_eq!(closed.state, "issued", "{closed:?}");
    let issued = bills(&client).await?;
    // Half a dollar a unit.
    assert_eq!(issued.len(), 1);
    let halves: Money = issued[0].2.parse()?;
    assert_eq!(halves.0 * 2, Money::ONE.0 * units_through(1_200));

    power_loss(&mut cluster).await?;
    assert_eq!(bills(&client).await?, issued, "a bill never changes");
    let late = Producer::begin(&client).await?;
    late.push(1..=1_300).await?;
    late.flush().await?;
    assert_eq!(late.heard.lock().duplicates, 1_200, "what was billed is recognised after the close, too");
    assert_eq!(bills(&client).await?, issued, "what comes late is on no issued bill");
    cluster.stop().await;
    Ok(())
}
