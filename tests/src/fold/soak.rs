//! Many random cases on all cores: each compared with the reference model and held against the properties of bills.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::case::Case;
use super::properties;

/// Seeds that a thread takes at a time.
const CHUNK: u64 = 64;
/// Differences that are shown in words; the seeds of the others are listed.
const SHOWN_MAX: usize = 10;

/// What many cases gave.
#[derive(Debug, Default)]
pub struct Soaked {
    pub cases: u64,
    pub elapsed: Duration,
    /// Seeds that failed, with what they said.
    pub failures: BTreeMap<u64, String>,
    /// How often each thing that a bill can have was seen: what no case meets, none tests.
    pub met: BTreeMap<String, u64>,
}

/// Runs every seed of a range, also the rest of it after a failure.
pub fn run(seeds: Range<u64>) -> Soaked {
    let start = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let soaked = Mutex::new(Soaked::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if from >= seeds.end {
                        break;
                    }
                    let mut own = Soaked::default();
                    for seed in from..seeds.end.min(from + CHUNK) {
                        own.cases += 1;
                        if let Err(why) = one(seed, &mut own.met) {
                            own.failures.insert(seed, why);
                        }
                    }
                    soaked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(own);
                }
            });
        }
    });
    let mut soaked = soaked.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    soaked.elapsed = start.elapsed();
    soaked
}

/// One case, whatever goes wrong in it.
pub fn one(seed: u64, met: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let case = AssertUnwindSafe(|| {
        let case = Case::draw(seed);
        let bills = case.check()?;
        properties::check(&case, &bills, seed)?;
        Ok(properties::met(&case, &bills))
    });
    let panicked = |what: Box<dyn std::any::Any + Send>| match what.downcast::<String>() {
        Ok(text) => Err(*text),
        Err(what) => {
            Err(what.downcast_ref::<&str>().map_or("a panic without words".to_owned(), |text| (*text).to_owned()))
        }
    };
    for what in catch_unwind(case).unwrap_or_else(panicked)? {
        *met.entry(what).or_default() += 1;
    }
    Ok(())
}

impl Soaked {
    fn add(&mut self, other: Soaked) {
        self.cases += other.cases;
        self.failures.extend(other.failures);
        for (what, count) in other.met {
            *self.met.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.met {
            writeln!(f, "{count:>9}  {what}")?;
        }
        for (seed, why) in self.failures.iter().take(SHOWN_MAX) {
            writeln!(f, "seed {seed}: {why}")?;
        }
        if !self.failures.is_empty() {
            let seeds: Vec<String> = self.failures.keys().map(u64::to_string).collect();
            writeln!(f, "seeds that failed: {}", seeds.join(" "))?;
        }
        let seconds = self.elapsed.as_secs_f64();
        let speed = self.cases as f64 / seconds.max(0.001);
        write!(f, "{} cases, {} failed, {seconds:.1} s, {speed:.0} cases/s", self.cases, self.failures.len())
    }
}
