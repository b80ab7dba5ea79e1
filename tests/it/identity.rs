//! Nodes that must not come back under their old identity: a removed one, one whose directory was emptied, and a copy of a
//! directory beside the original. Each is told why, before it could vote on anything.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reckoner_client::proto::SetNodeRequest;
use reckoner_node::config::Config;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_node::node::{Node, StartError};
use reckoner_raft::types::NodeId;
use reckoner_tests::push::{Producer, counted, set_up, units_through};

const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with all that is in it; files that go meanwhile are left out.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            let _ = std::fs::copy(&from, &to);
        }
    }
    Ok(())
}

async fn refused(config: Config, words: &[&str]) -> anyhow::Result<()> {
    match Node::open(config).await {
        Ok(node) => {
            node.kill().await;
            anyhow::bail!("it started, it should say {words:?}");
        }
        Err(error) => {
            let expelled = matches!(error, StartError::Expelled(_) | StartError::Join(_));
            let said = error.to_string();
            ensure!(expelled && words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_back_under_an_identity_that_is_not_its_own() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut cluster =
        LocalCluster::start(LocalConfig { nodes: 3, folder: Some(at("nodes")), ..LocalConfig::default() }).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let producer = Producer::begin(&client).await?;
    producer.push(1..=100).await?;
    producer.flush().await?;
    let config = |id: u64| cluster.node(id).map(|node| node.context().config.clone()).context("it runs");
    let (first, second, third) = (config(1)?, config(2)?, config(3)?);
    let is_seen =
        |id: u64| cluster.running().any(|node| node.context().meta.state().node(id).is_some_and(|row| row.seen));
    let begin = Instant::now();
    while !(is_seen(1) && is_seen(2) && is_seen(3)) {
        ensure!(begin.elapsed() < PATIENCE, "the meta group does not see its nodes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // A copy beside the original: by the address that lies in it, and by what the others know.
    copy(&second.data_dir, &at("copy"))?;
    let beside = Config { data_dir: at("copy"), listen: "127.0.0.1:0".into(), ..Config::default() };
    refused(beside.clone(), &["another process", &second.listen]).await?;
    // With the original's settings it claims the original's address.
    let claims = Config { members: second.members.clone(), node_id: second.node_id, ..beside.clone() };
    refused(claims, &["another process", &second.listen]).await?;
    std::fs::remove_file(at("copy").join("address"))?;
    refused(beside, &["another process", &second.listen]).await?;

    // An emptied directory, as a founder and as one that joins.
    cluster.stop_node(2).await;
    std::fs::remove_dir_all(&second.data_dir)?;
    refused(second.clone(), &["node 2", "at work before"]).await?;
    let joins = Config {
        data_dir: at("joins"),
        listen: second.listen.clone(),
        join: vec![first.listen.clone()],
        ..Config::default()
    };
    refused(joins, &["address of node 2"]).await?;

    // A removed one.
    cluster.stop_node(3).await;
    drop(producer);
    // Two of three are away: one comes back before anything can be decided.
    cluster.restart(3).await?;
    cluster.ready(PATIENCE).await?;
    let remove =
        |name: &str| SetNodeRequest { name: name.into(), state: "removed".into(), ..SetNodeRequest::default() };
    client.set_node(remove("2")).await?;
    let fresh = Config {
        data_dir: at("fresh"),
        listen: "127.0.0.1:0".into(),
        join: vec![first.listen.clone()],
        ..Config::default()
    };
    let fresh = Node::open(fresh).await?;
    fresh.ready(PATIENCE).await?;
    let first_node = cluster.node(1).context("it runs")?.context().clone();
    let begin = Instant::now();
    let counts = |id: u64| first_node.meta.group().status().voters.contains(&NodeId(id));
    let in_place = || first_node.meta.state().replicas().iter().all(|row| row.nodes.len() == 3 && row.is_settled());
    while !(counts(fresh.id()) && !counts(2) && in_place()) {
        ensure!(begin.elapsed() < PATIENCE, "the new node does not take the place of the lost one");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.stop_node(3).await;
    client.set_node(remove("3")).await?;
    refused(third, &["node 3", "removed", "--join"]).await?;
    assert_eq!(counted(&client).await?, (100, units_through(100)));
    drop(first_node);
    fresh.stop().await;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_node_alone_ends_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut cluster = LocalCluster::start(LocalConfig { folder: Some(at("nodes")), ..LocalConfig::default() }).await?;
    let own = cluster.node(1).map(|node| node.context().config.clone()).context("it runs")?;
    cluster.stop_node(1).await;
    copy(&own.data_dir, &at("copy"))?;
    cluster.restart(1).await?;
    cluster.ready(PATIENCE).await?;
    let (data_dir, listen) = (at("copy"), "127.0.0.1:0".to_owned());
    let twin = Node::open(Config { data_dir, listen, ..Config::default() }).await;
    let said = match twin {
        Ok(twin) => {
            let reason = tokio::time::timeout(PATIENCE, twin.failed()).await?;
            ensure!(twin.is_expelled(), "{reason}");
            twin.kill().await;
            reason
        }
        Err(error) => error.to_string(),
    };
    assert!(said.contains("another process") && said.contains(&own.listen), "{said}");
    assert!(cluster.node(1).is_some_and(|node| node.context().fate.sealed().is_none()), "the original goes on");
    cluster.stop().await;
    Ok(())
}
