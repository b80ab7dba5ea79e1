//! A price that changes within the cycle: what was used while each of its ladders held is a part of the pool, and the pool
//! goes on from part to part (BILLING.md decision 10). What a part costs is `pricing/rate.rs`'s matter.

use super::bill::Source;
use super::input::FoldError;
use super::measure::Window;
use super::usage_stage::{Members, UsageStage, sum};
use crate::base::money::Quantity;
use crate::pricing::catalogue::Price;
use crate::pricing::rate::Ladder;

impl UsageStage<'_> {
    /// Charges a pool under several ladders, each from an hour of the cycle on.
    pub(super) fn climb_parts(
        &mut self,
        price: &Price,
        ladders: &[(u32, &Ladder)],
        pool: Option<u32>,
        members: &Members,
    ) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under price {}", price.id) };
        let ends = ladders.iter().skip(1).map(|(hour, _)| *hour).chain(std::iter::once(u32::MAX));
        let windows: Vec<Window> = ladders.iter().zip(ends).map(|((begin, _), end)| *begin..end).collect();
        let brought = self.brought(members, None);
        let (first, mut free) = (self.cells.len(), price.free_units);
        for window in &windows {
            let before = sum(&self.amounts(members, Some(window))).ok_or_else(overflow)?;
            let source = Source::FreeUnits { price: price.id.clone() };
            self.give_free(free, price.attribution, source, pool, members, Some(window))?;
            let after = sum(&self.amounts(members, Some(window))).ok_or_else(overflow)?;
            free = Quantity(free.0 - (before - after));
        }
        self.merge(first, None, &price.id)?;
        let first = self.cells.len();
        let weights = self.amounts(members, None);
        let whole = Quantity(sum(&weights).ok_or_else(overflow)?);
        let mut begin = Quantity::ZERO;
        for ((_, ladder), window) in ladders.iter().zip(&windows) {
            let own = self.amounts(members, Some(window));
            let part = Quantity(sum(&own).ok_or_else(overflow)?);
            if part.is_zero() {
                continue;
            }
            let end = begin.checked_add(part).ok_or_else(overflow)?;
            for slice in ladder.charge_part(begin, end, whole).ok_or_else(overflow)? {
                self.divide((price, ladder), &slice, pool, members, &own, Some(window));
            }
            begin = end;
        }
        self.add_rest((price, ladders[0].1), pool, first, members, (&brought, &weights), None)
    }
}
