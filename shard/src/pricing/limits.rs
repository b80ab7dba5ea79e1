//! The limits that keep every fold inside its integers (BILLING.md decision 8), each with the reason for its number.
//! They are enforced where documents are checked and usage is pushed, so that no fold can overflow.

use crate::base::money::{Money, Quantity, RATE_SCALE, Rate, SCALE};
use crate::base::wide::power_of_ten;

/// Highest rate per unit, and highest rate per started package: 10^9 currency units.
pub const RATE_MAX: Rate = Rate(power_of_ten(9 + RATE_SCALE));
/// Highest flat part of a tier: 10^9 currency units. With [`TIERS_MAX`] a pool's flat parts stay below 10^12.
pub const FLAT_MAX: Money = Money(power_of_ten(9 + SCALE));
/// Highest part per record: 10^6 currency units. No shard takes in 10^15 records in its life, so that all of them come
/// to less than 10^21 units.
pub const PER_RECORD_MAX: Money = Money(power_of_ten(6 + SCALE));
/// Highest multiplier of an amount, and highest share of one (10,000 percent).
pub const MULTIPLIER_MAX: Rate = Rate(100 * Rate::ONE.0);
/// Highest minimum of a price: as a flat part, which a pool of usage pays once a period (744 hours at most).
pub const MINIMUM_MAX: Money = FLAT_MAX;
/// Highest cap of a tier and maximum of a price: 10^15 currency units, the most that one lot can cost.
pub const CAP_MAX: Money = Money(power_of_ten(15 + SCALE));
/// Changes of one price: each has a ladder of its own; a day has one, and a version of a catalogue lasts some years at most.
pub const CHANGES_MAX: usize = 1_000;
/// Meters that choose the tier of one price.
pub const REACHED_BY_MAX: usize = 16;
/// Highest bound of a tier, free units or pool: 10^16 units, ten times what one lot may hold.
pub const BOUND_MAX: Quantity = Quantity(power_of_ten(16 + SCALE));
/// Tiers of a ladder. Real price lists have at most a few dozen; beyond this a file is a mistake.
pub const TIERS_MAX: usize = 1_000;
/// Meters, SKUs, prices or pools of a catalogue, each: the largest public price list has about 10^6 SKUs.
pub const ITEMS_MAX: usize = 2_000_000;
/// Highest amount of a fee for one: 10^9 currency units.
pub const FEE_MAX: Money = FLAT_MAX;
/// Most of one fee that one subscription takes: 10^9, so that one comes to 10^18 currency units at most.
pub const FEE_QUANTITY_MAX: Quantity = Quantity(power_of_ten(9 + SCALE));
/// Subscriptions of a contract: each is a line a month or a few; 10^4 of them stay below 10^23 currency units.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Price lists that a catalogue names as its sources: a provider has a few hundred services, one list each.
pub const SOURCES_MAX: usize = 1_000;
/// Prices of a catalogue whose pools last a contract year: each is up to three balances a payer and year, which a hierarchy
/// keeps for as long as it lives.
pub const YEARLY_PRICES_MAX: usize = 100;
/// Time zones of a catalogue: a provider's regions lie in a few dozen.
pub const ZONES_MAX: usize = 100;
/// Changes of a zone's clocks: two a year for centuries.
pub const ZONE_OFFSETS_MAX: usize = 1_000;
/// Clauses of a contract: the largest known have hundreds; each costs a pass over a bill's lines.
pub const CLAUSES_MAX: usize = 2_000;
/// Patterns in one list of a selector.
pub const PATTERNS_MAX: usize = 1_000;
/// Attributes that a meter keeps: each is part of every series' key.
pub const ATTRIBUTES_MAX: usize = 16;

/// What one lot may cost at most, in currency units (10^15): 10^10 lots stay below 10^25 units, 10^37 in steps of
/// 10^-12, while 128 bits hold 1.7 * 10^38.
pub const LOT_COST_MAX: u32 = 15;
/// What one lot may measure at most after conversion, in priced units (10^15), for the same sum.
pub const LOT_UNITS_MAX: u32 = 15;
/// Largest magnitude of any counter, as an integer at its meter's scale (10^30): the 744 hours of a series sum within
/// 128 bits, and pools are summed in 256.
pub const COUNTER_MAX: i128 = power_of_ten(30);
/// Highest level, as an integer at its meter's scale (10^22): over the 2.7 * 10^15 nanoseconds of a month its integral
/// stays below 2.7 * 10^37.
pub const LEVEL_MAX: i128 = power_of_ten(22);
/// A meter whose counters could hold less than this many of its units (10^6) is not usable: the rate is refused.
pub const CEILING_UNITS_MIN: u32 = 6;
/// Largest and smallest divisor of a conversion: 10^18 and 10^-9.
pub const DIVISOR_MAX: Quantity = Quantity(power_of_ten(18 + SCALE));
pub const DIVISOR_MIN: Quantity = Quantity(power_of_ten(SCALE - 9));
/// Hours of the shortest month (28 days): a conversion by the cycle's hours divides by no less.
pub const CYCLE_HOURS_MIN: i128 = 672;
