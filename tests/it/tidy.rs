//! The rules of the house, as a test: which crate may know which, where threads and clocks may appear, how a file opens and
//! how long it may grow. A failure names the file, the line and what to do instead. Behaviour is tested elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file in lines; above it a reader no longer holds it in mind, so it wants a split.
const LINES_MAX: usize = 600;

/// Files that are longer, with their own limit and the reason why they were not split.
const LONG: &[(&str, usize, &str)] = &[
    ("shard/src/usage/segment.rs", 900, "one byte format, its writer and its reader side by side"),
    ("shard/src/machine/ingest.rs", 900, "the path of one record, from batch to counter"),
    ("shard/src/machine/codec.rs", 650, "commands and outcomes, written and read side by side"),
    ("shard/src/account/tree.rs", 700, "one tree, how it changes, and its two written forms"),
    ("client/src/batch/driver.rs", 700, "one loop and what it knows"),
    ("tests/src/groups.rs", 700, "one simulation, its faults and its checks"),
];

/// Files that may start threads or blocking tasks: they own a disk, or spread work over cores.
const THREADS_IN: &[&str] = &["raft/src/machine.rs", "raft/src/store/engine.rs", "node/src/workers.rs"];

/// Doors with more behind them than `mod` lines, each with its reason.
const DOORS_WITH_LOGIC: &[(&str, &str)] = &[("client/src/cli/mod.rs", "the switchboard of all verbs")];

/// Files that still import each other. The list may only get shorter: a pair that is gone must leave it.
const CIRCLES: &[(&str, &str)] = &[
    ("client/src/client.rs", "client/src/directory.rs"),
    ("node/src/context.rs", "node/src/data/shard.rs"),
    ("node/src/data/reach.rs", "node/src/data/shard.rs"),
    ("raft/src/host.rs", "raft/src/receive.rs"),
    ("shard/src/machine/query.rs", "shard/src/machine/state.rs"),
    ("shard/src/usage/segment.rs", "shard/src/usage/series.rs"),
];

/// The floors inside shard, from the ground up: a file may import from its own floor and from those below.
const FLOORS: &[&str] = &["base", "placement", "account", "usage", "pricing", "contract", "billing", "machine"];

/// One Rust file: its path from the workspace's root, its lines, and the same lines without comments.
struct Source {
    path: String,
    lines: Vec<String>,
    code: Vec<String>,
}

impl Source {
    fn under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Lines of code (not comments) outside `mod tests`, with their numbers.
    fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.code.iter().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(self.code.len());
        self.code[..end].iter().enumerate().map(|(at, line)| (at + 1, line.as_str()))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a workspace").to_owned()
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    for package in ["shard", "raft", "client", "node", "bench", "tests"] {
        for folder in ["src", "it", "tests", "benches"] {
            walk(&root.join(package).join(folder), &mut found);
        }
    }
    found.sort();
    assert!(found.len() > 30, "only {} files found; the walk is broken", found.len());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file is readable");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let code = lines.iter().map(|line| without_comment(line).to_owned()).collect();
        let path = path.strip_prefix(&root).expect("found under the root").to_string_lossy().into_owned();
        Source { path, lines, code }
    };
    found.into_iter().map(read).collect()
}

/// The part of a line before `//`, unless the slashes belong to an address in a string.
fn without_comment(line: &str) -> &str {
    let mut from = 0;
    while let Some(at) = line[from..].find("//").map(|at| at + from) {
        if at == 0 || !line[..at].ends_with(':') {
            return &line[..at];
        }
        from = at + 2;
    }
    line
}

/// Whether `word` stands in `line` with no letter, digit or underscore on either side.
fn has_word(line: &str, word: &str) -> bool {
    let part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    line.match_indices(word)
        .any(|(at, _)| !part(line[..at].chars().next_back()) && !part(line[at + word.len()..].chars().next()))
}

fn expect_none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}\n  {}", found.join("\n  "));
}

#[test]
fn words_are_found_whole() {
    assert!(has_word("let x: f64 = 1.0;", "f64"));
    assert!(!has_word("let brand = 1;", "rand"));
    assert!(!has_word("rand_core", "rand"));
    assert_eq!(without_comment("let a = 1; // b"), "let a = 1; ");
    assert_eq!(without_comment("let a = \"http://b\";"), "let a = \"http://b\";");
}

#[test]
fn the_shard_is_pure() {
    let banned = [
        ("tokio", "the domain is synchronous; move it to node"),
        ("tracing", "return what happened as data and log it in node"),
        ("sled", "storing is node's; return an Effect"),
        ("tonic", "the wire is client's and node's"),
        ("openraft", "replication is raft's"),
        ("SystemTime", "time comes with the entry's stamp"),
        ("Instant", "time comes with the entry's stamp"),
        ("f64", "no float on a path to a bill; use scaled integers"),
        ("f32", "no float on a path to a bill; use scaled integers"),
        ("rand", "what must be drawn is drawn by the leader into the entry"),
        ("thread", "the machine is one thread's; node/src/workers.rs spreads folds"),
    ];
    let mut found = Vec::new();
    // A measurement asks for the time; it is compiled for tests alone.
    let pure = |source: &&Source| source.under("shard/src") && !source.path.ends_with("measure_test.rs");
    for source in sources().iter().filter(pure) {
        for (at, line) in source.product() {
            for (word, remedy) in banned {
                if has_word(line, word) {
                    found.push(format!("{}:{at}: '{word}': {remedy}", source.path));
                }
            }
        }
    }
    expect_none("shard holds no async, no I/O, no clock, no float and no randomness", found);
}

#[test]
fn arrows_between_packages_point_down() {
    let banned: &[(&str, &[&str])] = &[
        (
            "shard",
            &[
                "reckoner-raft",
                "reckoner-client",
                "reckoner-node",
                "reckoner-bench",
                "tokio",
                "tonic",
                "sled",
                "tracing",
                "rand",
            ],
        ),
        ("raft", &["reckoner-shard", "reckoner-client", "reckoner-node", "reckoner-bench"]),
        ("client", &["reckoner-raft", "reckoner-node", "reckoner-bench", "openraft", "raft-engine", "sled"]),
        ("node", &["reckoner-bench", "reckoner-tests"]),
        ("bench", &["reckoner-tests"]),
    ];
    let mut found = Vec::new();
    for (package, names) in banned {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("a package has a manifest");
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or("");
        let dependencies = dependencies.split("[dev-dependencies]").next().unwrap_or("");
        for line in dependencies.lines() {
            let name = line.split(['.', '=', ' ']).next().unwrap_or("");
            if names.contains(&name) {
                found.push(format!("{package}/Cargo.toml: {name}: {package} must not know it; turn the call around"));
            }
        }
    }
    expect_none("tests -> bench -> node -> { client, raft, shard } and client -> shard", found);
}

#[test]
fn floors_inside_the_shard_are_kept() {
    let floor = |name: &str| FLOORS.iter().position(|floor| *floor == name);
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.under("shard/src")) {
        let own = source.path.trim_start_matches("shard/src/").trim_end_matches(".rs");
        let Some(own) = floor(own.split('/').next().unwrap_or("")) else { continue };
        for (at, line) in source.product() {
            for (start, _) in line.match_indices("crate::") {
                let name: String = line[start + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if floor(&name).is_some_and(|other| other > own) {
                    found
                        .push(format!("{}:{at}: imports {name}, a floor above; hand the data in instead", source.path));
                }
            }
        }
    }
    expect_none(&format!("inside shard arrows point down: {}", FLOORS.join(" < ")), found);
}

/// Where an imported path lives: the longest prefix of `crate::a::b::c` that is a file.
fn file_of(path: &[String], package: &str, files: &BTreeSet<&str>) -> Option<String> {
    (1..=path.len()).rev().find_map(|count| {
        let file = format!("{package}/src/{}.rs", path[..count].join("/"));
        files.contains(file.as_str()).then_some(file)
    })
}

#[test]
fn no_two_files_import_each_other() {
    let sources = sources();
    let files: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut imports: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let Some((package, inside)) = source.path.split_once("/src/") else { continue };
        let own: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        for (_, line) in source.product() {
            let line = line.trim().trim_start_matches("pub ").trim_start_matches("use ");
            let mut path: Vec<String> = match line.split("::").next() {
                Some("crate") => Vec::new(),
                Some("super") => own[..own.len() - 1].to_vec(),
                _ => continue,
            };
            let word = |part: &str| part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            path.extend(line.split("::").skip(1).map(word).take_while(|part| !part.is_empty()));
            if let Some(file) = file_of(&path, package, &files) {
                imports.entry(&source.path).or_default().insert(file);
            }
        }
    }
    let imports_it = |from: &str, to: &str| imports.get(from).is_some_and(|targets| targets.contains(to));
    let mut found = Vec::new();
    for (file, targets) in &imports {
        for target in targets.iter().filter(|target| *file < target.as_str() && imports_it(target, file)) {
            if !CIRCLES.contains(&(*file, target)) {
                found.push(format!(
                    "{file} <-> {target}: move what both need to a file of its own, or into the lower one"
                ));
            }
        }
    }
    for (one, other) in CIRCLES {
        if !imports_it(one, other) || !imports_it(other, one) {
            found.push(format!("{one} <-> {other} is a circle no more: take it off the list in tests/it/tidy.rs"));
        }
    }
    expect_none("no two files import each other", found);
}

#[test]
fn threads_stay_where_they_are_owned() {
    let mut found = Vec::new();
    for source in &sources() {
        let harness = source.under("tests/") || source.under("bench/");
        if harness || THREADS_IN.contains(&source.path.as_str()) {
            continue;
        }
        for (at, line) in source.product() {
            if ["thread::spawn", "thread::Builder", "spawn_blocking", "block_in_place"]
                .iter()
                .any(|call| line.contains(call))
            {
                found.push(format!(
                    "{}:{at}: hand the work to node/src/workers.rs or to the file that owns the disk",
                    source.path
                ));
            }
        }
    }
    expect_none(
        "threads and blocking tasks appear only in the files that own them (THREADS_IN in tests/it/tidy.rs)",
        found,
    );
}

#[test]
fn one_place_asks_for_the_time() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.under("node/src") || source.under("raft/src")) {
        if source.path == "node/src/clock.rs" {
            continue;
        }
        for (at, line) in source.product() {
            if line.contains("SystemTime::now") || line.contains("Timestamp::now") || line.contains("UNIX_EPOCH") {
                found.push(format!("{}:{at}: ask the Clock that was handed in", source.path));
            }
        }
    }
    expect_none("wall-clock time is read in node/src/clock.rs alone", found);
}

#[test]
fn a_machine_meets_raft_in_two_files() {
    let allowed = ["node/src/data/shard.rs", "node/src/meta/group.rs"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.under("node/src") || source.under("client/src")) {
        for (at, line) in source.product() {
            if line.contains(" Machine for ") && !allowed.contains(&source.path.as_str()) {
                found.push(format!("{}:{at}: implement raft's Machine in {} only", source.path, allowed.join(" or ")));
            }
        }
    }
    expect_none("only two files join a machine to a Raft group", found);
}

#[test]
fn files_open_with_what_lives_in_them() {
    let mut found = Vec::new();
    for source in &sources() {
        let first = source.lines.iter().find(|line| !line.trim().is_empty());
        if !first.is_some_and(|line| line.starts_with("//!")) {
            found.push(format!("{}: open it with //!: what lives here, what deliberately does not", source.path));
        }
        if source.lines.iter().take(5).any(|line| line.contains("Placeholder")) {
            found.push(format!("{}: the placeholder on top must go", source.path));
        }
    }
    expect_none("every file opens with //!", found);
}

#[test]
fn files_stay_readable_in_one_sitting() {
    // Tests are not counted, beside the code or in a file of their own.
    let length = |source: &Source| source.product().count();
    let limit =
        |source: &Source| LONG.iter().find(|(path, ..)| *path == source.path).map_or(LINES_MAX, |(_, limit, _)| *limit);
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| !source.path.ends_with("_test.rs") && length(source) > limit(source))
        .map(|source| format!("{}: {} lines; split it by idea", source.path, length(source)))
        .collect();
    expect_none(&format!("a file holds one idea, at most {LINES_MAX} lines"), found);
}

#[test]
fn doors_hold_no_logic() {
    let mut found = Vec::new();
    for source in &sources() {
        let name = source.path.rsplit('/').next().unwrap_or("");
        let excused = DOORS_WITH_LOGIC.iter().any(|(path, _)| *path == source.path);
        if (name != "lib.rs" && name != "mod.rs") || excused {
            continue;
        }
        for (at, line) in source.product() {
            if has_word(line, "fn") || has_word(line, "struct") || has_word(line, "impl") {
                found.push(format!("{}:{at}: move it to a file with a name", source.path));
            }
        }
    }
    expect_none("lib.rs and mod.rs are doors: //! and mod lines", found);
}

#[test]
fn nothing_is_left_unfinished_or_silenced_without_a_reason() {
    let banned = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore]"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.path.ends_with("it/tidy.rs")) {
        for (at, line) in source.code.iter().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word} must go", source.path, at + 1));
            }
            let silenced = line.contains("allow(clippy::") || line.contains("allow(dead_code");
            // On the line, or in the comment just above; a file of generated code says so on top.
            let near = &source.lines[at.saturating_sub(3)..(at + 2).min(source.lines.len())];
            let reason = near.iter().any(|line| line.contains("//") || line.contains("reason"));
            if silenced && !reason {
                found.push(format!("{}:{}: an allowed lint carries its reason on the line", source.path, at + 1));
            }
        }
    }
    expect_none("finished, or left out", found);
}
