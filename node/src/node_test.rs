//! Whole nodes, from the outside: documents in, usage in, bills out; restarts, a lost leader, a refused disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_client::error::Error;
use reckoner_client::proto::usage_client::UsageClient;
use reckoner_client::proto::{
    BillForm, Document, ExplainRequest, PushRequest, PushRowsRequest, ShowBillsRequest, UsageRow, VerdictKind,
};
use reckoner_raft::machine::InPlaceWorkers as ReplicationInPlace;
use reckoner_raft::net::peer::{GrpcTransport, TcpConnector};
use reckoner_raft::store::memory::MemoryDisk;
use reckoner_raft::timings::Limits;
use reckoner_raft::types::NodeId;
use reckoner_shard::base::id::{AccountId, ProducerId, ShardId};
use reckoner_shard::base::refusal::Reason;
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::usage::segment::Writer;
use reckoner_shard::usage::series::SeriesKey;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::api::usage::CONFIRM_MAX;
use crate::clock::{ManualClock, SystemClock};
use crate::config::{Config, Member};
use crate::context::Fate;
use crate::datadir::{DataDirError, Identity};
use crate::local::{LocalCluster, LocalConfig};
use crate::node::{Node, StartError, listen};
use crate::seams::Seams;
use crate::store::bills::MemoryBills;
use crate::store::blobs::MemoryBlobs;
use crate::workers::InPlaceWorkers;

const PATIENCE: Duration = Duration::from_secs(60);

fn at(value: &str) -> Timestamp {
    value.parse().unwrap()
}

fn cycle(value: &str) -> CycleId {
    value.parse().unwrap()
}

fn account(value: &str) -> AccountId {
    AccountId::new(value).unwrap()
}

fn document(kind: &str, mut value: Value) -> Document {
    value["kind"] = json!(kind);
    Document { kind: kind.into(), json: serde_json::to_vec(&value).unwrap().into(), source: kind.to_lowercase() }
}

/// Transfer at 0.09 a GB up to 1,000 GB, then 0.05; ten percent off.
fn documents() -> Vec<Document> {
    vec![
        document(
            "Contract",
            json!({"root": "acme", "effective": "2024-09",
                   "clauses": [{"mechanism": "percent", "id": "ten", "kind": "cross_service", "percent": "10"}]}),
        ),
        hierarchy(&["acme-web", "acme-data"]),
        document(
            "Catalogue",
            json!({"name": "public", "currency": "USD", "effective": "2024-09",
                   "meters": [{"id": "out", "service": "transfer", "usage_type": "out", "scale": 3}],
                   "skus": [{"id": "out", "match": {"service": "transfer"}, "unit": "GB", "price": "out"}],
                   "prices": [{"id": "out", "model": "graduated",
                               "tiers": [{"up_to": "1000", "rate": "0.09"}, {"rate": "0.05"}]}]}),
        ),
    ]
}

fn hierarchy(accounts: &[&str]) -> Document {
    let accounts: Vec<Value> = accounts.iter().map(|id| json!({"id": id})).collect();
    document(
        "Hierarchy",
        json!({"root": "acme", "catalogue": "public", "accounts": accounts,
               "cycles": {"first": "2024-09", "close": "manual"}}),
    )
}

async fn apply(client: &Client, job: &str, documents: Vec<Document>) -> Vec<String> {
    client.apply(job, documents).await.unwrap();
    let reply = client.job(job, Duration::from_secs(20)).await.unwrap();
    assert_eq!(reply.state, "done", "{reply:#?}");
    reply.steps.iter().map(|step| format!("{}: {}", step.name, step.detail)).collect()
}

fn row(id: &str, of: &str, quantity: &str) -> UsageRow {
    UsageRow {
        id: id.into(),
        account: of.into(),
        service: "transfer".into(),
        usage_type: "out".into(),
        quantity: quantity.into(),
        start_ns: at("2024-09-18T22:00:00Z").0,
        ..UsageRow::default()
    }
}

/// Pushes rows by id and answers `kind` or `REASON` for each.
async fn push(client: &Client, rows: &[UsageRow]) -> Vec<String> {
    let request = PushRowsRequest { producer: "test".into(), epoch: None, rows: rows.to_vec() };
    let reply = client.push_rows(request).await.unwrap();
    let mut seen = Vec::new();
    for verdict in reply.verdicts {
        let word = match verdict.kind() {
            VerdictKind::Refused | VerdictKind::Retry => verdict.refusal.unwrap().reason,
            kind => format!("{kind:?}").to_lowercase(),
        };
        seen.extend(std::iter::repeat_n(word, verdict.count as usize));
    }
    seen
}

async fn estimate(client: &Client) -> (String, Vec<u8>) {
    let reply = client.estimate(&account("acme"), None, None, BillForm::Detail).await.unwrap();
    assert_eq!(reply.bills.len(), 1);
    let bill = &reply.bills[0];
    assert_eq!(bill.status, "estimate");
    (bill.detail.clone().unwrap().payable, bill.body_hash.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_on_one_node_from_documents_to_a_bill() {
    let clock = Arc::new(ManualClock::at(at("2024-09-20")));
    let config = LocalConfig { shards: 2, clock: Some(clock.clone()), ..LocalConfig::default() };
    let mut cluster = LocalCluster::start(config).await.unwrap();
    let client = cluster.client();

    let steps = apply(&client, "setup", documents()).await;
    assert!(steps.iter().any(|step| step == "register catalogue public: version 1"), "{steps:?}");
    let again = apply(&client, "again", documents()).await;
    let settled = |step: &String| step.contains("unchanged") || step.starts_with("stage");
    assert!(again.iter().all(settled), "the same content changes nothing: {again:?}");

    // 600 + 600 = 1,200 GB: 1,000 at 0.09 and 200 at 0.05 = 100.00, less ten percent.
    let rows = [row("1", "acme-web", "600"), row("2", "acme-data", "600.000"), row("3", "stranger", "1")];
    assert_eq!(push(&client, &rows).await, ["accepted", "accepted", "UNKNOWN_ACCOUNT"]);
    assert_eq!(push(&client, &rows[..2]).await, ["duplicate", "duplicate"]);
    assert_eq!(push(&client, &[row("1", "acme-web", "601")]).await, ["ID_REUSED"]);
    let (payable, hash) = estimate(&client).await;
    assert_eq!(payable, "90");
    let shards = client.status().await.unwrap().shards;
    let held = shards
        .iter()
        .fold((0, 0, 0), |sum, shard| (sum.0 + shard.hierarchies, sum.1 + shard.counters, sum.2 + shard.records));
    assert_eq!(held, (1, 2, 2), "one hierarchy, two counters, two records");

    cluster.kill(1).await;
    cluster.restart(1).await.unwrap();
    cluster.ready(PATIENCE).await.unwrap();
    assert_eq!(push(&client, &rows[..2]).await, ["duplicate", "duplicate"]);
    assert_eq!(estimate(&client).await, (payable, hash.clone()));

    let early = client.close(&account("acme"), cycle("2024-09")).await.unwrap_err();
    assert_eq!(early.reason(), Some(Reason::CycleRunning), "{early}");
    clock.set(at("2024-10-02"));
    let closed = client.close(&account("acme"), cycle("2024-09")).await.unwrap();
    assert_eq!((closed.state.as_str(), closed.bills.len()), ("issued", 1));
    assert_eq!(closed.bills[0].body_hash, hash, "the bill is the estimate");
    assert_eq!((closed.bills[0].number.as_str(), closed.bills[0].payable.as_str()), ("acme-0001", "90"));
    assert!(closed.grace_until_ns.is_some(), "it cut the grace short");
    let repeated = client.close(&account("acme"), cycle("2024-09")).await.unwrap();
    assert_eq!(repeated.bills, closed.bills, "closing twice changes nothing");

    assert_eq!(push(&client, &[row("4", "acme-web", "5")]).await, ["late"]);
    let show = ShowBillsRequest { root: "acme".into(), number: "acme-0001".into(), ..ShowBillsRequest::default() };
    assert_eq!(client.bills(show.clone()).await.unwrap().bills[0].body_hash, hash);
    let explain = ExplainRequest { root: "acme".into(), cycle: "2024-09".into(), ..ExplainRequest::default() };
    let explained = client.explain(explain).await.unwrap();
    let named: Vec<&str> = explained.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(named, ["ten", "out"]);

    cluster.stop_node(1).await;
    cluster.restart(1).await.unwrap();
    cluster.ready(PATIENCE).await.unwrap();
    assert_eq!(client.bills(show).await.unwrap().bills[0].body_hash, hash);
    assert_eq!(push(&client, &[row("4", "acme-web", "5")]).await, ["duplicate"]);
    let listed = client.list_bills(&account("acme"), None, None).await.unwrap();
    assert_eq!(listed.bills.len(), 1);
    let status = client.status().await.unwrap();
    assert_eq!((status.health.as_str(), status.shards.len()), ("healthy", 2), "{:?}", status.reasons);
    let known = client.list_catalogues(None).await.unwrap().versions;
    assert_eq!((known.len(), known[0].shards.as_slice()), (1, &[1, 2][..]));
    let members = client.show_account(&account("acme-web")).await.unwrap().memberships;
    assert_eq!(members[0].hierarchy.as_ref().unwrap().cycles[0].state, "issued");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_one_wrong_document_applies_nothing() {
    let cluster = LocalCluster::start(LocalConfig { shards: 1, ..LocalConfig::default() }).await.unwrap();
    let client = cluster.client();
    let mut documents = documents();
    documents[0] = document("Contract", json!({"root": "nobody", "effective": "2024-09", "clauses": []}));
    let refused = client.apply("wrong", documents).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::InvalidDocument), "{refused}");
    assert!(refused.to_string().contains("nobody"), "{refused}");
    assert!(client.list_catalogues(None).await.unwrap().versions.is_empty());
    let alone = client.apply("alone", vec![hierarchy(&[])]).await.unwrap_err();
    assert!(alone.to_string().contains("catalogue 'public' is not known"), "{alone}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_lose_a_leader_and_count_once() {
    const RECORDS: u64 = 20_000;
    let clock = Arc::new(ManualClock::at(at("2024-09-20")));
    let config = LocalConfig { nodes: 3, shards: 2, clock: Some(clock.clone()), ..LocalConfig::default() };
    let mut cluster = LocalCluster::start(config).await.unwrap();
    let client = cluster.client();
    apply(&client, "setup", documents()).await;

    let producer = ProducerId::new("meter").unwrap();
    let epoch = client.open_producer(&producer, None, None).await.unwrap().epoch;
    let batching = Batching { records_max: 500, ..Batching::default() };
    let batcher = Batcher::sequenced(client.clone(), producer, epoch, batching, |_: Settled<'_>| {}).await.unwrap();
    let start = at("2024-09-18T22:00:00Z");
    let key = SeriesKey::new(account("acme-web"), "transfer", "out", "", "", vec![]);
    let (series, _) = batcher.resolve(&key, start).await.unwrap();
    let shard = client.shard_of(series.slot()).await.unwrap();
    for number in 0..RECORDS {
        if number == RECORDS / 2 {
            let leader = cluster.wait_leader(shard, PATIENCE).await.unwrap();
            cluster.kill(leader).await;
        }
        // 0.050 GB each: 1,000 GB over all.
        batcher.push(series, 50, start).await.unwrap();
    }
    let totals = batcher.flush().await.unwrap();
    assert_eq!(totals.accepted + totals.duplicate, RECORDS, "{totals:?}");
    // 1,000 GB at 0.09, less ten percent.
    assert_eq!(estimate(&client).await.0, "81");

    let lost = (1..=3).find(|id| cluster.node(*id).is_none()).unwrap();
    cluster.restart(lost).await.unwrap();
    cluster.ready(PATIENCE).await.unwrap();
    clock.set(at("2024-10-02"));
    let mut run = client.close_all(cycle("2024-09")).await.unwrap();
    let mut last = None;
    while let Some(progress) = run.next().await {
        last = Some(progress.unwrap());
    }
    let last = last.unwrap();
    assert_eq!((last.done, last.roots, last.issued, last.bills), (true, 1, 1, 1), "{last:?}");

    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut hashes = BTreeSet::new();
        for node in cluster.running() {
            let replica = node.context().shards.get(shard).unwrap();
            let (position, hash) = replica.hash().await.unwrap();
            assert_eq!(replica.group().status().failure, None);
            hashes.insert((position, hash));
        }
        if hashes.len() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "replicas stay apart: {hashes:?}");
        sleep(Duration::from_millis(50)).await;
    }
    for node in cluster.running() {
        // Every replica keeps the bill itself.
        let only = Client::lazy(&[node.address().to_owned()], Default::default()).unwrap();
        assert_eq!(only.list_bills(&account("acme"), None, None).await.unwrap().bills[0].payable, "81");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_pushes_during_a_hand_over_is_told_who_leads_next() {
    const SHARD: ShardId = ShardId(1);
    let cluster = LocalCluster::start(LocalConfig { nodes: 3, shards: 1, ..LocalConfig::default() }).await.unwrap();
    cluster.ready(PATIENCE).await.unwrap();
    for _ in 0..3 {
        let first = cluster.wait_leader(SHARD, PATIENCE).await.unwrap();
        let group = cluster.node(first).unwrap().context().shards.get(SHARD).unwrap().group().clone();
        let next = NodeId(first % 3 + 1);
        let (over, answers) = (CancellationToken::new(), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
        let pushing = [first, next.0].into_iter().enumerate().map(|(at, id)| {
            let (over, answers) = (over.clone(), answers.clone());
            let address = cluster.node(id).unwrap().address().to_owned();
            tokio::spawn(async move {
                let mut client = UsageClient::connect(format!("http://{address}")).await.unwrap();
                let mut seen = Vec::new();
                while !over.is_cancelled() {
                    let batch = Writer::new().finish().into();
                    let request = PushRequest { tag: 1, shard: SHARD.0, map_epoch: 0, batch };
                    let asked = Instant::now();
                    if let Err(status) = client.push_batch(request).await {
                        seen.push((asked.elapsed(), Error::from_status(&status)));
                    }
                    answers[at].fetch_add(1, Ordering::SeqCst);
                }
                seen
            })
        });
        let pushing = pushing.collect::<Vec<_>>();
        let some_answers = async || {
            let before = [0, 1].map(|at: usize| answers[at].load(Ordering::SeqCst));
            while (0..2).any(|at| answers[at].load(Ordering::SeqCst) < before[at] + 3) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        some_answers().await;
        assert_eq!(group.transfer_leader(next, PATIENCE).await, Ok(()));
        some_answers().await;
        over.cancel();
        for seen in join_all(pushing).await {
            let seen = seen.unwrap();
            assert!(!seen.is_empty(), "each of them was not the leader for a while");
            for (after, error) in seen {
                let is_told =
                    matches!(&error, Error::Unavailable { redirect: Some(to), .. } if !to.leader_address.is_empty());
                // A disk that keeps votes waiting for longer than a batch waits is no fault of theirs.
                assert!(is_told || after >= CONFIRM_MAX, "{error:?} after {after:?}");
            }
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fixed_at_the_first_start_stays() {
    let folder = tempfile::tempdir().unwrap();
    let config = |shards| Config {
        data_dir: folder.path().join("data"),
        listen: "127.0.0.1:0".into(),
        shards,
        ..Config::default()
    };
    let node = Node::open(config(Some(3))).await.unwrap();
    node.ready(PATIENCE).await.unwrap();
    let second = Node::open(config(Some(3))).await.err().unwrap();
    assert!(matches!(second, StartError::DataDir(DataDirError::InUse { .. })), "{second}");
    let address = std::fs::read_to_string(folder.path().join("data/address")).unwrap();
    assert_eq!(address.trim(), node.address());
    node.stop().await;
    let other = Node::open(config(Some(4))).await.err().unwrap();
    assert!(other.to_string().starts_with("--shards: 4 shards are asked for"), "{other}");
    let node = Node::open(config(None)).await.unwrap();
    node.ready(PATIENCE).await.unwrap();
    assert_eq!(node.context().shards.all().len(), 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_flush_stops_the_node() {
    let disk = MemoryDisk::new();
    let fate = Fate::default();
    let sealed = fate.clone();
    let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address.to_string();
    let seams = Seams {
        journal: Arc::new(disk.journal(Arc::new(move |reason: &str| sealed.seal(reason)))),
        snapshots: Arc::new(disk.snapshots()),
        transport: Arc::new(GrpcTransport::new(Arc::new(TcpConnector))),
        connector: None,
        bills: Arc::new(MemoryBills::default()),
        blobs: Arc::new(MemoryBlobs::default()),
        clock: Arc::new(SystemClock),
        trusts_own_clock: false,
        machine: reckoner_shard::machine::state::MACHINE_VERSION,
        workers: Arc::new(InPlaceWorkers),
        replication_workers: Arc::new(ReplicationInPlace),
        limits: Limits::default(),
        listener,
        fate,
        seed: Some(7),
    };
    let identity = Identity::new(7, 1, 1, vec![Member { id: 1, address: address.clone() }]);
    let node = Node::start(Config::default(), identity, seams).await.unwrap();
    node.ready(PATIENCE).await.unwrap();
    let client = Client::lazy(&[address], Default::default()).unwrap().with_deadline(Duration::from_secs(3));
    let producer = ProducerId::new("meter").unwrap();
    client.open_producer(&producer, None, None).await.unwrap();
    disk.set_refusing(true);
    let refused = client.open_producer(&producer, None, None).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "nothing is acknowledged any more: {refused}");
    let reason = tokio::time::timeout(PATIENCE, node.failed()).await.unwrap();
    assert!(!reason.is_empty());
    node.kill().await;
}
