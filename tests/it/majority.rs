//! Two of three nodes are lost for good, and the third goes on alone: what had been acknowledged and reached it is there, under
//! a new identity of the cluster, clients go on, lost nodes that come back are refused, and new ones take their places.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use reckoner_client::client::{Client, ClientConfig};
use reckoner_node::config::Config;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_node::node::Node;
use reckoner_node::recover::{examine, recover};
use reckoner_shard::base::id::ShardId;
use reckoner_tests::replicas::replicas_agree;
use reckoner_tests::roots::{Pusher, bills, close, counted, estimates, expected, set_up};

const PATIENCE: Duration = Duration::from_secs(60);

/// A node on its directory.
async fn node(data_dir: &Path, listen: &str, join: &[String]) -> anyhow::Result<Node> {
    let (data_dir, listen, join) = (data_dir.to_owned(), listen.to_owned(), join.to_vec());
    let node = Node::open(Config { data_dir, listen, join, ..Config::default() }).await?;
    node.ready(PATIENCE).await?;
    Ok(node)
}

async fn settled(client: &Client, nodes: usize) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let status = client.status().await?;
        let in_place = |shard: &reckoner_client::proto::ShardStatus| !shard.moving && shard.replicas.len() == nodes;
        if status.health == "healthy" && status.nodes.len() == nodes && status.shards.iter().all(in_place) {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_goes_on_when_the_others_are_lost() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut cluster =
        LocalCluster::start(LocalConfig { nodes: 3, folder: Some(at("nodes")), ..LocalConfig::default() }).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let pusher = Pusher::begin(&client).await?;
    pusher.push(1..=400, "2024-08-10T00:00:00Z").await?;
    pusher.flush().await?;
    close(&client, "2024-08").await?;
    pusher.push(401..=800, "2024-09-10T00:00:00Z").await?;
    pusher.flush().await?;
    for shard in [1, 2] {
        replicas_agree(&cluster, ShardId(shard), 3).await?;
    }
    let (billed, estimated) = (bills(&client, "2024-08").await?, estimates(&client, "2024-09").await?);
    let directory = |id: u64| cluster.node(id).map(|node| node.context().config.data_dir.clone()).unwrap_or_default();
    let (one, two) = (directory(1), directory(2));
    let address = cluster.endpoints().remove(0);

    let running = examine(&one).unwrap_err().to_string();
    assert!(running.contains("in use"), "{running}");
    cluster.kill(2).await;
    cluster.kill(3).await;
    // It says so itself, although it may have led until now.
    let alone = Client::connect(std::slice::from_ref(&address), ClientConfig::default()).await?;
    let status = alone.status().await?;
    assert_eq!(status.health, "unavailable", "{status:?}");
    for word in ["node 2 at", "node 3 at", "shard 1 has no majority: nodes [2, 3]"] {
        assert!(status.reasons.iter().any(|reason| reason.contains(word)), "{word}: {:?}", status.reasons);
    }
    cluster.stop_node(1).await;
    assert!(examine(&at("nowhere")).is_err() && !at("nowhere").exists(), "a wrong name makes nothing");

    // It says what is there, as often as it is asked, and changes nothing.
    let report = examine(&one)?;
    assert_eq!(report.groups.iter().map(|group| group.shard).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(report.groups.iter().all(|group| group.voters == [1, 2, 3] && group.votes && group.last_index > 3));
    assert_eq!((&report.others[..], &report.missing[..], report.changes), (&[2, 3][..], &[][..], true));
    let marks = |report: &reckoner_node::recover::Report| {
        report.groups.iter().map(|group| (group.last_term, group.last_index)).collect::<Vec<_>>()
    };
    assert_eq!(marks(&examine(&one)?), marks(&report));
    // An operator compares the survivors; this one is as far as the other.
    let other = examine(&two)?;
    assert!(
        marks(&report)[1..].iter().zip(&marks(&other)[1..]).all(|(own, other)| own >= other),
        "{report:?} {other:?}"
    );

    let recovered = recover(&one)?;
    assert_eq!((&recovered.from, &recovered.lost[..], recovered.shards), (&report.cluster, &[2, 3][..], 2));
    assert!(!examine(&one)?.changes, "nothing is left to do");

    let survivor = node(&one, &address, &[]).await?;
    assert_eq!(bills(&client, "2024-08").await?, billed);
    assert_eq!(estimates(&client, "2024-09").await?, estimated);
    // The producer of before goes on as if nothing had been.
    pusher.push(801..=900, "2024-09-10T00:00:00Z").await?;
    pusher.flush().await?;
    let again = Pusher::begin(&client).await?;
    again.push(1..=400, "2024-08-10T00:00:00Z").await?;
    again.push(401..=900, "2024-09-10T00:00:00Z").await?;
    again.flush().await?;
    assert_eq!(again.told.lock().duplicates, 900);
    assert_eq!(counted(&client, "2024-09").await?, expected(401..=900));

    // New ones take the places of the lost; one of which comes back.
    let fresh = Client::connect(std::slice::from_ref(&address), ClientConfig::default()).await?;
    let seeds = [address.clone()];
    let four = node(&at("four"), "127.0.0.1:0", &seeds).await?;
    let five = node(&at("five"), "127.0.0.1:0", &seeds).await?;
    assert_eq!((four.id(), five.id()), (4, 5), "ids of lost nodes are not used again");
    settled(&fresh, 3).await?;
    fresh.refresh_routes().await?;
    let lost = Config { data_dir: two, listen: "127.0.0.1:0".into(), ..Config::default() };
    let refused = Node::open(lost).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("lost its majority") && refused.contains(&recovered.cluster), "{refused}");
    survivor.kill().await;
    assert_eq!(counted(&fresh, "2024-09").await?, expected(401..=900), "it was on the new ones, too");
    assert_eq!(bills(&fresh, "2024-08").await?, billed);
    four.stop().await;
    five.stop().await;
    Ok(())
}
