//! Seeds for the runtime's randomness, so that a simulation draws the same elections again.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;

/// Seeds for the runtime's generator: each entry into openraft runs under one.
pub(crate) struct Seeds(AtomicU64);

impl Seeds {
    /// Odd, so that the sequence of seeds has full length.
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    pub(crate) fn new(first: u64) -> Seeds {
        Seeds(AtomicU64::new(first))
    }

    /// Runs `future` with a seed of its own; what it spawns derives from it.
    pub(crate) fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let seed = self.0.fetch_add(Self::STEP, Ordering::Relaxed);
        DeterministicRng::<TokioRuntime>::scope(seed, future)
    }
}
