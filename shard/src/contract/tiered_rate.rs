//! Private rates by tier: where the units of public ladders lie in the contract's own (BILLING.md section 2.3 and
//! decision 13). Only integers here; which lines they are is the caller's.

use super::document_scope::Per;
use super::steps::Steps;
use super::year::Yearly;
use crate::base::wide::split;

/// Tiers of private rates over a pool of the contract's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TieredRate {
    /// Over units.
    pub tiers: Steps,
    pub per: Per,
    /// Where the tiers go on over a contract year.
    pub yearly: Option<Yearly>,
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
    /// divided over the ladders pro rata to what earlier tiers left of them, and taken from each in its own order. The
    /// private tiers begin at `before`. `None` on overflow.
    pub fn runs(&self, before: i128, ladders: &[Vec<i128>]) -> Option<Vec<Run>> {
        let totals: Vec<i128> = ladders.iter().map(|slices| slices.iter().sum()).collect();
        let mut left = totals.clone();
        let mut slices: Vec<Vec<i128>> = ladders.to_vec();
        let parts = self.tiers.cut_from(before, totals.iter().sum())?;
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
        Some(runs)
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
        fn check(climb: Climb, before: i128, ladders: &[&[i128]], expected: &[(usize, usize, usize, i128)]) {
            let step = |begin, end| Step { begin, end, rate: Rate::ONE };
            let tiers = Steps { climb, bound: Bound::Upper, steps: vec![step(0, Some(60)), step(60, None)] };
            let ladders: Vec<Vec<i128>> = ladders.iter().map(|slices| slices.to_vec()).collect();
            let rate = TieredRate { tiers, per: Per::Payer, yearly: None, may_raise: false };
            let runs = rate.runs(before, &ladders).unwrap();
            let found: Vec<_> = runs.iter().map(|run| (run.ladder, run.slice, run.tier, run.units)).collect();
            assert_eq!(found, expected);
        }
        // One ladder of 50 and 50: cut at 60, so that the second slice is in both tiers.
        check(Climb::Graduated, 0, &[&[50, 50]], &[(0, 0, 0, 50), (0, 1, 0, 10), (0, 1, 1, 40)]);
        // 100 and 50 share the first tier 40 to 20.
        check(
            Climb::Graduated,
            0,
            &[&[30, 70], &[50]],
            &[(0, 0, 0, 30), (0, 1, 0, 10), (1, 0, 0, 20), (0, 1, 1, 60), (1, 0, 1, 30)],
        );
        check(Climb::Volume, 0, &[&[50, 50]], &[(0, 0, 1, 50), (0, 1, 1, 50)]);
        check(Climb::Graduated, 0, &[&[]], &[]);
        // 40 were used before: 20 are left of the first tier, and beyond 60 all are in the second.
        check(Climb::Graduated, 40, &[&[50, 50]], &[(0, 0, 0, 20), (0, 0, 1, 30), (0, 1, 1, 50)]);
        check(Climb::Graduated, 60, &[&[50]], &[(0, 0, 1, 50)]);
        check(Climb::Volume, 50, &[&[10]], &[(0, 0, 0, 10)]);
        check(Climb::Volume, 51, &[&[10]], &[(0, 0, 1, 10)]);
    }
}
