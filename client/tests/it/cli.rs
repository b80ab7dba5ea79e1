//! Arguments in, exit codes out: the verbs against files and the pretended cluster.

use std::path::Path;

use clap::Parser;
use reckoner_client::cli::{Command, Exit, Globals, parse_from, run};
use reckoner_client::files::documents::{Document, read_files};
use reckoner_client::files::usage::UsageReader;
use reckoner_shard::billing::simulate::{Simulation, simulate};
use reckoner_shard::usage::record::UsageRecord;

use crate::fake::{Fake, Faults};

#[derive(Parser, Debug)]
#[command(name = "reckoner")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

async fn reckoner(arguments: &[&str]) -> Exit {
    let words = std::iter::once("reckoner").chain(arguments.iter().copied());
    match parse_from::<Cli, &str>(words) {
        Ok(cli) => run(cli.command, &cli.globals).await,
        Err(exit) => exit,
    }
}

fn line(account: &str, quantity: &str) -> String {
    format!(
        r#"{{"account":"{account}","service":"api","usage_type":"calls","quantity":"{quantity}","start":"2024-09-18T22:00:00Z"}}"#
    ) + "\n"
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const CATALOGUE: &str = "kind: Catalogue\nname: demo\ncurrency: USD\neffective: 2024-09\nmeters:\n  - {id: calls, service: \
                         api, usage_type: calls}\nskus:\n  - {id: calls, match: {service: api}, unit: calls, rate: \
                         0.01}\n";
const HIERARCHY: &str = "kind: Hierarchy\nroot: acme\ncatalogue: demo\ncycles: {first: 2024-09, close: manual}\n";

#[tokio::test]
async fn files_are_validated_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.yaml", &format!("{CATALOGUE}---\n{HIERARCHY}"));
    let bad = write(folder.path(), "bad.yaml", &CATALOGUE.replace("currency", "curency"));
    assert_eq!(reckoner(&["validate", "-f", &good]).await, Exit::Ok);
    assert_eq!(reckoner(&["validate", "-f", &good, "-o", "json"]).await, Exit::Ok);
    assert_eq!(reckoner(&["validate", "-f", &bad]).await, Exit::Failed);
    assert_eq!(reckoner(&["validate", "-f", &bad, "-o", "json"]).await, Exit::Failed);
    assert_eq!(reckoner(&["validate", "-f", "/nowhere/at/all.yaml"]).await, Exit::Failed);
    assert_eq!(reckoner(&["validate"]).await, Exit::Usage);
    assert_eq!(reckoner(&["apply", "-f", &bad, "--endpoint", "127.0.0.1:1"]).await, Exit::Failed, "checked here first");
}

#[tokio::test]
async fn bills_are_simulated_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = write(folder.path(), "all.yaml", &format!("{CATALOGUE}---\n{HIERARCHY}"));
    let usage = write(folder.path(), "usage.jsonl", &(line("acme", "100") + &line("acme", "50.5")));
    let simulate = ["simulate", "-f", &files, "--usage", &usage, "--cycle", "2024-09", "-o", "json"];
    assert_eq!(reckoner(&simulate).await, Exit::Ok);
    assert_eq!(reckoner(&simulate[..7]).await, Exit::Ok);
    let bad = write(folder.path(), "bad.jsonl", &(line("acme", "1") + &line("nobody", "1")));
    assert_eq!(reckoner(&["simulate", "-f", &files, "--usage", &bad, "--cycle", "2024-09"]).await, Exit::Failed);
    let alone = write(folder.path(), "alone.yaml", CATALOGUE);
    assert_eq!(reckoner(&["simulate", "-f", &alone, "--usage", &usage, "--cycle", "2024-09"]).await, Exit::Failed);
}

#[tokio::test]
async fn price_lists_are_imported_and_schemas_printed() {
    let folder = tempfile::tempdir().unwrap();
    let lists = format!("{}/../examples/price-lists", env!("CARGO_MANIFEST_DIR"));
    let (oci, out) = (format!("{lists}/oci-prices-usd.json"), folder.path().join("oci.yaml").display().to_string());
    let import =
        ["catalogue", "import", "--from", "oci", "-f", &oci, "--name", "oci", "--effective", "2026-09", "--out", &out];
    assert_eq!(reckoner(&import).await, Exit::Ok);
    let first = std::fs::read(&out).unwrap();
    let json: Vec<&str> = import.into_iter().chain(["-o", "json", "--after", &out]).collect();
    assert_eq!(reckoner(&json).await, Exit::Ok);
    assert_eq!(std::fs::read(&out).unwrap(), first);
    assert_eq!(reckoner(&["validate", "-f", &out]).await, Exit::Ok);
    assert_eq!(reckoner(&import[..8]).await, Exit::Usage, "no cycle is named");
    // The list begins later than the cycle: nothing is left, and nothing is written.
    let (list, none) = (format!("{lists}/aws/AmazonS3.json"), folder.path().join("none.yaml").display().to_string());
    let early = [
        "catalogue",
        "import",
        "--from",
        "aws-offer",
        "-f",
        &list,
        "--name",
        "s3",
        "--effective",
        "2026-07",
        "--out",
        &none,
    ];
    assert_eq!(reckoner(&early).await, Exit::Failed);
    assert!(!Path::new(&none).exists());
    for kind in ["Catalogue", "hierarchy", "Contract"] {
        assert_eq!(reckoner(&["schema", kind]).await, Exit::Ok);
    }
    assert_eq!(reckoner(&["schema", "Bill"]).await, Exit::Usage);
}

#[tokio::test]
async fn the_examples_are_valid_and_make_bills() {
    let check = async |folder: &str, usage: &str, cycle: &str| {
        let folder = format!("{}/../examples/{folder}", env!("CARGO_MANIFEST_DIR"));
        let usage = format!("{folder}/{usage}");
        assert_eq!(reckoner(&["validate", "-f", &folder]).await, Exit::Ok, "{folder}");
        let simulate = ["simulate", "-f", &folder, "--usage", &usage, "--cycle", cycle];
        assert_eq!(reckoner(&simulate).await, Exit::Ok, "{folder}");
    };
    check("quickstart", "usage.jsonl", "2026-09").await;
    check("llm-tokens", "usage.csv", "2023-11").await;
}

#[test]
fn every_contract_of_the_examples_comes_to_its_readme() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/contracts");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let records: Vec<UsageRecord> =
        UsageReader::open(&folder.join("usage.jsonl")).unwrap().map(|row| row.unwrap().record.unwrap()).collect();
    let payable = |contract: Option<&str>| {
        let files = ["catalogue.yaml", "hierarchy.yaml"].into_iter().chain(contract).map(|file| folder.join(file));
        let (placed, findings) = read_files(&files.collect::<Vec<_>>()).unwrap();
        assert!(findings.is_empty(), "{contract:?}: {findings:?}");
        let mut documents = placed.into_iter().map(|placed| placed.document);
        let (Some(Document::Catalogue(catalogue)), Some(Document::Hierarchy(hierarchy))) =
            (documents.next(), documents.next())
        else {
            panic!("a catalogue and a hierarchy come first")
        };
        let contract = documents.next().map(|document| match document {
            Document::Contract(document) => document,
            other => panic!("{}", other.kind()),
        });
        let simulation = Simulation {
            catalogue: &catalogue,
            contract: contract.as_deref(),
            hierarchy: &hierarchy,
            records: &records,
            cycle: "2026-09".parse().unwrap(),
            billed: &[],
            interim: false,
        };
        let simulated = simulate(&simulation).unwrap();
        assert_eq!((simulated.counted, simulated.bodies.len()), (7, 1));
        simulated.bodies[0].payable
    };
    assert_eq!(payable(None).to_string(), "1940.2");
    let mut contracts = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if !file.ends_with(".yaml") || ["catalogue.yaml", "hierarchy.yaml"].contains(&file.as_str()) {
            continue;
        }
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{file}` |")));
        let stated = row.and_then(|row| row.trim_end_matches(" |").rsplit(' ').next()).expect("a row of the README");
        assert_eq!(payable(Some(&file)), stated.replace(',', "").parse().unwrap(), "{file}");
        contracts += 1;
    }
    assert!(contracts >= 7, "only {contracts} contracts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_counts_once_however_often_it_is_pushed() {
    let fake = Fake::start(&["acme"], Faults { lost_reply: 20, ..Faults::default() }, 1).await;
    let endpoint = fake.endpoints.join(",");
    let folder = tempfile::tempdir().unwrap();
    let text: String = (1..=500).map(|_| line("acme", "0.001")).collect();
    let file = write(folder.path(), "usage.jsonl", &text);
    let push = ["usage", "push", "-f", &file, "--endpoint", &endpoint];
    for _ in 0..2 {
        assert_eq!(reckoner(&push).await, Exit::Ok);
        assert_eq!(fake.counted("acme"), (500, 500));
    }
    // Another file is another producer.
    let csv = "account,service,usage_type,quantity,start\nacme,api,calls,0.002,2024-09-18\n";
    let file = write(folder.path(), "usage.csv", csv);
    assert_eq!(reckoner(&["usage", "push", "-f", &file, "--endpoint", &endpoint, "-o", "json"]).await, Exit::Ok);
    assert_eq!(fake.counted("acme"), (501, 502));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_are_told_and_the_rest_stands() {
    let fake = Fake::start(&["acme"], Faults::default(), 1).await;
    let endpoint = fake.endpoints.join(",");
    let folder = tempfile::tempdir().unwrap();
    let bad = format!("{}nonsense\n{}{}", line("acme", "1"), line("nobody", "1"), line("acme", "1"));
    let file = write(folder.path(), "bad.jsonl", &bad);
    assert_eq!(reckoner(&["usage", "push", "-f", &file, "--endpoint", &endpoint]).await, Exit::Failed);
    assert_eq!(fake.counted("acme").0, 2);
    let cut = format!("{}{}", line("acme", "1"), &line("acme", "1")[..40]);
    let file = write(folder.path(), "cut.jsonl", &cut);
    assert_eq!(reckoner(&["usage", "push", "-f", &file, "--endpoint", &endpoint]).await, Exit::Failed);
    assert_eq!(fake.counted("acme").0, 3, "what came before the cut stands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growing_file_is_known_by_its_beginning() {
    let fake = Fake::start(&["acme"], Faults::default(), 1).await;
    let endpoint = fake.endpoints.join(",");
    let folder = tempfile::tempdir().unwrap();
    let push = async |text: &str| {
        let file = write(folder.path(), "log.jsonl", text);
        reckoner(&["usage", "push", "-f", &file, "--producer", "log", "--endpoint", &endpoint]).await
    };
    let (one, two) = (line("acme", "1"), line("acme", "2"));
    assert_eq!(push(&one).await, Exit::Ok);
    assert_eq!(push(&format!("{one}{two}")).await, Exit::Ok);
    assert_eq!(fake.counted("acme"), (2, 3_000));
    assert_eq!(push(&format!("{two}{two}{one}")).await, Exit::Failed, "the beginning was edited");
    assert_eq!(push(&one).await, Exit::Failed, "the file became shorter");
    assert_eq!(fake.counted("acme"), (2, 3_000));
    assert_eq!(push(&format!("{one}{two}{one}")).await, Exit::Ok);
    assert_eq!(fake.counted("acme"), (3, 4_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_answers_with_exit_codes() {
    let fake = Fake::start(&["acme"], Faults::default(), 1).await;
    let endpoint = fake.endpoints.join(",");
    assert_eq!(reckoner(&["cluster", "status", "--endpoint", &endpoint]).await, Exit::Ok);
    assert_eq!(reckoner(&["accounts", "list", "--endpoint", &endpoint]).await, Exit::Ok);
    assert_eq!(reckoner(&["accounts", "show", "acme", "--endpoint", &endpoint]).await, Exit::Failed, "refused");
    assert_eq!(reckoner(&["catalogue", "list", "--endpoint", &endpoint, "-o", "json"]).await, Exit::Ok);
    fake.world.lock().set_degraded();
    assert_eq!(reckoner(&["cluster", "status", "--endpoint", &endpoint, "-o", "json"]).await, Exit::Degraded);
    let nobody = ["cluster", "status", "--endpoint", "127.0.0.1:1", "--timeout", "1"];
    assert_eq!(reckoner(&nobody).await, Exit::Unavailable);
    assert_eq!(reckoner(&["cluster", "status", "--endpoint", "nonsense"]).await, Exit::Failed);
}
