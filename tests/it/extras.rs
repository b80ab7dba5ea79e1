//! Bills outside a close, on three nodes: all kinds but refunds come to the one bill that would have been made at once,
//! through restarts of everything; each has its number, and the cycle is exported and computed again as a whole.

use std::sync::Arc;
use std::time::Duration;

use reckoner_client::cli::Exit;
use reckoner_client::client::Client;
use reckoner_client::error::Error;
use reckoner_client::files::bundle::Bundle;
use reckoner_client::proto;
use reckoner_node::clock::ManualClock;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::Money;
use reckoner_tests::cli;
use reckoner_tests::push::{CYCLE, Producer, ROOT, document, set_clocks, set_up, units_through};
use serde_json::json;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

async fn reckoner(cluster: &LocalCluster, line: &str) -> Exit {
    cli::reckoner(&cluster.endpoints().join(","), line).await
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
    let reply = match client.bills(request).await {
        // There is none yet.
        Err(Error::Refused { code, .. }) if code == "NOT_FOUND" => return Ok(Vec::new()),
        reply => reply?,
    };
    let row = |bill: &proto::Bill| {
        let payable = bill.detail.clone().unwrap_or_default().payable.parse()?;
        Ok((bill.number.clone(), bill.kind.clone(), payable))
    };
    reply.bills.iter().map(row).collect()
}

/// The bills of the cycle once there are so many.
async fn bills_once(client: &Client, count: usize) -> anyhow::Result<Vec<(String, String, Money)>> {
    let begun = Instant::now();
    loop {
        let all = bills(client).await?;
        if all.len() >= count {
            return Ok(all);
        }
        assert!(begun.elapsed() < PATIENCE, "not {count} bills: {all:?}");
        sleep(Duration::from_millis(50)).await;
    }
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
    set_clocks(&clock, "2024-10-02T00:00:00Z").await?;
    let line = format!("bills close --root {ROOT} --cycle {CYCLE}");
    assert_eq!(reckoner(&cluster, &line).await, Exit::Ok);

    let issue = format!("bills issue --root {ROOT} --cycle {CYCLE}");
    assert_eq!(reckoner(&cluster, &issue).await, Exit::Failed, "nothing came late");
    push(&client, 450).await?;
    assert_eq!(reckoner(&cluster, &issue).await, Exit::Ok);
    // What comes late is billed with the next close, unasked.
    push(&client, 500).await?;
    set_clocks(&clock, "2024-11-02T00:00:00Z").await?;
    assert_eq!(reckoner(&cluster, &format!("bills close --root {ROOT} --cycle 2024-10")).await, Exit::Ok);
    let all = bills_once(&client, 5).await?;
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

/// A bill of the payer by its count, its kind, and what is to be paid.
fn row(place: u64, kind: &str, payable: &str) -> (String, String, Money) {
    (format!("{ROOT}-000{place}"), kind.to_owned(), payable.parse().expect("an amount"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bills_come_by_themselves_and_are_paid_back() -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at("2024-09-11T00:00:00Z".parse()?));
    let config = LocalConfig { nodes: 3, shards: 2, clock: Some(clock.clone()), ..LocalConfig::default() };
    let mut cluster = LocalCluster::start(config).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let cycles = json!({ "first": CYCLE, "close": "manual", "interim": { "days": [12, 20], "spend": "2000" } });
    let hierarchy = json!({ "kind": "Hierarchy", "root": ROOT, "catalogue": "units", "cycles": cycles });
    let clauses = json!([
        { "id": "advance", "mechanism": "prepayment", "amount": "90", "percent": "10", "purchase": true },
        { "id": "edp", "mechanism": "commitment", "years": ["12000"], "until": "2024-10", "own_bill": true },
    ]);
    let contract = json!({ "kind": "Contract", "root": ROOT, "effective": CYCLE, "clauses": clauses });
    client.apply("interim", vec![document("Hierarchy", hierarchy), document("Contract", contract)]).await?;
    assert_eq!(client.job("interim", PATIENCE).await?.state, "done");
    // The prepayment of 90 is bought at once.
    let mut expected = vec![row(1, "purchase", "90")];
    assert_eq!(bills_once(&client, 1).await?, expected);
    // Records 1 to 10 are 65 units, 32.50, of which 29.25 are drawn and the rest is the discount: nothing is to be paid.
    push(&client, 10).await?;
    set_clocks(&clock, "2024-09-12T00:00:00Z").await?;
    expected.push(row(2, "interim", "0"));
    assert_eq!(bills_once(&client, 2).await?, expected);
    // 97 records are 4,753 units, 2,376.50, less 100 that the prepayment settles. A look may see the first of them alone.
    push(&client, 97).await?;
    set_clocks(&clock, "2024-09-13T00:00:00Z").await?;
    let all = bills_once(&client, 3).await?;
    let spent = all[2].2;
    assert!((2_000 * Money::ONE.0..=2_276 * Money::ONE.0 + Money::ONE.0 / 2).contains(&spent.0), "{spent}");
    expected.push((format!("{ROOT}-0003"), "interim".to_owned(), spent));
    assert_eq!(all, expected);
    // Restarted nodes, another leader: nothing is made twice, and what is under the threshold waits.
    push(&client, 100).await?;
    for node in 1..=3 {
        cluster.kill(node).await;
    }
    for node in 1..=3 {
        cluster.restart(node).await?;
    }
    cluster.ready(PATIENCE).await?;
    let refund = |amount: &str, reason: &str| {
        format!("bills refund --root {ROOT} --bill {ROOT}-0003 --amount {amount} --reason {reason}")
    };
    assert_eq!(reckoner(&cluster, &refund("100", "outage")).await, Exit::Ok);
    assert_eq!(reckoner(&cluster, &refund("100", "outage")).await, Exit::Ok, "the same again pays nothing");
    assert_eq!(reckoner(&cluster, &refund("50", "outage")).await, Exit::Failed, "its name is taken");
    set_clocks(&clock, "2024-10-02T00:00:00Z").await?;
    assert_eq!(reckoner(&cluster, &format!("bills close --root {ROOT} --cycle {CYCLE}")).await, Exit::Ok);
    // What the contract year fell short is billed by the cluster itself, after the close; refunds take the numbers after it.
    bills_once(&client, 6).await?;
    assert_eq!(reckoner(&cluster, &refund("1000000", "gesture")).await, Exit::Ok, "it is cut");
    assert_eq!(reckoner(&cluster, &refund("1", "more")).await, Exit::Failed, "nothing is left");
    let all = bills_once(&client, 7).await?;
    let rest = Money(price(0, 100).0 - 100 * Money::ONE.0 - spent.0);
    expected.push((format!("{ROOT}-0005"), "anniversary".to_owned(), rest));
    // Retired are the lines of usage; the prepayment's own charge does not count.
    let short = Money(12_000 * Money::ONE.0 - price(0, 100).0);
    expected.push((format!("{ROOT}-0006"), "shortfall".to_owned(), short));
    expected.push(row(4, "refund", "-100"));
    expected.push((format!("{ROOT}-0007"), "refund".to_owned(), Money(100 * Money::ONE.0 - spent.0)));
    assert_eq!(all, expected);

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cycle.json").display().to_string();
    let export = format!("bills export --root {ROOT} --cycle {CYCLE} --out {file}");
    assert_eq!(reckoner(&cluster, &export).await, Exit::Ok);
    assert_eq!(reckoner(&cluster, &format!("bills verify {file}")).await, Exit::Ok);
    let mut bundle = Bundle::read(file.as_ref())?;
    assert_eq!(bundle.bills.len(), 7);
    // A refund without the one before it does not follow.
    bundle.bills.remove(5);
    let wrong: Vec<String> =
        bundle.verify()?.into_iter().filter(|verdict| !verdict.equal).map(|verdict| verdict.number).collect();
    assert_eq!(wrong, [format!("{ROOT}-0007")]);
    for number in [1, 4, 6] {
        let explain = format!("bills explain --root {ROOT} --cycle {CYCLE} --number {ROOT}-000{number} --line 1");
        assert_eq!(reckoner(&cluster, &explain).await, Exit::Ok);
    }
    assert_eq!(reckoner(&cluster, &format!("bills list --root {ROOT}")).await, Exit::Ok);
    cluster.stop().await;
    Ok(())
}
