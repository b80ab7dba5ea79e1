//! What time it is for the log: the median of the clocks of the nodes that vote in a group, and whether enough of them
//! agree that a cycle may be cut by it. Other nodes' clocks are learnt by asking, half the way taken off, and carried on
//! with this node's steady time, so that a clock that jumps moves nobody but itself. When one does, what was heard before
//! no longer counts: a clock that was wrong then and is right again by now would otherwise agree with the one that jumped.
//!
//! This node's own clock is [`crate::clock`]; who asks is [`crate::timekeeping`], who stamps entries is `data::shard`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use reckoner_shard::base::time::Timestamp;
use tokio::time::Instant;

/// Clocks further apart than this do not agree: far more than clocks that are kept right ever are, and little enough that a
/// close is never visibly early.
pub const APART_MAX: Duration = Duration::from_secs(5);

/// A clock that was not heard of for so long counts only where no majority was, and never for the trust that a cut needs.
const FRESH: Duration = Duration::from_secs(5);

/// Between two times that others are asked at once.
const DOUBT_INTERVAL: Duration = Duration::from_millis(200);

/// What a clock said at an instant.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Nanoseconds.
    pub now: i64,
    /// When it said so.
    pub at: Instant,
}

impl Heard {
    /// What it says now, if it goes on steadily.
    fn carried(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.at);
        self.now.saturating_add(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Whether it jumped since `before`.
    fn jumped(&self, before: &Heard) -> bool {
        before.carried(self.at).abs_diff(self.now) > APART_MAX.as_nanos() as u64
    }
}

/// The clocks of nodes.
pub struct Clocks {
    heard: Mutex<BTreeMap<u64, Heard>>,
    /// This node's own when it was looked at last.
    own: Mutex<Option<Heard>>,
    asked: Mutex<Option<Instant>>,
    /// Whether this node's own clock is believed whatever the others say: a fault for tests.
    trusts_itself: bool,
}

/// The time by several clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The median.
    pub now: Timestamp,
    /// Whether a majority is within [`APART_MAX`] of it.
    pub is_trusted: bool,
    /// Nodes whose clocks are further off, with nanoseconds ahead of the median.
    pub off: Vec<(u64, i64)>,
}

impl Reading {
    /// Why no cycle is cut, where none is.
    pub fn doubt(&self) -> Option<String> {
        if self.is_trusted {
            return None;
        }
        let apart = APART_MAX.as_secs();
        let off: Vec<String> = self.off.iter().map(|(node, ahead)| off_words(*node, *ahead)).collect();
        let off = if off.is_empty() { "too few nodes answer".to_owned() } else { off.join(", ") };
        Some(format!(
            "no majority of clocks is within {apart} s of each other ({off}); cycles wait until clocks are set"
        ))
    }
}

/// A node whose clock is off.
fn off_words(node: u64, ahead: i64) -> String {
    let millis = ahead / 1_000_000;
    format!("node {node} is {} ms {}", millis.abs(), if millis < 0 { "behind" } else { "ahead" })
}

/// One clock, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Known {
    node: u64,
    now: i64,
    is_fresh: bool,
}

/// The time by the clocks of `voters`; `None` while those of no majority are known.
fn read(mut known: Vec<Known>, voters: usize) -> Option<Reading> {
    if known.iter().filter(|clock| clock.is_fresh).count() * 2 > voters {
        known.retain(|clock| clock.is_fresh);
    }
    if known.len() * 2 <= voters || known.is_empty() {
        return None;
    }
    known.sort_by_key(|clock| (clock.now, clock.node));
    // Of two in the middle the earlier: nothing is cut too early by it.
    let median = known[(known.len() - 1) / 2].now;
    let apart = APART_MAX.as_nanos() as u64;
    let is_near = |clock: &&Known| clock.now.abs_diff(median) <= apart;
    let near = known.iter().filter(|clock| clock.is_fresh).filter(is_near).count();
    let mut off: Vec<(u64, i64)> = known
        .iter()
        .filter(|clock| !is_near(clock))
        .map(|clock| (clock.node, clock.now.saturating_sub(median)))
        .collect();
    off.sort_unstable();
    Some(Reading { now: Timestamp(median), is_trusted: near * 2 > voters, off })
}

impl Clocks {
    /// Nothing is known yet.
    pub fn new(trusts_itself: bool) -> Self {
        Self { heard: Mutex::default(), own: Mutex::new(None), asked: Mutex::new(None), trusts_itself }
    }

    /// The time by the clocks of `voters`, `node`'s own among them, which says `own`; `None` while those of no majority are known.
    pub fn read(&self, node: u64, own: Timestamp, voters: &BTreeSet<u64>) -> Option<Reading> {
        if self.trusts_itself {
            return Some(Reading { now: own, is_trusted: true, off: Vec::new() });
        }
        let mut known = vec![Known { node, now: own.0, is_fresh: true }];
        if voters.len() > 1 {
            let now = Instant::now();
            let own = Heard { now: own.0, at: now };
            let before = self.own.lock().replace(own);
            let mut heard = self.heard.lock();
            if before.is_some_and(|before| own.jumped(&before)) {
                heard.clear();
            }
            let others = voters.iter().filter(|other| **other != node);
            known.extend(others.filter_map(|other| {
                let heard = heard.get(other)?;
                let is_fresh = now.saturating_duration_since(heard.at) <= FRESH;
                Some(Known { node: *other, now: heard.carried(now), is_fresh })
            }));
        }
        read(known, voters.len())
    }

    /// What other nodes' clocks said when they were asked, all at once.
    pub fn hear(&self, said: &[(u64, Heard)]) {
        let mut heard = self.heard.lock();
        let has_jumped = |(node, now): &(u64, Heard)| heard.get(node).is_some_and(|before| now.jumped(before));
        if said.iter().any(has_jumped) {
            heard.clear();
        }
        heard.extend(said.iter().copied());
    }

    /// Whether the others may be asked at once; then they are.
    pub fn may_ask(&self) -> bool {
        let (mut asked, now) = (self.asked.lock(), Instant::now());
        let is_time = asked.is_none_or(|asked| now.duration_since(asked) >= DOUBT_INTERVAL);
        if is_time {
            *asked = Some(now);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_a_majority_is_the_time() {
        const S: i64 = 1_000_000_000;
        const DAY: i64 = 86_400 * S;
        // Clocks as (node, seconds), how many vote; the median, whether it is trusted, who is off.
        let check = |clocks: &[(u64, i64)], voters: usize, expected: Option<(i64, bool, &[u64])>| {
            let known = clocks.iter().map(|(node, now)| Known { node: *node, now: *now, is_fresh: true });
            let found = read(known.collect(), voters);
            let told = found
                .as_ref()
                .map(|own| (own.now.0, own.is_trusted, own.off.iter().map(|off| off.0).collect::<Vec<_>>()));
            assert_eq!(
                told,
                expected.map(|(now, trusted, off)| (now, trusted, off.to_vec())),
                "{clocks:?} of {voters}"
            );
        };
        check(&[(1, 7)], 1, Some((7, true, &[])));
        check(&[(1, 7)], 2, None);
        check(&[(1, 7)], 3, None);
        check(&[(1, 10 * S), (2, 11 * S), (3, 12 * S)], 3, Some((11 * S, true, &[])));
        // One a day ahead moves nothing, whoever it is.
        check(&[(1, 10 * S + DAY), (2, 11 * S), (3, 12 * S)], 3, Some((12 * S, true, &[1])));
        check(&[(1, 10 * S - DAY), (2, 11 * S), (3, 12 * S)], 3, Some((11 * S, true, &[1])));
        // Two wrong in different directions: the middle one is no majority.
        check(&[(1, 10 * S + DAY), (2, 11 * S), (3, 12 * S - DAY)], 3, Some((11 * S, false, &[1, 3])));
        // One is away: two that agree are enough, two that do not are not.
        check(&[(1, 10 * S), (2, 11 * S)], 3, Some((10 * S, true, &[])));
        check(&[(1, 10 * S + DAY), (2, 11 * S)], 3, Some((11 * S, false, &[1])));
        check(&[(1, 10 * S), (2, 15 * S)], 2, Some((10 * S, true, &[])));
        check(&[(1, 10 * S), (2, 15 * S + 1)], 2, Some((10 * S, false, &[2])));
    }

    #[test]
    fn a_clock_that_was_not_heard_of_lately_gives_no_trust() {
        let clock = |node, now, is_fresh| Known { node, now, is_fresh };
        let reading = read(vec![clock(1, 5, true), clock(2, 5, false), clock(3, 5, false)], 3).unwrap();
        assert!(!reading.is_trusted && reading.doubt().unwrap().contains("too few nodes answer"));
        assert!(read(vec![clock(1, 5, true), clock(2, 5, true), clock(3, 5, false)], 3).unwrap().is_trusted);
        // One was wrong when it was last heard of, another is now: they are no majority.
        let day = 86_400_000_000_000;
        let reading = read(vec![clock(1, 5, true), clock(2, 5 + day, true), clock(3, 5 + day, false)], 3).unwrap();
        assert_eq!((reading.now, reading.is_trusted), (Timestamp(5), false));
    }

    #[test]
    fn what_was_heard_before_a_jump_no_longer_counts() {
        const DAY: i64 = 86_400_000_000_000;
        let (clocks, voters, first) = (Clocks::new(false), BTreeSet::from([1, 2, 3]), Instant::now());
        let right = || DAY + first.elapsed().as_nanos() as i64;
        // Node 1 reads; what the others say is how far they are ahead.
        let read = |ahead: i64| clocks.read(1, Timestamp(right() + ahead), &voters);
        let said = |ahead: &[(u64, i64)]| {
            let say = |(node, ahead): &(u64, i64)| (*node, Heard { now: right() + ahead, at: Instant::now() });
            clocks.hear(&ahead.iter().map(say).collect::<Vec<_>>());
        };
        let told = |reading: Option<Reading>| {
            let reading = reading.expect("a majority is known");
            ((reading.now.0.abs_diff(right()) + DAY as u64 / 2) / DAY as u64, reading.is_trusted)
        };
        said(&[(2, 0), (3, DAY)]);
        assert_eq!(told(read(0)), (0, true), "3 is wrong");
        // 3 is right again, which nobody has heard, when this node's own clock jumps as far.
        assert_eq!(read(DAY), None, "nobody has been asked since");
        said(&[(2, 0)]);
        assert_eq!(told(read(DAY)), (0, false), "3 does not answer");
        said(&[(2, 0), (3, 0)]);
        assert_eq!(told(read(DAY)), (0, true));
        assert_eq!(read(DAY).unwrap().off.iter().map(|off| off.0).collect::<Vec<_>>(), [1]);
        assert_eq!(read(0), None, "back again is a jump as well");
        said(&[(2, 0), (3, DAY)]);
        assert_eq!(told(read(0)), (0, true));
        // 3 is right again and does not answer, and 2 is as wrong as 3 was.
        said(&[(2, DAY)]);
        assert_eq!(told(read(0)), (0, false), "of 3 nothing is known since 2 jumped");
        said(&[(2, DAY), (3, 0)]);
        assert_eq!(told(read(0)), (0, true));
    }
}
