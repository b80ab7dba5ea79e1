//! A run with whole nodes, as everybody who takes part in it sees it: its cluster, its hierarchies, and what was heard so
//! far. Who takes part: [`crate::producing`], [`crate::members`], [`crate::judge`]; what runs them is
//! [`crate::simulation`].

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::error::Error;
use reckoner_shard::base::time::Timestamp;

use crate::cluster::{self, Machine, Settings};
use crate::oracle::{Name, Oracle};
use crate::report::Run;

/// The cycle that ends during the storm, and the next.
pub const CYCLE: &str = "2024-09";
/// See [`CYCLE`].
pub const NEXT: &str = "2024-10";

/// When it ends.
pub const CYCLE_END: &str = "2024-10-01T00:00:00Z";

/// Hierarchies; odd ones close by themselves, even ones when told.
pub const ROOTS: u64 = 5;

/// The name of a hierarchy's root.
pub fn root(number: u64) -> String {
    format!("root{number}")
}

/// Whether a hierarchy closes by itself.
pub fn is_automatic(root: u64) -> bool {
    root % 2 == 1
}

/// Everything that is shared by clients and the judge.
pub struct Shared {
    /// What was heard and checked.
    pub run: Run,
    /// What was promised.
    pub oracle: Oracle,
    /// Records that have to be refused.
    pub bad: BTreeSet<Name>,
    /// The documents are applied: usage may come.
    pub open: bool,
    /// Replicas that each shard has in the end.
    pub replicas: u64,
    /// Whether shards come and go.
    pub layouts: bool,
}

/// A run, as its parts see it.
#[derive(Clone)]
pub struct World {
    /// Of the run.
    pub seed: u64,
    /// What all nodes have in common.
    pub settings: Settings,
    /// The founders' machines, and behind them those that may join.
    pub machines: Vec<Machine>,
    /// Length of the storm.
    pub length: Duration,
    /// What everybody adds to.
    pub shared: Arc<Mutex<Shared>>,
}

impl World {
    /// Something was heard: part of the trace.
    pub fn heard(&self, what: &str) {
        self.shared.lock().run.heard(turmoil::sim_elapsed().unwrap_or_default(), what);
    }

    /// A promise was broken.
    pub fn violated(&self, what: impl Into<String>) {
        self.shared.lock().run.violated(what.into());
    }

    /// Keeps a complaint of the oracle.
    pub fn check(&self, checked: Result<(), String>) {
        if let Err(words) = checked {
            self.violated(words);
        }
    }

    /// A client of its own, by number.
    pub fn client(&self, number: u64) -> Client {
        let endpoints: Vec<String> = self.machines.iter().map(|machine| cluster::address(machine.number)).collect();
        let config = ClientConfig {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(2),
            connector: Some(cluster::connector()),
            seed: Some(self.seed ^ number << 40),
        };
        Client::lazy(&endpoints, config).expect("addresses of nodes are addresses")
    }

    /// Random numbers of its own, by number.
    pub fn random(&self, number: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.wrapping_mul(31) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Whether the storm goes on.
    pub fn stormy(&self) -> bool {
        turmoil::sim_elapsed().unwrap_or(self.length) < self.length
    }

    /// The time on a clock that is right.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.settings.base.0 + turmoil::sim_elapsed().unwrap_or_default().as_nanos() as i64)
    }

    /// Waits until the documents are applied.
    pub async fn opened(&self) {
        while !self.shared.lock().open {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks until there is an answer; everything is healed, so there has to be one.
    pub async fn insist<T, F: Future<Output = Result<T, Error>>>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> Option<T> {
        for _ in 0..20 {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(error) if error.retryable() => self.heard(&format!("{what}: {error}")),
                Err(error) => {
                    self.violated(format!("{what}: {error}"));
                    return None;
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.violated(format!("{what}: no answer although everything is healed"));
        None
    }
}
