//! Bills outside a close, on three nodes: interim bills and corrections come to the one bill that would have been made at
//! once, through restarts of everything; each has its number, and the cycle is exported and computed again as a whole.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use reckoner_client::cli::{Command, Exit, Globals, parse_from, run};
use reckoner_client::client::Client;
use reckoner_client::files::bundle::Bundle;
use reckoner_client::proto;
use reckoner_node::clock::ManualClock;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::Money;
use reckoner_tests::push::{CYCLE, Producer, ROOT, set_up, units_through};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser, Debug)]
#[command(name = "reckoner")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

async fn reckoner(cluster: &LocalCluster, line: &str) -> Exit {
    let endpoint = cluster.endpoints().join(",");
    let words = ["reckoner", "--endpoint", &endpoint].into_iter().chain(line.split_whitespace());
    match parse_from::<Cli, &str>(words) {
        Ok(cli) => run(cli.command, &cli.globals).await,
        Err(exit) => exit,
    }
}

/// Pushes the records up to a number; what was pushed before is recognised.
async fn push(client: &Client, last: u64) -> anyhow::Result<()> {
    let producer = Producer::begin(client).await?;
    producer.push(1..=last).await?;
    producer.flush().await
}

/// Number, kind and payable of all bills of the cycle, in order.
async fn bills(client: &Client) -> anyhow::Result<Vec<(String, String, Money)>> {
    let request = proto::ShowBillsRequest { root: ROOT.into(), cycle: CYCLE.into(), ..Default::default() };
    let reply = client.bills(request).await?;
    let row = |bill: &proto::Bill| {
        let payable = bill.detail.clone().unwrap_or_default().payable.parse()?;
        Ok((bill.number.clone(), bill.kind.clone(), payable))
    };
    reply.bills.iter().map(row).collect()
}

/// Half a dollar a unit.
fn price(from: u64, until: u64) -> Money {
    Money(Money::ONE.0 * (units_through(until) - units_through(from)) / 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bills_outside_the_close_come_to_the_one_bill() -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at("2024-09-20T00:00:00Z".parse()?));
    let config = LocalConfig { nodes: 3, shards: 2, clock: Some(clock.clone()), ..LocalConfig::default() };
    let mut cluster = LocalCluster::start(config).await?;
    let client = cluster.client();
    let (root, cycle) = (AccountId::new(ROOT)?, CYCLE.parse()?);
    set_up(&client).await?;
    push(&client, 100).await?;
    let first = client.issue(&root, cycle).await?;
    assert_eq!((first.state.as_str(), first.bills.len()), ("issued", 1));
    assert!(client.issue(&root, cycle).await?.bills.is_empty(), "nothing is billed twice");
    push(&client, 250).await?;
    let estimate = client.estimate(&root, None, Some(cycle), proto::BillForm::Detail).await?;
    let estimated: Money = estimate.bills[0].detail.clone().unwrap_or_default().payable.parse()?;
    assert_eq!(estimated, price(100, 250), "an estimate is what would be billed now");
    assert_eq!(client.issue(&root, cycle).await?.bills[0].payable.parse::<Money>()?, estimated);
    push(&client, 400).await?;
    for node in 1..=3 {
        cluster.kill(node).await;
    }
    for node in 1..=3 {
        cluster.restart(node).await?;
    }
    cluster.ready(PATIENCE).await?;
    clock.set("2024-10-02T00:00:00Z".parse()?);
    let line = format!("bills close --root {ROOT} --cycle {CYCLE}");
    assert_eq!(reckoner(&cluster, &line).await, Exit::Ok);

    let issue = format!("bills issue --root {ROOT} --cycle {CYCLE}");
    assert_eq!(reckoner(&cluster, &issue).await, Exit::Failed, "nothing came late");
    push(&client, 450).await?;
    assert_eq!(reckoner(&cluster, &issue).await, Exit::Ok);
    // What comes late is billed with the next close, unasked.
    push(&client, 500).await?;
    clock.set("2024-11-02T00:00:00Z".parse()?);
    assert_eq!(reckoner(&cluster, &format!("bills close --root {ROOT} --cycle 2024-10")).await, Exit::Ok);
    let begun = Instant::now();
    let all = loop {
        let all = bills(&client).await?;
        if all.len() == 5 {
            break all;
        }
        assert!(begun.elapsed() < PATIENCE, "no correction: {all:?}");
        sleep(Duration::from_millis(50)).await;
    };
    let of = |place: u64, kind: &str, from, until| (format!("{ROOT}-000{place}"), kind.to_owned(), price(from, until));
    let expected = [
        of(1, "interim", 0, 100),
        of(2, "interim", 100, 250),
        of(3, "anniversary", 250, 400),
        of(4, "correction", 400, 450),
        of(5, "correction", 450, 500),
    ];
    assert_eq!(all, expected);

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cycle.json").display().to_string();
    let export = format!("bills export --root {ROOT} --cycle {CYCLE} --out {file}");
    assert_eq!(reckoner(&cluster, &export).await, Exit::Ok);
    assert_eq!(reckoner(&cluster, &format!("bills verify {file}")).await, Exit::Ok);
    let mut bundle = Bundle::read(file.as_ref())?;
    assert_eq!(bundle.bills.len(), 5);
    // Without one of them the rest does not follow.
    bundle.bills.remove(1);
    assert!(!bundle.verify()?.iter().all(|verdict| verdict.equal));
    for number in [1, 4] {
        let explain = format!("bills explain --root {ROOT} --cycle {CYCLE} --number {ROOT}-000{number}");
        assert_eq!(reckoner(&cluster, &explain).await, Exit::Ok);
    }
    let none = format!("bills explain --root {ROOT} --cycle {CYCLE} --number {ROOT}-0009");
    assert_eq!(reckoner(&cluster, &none).await, Exit::Failed);
    cluster.stop().await;
    Ok(())
}
