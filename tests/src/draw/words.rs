//! The small words of random documents: chances, numbers and names, with the edges that matter (bounds that are hit
//! exactly, rates with so many decimals that every product must be rounded).

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

pub const SERVICES: &[&str] = &["compute", "storage"];
pub const OPERATIONS: &[&str] = &["read", "write"];
pub const REGIONS: &[&str] = &["eu", "us"];
/// Values of the one attribute that some meters keep.
pub const CLASSES: &[&str] = &["cold", "hot"];

/// Billing groups of every drawn hierarchy.
pub const GROUPS: &[&str] = &["blue", "green"];
/// Every way to round (BILLING.md decision 8).
pub const ROUNDING: &[&str] = &["half_up", "half_even", "up", "down", "ceil", "floor"];

/// True `percent` times of a hundred.
pub fn chance(rng: &mut SmallRng, percent: u32) -> bool {
    rng.random_range(0..100) < percent
}

pub fn one<'a, T>(rng: &mut SmallRng, of: &'a [T]) -> &'a T {
    of.choose(rng).expect("something to choose from")
}

/// A decimal with up to `decimals` digits behind the point, below `limit`.
pub fn decimal(rng: &mut SmallRng, limit: u64, decimals: u32) -> String {
    let whole = rng.random_range(0..limit);
    match rng.random_range(0..=decimals) {
        0 => whole.to_string(),
        decimals => format!("{whole}.{:0width$}", rng.random_range(0..10u64.pow(decimals)), width = decimals as usize),
    }
}

/// A quantity: half of the time a small multiple of five, so that ladders and thresholds are met exactly at their bounds.
pub fn quantity(rng: &mut SmallRng, scale: u32) -> String {
    if chance(rng, 50) { (rng.random_range(0..=12) * 5).to_string() } else { decimal(rng, 60, scale) }
}

/// A rate: now plain, now with so many decimals that every product must be rounded.
pub fn rate(rng: &mut SmallRng) -> String {
    match rng.random_range(0..4) {
        0 => one(rng, &["0", "1"]).to_string(),
        1 => format!("0.{:03}", rng.random_range(1..1000)),
        2 => decimal(rng, 20, 12),
        _ => format!("0.0000{:08}", rng.random_range(1..100_000_000)),
    }
}
