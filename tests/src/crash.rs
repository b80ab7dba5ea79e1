//! Crash points: every call of a node to its disks is a step with a name, and a run may end a node at the n-th of a kind,
//! before the call took effect or right after. What the steps are called from is in [`crate::seams`]; running them one by
//! one is [`crate::soak`]'s matter.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The steps: before each call to a disk, and where that tells something else, after it. A snapshot that is received from
/// a peer goes through the same steps as one that is built.
pub const STEPS: &[&str] = &[
    "vote",
    "vote-flushed",
    "append",
    "append-flushed",
    "truncate",
    "truncate-flushed",
    "purge",
    "purge-flushed",
    "forget",
    "forget-flushed",
    "cut",
    "cut-flushed",
    "billed",
    "billed-flushed",
    "issue",
    "issue-flushed",
    "archived",
    "archived-flushed",
    "freeze",
    "freeze-flushed",
    "stage",
    "stage-flushed",
    "seal",
    "seal-flushed",
    "decide",
    "decide-flushed",
    "settle",
    "settle-flushed",
    "account-end",
    "account-end-flushed",
    "account-begin",
    "account-begin-flushed",
    "account-learn",
    "account-learn-flushed",
    "account-settle",
    "account-settle-flushed",
    "account-cancel",
    "account-cancel-flushed",
    "snapshot-begin",
    "snapshot-page",
    "snapshot-seal",
    "snapshot-sealed",
    "snapshot-adopt",
    "snapshot-adopted",
    "snapshot-forget",
    "bill-put",
    "bill-flush",
    "bill-flushed",
    "blob-put",
    "blob-kept",
];

/// Where a run ends a node: at the n-th call of a kind, counted over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// One of [`STEPS`].
    pub step: &'static str,
    /// From 1 on.
    pub nth: u64,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.step, self.nth)
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is no crash point such as append-flushed:17; steps are {}", STEPS.join(", "));
        let (name, nth) = text.split_once(':').ok_or_else(bad)?;
        let step = STEPS.iter().find(|step| **step == name).ok_or_else(bad)?;
        Ok(Self { step, nth: nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(bad)? })
    }
}

/// Counts the steps of all nodes and knows where to end one. Clones are the same.
#[derive(Clone, Default)]
pub struct Steps(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    point: Option<CrashPoint>,
    counts: BTreeMap<&'static str, u64>,
    reached: bool,
}

impl Steps {
    /// Steps that end a node at `point`, if there is one.
    pub fn new(point: Option<CrashPoint>) -> Self {
        Self(Arc::new(Mutex::new(Counted { point, ..Counted::default() })))
    }

    /// How often each step was taken.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().counts.clone()
    }

    /// Whether a node was ended.
    pub fn reached(&self) -> bool {
        self.0.lock().reached
    }

    fn take(&self, step: &'static str) -> bool {
        let mut counted = self.0.lock();
        let count = counted.counts.entry(step).or_default();
        *count += 1;
        let here = CrashPoint { step, nth: *count };
        let is_here = counted.point == Some(here);
        counted.reached |= is_here;
        is_here
    }
}

/// One life of a node, from a start to its end. From the point on where it ends, none of its calls comes back with
/// anything. Clones are the same life.
#[derive(Clone)]
pub struct Life {
    steps: Steps,
    over: Arc<AtomicBool>,
    /// Tells whoever crashes machines that this one ended.
    fatal: Arc<Mutex<bool>>,
}

impl Life {
    /// A new life of a node whose end is told through `fatal`.
    pub fn begin(steps: &Steps, fatal: &Arc<Mutex<bool>>) -> Self {
        Self { steps: steps.clone(), over: Arc::default(), fatal: fatal.clone() }
    }

    /// Takes a step.
    ///
    /// # Errors
    /// The node ended, here or before.
    pub fn step(&self, step: &'static str) -> io::Result<()> {
        if !self.over.load(Ordering::SeqCst) && self.steps.take(step) {
            tracing::info!(step, "the node ends here");
            self.over.store(true, Ordering::SeqCst);
            *self.fatal.lock() = true;
        }
        match self.over.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the process ended")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_ends_at_its_point_and_the_next_one_does_not() {
        let fatal: Arc<Mutex<bool>> = Arc::default();
        let steps = Steps::new(Some("append:2".parse().unwrap()));
        let life = Life::begin(&steps, &fatal);
        assert!(life.step("append").is_ok() && life.step("vote").is_ok() && !*fatal.lock());
        assert!(life.step("append").is_err() && life.step("vote").is_err() && *fatal.lock());
        let next = Life::begin(&steps, &fatal);
        assert!(next.step("append").is_ok() && steps.reached());
        assert_eq!(steps.counts(), BTreeMap::from([("append", 3), ("vote", 1)]), "the dead take no steps");
    }

    #[test]
    fn points_are_read_as_they_are_written() {
        for (text, good) in
            [("vote:1", true), ("bill-flushed:30", true), ("vote:0", false), ("vote", false), ("x:1", false)]
        {
            let parsed = text.parse::<CrashPoint>();
            assert_eq!(parsed.is_ok(), good, "{text}");
            assert!(parsed.is_err() || parsed.unwrap().to_string() == text);
        }
    }
}
