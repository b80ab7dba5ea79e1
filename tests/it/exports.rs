//! What is in the cluster and what is in files: `diff` says what applying would change, an exported cycle is computed again
//! without a server to the same bytes, open, issued and archived, and a real cycle is priced under another contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reckoner_client::cli::Exit;
use reckoner_client::files::bundle::Bundle;
use reckoner_node::clock::ManualClock;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::money::Money;
use reckoner_tests::cli::reckoner;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a temporary folder is writable");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_is_exported_verified_and_priced_otherwise() -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at("2026-09-20T00:00:00Z".parse()?));
    let config = LocalConfig { nodes: 1, shards: 2, clock: Some(clock.clone()), ..LocalConfig::default() };
    let cluster = LocalCluster::start(config).await?;
    let endpoint = cluster.endpoints().join(",");
    let folder = tempfile::tempdir()?;
    let quickstart = example("quickstart").display().to_string();

    assert_eq!(reckoner(&endpoint, &format!("diff -f {quickstart}")).await, Exit::Differences, "nothing is there yet");
    assert_eq!(reckoner(&endpoint, &format!("apply -f {quickstart}")).await, Exit::Ok);
    assert_eq!(reckoner(&endpoint, &format!("diff -f {quickstart}")).await, Exit::Ok, "what was applied is there");
    let changed = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(example("quickstart").join(file)).expect("an example is readable");
        assert!(text.contains(from), "{file} has no '{from}'");
        write(folder.path(), file, &text.replacen(from, to, 1))
    };
    // Ten percent become twenty.
    let contract = changed("contract.yaml", "percent: \"10\"", "percent: \"20\"");
    let hierarchy = changed("hierarchy.yaml", "acme-data", "acme-other");
    let catalogue = changed("catalogue.yaml", "effective: 2026-09", "effective: 2026-10");
    for file in [&contract, &hierarchy, &catalogue] {
        assert_eq!(reckoner(&endpoint, &format!("diff -f {file} -o json")).await, Exit::Differences, "{file}");
    }

    let usage = example("quickstart").join("usage.jsonl").display().to_string();
    assert_eq!(reckoner(&endpoint, &format!("usage push -f {usage}")).await, Exit::Ok);
    let file = folder.path().join("acme.json");
    let export = format!("bills export --root acme --cycle 2026-09 --out {}", file.display());
    let verify = format!("bills verify {}", file.display());
    assert_eq!(reckoner(&endpoint, &export).await, Exit::Ok);
    assert_eq!(reckoner("127.0.0.1:1", &verify).await, Exit::Ok, "no server is asked");
    let open = Bundle::read(&file)?;
    assert_eq!(
        (open.bills[0].status.as_str(), open.bills[0].body()?.payable.to_string()),
        ("estimate", "26.64".into())
    );

    // 29.60 after the private rate: 20 percent are 5.92, so that 23.68 is left (examples/quickstart/README.md).
    let bundle = Bundle::read(&file)?;
    let doubled = serde_json::to_string(&bundle.contract)?.replace("\"10\"", "\"20\"");
    let other = Bundle { contract: serde_json::from_str(&doubled)?, ..bundle.clone() };
    let body = other.fold(other.documents())?.remove(0);
    assert_eq!(body.payable, "23.68".parse::<Money>()?);
    let verdicts = other.verify()?;
    assert!(!verdicts[0].equal && verdicts[0].changes.iter().any(|change| change.path == "payable"), "{verdicts:?}");
    std::fs::write(&file, other.text())?;
    assert_eq!(reckoner(&endpoint, &verify).await, Exit::Differences);
    std::fs::write(&file, other.text().replace("\"quantity\"", "\"quantum\""))?;
    assert_eq!(reckoner(&endpoint, &verify).await, Exit::Failed, "no such file");
    for form in ["table", "json"] {
        let against = format!("simulate --against 2026-09 --root acme -f {contract} -o {form}");
        assert_eq!(reckoner(&endpoint, &against).await, Exit::Ok);
    }
    let nobody = format!("simulate --against 2026-09 --root nobody -f {contract}");
    assert_eq!(reckoner(&endpoint, &nobody).await, Exit::Failed);

    clock.set("2026-10-08T00:00:00Z".parse()?);
    assert_eq!(reckoner(&endpoint, "bills close --root acme --cycle 2026-09").await, Exit::Ok);
    // Soon after it is issued its counters leave memory for the archive; both ways give the same file.
    for _ in 0..5 {
        assert_eq!(reckoner(&endpoint, &export).await, Exit::Ok);
        assert_eq!(reckoner(&endpoint, &verify).await, Exit::Ok);
        let issued = Bundle::read(&file)?;
        assert_eq!((issued.bills[0].number.as_str(), issued.bills[0].status.as_str()), ("acme-0001", "issued"));
        assert_eq!((&issued.counters, &issued.catalogue), (&open.counters, &open.catalogue));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(reckoner(&endpoint, "bills export --root acme --cycle 2030-01 --out /dev/null").await, Exit::Failed);
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_list_is_imported_into_the_cluster() -> anyhow::Result<()> {
    let cluster = LocalCluster::start(LocalConfig::default()).await?;
    let endpoint = cluster.endpoints().join(",");
    let list = example("price-lists/aws/AWSLambda.json").display().to_string();
    let import = format!("catalogue import --from aws-offer -f {list} --name lambda --effective 2026-09 --apply");
    for _ in 0..2 {
        assert_eq!(reckoner(&endpoint, &import).await, Exit::Ok);
        let versions = cluster.client().list_catalogues(Some("lambda")).await?.versions;
        assert_eq!(versions.len(), 1, "the same list is the same version");
    }
    // A later version without the requests keeps their meter.
    let text = std::fs::read_to_string(&list)?;
    let mut offer: serde_json::Value = serde_json::from_str(&text)?;
    for product in ["D0642AD49B75C517", "9968396F952CD1AE"] {
        offer["products"].as_object_mut().expect("products").remove(product);
        offer["terms"]["OnDemand"].as_object_mut().expect("terms").remove(product);
    }
    let folder = tempfile::tempdir()?;
    let later = write(folder.path(), "later.json", &offer.to_string());
    let import =
        format!("catalogue import --from aws-offer -f {later} --name lambda --effective 2026-10 --apply -o json");
    assert_eq!(reckoner(&endpoint, &import).await, Exit::Ok);
    let shown = cluster.client().show_catalogue("lambda", None).await?.version.expect("a version");
    assert_eq!((shown.meters, shown.skus), (3, 2));
    cluster.stop().await;
    Ok(())
}
