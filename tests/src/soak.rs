//! Many seeds, each in a process of its own: random generators of libraries live as long as their process, so only a
//! fresh one repeats a seed exactly, and one that panics takes nobody with it.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What many seeds gave.
#[derive(Debug, Default)]
pub struct Soaked {
    /// Seeds run.
    pub seeds: u64,
    /// Virtual seconds of all of them.
    pub simulated_seconds: f64,
    /// Faults injected.
    pub faults: u64,
    /// Acknowledged records and reads checked.
    pub checked: u64,
    /// What the failing seeds said.
    pub failures: Vec<(u64, String)>,
    /// Real time.
    pub elapsed: Duration,
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, words) in &self.failures {
            writeln!(f, "{words}")?;
        }
        write!(
            f,
            "{} seeds, {} failed, {:.0} s simulated, {} faults, {} records checked, {:.1} s",
            self.seeds,
            self.failures.len(),
            self.simulated_seconds,
            self.faults,
            self.checked,
            self.elapsed.as_secs_f64()
        )?;
        if !self.failures.is_empty() {
            let seeds: Vec<String> = self.failures.iter().map(|(seed, _)| seed.to_string()).collect();
            write!(f, "; failing: {}", seeds.join(" "))?;
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

/// Runs `seeds`, `parallel` at a time, each with `extra` arguments.
pub fn run(program: &Path, seeds: Range<u64>, extra: &[String], parallel: usize) -> Soaked {
    let start = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let soaked = Mutex::new(Soaked::default());
    std::thread::scope(|scope| {
        for _ in 0..parallel.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds.end {
                        break;
                    }
                    let (good, words) = seed(program, number, extra);
                    let mut soaked = soaked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    soaked.seeds += 1;
                    if good {
                        let figure = |name: &str| {
                            let mut rest = words.split_whitespace().skip_while(|word| *word != name);
                            rest.nth(1).and_then(|figure| figure.parse::<f64>().ok()).unwrap_or(0.0)
                        };
                        soaked.simulated_seconds += figure("simulated");
                        soaked.faults += figure("faults") as u64;
                        soaked.checked += figure("checked") as u64;
                    } else {
                        soaked.failures.push((number, words));
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
