//! The only place that asks for the time. Everything else is handed a [`Clock`], so that a simulation owns time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use reckoner_shard::base::time::Timestamp;

/// Wall time, UTC. It may jump; whoever needs an order takes the log's stamps, which never go back.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is set: for tests and demonstrations.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Moves the clock, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A clock that starts at a given instant and runs with tokio's time, which a simulation may drive.
#[derive(Debug)]
pub struct RuntimeClock {
    base: Timestamp,
    start: tokio::time::Instant,
}

impl RuntimeClock {
    /// Starts at `base`. Must be made inside a tokio runtime.
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, start: tokio::time::Instant::now() }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.start.elapsed().as_nanos()).unwrap_or(i64::MAX);
        Timestamp(self.base.0.saturating_add(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_the_first_release() {
        assert!(SystemClock.now() > "2024-09-01".parse().unwrap());
    }

    #[tokio::test]
    async fn a_runtime_clock_runs_with_the_runtime() {
        let base = "2024-09-01".parse().unwrap();
        let clock = RuntimeClock::starting_at(base);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        assert!(clock.now().0 >= base.0 + 2_000_000);
    }
}
