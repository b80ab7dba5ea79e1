//! From the ranges of a price list to the tiers of a ladder: sorted, first at zero, without gap or overlap. A gap of one
//! unit is a habit of some lists (a range ends at 20000, the next begins at 20001) and is closed at its lower end; any
//! other is refused, since nobody can say what its units cost.

use reckoner_shard::base::money::{Quantity, Rate};
use reckoner_shard::pricing::limits::{BOUND_MAX, RATE_MAX, TIERS_MAX};

use super::item::Tier;

/// Units above `begin`, up to and including `end`, at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub begin: Quantity,
    /// `None`: without end.
    pub end: Option<Quantity>,
    pub rate: Rate,
}

/// The tiers of a ladder, and a sentence for each gap that was closed; or why there is none.
pub fn tiers(mut ranges: Vec<Range>) -> Result<(Vec<Tier>, Vec<String>), String> {
    if ranges.len() > TIERS_MAX {
        return Err(format!("it has {} ranges, at most {TIERS_MAX} are taken", ranges.len()));
    }
    ranges.sort_by_key(|range| (range.begin, range.end.is_none(), range.end));
    let first = ranges.first().ok_or("it has no range with a price")?;
    if !first.begin.is_zero() {
        return Err(format!("its first range begins at {}: units below have no price", first.begin));
    }
    let (mut tiers, mut closed) = (Vec::with_capacity(ranges.len()), Vec::new());
    let mut reached = Some(Quantity::ZERO);
    for range in &ranges {
        let Some(end) = reached else {
            return Err(format!("a range without end is followed by one that begins at {}", range.begin));
        };
        if range.begin < end {
            return Err(format!("ranges overlap: one ends at {end}, another begins at {}", range.begin));
        }
        if range.begin > end {
            if end.checked_add(Quantity::ONE) != Some(range.begin) {
                return Err(format!("units between {end} and {} have no price", range.begin));
            }
            closed
                .push(format!("a range ends at {end} and the next begins at {}: taken to begin at {end}", range.begin));
        }
        if range.end.is_some_and(|own| own <= end) {
            return Err(format!("a range begins at {} and ends at {}", range.begin, range.end.unwrap_or_default()));
        }
        if range.rate < Rate::ZERO || range.rate > RATE_MAX || range.end.is_some_and(|end| end > BOUND_MAX) {
            let end = range.end.map_or("without end".to_owned(), |end| format!("up to {end}"));
            return Err(format!(
                "rate {} {end} is outside what a price may hold (0 to {RATE_MAX}, {BOUND_MAX} units)",
                range.rate
            ));
        }
        tiers.push(Tier { up_to: range.end, rate: range.rate });
        reached = range.end;
    }
    match reached {
        Some(end) => Err(format!("its last range ends at {end}: units beyond have no price")),
        None => Ok((tiers, closed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges as `begin-end@rate`, tiers as `end@rate`; `Inf` is no end.
    fn check(ranges: &str, expected: Result<(&str, usize), &str>) {
        let range = |text: &str| {
            let (range, rate) = text.split_once('@').unwrap();
            let (begin, end) = range.split_once('-').unwrap();
            let end = (end != "Inf").then(|| end.parse().unwrap());
            Range { begin: begin.parse().unwrap(), end, rate: rate.parse().unwrap() }
        };
        match (tiers(ranges.split_whitespace().map(range).collect()), expected) {
            (Ok((tiers, closed)), Ok((expected, gaps))) => {
                let tier = |tier: &Tier| {
                    format!("{}@{}", tier.up_to.map_or("Inf".to_owned(), |end| end.to_string()), tier.rate)
                };
                assert_eq!(tiers.iter().map(tier).collect::<Vec<_>>().join(" "), expected, "{ranges}");
                assert_eq!(closed.len(), gaps, "{ranges}");
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{ranges}: {why}"),
            (found, expected) => panic!("{ranges}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn ranges_become_tiers_or_a_reason() {
        check("0-Inf@0.5", Ok(("Inf@0.5", 0)));
        check("51200-Inf@0.022 0-51200@0.023", Ok(("51200@0.023 Inf@0.022", 0)));
        check("0-20000@2 20001-Inf@1", Ok(("20000@2 Inf@1", 1)));
        check("0-10@3 11-20@2 21-Inf@1", Ok(("10@3 20@2 Inf@1", 2)));
        check("0-0.5@3 1.5-Inf@1", Ok(("0.5@3 Inf@1", 1)));
        check("0-20000@2 20002-Inf@1", Err("units between 20000 and 20002"));
        check("0-20000@2 20000.5-Inf@1", Err("units between"));
        check("0-20000@2 19999-Inf@1", Err("overlap: one ends at 20000, another begins at 19999"));
        check("0-Inf@2 0-Inf@1", Err("without end is followed"));
        check("0-Inf@2 5-Inf@1", Err("without end is followed"));
        check("0-5@2 0-Inf@1", Err("overlap"));
        check("1-Inf@2", Err("begins at 1"));
        check("0-5@2", Err("ends at 5: units beyond"));
        check("0-0@2 0-Inf@1", Err("begins at 0 and ends at 0"));
        // A range of one unit that begins one after the last would vanish when its gap is closed; it keeps its unit.
        check("0-5@2 6-6@1 6-Inf@3", Ok(("5@2 6@1 Inf@3", 1)));
        check("", Err("no range"));
    }

    #[test]
    fn rates_and_bounds_stay_within_the_limits_of_a_price() {
        check("0-Inf@1000000000", Ok(("Inf@1000000000", 0)));
        check("0-Inf@1000000001", Err("outside"));
        check("0-Inf@-1", Err("outside"));
        check("0-100000000000000000@1 100000000000000000-Inf@2", Err("outside"));
    }
}
