//! How long to wait and how often to try: exponential with full jitter, inside the caller's deadline; the server's wish
//! wins. What may be sent again is `error`'s matter; that a resend carries the same numbers is `batch`'s.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// The first wait is at most this long: shorter than an election, longer than a hiccup.
pub const WAIT_FIRST_MAX: Duration = Duration::from_millis(20);
/// No wait is longer unless the server asks for it: an outage that ends is noticed within two seconds.
pub const WAIT_MAX: Duration = Duration::from_secs(2);

/// The waits of one call.
#[derive(Debug)]
pub struct Waits {
    ceiling: ExponentialBackoff,
    random: SmallRng,
    deadline: Instant,
}

impl Waits {
    /// Waits that end at `deadline`; with a seed they are the same every time.
    pub fn new(deadline: Instant, seed: Option<u64>) -> Waits {
        let ceiling = ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(WAIT_FIRST_MAX)
            .with_max_delay(WAIT_MAX)
            .without_max_times()
            .build();
        let random = match seed {
            Some(seed) => SmallRng::seed_from_u64(seed),
            None => SmallRng::from_os_rng(),
        };
        Waits { ceiling, random, deadline }
    }

    /// How long to wait before the next try, or `None` when it would begin at or after the deadline. A hint of the server
    /// is a lower bound: a little jitter is added, since everybody got the same hint.
    pub fn next(&mut self, hint: Option<Duration>) -> Option<Duration> {
        let ceiling = self.ceiling.next().unwrap_or(WAIT_MAX);
        let wait = match hint {
            Some(hint) => hint + self.random.random_range(Duration::ZERO..=WAIT_FIRST_MAX),
            None => self.random.random_range(Duration::ZERO..=ceiling),
        };
        (Instant::now() + wait < self.deadline).then_some(wait)
    }

    /// What is left until the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_two_seconds_and_end_at_the_deadline() {
        let mut waits = Waits::new(Instant::now() + Duration::from_secs(60), Some(7));
        let mut ceiling = WAIT_FIRST_MAX;
        let mut longest = Duration::ZERO;
        while let Some(wait) = waits.next(None) {
            assert!(wait <= ceiling, "{wait:?} above {ceiling:?}");
            longest = longest.max(wait);
            ceiling = (ceiling * 2).min(WAIT_MAX);
            tokio::time::advance(wait).await;
        }
        assert!(longest > WAIT_MAX / 2, "{longest:?}");
        assert!(waits.left() <= WAIT_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_hint_wins() {
        let mut waits = Waits::new(Instant::now() + Duration::from_secs(10), Some(7));
        let wait = waits.next(Some(Duration::from_secs(5))).unwrap();
        assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_secs(5) + WAIT_FIRST_MAX);
        assert_eq!(waits.next(Some(Duration::from_secs(11))), None);
    }
}
