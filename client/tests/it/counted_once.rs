//! Whatever goes wrong on the way, every record that was pushed is counted once, and each gets one verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::{Batching, NotTaken, Totals};
use reckoner_client::batch::records::{Series, Settled};
use reckoner_client::client::{Client, ClientConfig};
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::refusal::Reason;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::series::SeriesKey;

use crate::fake::{Fake, Faults};

const ROOTS: [&str; 8] = ["acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "tyrell"];
const START: &str = "2024-09-18T22:00:00Z";

fn start() -> Timestamp {
    START.parse().unwrap()
}

fn producer(name: &str) -> ProducerId {
    ProducerId::new(name).unwrap()
}

/// Small batches and short waits, so that a few thousand records meet many faults.
fn batching(records_max: usize) -> Batching {
    Batching {
        records_max,
        age_max: Duration::from_millis(1),
        pause: Duration::from_millis(2),
        give_up_after: Duration::from_secs(60),
        ..Batching::default()
    }
}

async fn client(fake: &Fake) -> Client {
    // Faults break streams or are answered: no try ends by time, however busy the machine is.
    let config = ClientConfig { seed: Some(1), attempt: Duration::from_secs(60), ..ClientConfig::default() };
    Client::connect(&fake.endpoints, config).await.unwrap()
}

async fn series(batcher: &Batcher) -> Vec<Series> {
    let mut all = Vec::new();
    for root in ROOTS {
        for model in ["small", "large"] {
            let attributes = vec![("model".to_owned(), model.to_owned())];
            let key = SeriesKey::new(AccountId::new(root).unwrap(), "api", "calls", "", "eu", attributes);
            all.push(batcher.resolve(&key, start()).await.unwrap().0);
        }
    }
    all
}

/// Pushes `count` records of quantity 0.001 round-robin; answers how often each number got a verdict.
async fn push(fake: &Fake, count: u64, batching: Batching) -> (Totals, BTreeMap<u64, u32>) {
    let client = client(fake).await;
    let epoch = client.open_producer(&producer("p"), None, None).await.unwrap().epoch;
    let seen: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
    let sink = {
        let seen = seen.clone();
        move |settled: Settled<'_>| {
            let mut seen = seen.lock();
            for number in settled.numbers() {
                *seen.entry(number).or_default() += 1;
            }
        }
    };
    let batcher = Batcher::sequenced(client, producer("p"), epoch, batching, sink).await.unwrap();
    let series = series(&batcher).await;
    for at in 0..count {
        batcher.push(series[at as usize % series.len()], 1, start()).await.unwrap();
    }
    let totals = batcher.flush().await.unwrap();
    assert_eq!(batcher.outstanding(), 0);
    let seen = seen.lock().clone();
    (totals, seen)
}

fn counted(fake: &Fake) -> u64 {
    ROOTS
        .iter()
        .map(|root| {
            let (records, sum) = fake.counted(root);
            assert_eq!(i128::from(records), sum, "each record of {root} adds 0.001");
            records
        })
        .sum()
}

fn once(count: u64) -> BTreeMap<u64, u32> {
    (1..=count).map(|number| (number, 1)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_faults_everything_is_accepted_and_a_second_run_is_duplicate() {
    let fake = Fake::start(&ROOTS, Faults::default(), 1).await;
    let (totals, seen) = push(&fake, 5_000, batching(100)).await;
    assert_eq!(totals, Totals { accepted: 5_000, ..Totals::default() });
    assert_eq!(seen, once(5_000));
    assert_eq!(counted(&fake), 5_000);
    let (totals, seen) = push(&fake, 5_000, batching(170)).await;
    assert_eq!(totals, Totals { duplicate: 5_000, ..Totals::default() }, "another cut, the same numbers");
    assert_eq!(seen, once(5_000));
    assert_eq!(counted(&fake), 5_000);
}

async fn check(faults: Faults, seed: u64, count: u64, records_max: usize) {
    let fake = Fake::start(&ROOTS, faults, seed).await;
    let (totals, seen) = push(&fake, count, batching(records_max)).await;
    assert_eq!(seen, once(count), "one verdict a record, {faults:?} seed {seed}");
    assert_eq!(totals.refused, 0);
    assert_eq!(totals.accepted + totals.duplicate, count);
    assert_eq!(counted(&fake), count, "{faults:?} seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_are_sent_again() {
    check(Faults { lost_reply: 10, ..Faults::default() }, 2, 3_000, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_batches_put_later_ones_out_of_order_and_all_arrive() {
    let faults = Faults { dropped: 15, ..Faults::default() };
    let mut disorder = None;
    // On a busy machine no batch may be under way behind a dropped one: then another run has to show it.
    for seed in 3..13 {
        let fake = Fake::start(&ROOTS, faults, seed).await;
        let (_, seen) = push(&fake, 12_000, batching(20)).await;
        assert_eq!(seen, once(12_000));
        assert_eq!(counted(&fake), 12_000);
        disorder = fake.world.lock().refused.get(&Reason::OutOfOrder).copied();
        if disorder.is_some() {
            break;
        }
    }
    assert!(disorder.is_some(), "batches behind a dropped one were refused, not counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_series_are_defined_again() {
    check(Faults { stale_series: 15, ..Faults::default() }, 4, 3_000, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_and_owners_change() {
    check(Faults { new_leader: 5, moved: 5, ..Faults::default() }, 5, 3_000, 50).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_counted_once(
        seed: u64,
        lost_reply in 0..10_u32,
        dropped in 0..10_u32,
        new_leader in 0..6_u32,
        stale_series in 0..10_u32,
        moved in 0..4_u32,
        records_max in 1..200_usize,
        count in 1..1_500_u64,
    ) {
        let faults = Faults { lost_reply, dropped, new_leader, stale_series, moved };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(faults, seed, count, records_max));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_means_that_the_caller_waits() {
    let fake = Fake::start(&ROOTS, Faults::default(), 6).await;
    let client = client(&fake).await;
    let epoch = client.open_producer(&producer("p"), None, None).await.unwrap().epoch;
    let config = Batching { records_in_flight_max: 100, age_max: Duration::from_secs(60), ..batching(100) };
    let batcher = Batcher::sequenced(client, producer("p"), epoch, config, |_: Settled<'_>| {}).await.unwrap();
    let series = series(&batcher).await;
    let locked = fake.world.lock();
    let mut taken = 0;
    let full = loop {
        match batcher.try_push(series[0], 1, start()) {
            Ok(_) => taken += 1,
            Err(why) => break why,
        }
        assert!(taken < 1_000, "nothing bounds what is under way");
    };
    assert_eq!(full, NotTaken::Full);
    assert_eq!(taken, 200, "one batch gathered, one under way");
    drop(locked);
    batcher.push(series[0], 1, start()).await.unwrap();
    assert_eq!(batcher.flush().await.unwrap().accepted, 201);
    assert_eq!(fake.counted("acme").0, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_epoch_is_fenced_off() {
    let fake = Fake::start(&ROOTS, Faults::default(), 7).await;
    let client = client(&fake).await;
    let first = client.open_producer(&producer("p"), None, None).await.unwrap().epoch;
    let second = client.open_producer(&producer("p"), None, None).await.unwrap().epoch;
    assert!(second > first);
    let make = |epoch| Batcher::sequenced(client.clone(), producer("p"), epoch, batching(10), |_: Settled<'_>| {});
    let new = make(second).await.unwrap();
    let all = series(&new).await;
    new.push(all[0], 1, start()).await.unwrap();
    new.flush().await.unwrap();
    let old = make(first).await.unwrap();
    let all = series(&old).await;
    old.push(all[0], 1, start()).await.unwrap();
    let error = old.flush().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::StaleEpoch), "{error}");
    assert!(!error.retryable());
    assert_eq!(fake.counted("acme").0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_resumes_where_everything_has_a_verdict() {
    let fake = Fake::start(&ROOTS, Faults::default(), 8).await;
    push(&fake, 100, batching(10)).await;
    let client = client(&fake).await;
    let epoch = client.open_producer(&producer("p"), None, None).await.unwrap().epoch;
    let resume = Batching { resume_after: Some(100), ..batching(10) };
    let batcher = Batcher::sequenced(client.clone(), producer("p"), epoch, resume, |_: Settled<'_>| {}).await.unwrap();
    let all = series(&batcher).await;
    assert_eq!(batcher.push(all[3], 1, start()).await.unwrap(), 101);
    assert_eq!(batcher.flush().await.unwrap().accepted, 1);
    assert_eq!(counted(&fake), 101);
}

fn record(account: &str, quantity: &str, id: &str) -> UsageRecord {
    serde_json::from_str(&format!(
        r#"{{"id":"{id}","account":"{account}","service":"api","usage_type":"calls","region":"eu","quantity":"{quantity}","start":"{START}"}}"#
    ))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_get_their_own_verdict_and_the_rest_goes_on() {
    let fake = Fake::start(&ROOTS, Faults::default(), 9).await;
    for round in 0..2 {
        let client = client(&fake).await;
        let epoch = client.open_producer(&producer("p"), None, None).await.unwrap().epoch;
        let seen: Arc<Mutex<BTreeMap<u64, String>>> = Arc::default();
        let sink = {
            let seen = seen.clone();
            move |settled: Settled<'_>| {
                let word = match settled.verdict {
                    Verdict::Accepted { .. } => "ACCEPTED".to_owned(),
                    Verdict::Duplicate => "DUPLICATE".to_owned(),
                    Verdict::Refused(refusal) => refusal.reason.code(),
                };
                seen.lock().extend(settled.numbers().map(|number| (number, word.clone())));
            }
        };
        let batcher = Batcher::sequenced(client, producer("p"), epoch, batching(10), sink).await.unwrap();
        let mut unknown_meter = record("acme", "1", "");
        unknown_meter.usage_type = "calls-of-tomorrow".to_owned();
        let records = [
            record("acme", "1.5", ""),
            record("acme", "1.0001", ""),
            record("nobody", "1", ""),
            unknown_meter,
            record("acme", "-1", ""),
            record("globex", "2", ""),
        ];
        for (at, record) in records.iter().enumerate() {
            batcher.push_record(Some(at as u64 + 1), record).await.unwrap();
        }
        let totals = batcher.flush().await.unwrap();
        let good = if round == 0 { "ACCEPTED" } else { "DUPLICATE" };
        let words: Vec<String> = seen.lock().values().cloned().collect();
        let expected = [good, "QUANTITY_TOO_FINE", "UNKNOWN_ACCOUNT", "UNKNOWN_METER", "NEGATIVE_QUANTITY", good];
        assert_eq!(words, expected, "a repeat gets the first verdict");
        assert_eq!(totals.refused, 4);
        assert_eq!((fake.counted("acme"), fake.counted("globex")), ((1, 1_500), (1, 2_000)));
        let last = batcher.last_number();
        assert!(batcher.push_record(Some(last), &records[0]).await.is_err(), "numbers rise");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_counted_once_too() {
    let faults = Faults { lost_reply: 10, dropped: 10, stale_series: 10, new_leader: 3, ..Faults::default() };
    let fake = Fake::start(&ROOTS, faults, 10).await;
    let client = client(&fake).await;
    let batcher = Batcher::by_id(client, producer("ids"), batching(20), |_: Settled<'_>| {}).await.unwrap();
    for round in 0..2 {
        for at in 0..300 {
            let record = record(ROOTS[at % ROOTS.len()], "0.001", &format!("r-{at}"));
            batcher.push_record(None, &record).await.unwrap();
        }
        let totals = batcher.flush().await.unwrap();
        assert_eq!(totals.accepted + totals.duplicate, 300 * (round + 1));
        assert_eq!(counted(&fake), 300);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_gone_is_told_in_time() {
    let fake = Fake::start(&ROOTS, Faults::default(), 11).await;
    let client = client(&fake).await;
    let epoch = client.open_producer(&producer("p"), None, None).await.unwrap().epoch;
    let config = Batching { give_up_after: Duration::from_millis(300), ..batching(10) };
    let batcher = Batcher::sequenced(client, producer("p"), epoch, config, |_: Settled<'_>| {}).await.unwrap();
    let series = series(&batcher).await;
    fake.world.lock().set_dropped(100);
    batcher.push(series[0], 1, start()).await.unwrap();
    let error = batcher.flush().await.unwrap_err();
    assert!(error.retryable() && error.outcome_unknown(), "{error}");
    assert!(batcher.push(series[0], 1, start()).await.is_err());
}
