//! The cluster walk-through of README.md, run as it stands: three processes, a killed one, another in its place, one given
//! back, and 32 shards. Every line ends with the code that the page says, and prints what the page shows.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// All of it, on a machine with other work, in seconds; a line that hangs ends with it.
const PATIENCE: u64 = 240;

/// A line of the page: what is typed, the exit code that it says, and what it shows of the answer.
struct Step {
    typed: String,
    code: i32,
    shown: Vec<String>,
}

/// The lines of the section's code blocks.
fn steps(readme: &str) -> Vec<Step> {
    let section = readme.split("\n## A cluster\n").nth(1).expect("README has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut steps: Vec<Step> = Vec::new();
    for line in section.split("```").skip(1).step_by(2).flat_map(str::lines) {
        if let Some(typed) = line.strip_prefix("$ ") {
            let (typed, words) = typed.split_once("  # ").unwrap_or((typed, ""));
            let code = words.rsplit(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0);
            steps.push(Step { typed: typed.trim_end().to_owned(), code, shown: Vec::new() });
        } else if let Some(step) = steps.last_mut() {
            step.shown.push(line.trim().to_owned());
        }
    }
    steps
}

/// Ports that are free now, in place of those on the page.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|held| held.local_addr().expect("it is bound").port())
}

/// What is the same at every run: ids of clusters, versions, clocks and the order of leaders are not.
fn is_stable(line: &str) -> bool {
    let changes = ["cluster ", "...", "NODE ", "SHARD ", "SLOTS ", "1  ", "128-255", "degraded", "healthy"];
    !line.is_empty() && !changes.iter().any(|start| line.starts_with(start))
}

#[test]
fn the_page_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut readme = std::fs::read_to_string(root.join("README.md")).expect("README is there");
    for (page, free) in (7401..).zip(free_ports::<4>()) {
        readme = readme.replace(&format!("127.0.0.1:{page}"), &format!("127.0.0.1:{free}"));
    }
    let steps = steps(&readme);
    assert!(steps.len() > 15, "the page has its lines");
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(
        root.join("examples").canonicalize().expect("it is there"),
        folder.path().join("examples"),
    )
    .expect("a link");
    let programs = folder.path().join("programs");
    std::fs::create_dir(&programs).expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_reckoner"), programs.join("reckoner")).expect("a link");
    // Nodes that are left end with the shell, by their own ids.
    let mut script = String::from("trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n");
    for (at, step) in steps.iter().enumerate() {
        writeln!(script, "{}\necho \"=== {at} $?\"", step.typed).expect("a string takes everything");
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args(["--kill-after=10", &PATIENCE.to_string(), "bash", "-c", &format!("{{ {script} }} 2>&1")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env_remove("RECKONER_ENDPOINT")
        .output()
        .expect("bash is there");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut rest = said.as_str();
    for (at, step) in steps.iter().enumerate() {
        let mark = format!("=== {at} ");
        let (own, after) = rest.split_once(&mark).unwrap_or_else(|| panic!("'{}' did not end:\n{said}", step.typed));
        let code = after.lines().next().and_then(|code| code.parse().ok());
        assert_eq!(code, Some(step.code), "'{}':\n{own}", step.typed);
        for shown in step.shown.iter().filter(|line| is_stable(line)) {
            assert!(own.contains(shown.as_str()), "'{}' should print '{shown}':\n{own}", step.typed);
        }
        rest = after.split_once('\n').map_or("", |(_, rest)| rest);
    }
}
