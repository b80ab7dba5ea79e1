//! Many runs, each in a process of its own: random generators of libraries live as long as their process, so only a
//! fresh one repeats a seed exactly, and one that panics takes nobody with it. Where what they gave is written down:
//! [`crate::soak_log`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What many runs gave.
#[derive(Debug, Default)]
pub struct Soaked {
    /// Runs.
    pub seeds: u64,
    /// Virtual seconds of all of them.
    pub simulated_seconds: f64,
    /// Faults injected.
    pub faults: u64,
    /// The same by kind.
    pub kinds: BTreeMap<String, u64>,
    /// Acknowledged records and reads checked.
    pub checked: u64,
    /// What the failing runs said, by the arguments that repeat them.
    pub failures: Vec<(String, String)>,
    /// Real time.
    pub elapsed: Duration,
}

impl Soaked {
    /// Both together.
    pub fn and(mut self, other: Soaked) -> Soaked {
        self.seeds += other.seeds;
        self.simulated_seconds += other.simulated_seconds;
        self.faults += other.faults;
        self.checked += other.checked;
        self.failures.extend(other.failures);
        self.elapsed += other.elapsed;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self
    }

    /// Adds what a good run printed.
    fn add(&mut self, words: &str) {
        let line = words.lines().find(|line| line.starts_with("seed ")).unwrap_or_default();
        // seed 3 trace 0123 simulated 8.1 s faults 12 checked 345 links-cut 2 crashes 10
        let (head, kinds) = line.split_once(" checked ").unwrap_or_default();
        let figure = |name: &str| {
            let mut rest = head.split_whitespace().skip_while(|word| *word != name);
            rest.nth(1).and_then(|figure| figure.parse::<f64>().ok()).unwrap_or(0.0)
        };
        self.simulated_seconds += figure("simulated");
        self.faults += figure("faults") as u64;
        let mut words = kinds.split_whitespace();
        self.checked += words.next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        while let (Some(kind), Some(count)) = (words.next(), words.next()) {
            *self.kinds.entry(kind.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
    }
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, words) in &self.failures {
            writeln!(f, "{words}")?;
        }
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        write!(
            f,
            "{} runs, {} failed, {:.0} s simulated, {} faults ({}), {} records checked, {:.1} s",
            self.seeds,
            self.failures.len(),
            self.simulated_seconds,
            self.faults,
            kinds.join(", "),
            self.checked,
            self.elapsed.as_secs_f64()
        )?;
        if !self.failures.is_empty() {
            let runs: Vec<&str> = self.failures.iter().map(|(run, _)| run.as_str()).collect();
            write!(f, "; failing: {}", runs.join("; "))?;
        }
        Ok(())
    }
}

/// Runs one seed in a fresh process; its last words and whether it kept every promise.
pub fn seed(program: &Path, seed: u64, extra: &[String]) -> (bool, String) {
    let mut command = Command::new(program);
    command.arg("seed").arg(seed.to_string()).args(extra).stdin(Stdio::null());
    match command.output() {
        Ok(output) => {
            let mut words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if !output.status.success() {
                let complaints = String::from_utf8_lossy(&output.stderr);
                let lines: Vec<&str> = complaints.lines().collect();
                words.push_str(&format!("\n{}", lines[lines.len().saturating_sub(20)..].join("\n")));
                let again = format!("{} seed {seed} {}", program.display(), extra.join(" "));
                words.push_str(&format!("\nseed {seed} ended with {}; again: {again}", output.status));
            }
            (output.status.success(), words)
        }
        Err(error) => (false, format!("seed {seed} did not start: {error}")),
    }
}

/// One run: a seed and the arguments behind it.
pub type Job = (u64, Vec<String>);

/// Runs `jobs`, `parallel` at a time, until there are none or `until` has come; the rest is left out.
pub fn run(
    program: &Path,
    jobs: impl IntoIterator<Item = Job, IntoIter: Send>,
    parallel: usize,
    until: Option<Instant>,
) -> Soaked {
    let start = Instant::now();
    let jobs = Mutex::new(jobs.into_iter());
    let soaked = Mutex::new(Soaked::default());
    std::thread::scope(|scope| {
        for _ in 0..parallel.max(1) {
            scope.spawn(|| {
                loop {
                    if until.is_some_and(|until| Instant::now() >= until) {
                        break;
                    }
                    let next = jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
                    let Some((number, extra)) = next else { break };
                    let (good, words) = seed(program, number, &extra);
                    let mut soaked = soaked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    soaked.seeds += 1;
                    if good {
                        soaked.add(&words);
                    } else {
                        soaked.failures.push((format!("seed {number} {}", extra.join(" ")), words));
                    }
                }
            });
        }
    });
    let mut soaked = soaked.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    soaked.failures.sort();
    soaked.elapsed = start.elapsed();
    soaked
}

/// Every seed of a range with the same arguments.
pub fn seeds(range: impl Iterator<Item = u64> + Send, extra: &[String]) -> impl Iterator<Item = Job> + Send {
    let extra = extra.to_vec();
    range.map(move |seed| (seed, extra.clone()))
}

/// The crash points of a run, every one: how often each step is taken when nobody crashes.
///
/// # Errors
/// What the run said, when it fails even so.
pub fn crash_points(program: &Path, number: u64, layer: &str) -> Result<Vec<Job>, String> {
    let quiet = ["--layer", layer, "--quiet"].map(str::to_owned);
    let counting = [&quiet[..], &["--steps".to_owned()]].concat();
    let (good, words) = seed(program, number, &counting);
    if !good {
        return Err(words);
    }
    let mut points = Vec::new();
    for line in words.lines() {
        let Some((step, count)) = line.strip_prefix("step ").and_then(|rest| rest.split_once(' ')) else { continue };
        for nth in 1..=count.parse::<u64>().unwrap_or(0) {
            let crash = ["--crash".to_owned(), format!("{step}:{nth}")];
            points.push((number, [&quiet[..], &crash[..]].concat()));
        }
    }
    if points.is_empty() { Err("no steps are taken".to_owned()) } else { Ok(points) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_a_run_prints() {
        let mut soaked = Soaked::default();
        soaked.add("seed 3 trace 0123456789abcdef simulated 8.1 s faults 12 checked 345 links-cut 2 crashes 10");
        soaked.add("seed 4 trace 0123456789abcdef simulated 1.0 s faults 1 checked 5 crashes 1\nstep vote 3");
        assert_eq!((soaked.faults, soaked.checked), (13, 350));
        assert!((soaked.simulated_seconds - 9.1).abs() < 1e-9);
        assert_eq!(soaked.kinds, BTreeMap::from([("crashes".to_owned(), 11), ("links-cut".to_owned(), 2)]));
    }
}
