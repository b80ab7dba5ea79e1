//! Workload W, seeded: hierarchies, a catalogue and a stream of usage whose popularity follows Zipf's law. The same seed
//! gives the same accounts and the same records, here and in tests. Pushing them is a scenario's business.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Size of a workload. [`Shape::w`] is the one that speed claims quote.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Hierarchies; each has one payer, its root.
    pub roots: u32,
    /// Linked accounts of each hierarchy.
    pub accounts_per_root: u32,
    /// Counters of each account: one per meter.
    pub meters: u32,
    /// Zipf's exponent over all counters; 0 is uniform.
    pub exponent: f64,
}

impl Shape {
    /// W: 1,000,000 counters over 100,000 accounts in 1,000 hierarchies, Zipf 1.0.
    pub fn w() -> Shape {
        Shape { roots: 1_000, accounts_per_root: 100, meters: 10, exponent: 1.0 }
    }

    /// The same in small: 10,000 counters, for a quick look and for tests.
    pub fn small() -> Shape {
        Shape { roots: 50, accounts_per_root: 20, meters: 10, exponent: 1.0 }
    }

    pub fn accounts(&self) -> u32 {
        self.roots * self.accounts_per_root
    }

    pub fn counters(&self) -> u32 {
        self.accounts() * self.meters
    }

    pub fn root_name(&self, root: u32) -> String {
        format!("root-{root:05}")
    }

    /// Accounts are numbered through; hierarchy = account / accounts_per_root.
    pub fn account_name(&self, account: u32) -> String {
        format!("acct-{account:07}")
    }

    /// The account and the meter of a counter.
    pub fn split(&self, counter: u32) -> (u32, u32) {
        (counter / self.meters, counter % self.meters)
    }

    pub fn usage_type(&self, meter: u32) -> String {
        format!("units-{meter}")
    }

    /// One catalogue: per-unit prices for even meters, a graduated ladder over the family for odd ones.
    pub fn catalogue(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from("kind: Catalogue\nname: bench\ncurrency: USD\neffective: 2024-09\nmeters:\n");
        for meter in 0..self.meters {
            let usage_type = self.usage_type(meter);
            let _ = writeln!(text, "  - {{id: m{meter}, service: bench, usage_type: {usage_type}, scale: 3}}");
        }
        text.push_str("skus:\n");
        for meter in 0..self.meters {
            let usage_type = self.usage_type(meter);
            let _ = writeln!(
                text,
                "  - {{id: s{meter}, match: {{service: bench, usage_type: {usage_type}}}, unit: unit, price: p{}}}",
                meter % 2
            );
        }
        text.push_str(
            "prices:\n  - {id: p0, model: per_unit, rate: \"0.0023\"}\n  - id: p1\n    model: graduated\n    tiers:\n      \
             - {up_to: \"10000\", rate: \"0.09\"}\n      - {up_to: \"50000\", rate: \"0.085\"}\n      - {rate: \"0.05\"}\n",
        );
        text
    }

    /// One hierarchy as a document.
    pub fn hierarchy(&self, root: u32) -> String {
        use std::fmt::Write as _;
        let name = self.root_name(root);
        let mut text = format!("kind: Hierarchy\nroot: {name}\ncatalogue: bench\naccounts:\n");
        let first = root * self.accounts_per_root;
        for account in first..first + self.accounts_per_root {
            let _ = writeln!(text, "  - {{id: {}}}", self.account_name(account));
        }
        text.push_str("cycles: {first: 2024-09, close: manual, grace: 5d}\n");
        text
    }
}

/// Draws counters by popularity. The ranks are spread over hierarchies by a fixed permutation, so that hot counters do
/// not all fall into the first hierarchy.
pub struct Popularity {
    cumulative: Vec<f64>,
    counters: u32,
    step: u32,
}

impl Popularity {
    pub fn new(shape: &Shape) -> Popularity {
        let counters = shape.counters();
        let mut cumulative = Vec::with_capacity(counters as usize);
        let mut sum = 0.0;
        for rank in 1..=counters {
            sum += 1.0 / f64::from(rank).powf(shape.exponent);
            cumulative.push(sum);
        }
        // Any step without a common divisor visits every counter once.
        let mut step = (f64::from(counters) * 0.618) as u32 | 1;
        while gcd(step, counters) != 1 {
            step += 2;
        }
        Popularity { cumulative, counters, step }
    }

    /// A counter, hot ones more often.
    pub fn draw(&self, random: &mut SmallRng) -> u32 {
        let top = *self.cumulative.last().expect("a workload has counters");
        let at = random.random_range(0.0..top);
        let rank = self.cumulative.partition_point(|sum| *sum <= at) as u64;
        (rank * u64::from(self.step) % u64::from(self.counters)) as u32
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One record to push: which counter, how much (at the meter's scale of 3), and when (seconds into September 2024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    pub counter: u32,
    pub quantity: i64,
    pub second: u32,
}

/// A prepared stream of records that a producer repeats as often as it needs, so that drawing costs nothing while the
/// clock runs.
pub fn draws(shape: &Shape, seed: u64, count: usize) -> Vec<Draw> {
    let popularity = Popularity::new(shape);
    let mut random = SmallRng::seed_from_u64(seed);
    (0..count)
        .map(|_| Draw {
            counter: popularity.draw(&mut random),
            quantity: random.random_range(1..100_000),
            second: random.random_range(0..30 * 86_400),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_records() {
        let shape = Shape::small();
        assert_eq!(draws(&shape, 7, 1_000), draws(&shape, 7, 1_000));
        assert_ne!(draws(&shape, 7, 1_000), draws(&shape, 8, 1_000));
    }

    #[test]
    fn the_hottest_counter_has_its_share_of_zipf() {
        // With exponent 1 over n counters the hottest has 1 / H(n); H(10,000) is 9.788.
        let shape = Shape::small();
        let all = draws(&shape, 1, 100_000);
        let mut counts = std::collections::BTreeMap::<u32, u32>::new();
        for draw in &all {
            *counts.entry(draw.counter).or_default() += 1;
        }
        let hottest = counts.values().max().copied().unwrap_or(0);
        assert!((9_700..10_800).contains(&hottest), "{hottest} of 100,000, expected about 10,217");
        assert!(all.iter().all(|draw| draw.counter < shape.counters()));
    }
}
