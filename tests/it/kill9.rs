//! A node as a real process with real files, killed without a word in the middle of a push, again and again: nothing that
//! was acknowledged is missing afterwards, and the whole push sent again adds nothing. Then its files are damaged: a
//! torn tail and a spoilt snapshot are survived, damage in the middle of the log is refused with words.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reckoner_client::client::{Client, ClientConfig};
use reckoner_tests::push::{Producer, counted, set_up, units_through};

/// Kills of one push.
const ROUNDS: u64 = 6;

/// Everything has to happen within this, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process of this test's own; killed when dropped, by its own id.
struct Process {
    child: Child,
    address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path, listen: &str, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reckoner-tests"));
    command.arg("serve").arg("--data-dir").arg(folder).args(["--listen", listen]).args(extra);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a node and waits until it is ready.
fn start(folder: &Path, listen: &str, extra: &[&str]) -> Process {
    let mut child = command(folder, listen, extra).spawn().expect("the harness starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut address = String::new();
    let ready = loop {
        match lines.next() {
            Some(Ok(line)) if line == "ready" => break true,
            Some(Ok(line)) => address = line.trim_start_matches("listening on ").to_owned(),
            _ => break false,
        }
    };
    let mut process = Process { child, address };
    if !ready {
        let (status, words) = ended(&mut process.child);
        panic!("the node did not start: {status}: {words}");
    }
    process
}

/// Waits for a process that is expected to end, and what it said.
fn ended(child: &mut Child) -> (ExitStatus, String) {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is a child") {
            let mut words = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = stderr.read_to_string(&mut words);
            }
            return (status, words);
        }
        assert!(begin.elapsed() < PATIENCE, "the process should have ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A start that has to fail; its words.
fn refused(folder: &Path, listen: &str) -> String {
    let mut child = command(folder, listen, &[]).stdout(Stdio::null()).spawn().expect("the harness starts");
    let (status, words) = ended(&mut child);
    assert!(!status.success(), "it should not have started: {words}");
    words
}

fn client(address: &str) -> Client {
    let config = ClientConfig { deadline: PATIENCE, attempt: Duration::from_secs(3), ..ClientConfig::default() };
    Client::lazy(&[address.to_owned()], config).expect("an address")
}

/// The newest file with this ending below `folder`.
fn newest(folder: &Path, ending: &str) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    files.pop().expect("a file")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_push_again_and_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = start(folder.path(), "127.0.0.1:0", &[]);
    let address = process.address.clone();
    let client = client(&address);
    set_up(&client).await?;

    let words = refused(folder.path(), "127.0.0.1:0");
    assert!(words.contains("in use"), "a second process on the same directory: {words}");

    let producer = Arc::new(Producer::begin(&client).await?);
    let stop = Arc::new(Mutex::new(false));
    let pushing = tokio::spawn({
        let (producer, stop) = (producer.clone(), stop.clone());
        async move { producer.push_until(&stop).await }
    });
    for round in 0..ROUNDS {
        // Each round makes progress before the next kill, at a moment that differs.
        producer.progress(100).await?;
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        let told = producer.heard.lock().units();
        // SIGKILL: nothing is flushed, nobody is told.
        process.child.kill().expect("it runs");
        process.child.wait().expect("it ends");
        process = start(folder.path(), &address, &[]);
        let (_, sum) = counted(&client).await?;
        assert!(sum >= told, "round {round}: {told} were acknowledged before the kill, {sum} are counted after it");
    }
    *stop.lock() = true;
    let last = pushing.await??;
    producer.flush().await?;
    assert_eq!(counted(&client).await?, (last, units_through(last)), "every record once");

    // The producer lost its notes and sends everything again.
    let again = Producer::begin(&client).await?;
    again.push(1..=last).await?;
    again.flush().await?;
    assert_eq!(again.heard.lock().duplicates, last);
    assert_eq!(counted(&client).await?, (last, units_through(last)), "nothing was added");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_survived_and_damage_in_the_middle_stops_a_lone_node() -> anyhow::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = start(folder.path(), "127.0.0.1:0", &[]);
    let address = process.address.clone();
    let client = client(&address);
    set_up(&client).await?;
    let producer = Producer::begin(&client).await?;
    producer.push(1..=2_000).await?;
    producer.flush().await?;
    process.child.kill().expect("it runs");
    process.child.wait().expect("it ends");

    // A flush that the power cut short: half of something behind the last batch.
    let log = newest(&folder.path().join("log"), ".raftlog");
    let sound = fs::read(&log).expect("a log");
    let end = sound.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let torn = [&sound[..end], &sound[end - 200..end - 100], &sound[end..]].concat();
    fs::write(&log, torn).expect("written");
    let mut process = start(folder.path(), &address, &[]);
    assert_eq!(counted(&client).await?, (2_000, units_through(2_000)), "nothing that was acknowledged is missing");
    process.child.kill().expect("it runs");
    process.child.wait().expect("it ends");

    // A sector that comes back different: bytes that were acknowledged cannot be read any more. A lone node has nobody
    // to be rebuilt from, so it stops and says why, wherever the damage is.
    let log = newest(&folder.path().join("log"), ".raftlog");
    let sound = fs::read(&log).expect("a log");
    let end = sound.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    for part in [1, 3, 5, 7, 9] {
        let mut spoilt = sound.clone();
        spoilt[end * part / 10] ^= 0xFF;
        fs::write(&log, spoilt).expect("written");
        let words = refused(folder.path(), &address);
        let told = words.contains("damaged") || words.contains("Checksum") || words.contains("Corruption");
        assert!(told, "damage at {part} tenths of the log: {words}");
    }
    // Nothing was made worse on the way.
    fs::write(&log, sound).expect("written");
    let _process = start(folder.path(), &address, &[]);
    assert_eq!(counted(&client).await?, (2_000, units_through(2_000)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoilt_snapshot_falls_back() -> anyhow::Result<()> {
    const OFTEN: &[&str] = &["--snapshot-bytes", "20000"];
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = start(folder.path(), "127.0.0.1:0", OFTEN);
    let address = process.address.clone();
    let client = client(&address);
    set_up(&client).await?;
    let producer = Producer::begin(&client).await?;
    let snapshots = folder.path().join("snapshots");
    let begin = Instant::now();
    let mut last = 0;
    // Until the shard that holds the hierarchy has two generations.
    let spoil = loop {
        producer.push(last + 1..=last + 2_000).await?;
        last += 2_000;
        producer.flush().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let two =
            fs::read_dir(&snapshots).into_iter().flatten().flatten().map(|entry| entry.path()).find_map(|group| {
                let mut kept: Vec<PathBuf> = fs::read_dir(group)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gen-")))
                    .collect();
                kept.sort_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok());
                (kept.len() == 2).then(|| kept.pop()).flatten()
            });
        if let Some(newest) = two {
            break newest;
        }
        assert!(begin.elapsed() < PATIENCE, "no second snapshot in {}", snapshots.display());
    };
    process.child.kill().expect("it runs");
    process.child.wait().expect("it ends");

    let mut spoilt = 0;
    for entry in fs::read_dir(&spoil).expect("a generation") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let mut bytes = fs::read(&path).expect("readable");
            for byte in bytes.iter_mut().step_by(512) {
                *byte ^= 0x5A;
            }
            spoilt += bytes.len();
            fs::write(&path, bytes).expect("written");
        }
    }
    assert!(spoilt > 0, "something was spoilt in {}", spoil.display());
    let _process = start(folder.path(), &address, OFTEN);
    let expected = (last, units_through(last));
    assert_eq!(counted(&client).await?, expected, "the generation before and the log behind it give the same");
    Ok(())
}
