//! The binary `reckoner` as a user meets it: its exit codes, its words, a whole cycle by the quickstart's files, and an
//! orderly stop by a signal.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Everything has to happen within this, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a verb came to.
struct Came {
    code: i32,
    stdout: String,
    stderr: String,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reckoner"));
    command.stdin(Stdio::null()).env_remove("RECKONER_ENDPOINT");
    command
}

fn run(arguments: &[&str]) -> Came {
    let output = program().args(arguments).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    Came { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A server of this test's own; killed when dropped, by its own id.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(folder: &Path) -> Server {
        let mut command = program();
        command.arg("serve").arg("--data-dir").arg(folder).args(["--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        Server { child, address }
    }

    /// Runs a verb against it, again while it is not ready yet.
    fn ask(&self, arguments: &[&str]) -> Came {
        let begin = Instant::now();
        let all: Vec<&str> = ["--endpoint", &self.address].into_iter().chain(arguments.iter().copied()).collect();
        loop {
            let came = run(&all);
            if came.code != 4 || begin.elapsed() > PATIENCE {
                return came;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What a page answers over plain HTTP, headers included.
    fn page(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(&self.address).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers with text");
        answer
    }

    /// The output of a verb that has to succeed.
    fn good(&self, arguments: &[&str]) -> String {
        let Came { code, stdout, stderr } = self.ask(arguments);
        assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// Asks it to stop as an operator does, and waits; the exit code.
    fn stop(mut self) -> Option<i32> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.expect("kill is there").success());
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

#[test]
fn exit_codes_and_words() {
    fn check(arguments: &[&str], code: i32, words: &str) {
        let came = run(arguments);
        assert_eq!(came.code, code, "{arguments:?}: {}{}", came.stdout, came.stderr);
        assert!(came.stderr.contains(words), "{arguments:?} should say '{words}': {}", came.stderr);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let misspelt = at("misspelt.yaml");
    let meter = "  - { id: a, service: s, usage_type: u, scal: 3 }\n";
    let head = "kind: Catalogue\nname: x\ncurrency: USD\neffective: 2026-09\nmeters:\n";
    std::fs::write(&misspelt, format!("{head}{meter}")).expect("written");
    check(&["nonsense"], 64, "unrecognized subcommand");
    check(&["bills", "estimate"], 64, "--root");
    check(&["validate", "-f", &misspelt], 1, "did you mean 'scale'?");
    check(&["validate", "-f", &at("none.yaml")], 1, "cannot be read");
    check(&["serve", "--data-dir", &at("open"), "--listen", "0.0.0.0:0"], 1, "--insecure");
    // A port on which nobody listens any more.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    check(&["--endpoint", &nobody.to_string(), "--timeout", "1", "cluster", "status"], 4, "");
}

#[test]
fn the_quickstart_by_hand_and_an_orderly_stop() {
    const JSON: &[&str] = &["-o", "json"];
    const CYCLE: &[&str] = &["--root", "acme", "--cycle", "2026-09"];
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let documents: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    let usage = documents.join("usage.jsonl").to_string_lossy().into_owned();
    let documents = documents.to_string_lossy().into_owned();
    server.good(&["validate", "-f", &documents]);
    server.good(&["cluster", "status"]);
    assert!(server.page("/healthz").starts_with("HTTP/1.1 200"), "{}", server.page("/healthz"));
    assert!(server.page("/readyz").ends_with("ready\n"), "{}", server.page("/readyz"));
    server.good(&["apply", "-f", &documents]);
    let push = [&["usage", "push", "-f", &usage], JSON].concat();
    let of = |text: &str, field: &str| {
        let report: serde_json::Value = serde_json::from_str(text).expect("JSON");
        report[field].as_u64()
    };
    assert_eq!(of(&server.good(&push), "accepted"), Some(8));
    assert_eq!(of(&server.good(&push), "duplicate"), Some(8));
    let metrics = server.page("/metrics");
    for line in ["reckoner_ready 1", "reckoner_usage_records_total ", "reckoner_group_leads{shard=\"1\"} 1"] {
        assert!(metrics.contains(line), "'{line}' in {metrics}");
    }
    // 26.64 is computed by hand in the example's README.
    let estimate = server.good(&[&["bills", "estimate"], CYCLE, JSON].concat());
    assert!(estimate.contains("\"26.64\""), "{estimate}");
    server.good(&[&["bills", "close"], CYCLE].concat());
    let show = [&["bills", "show"], CYCLE, JSON].concat();
    let shown = server.good(&show);
    assert!(shown.contains("acme-0001") && shown.contains("\"26.64\""), "{shown}");
    assert_eq!(server.stop(), Some(0), "a signal stops it in order");

    let server = Server::start(folder.path());
    assert_eq!(server.good(&show), shown, "the bill is the same after a restart");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_log_that_goes_to_a_file_has_no_colours() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let mut command = program();
    command.arg("serve").arg("--data-dir").arg(folder.path().join("d")).args(["--listen", "127.0.0.1:0"]);
    // It waits for a cluster that is not there, and says so.
    command.args(["--join", "127.0.0.1:1"]).env_remove("NO_COLOR").stdout(Stdio::null());
    let child = command.stderr(std::fs::File::create(&log).expect("a file")).spawn().expect("it starts");
    let _server = Server { child, address: String::new() };
    let begin = Instant::now();
    let text = loop {
        let text = std::fs::read_to_string(&log).expect("it is there");
        if text.ends_with('\n') {
            break text;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing is said: {text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(text.contains("waiting for `cluster init`"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn work_on_a_directory_that_is_not_what_it_should_be_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let check = |arguments: &[&str], code: i32, words: &str| {
        let came = run(arguments);
        assert_eq!(came.code, code, "{arguments:?}: {}", came.stderr);
        assert!(came.stderr.contains(words), "{arguments:?}: {}", came.stderr);
    };
    check(&["node", "recover", "--data-dir", &at("d"), "--apply"], 64, "--accept-loss");
    check(&["node", "recover", "--data-dir", &at("d")], 1, "is not of a node");
    check(&["cluster", "backup", "verify", &at("d")], 1, "no backup");
    check(&["node", "restore", "--from", &at("d"), "--data-dir", &at("e")], 1, "no backup");
    assert!(!folder.path().join("d").exists() && !folder.path().join("e").exists(), "nothing was made");
}
