//! A ladder of a contract: tiers of private rates, bands of percentages. It cuts a whole into parts; what a part costs or
//! saves is its owner's arithmetic.

use super::document_scope::Climb;
use crate::base::money::Rate;
use crate::pricing::document::Bound;

/// Steps from zero up without gaps; the last has no end. Bounds are amounts or quantities, in steps of 10^-12.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    pub climb: Climb,
    /// Which step holds a whole that is exactly at a bound.
    pub bound: Bound,
    pub steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub begin: i128,
    pub end: Option<i128>,
    /// Per unit, or a share of one.
    pub rate: Rate,
}

impl Steps {
    /// One step for everything.
    pub fn one(rate: Rate) -> Steps {
        Steps { climb: Climb::Volume, bound: Bound::Upper, steps: vec![Step { begin: 0, end: None, rate }] }
    }

    /// The step that holds `whole`.
    pub fn reached(&self, whole: i128) -> usize {
        let holds = |step: &Step| match (self.bound, step.end) {
            (_, None) => true,
            (Bound::Upper, Some(end)) => whole <= end,
            (Bound::Lower, Some(end)) => whole < end,
        };
        self.steps.iter().position(holds).expect("the last step has no end")
    }

    /// `whole` by step: all in the reached one, or each step's part of it. Parts of nothing are left out; a whole that is
    /// not above zero has none.
    pub fn cut(&self, whole: i128) -> Vec<(usize, i128)> {
        // The limits of amounts and quantities keep the end in range.
        self.cut_from(0, whole).unwrap_or_default()
    }

    /// The same where the ladder was climbed as far as `before` already, which is not below zero: all in the step that
    /// both together reach, or each step's part of what lies between. `None` on overflow.
    pub fn cut_from(&self, before: i128, whole: i128) -> Option<Vec<(usize, i128)>> {
        if whole <= 0 {
            return Some(Vec::new());
        }
        let until = before.checked_add(whole)?;
        Some(match self.climb {
            Climb::Volume => vec![(self.reached(until), whole)],
            Climb::Graduated => {
                let part = |step: &Step| {
                    let begin = step.begin.clamp(before, until);
                    step.end.map_or(until, |end| end.clamp(before, until)) - begin
                };
                self.steps.iter().map(part).enumerate().filter(|(_, part)| *part > 0).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wholes_are_cut_at_bounds() {
        fn check(climb: Climb, bound: Bound, whole: i128, expected: &[(usize, i128)]) {
            let step = |begin, end| Step { begin, end, rate: Rate::ONE };
            let steps = Steps { climb, bound, steps: vec![step(0, Some(10)), step(10, Some(30)), step(30, None)] };
            assert_eq!(steps.cut(whole), expected, "{climb:?} {bound:?} {whole}");
        }
        use Bound::{Lower, Upper};
        check(Climb::Graduated, Upper, 45, &[(0, 10), (1, 20), (2, 15)]);
        check(Climb::Graduated, Lower, 10, &[(0, 10)]);
        check(Climb::Graduated, Upper, 0, &[]);
        check(Climb::Volume, Upper, 10, &[(0, 10)]);
        check(Climb::Volume, Lower, 10, &[(1, 10)]);
        check(Climb::Volume, Lower, 31, &[(2, 31)]);
    }

    #[test]
    fn a_ladder_goes_on_where_it_was_left() {
        fn check(climb: Climb, bound: Bound, before: i128, whole: i128, expected: &[(usize, i128)]) {
            let step = |begin, end| Step { begin, end, rate: Rate::ONE };
            let steps = Steps { climb, bound, steps: vec![step(0, Some(10)), step(10, Some(30)), step(30, None)] };
            assert_eq!(steps.cut_from(before, whole).unwrap(), expected, "{climb:?} {bound:?} {before} {whole}");
        }
        use Bound::{Lower, Upper};
        check(Climb::Graduated, Upper, 4, 3, &[(0, 3)]);
        check(Climb::Graduated, Upper, 4, 30, &[(0, 6), (1, 20), (2, 4)]);
        check(Climb::Graduated, Upper, 10, 5, &[(1, 5)]);
        check(Climb::Graduated, Upper, 40, 5, &[(2, 5)]);
        check(Climb::Graduated, Upper, 40, 0, &[]);
        check(Climb::Volume, Upper, 4, 6, &[(0, 6)]);
        check(Climb::Volume, Lower, 4, 6, &[(1, 6)]);
        check(Climb::Volume, Upper, 40, 1, &[(2, 1)]);
    }
}
