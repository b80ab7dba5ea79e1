//! The charge models: a quantity in, slices with amounts out. Who used a slice is no matter here; see
//! `billing/attribute.rs`.

use super::document::{Bound, Model, PackageRounding};
use crate::base::money::{Money, Quantity, Rate};
use crate::base::wide::{Rounding, multiply_divide};

/// One step of a ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Where the tier begins, in priced units.
    pub begin: Quantity,
    /// Where it ends; `None` on the last.
    pub end: Option<Quantity>,
    /// Per unit; where there is a block, or the ladder has packages, per started one.
    pub rate: Rate,
    /// Due once, in full, when the tier is reached.
    pub flat: Money,
    /// Units of a block, above zero.
    pub block: Option<Quantity>,
    /// The most that the tier's slice costs, flat part included.
    pub cap: Option<Money>,
}

impl Tier {
    /// A tier of a plain rate.
    pub fn new(begin: Quantity, end: Option<Quantity>, rate: Rate, flat: Money) -> Tier {
        Tier { begin, end, rate, flat, block: None, cap: None }
    }
}

/// Units that are only sold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    pub size: Quantity,
    pub round: PackageRounding,
}

/// A price's arithmetic. Invariant: the first tier begins at zero, each other where the one before ends, the last has
/// no end; where something else chooses the tier, all begin at zero without end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    pub model: Model,
    pub bound: Bound,
    pub tiers: Vec<Tier>,
    /// Of the package model only.
    pub package: Option<Package>,
}

/// A part of a quantity that one tier charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Index into the ladder's tiers.
    pub tier: usize,
    pub quantity: Quantity,
    /// Quantity times rate, plus the flat part; rounded once, half up, to 12 decimals.
    pub amount: Money,
}

impl Ladder {
    /// A ladder of one tier.
    pub fn per_unit(rate: Rate) -> Ladder {
        let tiers = vec![Tier::new(Quantity::ZERO, None, rate, Money::ZERO)];
        Ladder { model: Model::PerUnit, bound: Bound::Upper, tiers, package: None }
    }

    /// Charges `quantity`, which is not negative. Nothing is due for nothing. `None` on overflow, which the limits at
    /// push and apply exclude.
    pub fn charge(&self, quantity: Quantity) -> Option<Vec<Slice>> {
        assert!(quantity >= Quantity::ZERO, "a ladder is climbed by a quantity that is not below zero");
        if quantity.is_zero() {
            return Some(Vec::new());
        }
        match self.model {
            Model::PerUnit | Model::Percentage | Model::Dynamic => Some(vec![self.slice(0, quantity)?]),
            Model::Volume | Model::Stairstep => self.charge_at(quantity, self.reached(quantity)),
            Model::Package => {
                let amount = multiply_divide(self.packages(quantity), self.tiers[0].rate.0, MONEY_PER_RATE, HALF_UP)?;
                Some(vec![Slice { tier: 0, quantity, amount: Money(amount) }])
            }
            Model::Graduated | Model::GraduatedPercentage => {
                let reached = self.reached(quantity);
                let mut slices = Vec::with_capacity(reached + 1);
                for (index, tier) in self.tiers[..=reached].iter().enumerate() {
                    let end = tier.end.map_or(quantity, |end| end.min(quantity));
                    let slice = self.slice(index, end.checked_sub(tier.begin)?)?;
                    // Exactly at a lower bound the next tier is reached with no unit in it: only its flat part counts.
                    if !slice.quantity.is_zero() || !slice.amount.is_zero() {
                        slices.push(slice);
                    }
                }
                Some(slices)
            }
        }
    }

    /// Charges all of `quantity` in one tier, whatever its bounds.
    pub fn charge_at(&self, quantity: Quantity, tier: usize) -> Option<Vec<Slice>> {
        Some(vec![self.slice(tier, quantity)?])
    }

    /// Charges what a pool of `whole` units used between `begin` and `end`, while this ladder held. `None` on overflow.
    pub fn charge_part(&self, begin: Quantity, end: Quantity, whole: Quantity) -> Option<Vec<Slice>> {
        let quantity = end.checked_sub(begin)?;
        match self.model {
            Model::PerUnit | Model::Percentage | Model::Dynamic => self.charge(quantity),
            Model::Graduated | Model::GraduatedPercentage | Model::Package => {
                let mut slices = self.charge(end)?;
                // What a smaller quantity reaches a larger one does too.
                for before in self.charge(begin)? {
                    if let Some(own) = slices.iter_mut().find(|own| own.tier == before.tier) {
                        own.quantity = own.quantity.checked_sub(before.quantity)?;
                        own.amount = own.amount.checked_sub(before.amount)?;
                    }
                }
                slices.retain(|slice| !slice.quantity.is_zero() || !slice.amount.is_zero());
                Some(slices)
            }
            Model::Volume | Model::Stairstep => {
                let index = self.reached(whole);
                let tier = &self.tiers[index];
                // By differences of what lies below, so that the parts of an amount sum to it.
                let share = |amount: Money| -> Option<Money> {
                    let below = |at: Quantity| multiply_divide(amount.0, at.0, whole.0, HALF_UP);
                    Some(Money(below(end)? - below(begin)?))
                };
                let amount = match (tier.block, tier.cap) {
                    (None, None) => Money::of(quantity, tier.rate)?.checked_add(share(tier.flat)?)?,
                    _ => share(self.slice(index, whole)?.amount)?,
                };
                Some(vec![Slice { tier: index, quantity, amount }])
            }
        }
    }

    /// Charges what comes on top of `before` units that were charged already: under volume all of it at the rate of the tier
    /// that both together reach, under stairstep what that tier's stair is above the last, else what the whole costs more.
    /// `None` on overflow.
    pub fn charge_on(&self, before: Quantity, quantity: Quantity) -> Option<Vec<Slice>> {
        let whole = before.checked_add(quantity)?;
        if quantity.is_zero() {
            return Some(Vec::new());
        }
        match self.model {
            Model::Volume => self.charge_at(quantity, self.reached(whole)),
            Model::Stairstep => {
                let (last, tier) = (self.reached(before), self.reached(whole));
                let paid = if before.is_zero() { Money::ZERO } else { self.tiers[last].flat };
                let amount = self.tiers[tier].flat.checked_sub(paid)?;
                Some(vec![Slice { tier, quantity, amount }])
            }
            _ => self.charge_part(before, whole, whole),
        }
    }

    /// Charges each tier, from the first on, for what it has.
    pub fn charge_slices(&self, quantities: &[Quantity]) -> Option<Vec<Slice>> {
        quantities.iter().enumerate().map(|(tier, quantity)| self.slice(tier, *quantity)).collect()
    }

    /// What is due for nothing where the price says so: the flat part of the first tier, and no other.
    pub fn charge_zero(&self) -> Option<Slice> {
        self.slice(0, Quantity::ZERO)
    }

    /// Packages that a quantity makes; 0 where the ladder has none.
    pub fn packages(&self, quantity: Quantity) -> i128 {
        let Some(package) = self.package else { return 0 };
        let whole = quantity.0 / package.size.0;
        let started = package.round == PackageRounding::Up && quantity.0 % package.size.0 != 0;
        whole + i128::from(started)
    }

    /// The tier that holds `quantity`.
    fn reached(&self, quantity: Quantity) -> usize {
        self.tiers
            .iter()
            .position(|tier| match (self.bound, tier.end) {
                (_, None) => true,
                (Bound::Upper, Some(end)) => quantity <= end,
                (Bound::Lower, Some(end)) => quantity < end,
            })
            .expect("the last tier has no end")
    }

    fn slice(&self, index: usize, quantity: Quantity) -> Option<Slice> {
        let tier = &self.tiers[index];
        let by_units = match tier.block {
            None => Money::of(quantity, tier.rate)?,
            Some(size) => {
                let blocks = quantity.0 / size.0 + i128::from(quantity.0 % size.0 != 0);
                Money(multiply_divide(blocks, tier.rate.0, MONEY_PER_RATE, HALF_UP)?)
            }
        };
        let amount = by_units.checked_add(tier.flat)?;
        Some(Slice { tier: index, quantity, amount: tier.cap.map_or(amount, |cap| amount.min(cap)) })
    }
}

const HALF_UP: Rounding = Rounding::HalfUp;
/// A whole number times a rate at scale 18, as money at scale 12.
const MONEY_PER_RATE: i128 =
    crate::base::wide::power_of_ten(crate::base::money::RATE_SCALE - crate::base::money::SCALE);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ladder(model: Model, bound: Bound, tiers: &[(Option<&str>, &str, &str)]) -> Ladder {
        let mut begin = Quantity::ZERO;
        let tiers = tiers
            .iter()
            .map(|(end, rate, flat)| {
                let end = end.map(|end| end.parse().unwrap());
                let tier = Tier::new(begin, end, rate.parse().unwrap(), flat.parse().unwrap());
                begin = end.unwrap_or_default();
                tier
            })
            .collect();
        Ladder { model, bound, tiers, package: None }
    }

    fn charge(ladder: &Ladder, quantity: &str) -> (String, Vec<usize>) {
        let slices = ladder.charge(quantity.parse().unwrap()).unwrap();
        let total = slices.iter().map(|slice| slice.amount.0).sum();
        let sum: i128 = slices.iter().map(|slice| slice.quantity.0).sum();
        assert_eq!(Quantity(sum), quantity.parse().unwrap(), "slices hold the whole quantity");
        (Money(total).to_string(), slices.iter().map(|slice| slice.tier).collect())
    }

    fn check(ladder: &Ladder, rows: &[(&str, &str, &[usize])]) {
        for (quantity, amount, tiers) in rows {
            assert_eq!(charge(ladder, quantity), ((*amount).to_owned(), tiers.to_vec()), "{quantity}");
        }
    }

    #[test]
    fn published_ladders_at_below_and_above_their_bounds() {
        let graduated = |tiers| ladder(Model::Graduated, Bound::Upper, tiers);
        // S3 Standard us-east-1: 51,200 * 0.023 = 1,177.60; 460,800 * 0.022 = 10,137.60.
        let s3 = graduated(&[(Some("51200"), "0.023", "0"), (Some("512000"), "0.022", "0"), (None, "0.021", "0")]);
        check(
            &s3,
            &[
                ("0", "0", &[]),
                ("51199", "1177.577", &[0]),
                ("51200", "1177.6", &[0]),
                ("51200.000000000001", "1177.6", &[0, 1]),
                ("51201", "1177.622", &[0, 1]),
                ("512000", "11315.2", &[0, 1]),
                ("512001", "11315.221", &[0, 1, 2]),
            ],
        );
        // Data transfer out us-east-1: 10,240 * 0.09 = 921.60; 40,960 * 0.085 = 3,481.60; 102,400 * 0.07 = 7,168.
        let out = graduated(&[
            (Some("10240"), "0.09", "0"),
            (Some("51200"), "0.085", "0"),
            (Some("153600"), "0.07", "0"),
            (None, "0.05", "0"),
        ]);
        check(
            &out,
            &[
                ("10239", "921.51", &[0]),
                ("10240", "921.6", &[0]),
                ("10241", "921.685", &[0, 1]),
                ("51200", "4403.2", &[0, 1]),
                ("153600", "11571.2", &[0, 1, 2]),
                ("153601", "11571.25", &[0, 1, 2, 3]),
            ],
        );
        // CloudFront US: 870.40 + 3,276.80 + 6,144 + 14,336 + 16,097.28 + 104,857.60 = 145,582.08 at 5,242,880.
        let edge = graduated(&[
            (Some("10240"), "0.085", "0"),
            (Some("51200"), "0.080", "0"),
            (Some("153600"), "0.060", "0"),
            (Some("512000"), "0.040", "0"),
            (Some("1048576"), "0.030", "0"),
            (Some("5242880"), "0.025", "0"),
            (None, "0.020", "0"),
        ]);
        check(
            &edge,
            &[
                ("10240", "870.4", &[0]),
                ("512000", "24627.2", &[0, 1, 2, 3]),
                ("1048576", "40724.48", &[0, 1, 2, 3, 4]),
                ("5242880", "145582.08", &[0, 1, 2, 3, 4, 5]),
                ("5242881", "145582.1", &[0, 1, 2, 3, 4, 5, 6]),
            ],
        );
        // Lambda x86: 6e9 * 0.0000166667 = 100,000.20; 9e9 * 0.000015 = 135,000.
        let lambda = graduated(&[
            (Some("6000000000"), "0.0000166667", "0"),
            (Some("15000000000"), "0.000015", "0"),
            (None, "0.0000133334", "0"),
        ]);
        check(
            &lambda,
            &[
                ("5999999999", "100000.1999833333", &[0]),
                ("6000000000", "100000.2", &[0]),
                ("15000000000", "235000.2", &[0, 1]),
                ("15000000001", "235000.2000133334", &[0, 1, 2]),
            ],
        );
    }

    #[test]
    fn volume_charges_all_units_at_the_reached_tier() {
        // BILLING.md 2.3: the same ladder gives 1200 graduated and 1080 volume.
        let tiers: &[(Option<&str>, &str, &str)] = &[(Some("1000"), "0.6", "0"), (None, "0.54", "0")];
        check(&ladder(Model::Volume, Bound::Upper, tiers), &[("2000", "1080", &[1]), ("1000", "600", &[0])]);
        check(&ladder(Model::Volume, Bound::Lower, tiers), &[("999", "599.4", &[0]), ("1000", "540", &[1])]);
    }

    #[test]
    fn flat_parts_are_due_when_a_tier_is_reached() {
        let tiers: &[(Option<&str>, &str, &str)] =
            &[(Some("10"), "0", "5"), (Some("20"), "1", "0"), (None, "0.5", "7")];
        // Graduated: 5; 5 + 10; 5 + 10 + 7 + 0.5.
        check(
            &ladder(Model::Graduated, Bound::Upper, tiers),
            &[("1", "5", &[0]), ("10", "5", &[0]), ("20", "15", &[0, 1]), ("21", "22.5", &[0, 1, 2])],
        );
        // Reached at the bound: the third tier's flat part is due at 20, with no unit in it.
        check(&ladder(Model::Graduated, Bound::Lower, tiers), &[("20", "22", &[0, 1, 2]), ("10", "5", &[0])]);
        // Volume: only the reached tier's flat part.
        check(&ladder(Model::Volume, Bound::Upper, tiers), &[("10", "5", &[0]), ("30", "22", &[2])]);
    }

    #[test]
    fn stairsteps_charge_the_flat_part_of_the_reached_tier() {
        let tiers: &[(Option<&str>, &str, &str)] = &[(Some("10"), "0", "5"), (Some("20"), "0", "8"), (None, "0", "30")];
        check(
            &ladder(Model::Stairstep, Bound::Upper, tiers),
            &[("0.5", "5", &[0]), ("10", "5", &[0]), ("10.5", "8", &[1]), ("20", "8", &[1]), ("2000", "30", &[2])],
        );
        check(&ladder(Model::Stairstep, Bound::Lower, tiers), &[("10", "8", &[1]), ("20", "30", &[2])]);
        let stairs = ladder(Model::Stairstep, Bound::Upper, tiers);
        assert_eq!(stairs.charge_at("3".parse().unwrap(), 2).unwrap()[0].amount.to_string(), "30");
        assert_eq!(stairs.charge_zero().unwrap().amount.to_string(), "5");
    }

    #[test]
    fn blocks_and_caps_are_of_a_tiers_slice() {
        let with_blocks = |model| {
            let mut ladder = ladder(model, Bound::Upper, &[(Some("100"), "2", "1"), (None, "3", "0")]);
            ladder.tiers[0].block = Some("30".parse().unwrap());
            ladder.tiers[0].cap = Some("8".parse().unwrap());
            ladder.tiers[1].block = Some("50".parse().unwrap());
            ladder
        };
        // Graduated: 1 + 1 * 2; 1 + 3 * 2; 1 + 4 * 2 = 9, capped at 8; 8 + 1 * 3; 8 + 2 * 3.
        check(
            &with_blocks(Model::Graduated),
            &[("1", "3", &[0]), ("90", "7", &[0]), ("100", "8", &[0]), ("150", "11", &[0, 1]), ("151", "14", &[0, 1])],
        );
        // Volume: all of 151 in blocks of 50 is four.
        check(&with_blocks(Model::Volume), &[("60", "5", &[0]), ("151", "12", &[1])]);
    }

    proptest! {
        /// A ladder that goes on from cycle to cycle comes to what it would at once; under volume the tier is each cycle's.
        #[test]
        fn a_year_in_parts_comes_to_the_year(
            rows in prop::collection::vec((1i128..40, 0i128..9, 0i128..9), 1..5),
            bound in prop::sample::select(vec![Bound::Upper, Bound::Lower]),
            stairs in any::<bool>(),
            parts in prop::collection::vec(0i128..50, 1..6),
        ) {
            let unit = Quantity::ONE.0;
            let (mut begin, mut flat) = (0, 0);
            let mut tiers: Vec<Tier> = Vec::new();
            for (index, (width, rate, more)) in rows.iter().enumerate() {
                let end = (index + 1 < rows.len()).then(|| Quantity(begin + width * unit));
                flat += more * unit;
                let rate = if stairs { Rate::ZERO } else { Rate(rate * Rate::ONE.0) };
                tiers.push(Tier::new(Quantity(begin), end, rate, Money(flat)));
                begin += width * unit;
            }
            let model = if stairs { Model::Stairstep } else { Model::Graduated };
            let ladder = Ladder { model, bound, tiers, package: None };
            let sum = |slices: Vec<Slice>| slices.iter().map(|slice| (slice.quantity.0, slice.amount.0))
                .fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
            let (mut before, mut paid) = (0, (0, 0));
            for part in parts.iter().map(|part| part * unit / 2) {
                let own = sum(ladder.charge_on(Quantity(before), Quantity(part)).unwrap());
                paid = (paid.0 + own.0, paid.1 + own.1);
                before += part;
            }
            prop_assert_eq!(paid, sum(ladder.charge(Quantity(before)).unwrap()));
        }

        /// Whatever tiers a graduated price has, one more unit never lowers its charge, and slices sum to the quantity.
        #[test]
        fn more_usage_never_lowers_a_graduated_charge(
            rows in prop::collection::vec((1i128..40, 0i128..9, 0i128..9, 0i128..12, 0i128..30), 1..6),
            bound in prop::sample::select(vec![Bound::Upper, Bound::Lower]),
            low in 0i128..200, more in 0i128..60,
        ) {
            let unit = Quantity::ONE.0;
            let mut begin = 0;
            let mut tiers: Vec<Tier> = Vec::new();
            for (index, (width, rate, flat, block, cap)) in rows.iter().enumerate() {
                let end = (index + 1 < rows.len()).then(|| Quantity(begin + width * unit));
                tiers.push(Tier {
                    begin: Quantity(begin),
                    end,
                    rate: Rate(rate * Rate::ONE.0),
                    flat: Money(flat * unit),
                    block: (*block > 0).then(|| Quantity(block * unit)),
                    cap: (*cap > 15).then(|| Money(cap * unit)),
                });
                begin += width * unit;
            }
            let ladder = Ladder { model: Model::Graduated, bound, tiers, package: None };
            let charge = |quantity: i128| {
                let slices = ladder.charge(Quantity(quantity * unit / 2)).unwrap();
                prop_assert_eq!(slices.iter().map(|slice| slice.quantity.0).sum::<i128>(), quantity * unit / 2);
                Ok(slices.iter().map(|slice| slice.amount.0).sum::<i128>())
            };
            prop_assert!(charge(low)? <= charge(low + more)?);
        }
    }

    #[test]
    fn a_part_goes_on_where_the_one_before_ended() {
        fn check(ladder: &Ladder, begin: &str, end: &str, whole: &str, expected: &[(usize, &str, &str)]) {
            let [begin, end, whole] = [begin, end, whole].map(|text| text.parse().unwrap());
            let slices = ladder.charge_part(begin, end, whole).unwrap();
            let found = slices.iter().map(|own| (own.tier, own.quantity.to_string(), own.amount.to_string()));
            let expected = expected.iter().map(|(tier, units, cost)| (*tier, (*units).to_owned(), (*cost).to_owned()));
            assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
        let tiers: &[(Option<&str>, &str, &str)] = &[(Some("10"), "2", "5"), (None, "1", "7")];
        let graduated = ladder(Model::Graduated, Bound::Upper, tiers);
        // The first flat part was due before 4, the second is due between 4 and 13.
        check(&graduated, "0", "4", "13", &[(0, "4", "13")]);
        check(&graduated, "4", "13", "13", &[(0, "6", "12"), (1, "3", "10")]);
        check(&graduated, "11", "13", "13", &[(1, "2", "2")]);
        // All at the tier of 13; the flat part 7 by 4 and 9 of 13.
        let volume = ladder(Model::Volume, Bound::Upper, tiers);
        check(&volume, "0", "4", "13", &[(1, "4", "6.153846153846")]);
        check(&volume, "4", "13", "13", &[(1, "9", "13.846153846154")]);
        let package = Package { size: "10".parse().unwrap(), round: PackageRounding::Up };
        let package =
            Ladder { model: Model::Package, package: Some(package), ..Ladder::per_unit("3".parse().unwrap()) };
        // One package has begun before 4 and holds until 10.
        check(&package, "4", "9", "25", &[(0, "5", "0")]);
        check(&package, "9", "25", "25", &[(0, "16", "6")]);
    }

    #[test]
    fn packages_count_on_the_whole_quantity() {
        fn check(round: PackageRounding, quantity: &str, expected: &str) {
            let package = Package { size: "1000".parse().unwrap(), round };
            let ladder =
                Ladder { model: Model::Package, package: Some(package), ..Ladder::per_unit("0.2".parse().unwrap()) };
            assert_eq!(charge(&ladder, quantity).0, expected, "{quantity}");
        }
        check(PackageRounding::Up, "1", "0.2");
        check(PackageRounding::Up, "1000", "0.2");
        check(PackageRounding::Up, "1000.000000000001", "0.4");
        check(PackageRounding::Down, "1999", "0.2");
        check(PackageRounding::Down, "999", "0");
    }
}
