//! What a client was promised: knows only which records were sent and what was answered, and checks what the cluster
//! says afterwards against it. Nothing of the product's own arithmetic is used here.
//!
//! A record without a verdict may count once or not at all; one with a verdict has to keep it.

use std::collections::BTreeMap;

/// Usage is counted in thousandths here, whatever the meter keeps.
pub const UNIT: i128 = 1_000;

/// Names a record: who sent it, and under which number or id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The producer.
    pub producer: String,
    /// Its number, or the number in its id.
    pub number: u64,
}

/// Where a record counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Root of the hierarchy.
    pub root: String,
    /// `2024-09`.
    pub cycle: String,
    /// Account.
    pub account: String,
    /// Usage type.
    pub usage_type: String,
}

/// What became of a record, as far as its sender was told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Nothing,
    Counted,
    Late,
    /// Counted by a sending that was never answered: in time or late.
    Duplicate,
    Refused(String),
}

#[derive(Debug, Clone)]
struct Sent {
    place: Place,
    thousandths: i128,
    told: Told,
}

/// A verdict, in the oracle's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Counted now.
    Accepted {
        /// For a cycle that was cut before.
        late: bool,
    },
    /// Counted before.
    Duplicate,
    /// Not counted, with the code.
    Refused(String),
}

/// Sums of one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    counted: i128,
    late: i128,
    /// Counted, but whether in time was never said.
    either: i128,
}

/// Everything sent and answered.
#[derive(Debug, Default)]
pub struct Oracle {
    sent: BTreeMap<Name, Sent>,
    /// Roots of accounts that moved, by account and cycle.
    homes: BTreeMap<(String, String), String>,
    /// Highest acknowledged index of each shard.
    floor: BTreeMap<u32, u64>,
    /// Bills as they were first seen: (root, cycle, payer) and the hash of the body.
    bills: BTreeMap<(String, String, String), Vec<u8>>,
}

impl Oracle {
    /// A record is about to be sent, for the first time or again.
    pub fn sent(&mut self, name: Name, mut place: Place, thousandths: i128) {
        if let Some(root) = self.homes.get(&(place.account.clone(), place.cycle.clone())) {
            place.root.clone_from(root);
        }
        self.sent.entry(name).or_insert(Sent { place, thousandths, told: Told::Nothing });
    }

    /// Usage of an account in a cycle is another hierarchy's, whenever it was sent.
    pub fn rehome(&mut self, account: &str, cycle: &str, root: &str) {
        let of = |sent: &&mut Sent| sent.place.account == account && sent.place.cycle == cycle;
        self.sent.values_mut().filter(of).for_each(|sent| sent.place.root = root.to_owned());
        self.homes.insert((account.to_owned(), cycle.to_owned()), root.to_owned());
    }

    /// A record was answered.
    ///
    /// # Errors
    /// The verdict contradicts an earlier one.
    pub fn told(&mut self, name: &Name, verdict: &Verdict) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(name) else {
            return Err(format!("{name:?} was answered {verdict:?} and never sent"));
        };
        let next = match (&sent.told, verdict) {
            (Told::Nothing, Verdict::Accepted { late: false }) => Told::Counted,
            (Told::Nothing, Verdict::Accepted { late: true }) => Told::Late,
            (Told::Nothing, Verdict::Duplicate) => Told::Duplicate,
            (Told::Nothing, Verdict::Refused(code)) => Told::Refused(code.clone()),
            (known @ (Told::Counted | Told::Late | Told::Duplicate), Verdict::Duplicate) => known.clone(),
            (Told::Refused(before), Verdict::Refused(code)) if before == code => return Ok(()),
            (before, _) => return Err(format!("{name:?} was {before:?} and is {verdict:?} now")),
        };
        sent.told = next;
        Ok(())
    }

    /// An acknowledgement or read came with a position.
    pub fn position(&mut self, shard: u32, index: u64) {
        let floor = self.floor.entry(shard).or_default();
        *floor = (*floor).max(index);
    }

    /// The highest position heard of in a shard.
    pub fn floor(&self, shard: u32) -> u64 {
        self.floor.get(&shard).copied().unwrap_or(0)
    }

    /// A linearizable read that began when `floor` was known must contain it.
    ///
    /// # Errors
    /// It does not.
    pub fn read(&mut self, shard: u32, floor: u64, index: u64) -> Result<(), String> {
        self.position(shard, index);
        match index < floor {
            true => {
                Err(format!("a read of shard {shard} is at entry {index}, {floor} was acknowledged before it began"))
            }
            false => Ok(()),
        }
    }

    /// Records with a verdict.
    pub fn answered(&self) -> u64 {
        self.sent.values().filter(|sent| sent.told != Told::Nothing).count() as u64
    }

    /// Records without a verdict.
    pub fn unanswered(&self) -> u64 {
        self.sent.len() as u64 - self.answered()
    }

    /// How many records were refused, by code.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        let mut refused = BTreeMap::new();
        for sent in self.sent.values() {
            if let Told::Refused(code) = &sent.told {
                *refused.entry(code.clone()).or_default() += 1;
            }
        }
        refused
    }

    fn sums(&self, root: &str, cycle: &str) -> BTreeMap<Place, Sum> {
        let mut sums: BTreeMap<Place, Sum> = BTreeMap::new();
        for sent in self.sent.values().filter(|sent| sent.place.root == root && sent.place.cycle == cycle) {
            let sum = sums.entry(sent.place.clone()).or_default();
            match sent.told {
                Told::Counted => sum.counted += sent.thousandths,
                Told::Late => sum.late += sent.thousandths,
                Told::Duplicate => sum.either += sent.thousandths,
                Told::Refused(_) | Told::Nothing => (),
            }
        }
        sums
    }

    /// Compares what a cycle of a hierarchy holds, in time and late, with what was answered. Every record must have its
    /// verdict by now.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_usage(&self, root: &str, cycle: &str, found: &BTreeMap<Place, (i128, i128)>) -> Result<(), String> {
        let mut sums = self.sums(root, cycle);
        for place in found.keys() {
            sums.entry(place.clone()).or_default();
        }
        for (place, sum) in sums {
            let (in_time, late) = found.get(&place).copied().unwrap_or_default();
            let told = sum.counted + sum.late + sum.either;
            if in_time + late != told {
                return Err(format!("{place:?} holds {in_time} in time and {late} late, answered were {sum:?}"));
            }
            if in_time < sum.counted || late < sum.late {
                return Err(format!("{place:?} holds {in_time} in time and {late} late, but {sum:?} were answered"));
            }
        }
        Ok(())
    }

    /// Compares what a closed cycle's bills charge for with what was answered: all that was counted in time is on them,
    /// and nothing that was late.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_billed(&self, root: &str, cycle: &str, billed: &BTreeMap<Place, i128>) -> Result<(), String> {
        let mut sums = self.sums(root, cycle);
        for place in billed.keys() {
            sums.entry(place.clone()).or_default();
        }
        for (place, sum) in sums {
            let charged = billed.get(&place).copied().unwrap_or(0);
            if !(sum.counted..=sum.counted + sum.either).contains(&charged) {
                return Err(format!("{place:?} is charged {charged}, answered were {sum:?}"));
            }
        }
        Ok(())
    }

    /// A bill was seen, on any node at any time: its body never changes.
    ///
    /// # Errors
    /// It was another one before.
    pub fn bill(&mut self, root: &str, cycle: &str, payer: &str, body_hash: &[u8]) -> Result<(), String> {
        let key = (root.to_owned(), cycle.to_owned(), payer.to_owned());
        let first = self.bills.entry(key).or_insert_with(|| body_hash.to_vec());
        match first[..] == *body_hash {
            true => Ok(()),
            false => Err(format!("the bill of {payer} in {root} for {cycle} changed")),
        }
    }
}

/// A decimal in thousandths.
///
/// # Errors
/// It is no decimal, or finer than a thousandth.
pub fn thousandths(decimal: &str) -> Result<i128, String> {
    let bad = || format!("'{decimal}' is no decimal in thousandths");
    let (sign, digits) = decimal.strip_prefix('-').map_or((1, decimal), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept = fraction.trim_end_matches('0');
    if kept.len() > 3 || whole.is_empty() {
        return Err(bad());
    }
    let whole: i128 = whole.parse().map_err(|_| bad())?;
    let fraction: i128 = format!("{kept:0<3}").parse().map_err(|_| bad())?;
    Ok(sign * (whole * UNIT + fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Name {
        Name { producer: "p".into(), number }
    }

    fn place() -> Place {
        Place { root: "r".into(), cycle: "2024-09".into(), account: "a".into(), usage_type: "u".into() }
    }

    #[test]
    fn decimals_are_read_in_thousandths() {
        for (decimal, expected) in [("0", 0), ("1", 1_000), ("1.5", 1_500), ("-0.25", -250), ("12.3450", 12_345)] {
            assert_eq!(thousandths(decimal), Ok(expected), "{decimal}");
        }
        for bad in ["", ".5", "1.2345", "x", "1e3"] {
            assert!(thousandths(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn verdicts_may_not_contradict_each_other() {
        let accepted = Verdict::Accepted { late: false };
        for (first, second, fine) in [
            (accepted.clone(), Verdict::Duplicate, true),
            (Verdict::Duplicate, Verdict::Duplicate, true),
            (accepted.clone(), accepted.clone(), false),
            (Verdict::Duplicate, accepted.clone(), false),
            (accepted.clone(), Verdict::Refused("X".into()), false),
            (Verdict::Refused("X".into()), Verdict::Refused("X".into()), true),
            (Verdict::Refused("X".into()), Verdict::Refused("Y".into()), false),
            (Verdict::Refused("X".into()), accepted, false),
        ] {
            let mut oracle = Oracle::default();
            oracle.sent(name(1), place(), 5);
            oracle.told(&name(1), &first).unwrap();
            assert_eq!(oracle.told(&name(1), &second).is_ok(), fine, "{first:?} then {second:?}");
        }
        assert!(Oracle::default().told(&name(1), &Verdict::Duplicate).is_err(), "never sent");
    }

    #[test]
    fn what_is_held_must_be_what_was_answered() {
        let mut oracle = Oracle::default();
        for (number, verdict) in
            [(1, Verdict::Accepted { late: false }), (2, Verdict::Duplicate), (3, Verdict::Accepted { late: true })]
        {
            oracle.sent(name(number), place(), 10);
            oracle.told(&name(number), &verdict).unwrap();
        }
        let held = |in_time, late| BTreeMap::from([(place(), (in_time, late))]);
        for (in_time, late, fine) in
            [(10, 20, true), (20, 10, true), (30, 0, false), (0, 30, false), (20, 20, false), (10, 10, false)]
        {
            let checked = oracle.check_usage("r", "2024-09", &held(in_time, late));
            assert_eq!(checked.is_ok(), fine, "{in_time} {late}: {checked:?}");
        }
        assert!(oracle.check_usage("r", "2024-09", &BTreeMap::new()).is_err(), "all is lost");
        assert!(oracle.check_usage("other", "2024-09", &held(1, 0)).is_err(), "a phantom");
    }

    #[test]
    fn positions_and_bills_do_not_run_back() {
        let mut oracle = Oracle::default();
        oracle.position(1, 7);
        assert!(oracle.read(1, 7, 7).is_ok());
        assert!(oracle.read(1, 7, 6).is_err());
        assert!(oracle.bill("r", "2024-09", "r", b"x").is_ok());
        assert!(oracle.bill("r", "2024-09", "r", b"x").is_ok());
        assert!(oracle.bill("r", "2024-09", "r", b"y").is_err());
    }
}
