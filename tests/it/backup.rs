//! A cluster goes into a directory while usage comes, and comes out as another one: bills, estimates and catalogues are the
//! same, what was acknowledged before is recognised, cycles go on and nodes join. A byte that is not as it was, in any file,
//! is refused by the file's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use reckoner_client::backup::check::Backup;
use reckoner_client::backup::layout::{MANIFEST, Manifest, UNFINISHED};
use reckoner_client::backup::take::{Told, take};
use reckoner_client::client::{Client, ClientConfig};
use reckoner_node::config::Config;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_node::node::Node;
use reckoner_node::restore::restore;
use reckoner_tests::roots::{Pusher, apply, bills, close, counted, estimates, expected, hierarchy, set_up};

const PATIENCE: Duration = Duration::from_secs(60);

/// A free port.
const ANYWHERE: &str = "127.0.0.1:0";

async fn backup(client: &Client, to: &Path) -> anyhow::Result<Manifest> {
    Ok(take(client, to, PATIENCE, &mut |_: Told| ()).await?)
}

/// A restored cluster's first node, or one that joins it.
async fn node(data_dir: &Path, listen: &str, join: &[String]) -> anyhow::Result<(Node, Client)> {
    let (data_dir, listen, join) = (data_dir.to_owned(), listen.to_owned(), join.to_vec());
    let config = Config { data_dir, listen, join, ..Config::default() };
    let node = Node::open(config).await?;
    node.ready(PATIENCE).await?;
    let client = Client::connect(&[node.address().to_owned()], ClientConfig::default()).await?;
    Ok((node, client))
}

async fn nodes_settled(client: &Client, nodes: usize) -> anyhow::Result<()> {
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
async fn a_cluster_comes_back_from_its_backup() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let cluster = LocalCluster::start(LocalConfig { nodes: 3, shards: 3, ..LocalConfig::default() }).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let pusher = Arc::new(Pusher::begin(&client).await?);
    pusher.push(1..=400, "2024-08-10T00:00:00Z").await?;
    pusher.flush().await?;
    close(&client, "2024-08").await?;
    pusher.push(401..=800, "2024-09-10T00:00:00Z").await?;
    pusher.flush().await?;
    let billed = bills(&client, "2024-08").await?;
    let estimated = estimates(&client, "2024-09").await?;
    let catalogues = client.list_catalogues(None).await?.versions;

    // While nothing happens.
    let quiet = backup(&client, &at("quiet")).await?;
    // A bill of each root, and archives as far as they were made.
    assert_eq!((quiet.shards.len(), quiet.catalogues), (3, 1));
    assert!((40..=80).contains(&quiet.contents), "{}", quiet.contents);
    assert!(!at("quiet").join(UNFINISHED).exists());
    let again = backup(&client, &at("quiet")).await.unwrap_err().to_string();
    assert!(again.contains(&quiet.cluster), "another backup is not overwritten: {again}");

    // While usage comes and documents are applied, over what a backup left that did not end.
    std::fs::create_dir(at("busy"))?;
    std::fs::write(at("busy").join("shard-1.image"), "half")?;
    let stop = Arc::new(AtomicBool::new(false));
    let pushing = tokio::spawn({
        let (pusher, stop) = (pusher.clone(), stop.clone());
        async move {
            let mut last = 800;
            while !stop.load(Ordering::SeqCst) {
                pusher.push(last + 1..=last + 20, "2024-09-10T00:00:00Z").await?;
                last += 20;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(last)
        }
    });
    let under_load = at("busy");
    let (busy, applied) =
        tokio::join!(backup(&client, &under_load), apply(&client, "between", vec![hierarchy("late")]));
    let busy = busy?;
    applied?;
    stop.store(true, Ordering::SeqCst);
    let last = pushing.await??;
    pusher.flush().await?;
    cluster.stop().await;

    // The quiet one: everything is as it was.
    let checked = Backup::open(&at("quiet"))?.check(&mut |_| ())?;
    assert_eq!(checked.iter().map(|shard| shard.hierarchies).sum::<u64>(), 40);
    let restored = restore(&at("quiet"), &at("first"), "127.0.0.1:1", &mut |_| ())?;
    assert_eq!((restored.from.as_str(), restored.node, restored.hierarchies), (quiet.cluster.as_str(), 4, 40));
    assert_ne!(restored.cluster, quiet.cluster);
    // At an address of the old cluster, where its clients find it: they are told.
    let old = client;
    let (one, client) = node(&at("first"), old.routes().first(), &[]).await?;
    let refused = old.status().await.unwrap_err();
    assert!(!refused.retryable() && refused.to_string().contains(&quiet.cluster), "{refused}");
    let refused = Pusher::begin(&old).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains(&quiet.cluster), "{refused}");
    assert_eq!(bills(&client, "2024-08").await?, billed);
    assert_eq!(estimates(&client, "2024-09").await?, estimated);
    assert_eq!(client.list_catalogues(None).await?.versions, catalogues);
    assert_eq!(counted(&client, "2024-09").await?, expected(401..=800));
    // What was acknowledged before the backup is recognised, whatever became of the cluster.
    let resent = Pusher::begin(&client).await?;
    resent.push(1..=400, "2024-08-10T00:00:00Z").await?;
    resent.push(401..=900, "2024-09-10T00:00:00Z").await?;
    resent.flush().await?;
    assert_eq!(
        {
            let told = resent.told.lock();
            (told.duplicates, told.accepted)
        },
        (800, 100)
    );
    // Others join, and the books go on.
    let (two, _) = node(&at("second"), ANYWHERE, &[one.address().to_owned()]).await?;
    nodes_settled(&client, 2).await?;
    assert_eq!(two.id(), 5, "no id of the old cluster is used again");
    close(&client, "2024-09").await?;
    let september = bills(&client, "2024-09").await?;
    for (root, (_, units)) in expected(401..=900) {
        let payable = format!("{}{}", units / 2, if units % 2 == 1 { ".5" } else { "" });
        assert_eq!((&september[&root].number, &september[&root].payable), (&format!("{root}-0002"), &payable));
    }
    // And again from its own disk.
    let address = one.address().to_owned();
    one.stop().await;
    let (one, client) = node(&at("first"), &address, &[]).await?;
    assert_eq!(bills(&client, "2024-09").await?, september);
    two.stop().await;
    one.stop().await;

    // The busy one: what is missing is sent again, and everything counts once.
    Backup::open(&at("busy"))?.check(&mut |_| ())?;
    assert!(busy.shards.iter().all(|shard| shard.slot_epoch > 0));
    restore(&at("busy"), &at("third"), "127.0.0.1:1", &mut |_| ())?;
    let (three, client) = node(&at("third"), ANYWHERE, &[]).await?;
    let resent = Pusher::begin(&client).await?;
    resent.push(1..=400, "2024-08-10T00:00:00Z").await?;
    resent.push(401..=last, "2024-09-10T00:00:00Z").await?;
    resent.flush().await?;
    assert!(resent.told.lock().duplicates >= 800, "{:?}", resent.told.lock());
    assert_eq!(counted(&client, "2024-09").await?, expected(401..=last));
    assert_eq!(bills(&client, "2024-08").await?, billed);
    three.stop().await;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(to)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_as_it_was_is_refused_by_the_name_of_the_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let nodes = Some(at("nodes"));
    let cluster = LocalCluster::start(LocalConfig { folder: nodes, ..LocalConfig::default() }).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let pusher = Pusher::begin(&client).await?;
    pusher.push(1..=200, "2024-08-10T00:00:00Z").await?;
    pusher.flush().await?;
    close(&client, "2024-08").await?;
    backup(&client, &at("whole")).await?;
    let in_use = cluster.node(1).map(|node| node.context().config.data_dir.clone()).unwrap_or_default();
    let refused = |from: &Path, to: &Path, words: &[&str]| {
        let error = restore(from, to, "127.0.0.1:1", &mut |_| ()).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    };
    refused(&at("whole"), &in_use, &["--data-dir", "in use"]);
    cluster.stop().await;
    refused(&at("whole"), &in_use, &["not empty"]);

    let names = copy(&at("whole"), &at("bad"))?;
    assert!(names.len() == 6 && names.iter().any(|name| name == MANIFEST), "{names:?}");
    for name in &names {
        let (good, bad): (PathBuf, PathBuf) = (at("whole").join(name), at("bad").join(name));
        let bytes = std::fs::read(&good)?;
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x20;
            std::fs::write(&bad, flipped)?;
            refused(&at("bad"), &at("new"), &[name, "damaged"]);
        }
        std::fs::write(&bad, &bytes[..bytes.len() - 1])?;
        refused(&at("bad"), &at("new"), &[name, "damaged"]);
        std::fs::remove_file(&bad)?;
        refused(&at("bad"), &at("new"), &[name, "missing"]);
        assert!(!at("new").exists(), "nothing was begun");
        std::fs::copy(&good, &bad)?;
    }
    restore(&at("bad"), &at("new"), "127.0.0.1:1", &mut |_| ())?;
    Ok(())
}
