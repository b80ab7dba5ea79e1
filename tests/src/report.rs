//! What a simulated run leaves behind: its trace, what was checked, and how a failure is told. Shared by the layers.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::crash::CrashPoint;
use crate::faults::Injected;
use crate::planted::Planted;

/// Virtual time begins here: 2024-09-15T00:00:00Z, in the middle of a cycle.
pub const EPOCH_SECONDS: u64 = 1_726_358_400;

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Names the run.
    pub seed: u64,
    /// Of the storm, virtual.
    pub length: Duration,
    /// A bug to put in.
    pub planted: Option<Planted>,
    /// Where to end a node.
    pub crash: Option<CrashPoint>,
    /// Without faults, the same for every crash point.
    pub quiet: bool,
}

/// What is gathered while a run goes on.
#[derive(Default)]
pub struct Run {
    trace: DefaultHasher,
    /// Acknowledged records and reads that were checked.
    pub checked: u64,
    /// Broken promises.
    pub violations: Vec<String>,
}

impl Run {
    /// A client heard something: part of the trace, with its time.
    pub fn heard(&mut self, at: Duration, what: &str) {
        tracing::debug!(?at, "{what}");
        (at, what).hash(&mut self.trace);
    }

    /// A promise was broken.
    pub fn violated(&mut self, what: String) {
        tracing::error!("{what}");
        self.violations.push(what);
    }

    /// The hash of everything heard, in order.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }
}

/// A run that kept every promise.
#[derive(Debug, Clone)]
pub struct Report {
    /// Names the run.
    pub seed: u64,
    /// Equal for equal seeds in fresh processes.
    pub trace: u64,
    /// Virtual time.
    pub simulated: Duration,
    /// What was done to the cluster.
    pub injected: Injected,
    /// Acknowledged records and reads that were checked.
    pub checked: u64,
    /// How often each step of [`crate::crash::STEPS`] was taken.
    pub steps: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {} trace {:016x} simulated {:.1} s faults {} checked {}",
            self.seed,
            self.trace,
            self.simulated.as_secs_f64(),
            self.injected.total(),
            self.checked
        )?;
        for (kind, count) in self.injected.kinds().into_iter().filter(|(_, count)| *count > 0) {
            write!(f, " {kind} {count}")?;
        }
        Ok(())
    }
}

/// A run that broke one.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Names the run.
    pub seed: u64,
    /// What was broken.
    pub words: String,
    /// What was done to the cluster, with the virtual time.
    pub story: Vec<(Duration, String)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, what) in &self.story {
            writeln!(f, "{:10.3} {what}", at.as_secs_f64())?;
        }
        write!(f, "seed {} FAILED: {}", self.seed, self.words)
    }
}

/// A simulation's settings.
pub fn builder(seed: u64, tick: Duration, latency_max: Duration) -> turmoil::Builder {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS))
        .tick_duration(tick)
        .simulation_duration(Duration::from_secs(100_000))
        .tcp_capacity(1 << 16)
        .enable_random_order()
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(latency_max);
    builder
}

/// One step; whether all clients are done. A panic inside a node is a failure of the run.
pub fn step(sim: &mut turmoil::Sim<'_>) -> Result<bool, String> {
    match catch_unwind(AssertUnwindSafe(|| sim.step())) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(format!("a host ended: {error}")),
        // The runtime's own panic says only that a task panicked; the first one says why.
        Err(_) => Err(format!("a node panicked: {}", PANICS.lock().first().cloned().unwrap_or_default())),
    }
}

/// What panicked in this process, in order.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on panics are remembered for the report; only the first one is printed, for a process that cannot report.
pub fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let mut panics = PANICS.lock();
        let words = panic.to_string().replace('\n', " ");
        if panics.is_empty() {
            eprintln!("first of all {words}");
        }
        panics.push(words);
    }));
}
