//! The demo's course: start, prices, usage with a killed leader, usage again, close, checks, bill. Each step says what it
//! does and checks what it claims.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::{Batching, Totals};
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_client::files::documents::{Placed, read_source};
use reckoner_client::files::finding::Source;
use reckoner_client::files::usage::UsageReader;
use reckoner_client::proto;
use reckoner_shard::base::id::{AccountId, ProducerId, ShardId};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::codec;
use reckoner_shard::placement::slot_of;
use reckoner_shard::usage::record::UsageRecord;

use super::check;
use super::example::{Example, FOCUS, FOCUS_EXPECTED, TOKENS};
use super::screen::Screen;
use crate::api::issued::issued as issued_in;
use crate::local::{LocalCluster, LocalConfig};

const NODES: u64 = 3;
const SHARDS: u32 = 4;
/// Parts in which a file is pushed, so that the estimate can be seen to grow.
const PARTS: usize = 6;
/// How long an election may take before the demo calls it lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the demo; whether every check passed.
pub async fn run() -> Result<bool> {
    let mut screen = Screen::new();
    let folder = tempfile::tempdir()?;
    screen.step(&format!("Start {NODES} nodes in this process, {SHARDS} shards with a replica on each"));
    let config = LocalConfig {
        nodes: NODES,
        shards: SHARDS,
        folder: Some(folder.path().join("nodes")),
        ..LocalConfig::default()
    };
    let mut cluster = LocalCluster::start(config).await?;
    screen.say(&format!("listening on {}", cluster.endpoints().join(", ")));
    let client = cluster.client();

    tell(&mut screen, &mut cluster, &client, folder.path(), &FOCUS, true).await?;
    screen.say("The one credit row of the file is left out: credits come from contracts here, not from usage.");
    tell(&mut screen, &mut cluster, &client, folder.path(), &TOKENS, false).await?;

    screen.step("Stop");
    cluster.stop().await;
    let good = screen.end();
    if good {
        next();
    }
    Ok(good)
}

fn next() {
    anstream::println!(
        "\nTry next, with this binary as `reckoner` in a checkout:\n\
         \x20 reckoner serve --data-dir ./data                       a node of your own; in a second terminal:\n\
         \x20 reckoner apply -f examples/quickstart                  prices, accounts, a contract\n\
         \x20 reckoner usage push -f examples/quickstart/usage.jsonl\n\
         \x20 reckoner bills estimate --root acme --cycle 2026-09\n\
         \x20 reckoner --help"
    );
}

/// One example from its prices to its closed bill.
async fn tell(
    screen: &mut Screen,
    cluster: &mut LocalCluster,
    client: &Client,
    folder: &Path,
    example: &Example,
    kill: bool,
) -> Result<()> {
    let root = AccountId::new(example.root)?;
    let cycle: CycleId = example.cycle.parse()?;
    let shard = client.shard_of(slot_of(root.as_str())).await?;
    let placed = apply(screen, client, example).await?;
    let records = read_usage(&example.write_usage(folder)?)?;
    ensure!(records.len() as u64 == example.records, "{} has {} records", example.usage.0, records.len());

    screen.step(&format!("Push {} usage records", records.len()));
    let producer = ProducerId::new(&format!("demo/{}", example.name))?;
    let batcher = open(client, &producer).await?;
    let bar = screen.bar(example.records);
    let mut killed = None;
    for (part, rows) in records.chunks(records.len().div_ceil(PARTS)).enumerate() {
        for record in rows {
            batcher.push_record(None, record).await?;
        }
        if kill && part == PARTS / 2 {
            // Records are on their way: what was acknowledged must survive, what was not is sent again.
            killed = Some(kill_leader(screen, cluster, shard).await?);
        }
        batcher.flush().await?;
        let totals = batcher.totals();
        bar.set_position(totals.accepted + totals.duplicate);
        let body = estimate(client, &root, cycle).await?;
        bar.suspend(|| {
            screen.say(&format!("{:>6} counted, estimate {} {}", totals.accepted, body.total, body.priced_in()))
        });
    }
    bar.finish_and_clear();
    let first = batcher.totals();
    let whole = Totals { accepted: example.records, ..Totals::default() };
    let again_counted = first.accepted + first.duplicate == example.records && first.refused + first.late == 0;
    screen.check(again_counted, &format!("every record acknowledged: {}", words(&first)));

    screen.step("Push the same records again");
    let again = open(client, &producer).await?;
    for record in &records {
        again.push_record(None, record).await?;
    }
    again.flush().await?;
    let second = again.totals();
    let all_duplicate = second == Totals { duplicate: whole.accepted, ..Totals::default() };
    screen.check(all_duplicate, &format!("nothing counts twice: {}", words(&second)));
    let counted = counted_records(client, &root, cycle).await?;
    screen.check(
        counted == example.records,
        &format!("the counters hold {counted} records, {} were sent", example.records),
    );

    screen.step(&format!("Close {cycle}"));
    let before = estimate_bytes(client, &root, cycle).await?;
    client.close(&root, cycle).await.context("the cycle cannot be closed")?;
    let bill = shown(client, &root, cycle).await?;
    let body = codec::decode(&bill.body).context("a stored bill cannot be read")?;
    screen.bill(&body, &bill.number, 8);
    screen.check(before == bill.body, &format!("the last estimate is the bill: {} equal bytes", bill.body.len()));
    if example.name == FOCUS.name {
        let (equal, rows) = check::rows_rated_alone(&records, &placed, FOCUS_EXPECTED)?;
        screen.check(equal == rows, &format!("{equal} of {rows} rows, rated alone, equal the file's ListCost exactly"));
        let (within, accounts, largest) = check::accounts_against_file(&body, FOCUS_EXPECTED)?;
        let text = format!(
            "{within} of {accounts} accounts match the file's sums (largest difference {largest}, the file rounds each row)"
        );
        screen.check(within == accounts, &text);
    }
    let expected = (example.exact_total, example.payable);
    let found = (body.total.to_string(), body.payable.to_string());
    let text = format!("an independent calculation says {} to pay, {} exact", expected.1, expected.0);
    screen.check((found.0.as_str(), found.1.as_str()) == expected, &text);

    if let Some(node) = killed {
        screen.step(&format!("Start node {node} again"));
        cluster.restart(node).await?;
        cluster.ready(PATIENCE).await?;
    }
    let (hashes, states) = replicas(cluster, shard, &root, cycle).await?;
    let same = hashes.len() == NODES as usize && hashes.iter().collect::<BTreeSet<_>>().len() == 1;
    let hash: String = bill.body_hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let holds = hashes.iter().all(|found| found[..] == bill.body_hash[..]);
    screen.check(same && holds, &format!("the bill has the same hash on all {NODES} nodes: {hash}…"));
    let same = states.len() == NODES as usize && states.iter().collect::<BTreeSet<_>>().len() == 1;
    screen.check(same, &format!("all {NODES} replicas of the shard hold the same state"));
    Ok(())
}

async fn apply(screen: &Screen, client: &Client, example: &Example) -> Result<Vec<Placed>> {
    screen.step(&format!("Apply prices and accounts of {}", example.title));
    screen.say(example.source);
    let mut placed = Vec::new();
    for (name, text) in example.documents {
        let source = Arc::new(Source { name: format!("{}/{name}", example.name), text: (*text).to_owned() });
        let (documents, findings) = read_source(&source);
        ensure!(findings.iter().all(|finding| !finding.is_error()), "{name} is wrong: {findings:?}");
        placed.extend(documents);
    }
    let job = format!("demo-{}", example.name);
    let documents = placed.iter().map(|placed| placed.document.wire(&placed.source.name)).collect();
    client.apply(&job, documents).await?;
    let reply = client.job(&job, PATIENCE).await?;
    if reply.state != "done" {
        bail!("the job did not end: {reply:?}");
    }
    screen.say(&format!("job {job}: {} steps done", reply.steps.len()));
    Ok(placed)
}

fn read_usage(path: &Path) -> Result<Vec<UsageRecord>> {
    let mut records = Vec::new();
    for row in UsageReader::open(path)? {
        let row = row?;
        records.push(row.record.map_err(|why| anyhow::anyhow!("line {}: {why}", row.line))?);
    }
    Ok(records)
}

async fn open(client: &Client, producer: &ProducerId) -> Result<Batcher> {
    let epoch = client.open_producer(producer, None, None).await?.epoch;
    let sink = |_: Settled<'_>| {};
    Ok(Batcher::sequenced(client.clone(), producer.clone(), epoch, Batching::default(), sink).await?)
}

/// Ends the leader of a shard as a crash would, and waits for another one.
async fn kill_leader(screen: &Screen, cluster: &mut LocalCluster, shard: ShardId) -> Result<u64> {
    let leader = cluster.wait_leader(shard, PATIENCE).await.context("the shard has no leader")?;
    let started = Instant::now();
    cluster.kill(leader).await;
    screen.event(&format!("node {leader}, leader of shard {shard}, is killed with records on their way"));
    let next = cluster.wait_leader(shard, PATIENCE).await.context("no new leader was elected")?;
    screen.event(&format!("node {next} leads after {} ms; pushing goes on", started.elapsed().as_millis()));
    Ok(leader)
}

async fn estimate_bytes(client: &Client, root: &AccountId, cycle: CycleId) -> Result<prost::bytes::Bytes> {
    let reply = client.estimate(root, None, Some(cycle), proto::BillForm::Canonical).await?;
    Ok(reply.bills.into_iter().next().context("there is no estimate")?.body)
}

async fn estimate(client: &Client, root: &AccountId, cycle: CycleId) -> Result<BillBody> {
    Ok(codec::decode(&estimate_bytes(client, root, cycle).await?)?)
}

async fn shown(client: &Client, root: &AccountId, cycle: CycleId) -> Result<proto::Bill> {
    let request = proto::ShowBillsRequest {
        root: root.to_string(),
        cycle: cycle.to_string(),
        form: proto::BillForm::Canonical.into(),
        ..proto::ShowBillsRequest::default()
    };
    client.bills(request).await?.bills.into_iter().next().context("no bill was issued")
}

async fn counted_records(client: &Client, root: &AccountId, cycle: CycleId) -> Result<u64> {
    let (mut counted, mut page_token) = (0, String::new());
    loop {
        let request = proto::GetUsageRequest {
            root: root.to_string(),
            cycle: cycle.to_string(),
            page_token,
            ..proto::GetUsageRequest::default()
        };
        let reply = client.usage(request).await?;
        counted += reply.counters.iter().map(|counter| counter.records).sum::<u64>();
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return Ok(counted);
        }
    }
}

/// What each node holds by itself: the hash of its stored bill, and of its state at one common index.
async fn replicas(
    cluster: &LocalCluster,
    shard: ShardId,
    root: &AccountId,
    cycle: CycleId,
) -> Result<(Vec<[u8; 32]>, Vec<(u64, [u8; 32])>)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (mut hashes, mut states) = (Vec::new(), Vec::new());
        for node in cluster.running() {
            let context = node.context();
            let Some(replica) = context.shards.get(shard) else { continue };
            let (position, state) = replica.hash().await?;
            states.push((position.index, state));
            let read = replica.view(None).await?;
            for bill in issued_in(&read.view, root)?.into_iter().filter(|bill| bill.cycle == cycle) {
                // The hash is taken again of the bytes that this node stored.
                if let Some(bytes) = context.bills.get(Some(cycle), &bill.envelope.body_hash)? {
                    hashes.push(*blake3::hash(&bytes).as_bytes());
                }
            }
        }
        let settled = states.iter().map(|state| state.0).collect::<BTreeSet<_>>().len() == 1;
        if (settled && hashes.len() == NODES as usize) || Instant::now() > deadline {
            return Ok((hashes, states));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn words(totals: &Totals) -> String {
    let Totals { accepted, late, duplicate, refused } = totals;
    format!("{accepted} accepted, {duplicate} duplicate, {refused} refused, {late} late")
}
