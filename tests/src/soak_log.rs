//! The log of soaks: a table in the tree, a row a soak, with the commit that ran and a hash of the four trees that make
//! the product. Rows with the hash of now are what this version went through; `soak --sum` adds them up.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::soak::Soaked;

/// What a soaked product is made of.
const TREES: [&str; 4] = ["shard", "raft", "node", "client"];

/// What stands before the first row.
const HEAD: &str = "# What was soaked

Each row is one `cargo run --release -p reckoner-tests -- soak --log`: seeded runs under faults in virtual time, crash points one by
one, and planted faults that had to be found; with `--processes` real ones. *Trees* is a hash of `shard`, `raft`, `node` and `client` at
that commit: rows with the hash of now count for this version (`soak --sum` adds them up), `-dirty` ones count for none.

| date | commit | trees | what | minutes | runs | failed | simulated s | records checked | crash points | planted found | faults |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// A row, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `2026-11-22`.
    pub date: String,
    /// Short, `-dirty` where the tree was.
    pub commit: String,
    /// Hash of what clients and nodes are made of, `-dirty` where one of them was.
    pub trees: String,
    /// Simulation or processes.
    pub what: String,
    /// Real time.
    pub minutes: f64,
    /// Seeds and crash points run; of processes, rounds of faults.
    pub runs: u64,
    /// Of them.
    pub failed: u64,
    /// Virtual seconds; of processes, real ones.
    pub simulated: u64,
    /// Acknowledged records and reads.
    pub checked: u64,
    /// Run, of how many there are.
    pub crash_points: (u64, u64),
    /// Found, of how many were looked for.
    pub planted: (u64, u64),
    /// By kind.
    pub faults: BTreeMap<String, u64>,
}

impl Row {
    /// A row of now for what was soaked.
    ///
    /// # Errors
    /// When git does not say which commit this is.
    pub fn now(root: &Path, what: &str, soaked: &Soaked) -> io::Result<Row> {
        let (commit, trees) = (commit(root)?, trees(root)?);
        let date = output(root, "date", &["-u", "+%Y-%m-%d"])?;
        Ok(Row {
            date,
            commit,
            trees,
            what: what.to_owned(),
            minutes: soaked.elapsed.as_secs_f64() / 60.0,
            runs: soaked.seeds,
            failed: soaked.failures.len() as u64,
            simulated: soaked.simulated_seconds as u64,
            checked: soaked.checked,
            crash_points: (0, 0),
            planted: (0, 0),
            faults: soaked.kinds.clone(),
        })
    }

    fn written(&self) -> String {
        let of = |(some, all): (u64, u64)| if all == 0 { "-".to_owned() } else { format!("{some} of {all}") };
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        format!(
            "| {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | {} | {} | {} |",
            self.date,
            self.commit,
            self.trees,
            self.what,
            self.minutes,
            self.runs,
            self.failed,
            self.simulated,
            self.checked,
            of(self.crash_points),
            of(self.planted),
            faults.join(", ")
        )
    }

    /// The row of a line, where it is one.
    fn read(line: &str) -> Option<Row> {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [date, commit, trees, what, minutes, runs, failed, simulated, checked, points, planted, faults] = cells[..]
        else {
            return None;
        };
        let of = |cell: &str| match cell.split_once(" of ") {
            Some((some, all)) => Some((some.parse().ok()?, all.parse().ok()?)),
            None => (cell == "-").then_some((0, 0)),
        };
        let mut kinds = BTreeMap::new();
        for kind in faults.split(", ").filter(|kind| !kind.is_empty()) {
            let (name, count) = kind.rsplit_once(' ')?;
            kinds.insert(name.to_owned(), count.parse().ok()?);
        }
        Some(Row {
            date: date.to_owned(),
            commit: commit.to_owned(),
            trees: trees.to_owned(),
            what: what.to_owned(),
            minutes: minutes.parse().ok()?,
            runs: runs.parse().ok()?,
            failed: failed.parse().ok()?,
            simulated: simulated.parse().ok()?,
            checked: checked.parse().ok()?,
            crash_points: of(points)?,
            planted: of(planted)?,
            faults: kinds,
        })
    }
}

/// The workspace that this program was built from.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where the log is unless told otherwise.
pub fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("SOAK.md")
}

fn output(folder: &Path, program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("{program} {}: {words}", arguments.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn dirt(root: &Path, folders: &[&str]) -> io::Result<&'static str> {
    let arguments = [&["status", "--porcelain", "--untracked-files=no", "--"], folders].concat();
    Ok(if output(root, "git", &arguments)?.is_empty() { "" } else { "-dirty" })
}

fn commit(root: &Path) -> io::Result<String> {
    Ok(format!("{}{}", output(root, "git", &["rev-parse", "--short=9", "HEAD"])?, dirt(root, &["."])?))
}

/// The hash of the product's trees as they are now.
///
/// # Errors
/// When git does not know them.
pub fn trees(root: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    for tree in TREES {
        hasher.update(output(root, "git", &["rev-parse", &format!("HEAD:{tree}")])?.as_bytes());
    }
    Ok(format!("{}{}", &hasher.finalize().to_hex()[..12], dirt(root, &TREES)?))
}

/// Adds a row to the log, which is made where it is missing.
///
/// # Errors
/// When the file cannot be written.
pub fn append(file: &Path, row: &Row) -> io::Result<()> {
    let mut text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => HEAD.to_owned(),
        Err(error) => return Err(error),
    };
    text.push_str(&row.written());
    text.push('\n');
    fs::write(file, text)
}

/// Adds up the rows for `trees`, by what was soaked.
pub fn sum(text: &str, trees: &str) -> BTreeMap<String, Row> {
    let mut sums: BTreeMap<String, Row> = BTreeMap::new();
    for row in text.lines().filter_map(Row::read).filter(|row| row.trees == trees) {
        let Some(sum) = sums.get_mut(&row.what) else {
            sums.insert(row.what.clone(), row);
            continue;
        };
        sum.date = row.date;
        sum.commit = row.commit;
        sum.minutes += row.minutes;
        sum.runs += row.runs;
        sum.failed += row.failed;
        sum.simulated += row.simulated;
        sum.checked += row.checked;
        let add = |sum: &mut (u64, u64), other: (u64, u64)| *sum = (sum.0 + other.0, sum.1 + other.1);
        add(&mut sum.crash_points, row.crash_points);
        add(&mut sum.planted, row.planted);
        for (kind, count) in row.faults {
            *sum.faults.entry(kind).or_default() += count;
        }
    }
    sums
}

/// Sums in words.
pub fn told(sums: &BTreeMap<String, Row>, trees: &str) -> String {
    if sums.is_empty() {
        return format!("nothing was soaked yet with these trees ({trees})");
    }
    let lines: Vec<String> = sums.values().map(Row::written).collect();
    format!("since the last change under {} ({trees}):\n{}", TREES.join(", "), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(trees: &str, runs: u64) -> Row {
        Row {
            date: "2026-11-22".into(),
            commit: "0123abc".into(),
            trees: trees.into(),
            what: "simulation".into(),
            minutes: 1.5,
            runs,
            failed: 0,
            simulated: 80,
            checked: 7,
            crash_points: (3, 4),
            planted: (0, 0),
            faults: BTreeMap::from([("crashes".to_owned(), 2)]),
        }
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let row = row("aa", 5);
        assert_eq!(Row::read(&row.written()), Some(row));
        assert!(HEAD.lines().all(|line| Row::read(line).is_none()), "the head is no row");
    }

    #[test]
    fn rows_of_these_trees_are_added_up_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("SOAK.md");
        for row in [row("aa", 5), row("bb", 100), row("aa-dirty", 100), row("aa", 6)] {
            append(&file, &row).unwrap();
        }
        let sums = sum(&fs::read_to_string(&file).unwrap(), "aa");
        let sum = &sums["simulation"];
        assert_eq!((sums.len(), sum.runs, sum.checked, sum.crash_points), (1, 11, 14, (6, 8)));
        assert_eq!(sum.faults["crashes"], 4);
    }
}
