//! Private rates by tier: where the units of public ladders lie in the contract's own (BILLING.md section 2.3 and
//! decision 13). Only integers here; which lines they are is the caller's.

use super::document_scope::Per;
use super::steps::Steps;
use crate::base::wide::split;

/// Tiers of private rates over a pool of the contract's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TieredRate {
    /// Over units.
    pub tiers: Steps,
    pub per: Per,
    /// Also where it is dearer than the public slice.
    pub may_raise: bool,
}

/// A run of units that lie in one public slice and one private tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which public ladder, and which of its slices.
    pub ladder: usize,
    pub slice: usize,
    pub tier: usize,
    pub units: i128,
}

impl TieredRate {
    /// Cuts public ladders, each a list of its slices' units in their order, at the private tiers. Each tier's units are
    /// divided over the ladders pro rata to what earlier tiers left of them, and taken from each in its own order.
    pub fn runs(&self, ladders: &[Vec<i128>]) -> Vec<Run> {
        let totals: Vec<i128> = ladders.iter().map(|slices| slices.iter().sum()).collect();
        let mut left = totals.clone();
        let mut slices: Vec<Vec<i128>> = ladders.to_vec();
        let parts = self.tiers.cut(totals.iter().sum());
        let mut runs = Vec::new();
        for (place, (tier, units)) in parts.iter().enumerate() {
            // The last takes what is left, so that every unit is in one run.
            let shares = Some(left.clone()).filter(|_| place + 1 == parts.len()).or_else(|| split(*units, &left));
            for (ladder, mut share) in shares.into_iter().flatten().enumerate() {
                left[ladder] -= share;
                for (slice, units) in slices[ladder].iter_mut().enumerate() {
                    let taken = share.min(*units);
                    if taken > 0 {
                        runs.push(Run { ladder, slice, tier: *tier, units: taken });
                    }
                    *units -= taken;
                    share -= taken;
                }
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::super::document_scope::Climb;
    use super::super::steps::Step;
    use super::*;
    use crate::base::money::Rate;
    use crate::pricing::document::Bound;

    #[test]
    fn units_meet_both_ladders_in_one_order() {
        fn check(climb: Climb, ladders: &[&[i128]], expected: &[(usize, usize, usize, i128)]) {
            let step = |begin, end| Step { begin, end, rate: Rate::ONE };
            let tiers = Steps { climb, bound: Bound::Upper, steps: vec![step(0, Some(60)), step(60, None)] };
            let ladders: Vec<Vec<i128>> = ladders.iter().map(|slices| slices.to_vec()).collect();
            let runs = TieredRate { tiers, per: Per::Payer, may_raise: false }.runs(&ladders);
            let found: Vec<_> = runs.iter().map(|run| (run.ladder, run.slice, run.tier, run.units)).collect();
            assert_eq!(found, expected);
        }
        // One ladder of 50 and 50: cut at 60, so that the second slice is in both tiers.
        check(Climb::Graduated, &[&[50, 50]], &[(0, 0, 0, 50), (0, 1, 0, 10), (0, 1, 1, 40)]);
        // 100 and 50 share the first tier 40 to 20.
        check(
            Climb::Graduated,
            &[&[30, 70], &[50]],
            &[(0, 0, 0, 30), (0, 1, 0, 10), (1, 0, 0, 20), (0, 1, 1, 60), (1, 0, 1, 30)],
        );
        check(Climb::Volume, &[&[50, 50]], &[(0, 0, 1, 50), (0, 1, 1, 50)]);
        check(Climb::Graduated, &[&[]], &[]);
    }
}
