//! Rows of strings: verdicts row by row, counted once, by id and by number.

use std::time::Duration;

use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::proto::{PushRowsReply, PushRowsRequest, UsageRow, VerdictKind};

use crate::fake::{Fake, Faults};

const ROOTS: [&str; 3] = ["acme", "globex", "initech"];

fn row(sequence: u64, id: &str, account: &str, quantity: &str) -> UsageRow {
    UsageRow {
        id: id.to_owned(),
        sequence,
        account: account.to_owned(),
        service: "api".to_owned(),
        usage_type: "calls".to_owned(),
        quantity: quantity.to_owned(),
        start_ns: 1_726_700_000_000_000_000,
        ..UsageRow::default()
    }
}

async fn client(fake: &Fake) -> Client {
    Client::connect(&fake.endpoints, ClientConfig { seed: Some(1), ..ClientConfig::default() }).await.unwrap()
}

fn kinds(reply: &PushRowsReply) -> Vec<VerdictKind> {
    reply.verdicts.iter().flat_map(|verdict| vec![verdict.kind(); verdict.count as usize]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_has_a_verdict() {
    use VerdictKind::{Accepted, Duplicate, Refused};
    let fake = Fake::start(&ROOTS, Faults::default(), 1).await;
    let client = client(&fake).await;
    let rows = vec![
        row(0, "a", "acme", "1"),
        row(0, "b", "globex", "2"),
        row(0, "", "acme", "1"),
        row(0, "c", "acme", "x"),
        row(0, "d", "nobody", "1"),
        row(0, "e", "acme", "0.0001"),
        row(0, "a", "acme", "1"),
    ];
    let request = PushRowsRequest { producer: "p".to_owned(), epoch: None, rows };
    let reply = client.push_rows(request.clone()).await.unwrap();
    assert_eq!(kinds(&reply), [Accepted, Accepted, Refused, Refused, Refused, Refused, Duplicate]);
    assert_eq!(reply.verdicts.iter().map(|verdict| verdict.count).sum::<u32>(), 7);
    let reply = client.push_rows(request).await.unwrap();
    assert_eq!(kinds(&reply), [Duplicate, Duplicate, Refused, Refused, Refused, Refused, Duplicate]);
    assert_eq!((fake.counted("acme"), fake.counted("globex")), ((1, 1_000), (1, 2_000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbered_rows_go_on_over_requests_and_faults() {
    let faults = Faults { dropped: 20, moved: 5, ..Faults::default() };
    let fake = Fake::start(&ROOTS, faults, 2).await;
    let client = client(&fake).await;
    let producer = reckoner_shard::base::id::ProducerId::new("n").unwrap();
    let epoch = client.open_producer(&producer, None, None).await.unwrap().epoch;
    for round in 0..10_u64 {
        let rows = (1..=6).map(|at| row(round * 6 + at, "", ROOTS[at as usize % 3], "1")).collect();
        let request = PushRowsRequest { producer: "n".to_owned(), epoch: Some(epoch), rows };
        let reply = client.push_rows(request).await.unwrap();
        assert_eq!(kinds(&reply), [VerdictKind::Accepted; 6], "round {round}");
    }
    for root in ROOTS {
        assert_eq!(fake.counted(root), (20, 20_000));
    }
    let rows = vec![row(2, "", "acme", "1"), row(2, "", "acme", "1")];
    let request = PushRowsRequest { producer: "n".to_owned(), epoch: Some(epoch), rows };
    assert!(client.with_deadline(Duration::from_secs(2)).push_rows(request).await.is_err(), "numbers rise");
}
