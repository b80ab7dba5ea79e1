//! The first stage: counters become quantities, quantities climb the ladders of their pools behind free units, and every
//! slice is divided over the series that used it. Contract clauses come after, in `stage.rs`.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::Range;

use ethnum::I256;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::attribute::{netted, prorata, prorata_steps, take_in_sequence};
use super::bill::{PoolSlice, SharedPool, Source, Tier};
use super::fold::{Counter, FoldError};
use crate::base::id::{AccountId, GroupName, PriceId};
use crate::base::money::{Money, Quantity, Rate, SCALE};
use crate::base::time::{CycleId, HOUR};
use crate::base::wide::{Rounding, divide, power_of_ten};
use crate::pricing::catalogue::{Catalogue, Convert, MeterIndex, Price, SkuIndex};
use crate::pricing::document::{Attribution, Bucket, RoundingAt};
use crate::pricing::pool::{SplitBy, SplitKey};
use crate::usage::series::SeriesKey;

/// One priced series of the cycle.
#[derive(Clone, Debug)]
pub struct Used<'a> {
    pub series: &'a SeriesKey,
    pub meter: MeterIndex,
    pub sku: SkuIndex,
    pub payer: &'a AccountId,
    pub group: Option<&'a GroupName>,
    /// Above zero.
    pub value: i128,
    pub records: u64,
    /// Its counters, sorted by bucket.
    pub counters: Range<usize>,
}

/// A part of a series' charge: what becomes a usage line.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Index of the series.
    pub item: usize,
    pub source: Source,
    pub quantity: i128,
    pub rate: Rate,
    pub amount: i128,
    /// Index of the shared pool.
    pub pool: Option<u32>,
}

/// What the first stage makes.
pub struct Charged {
    /// Sorted by series; within one free units first, then tiers.
    pub cells: Vec<Cell>,
    pub pools: Vec<SharedPool>,
    /// Priced quantity of each series.
    pub quantities: Vec<i128>,
}

/// Charges all series of a hierarchy's cycle. They are sorted by account, SKU id, then dimensions.
pub fn charge(
    catalogue: &Catalogue,
    root: &AccountId,
    cycle: CycleId,
    used: &[Used<'_>],
    counters: &[Counter<'_>],
) -> Result<Charged, FoldError> {
    let mut stage = UsageStage {
        catalogue,
        root,
        hours: i128::from((cycle.end().0 - cycle.start().0) / HOUR),
        used,
        counters,
        left: vec![0; used.len()],
        lots: BTreeMap::new(),
        quantities: Vec::new(),
        cells: Vec::with_capacity(used.len()),
        pools: Vec::new(),
    };
    stage.run()?;
    let UsageStage { mut cells, pools, quantities, .. } = stage;
    // Stable: within a series cells stay in the order in which they were made.
    cells.sort_by_key(|cell| cell.item);
    Ok(Charged { cells, pools, quantities })
}

/// Series that share a ladder or a free pool, by their index, ascending.
type Members = Vec<usize>;

struct UsageStage<'a> {
    catalogue: &'a Catalogue,
    root: &'a AccountId,
    /// Of the cycle.
    hours: i128,
    used: &'a [Used<'a>],
    counters: &'a [Counter<'a>],
    /// What of each series no free units have taken.
    left: Vec<i128>,
    /// Of series that are attributed by sequence: (hour of the cycle, quantity left), in order of time.
    lots: BTreeMap<usize, Vec<(u32, i128)>>,
    quantities: Vec<i128>,
    cells: Vec<Cell>,
    pools: Vec<SharedPool>,
}

impl<'a> UsageStage<'a> {
    fn run(&mut self) -> Result<(), FoldError> {
        let catalogue = self.catalogue;
        let ladders = self.group(|used| Some(catalogue.sku(used.sku).price), |price| &catalogue.price(price).split_by);
        for (price, _, members) in &ladders {
            self.convert(catalogue.price(*price), members)?;
        }
        self.quantities = self.left.clone();
        self.cut_lots();
        self.free_pools()?;
        for (price, keys, members) in ladders {
            self.climb(catalogue.price(price), keys, &members)?;
        }
        Ok(())
    }

    /// The series that `of` puts under one id, split into pools. Sorted by id, then by the keys' values.
    fn group<I: Ord + Copy + Hash>(
        &self,
        of: impl Fn(&Used<'a>) -> Option<I>,
        split_by: impl Fn(I) -> &'a SplitBy,
    ) -> Vec<(I, Vec<&'a str>, Members)> {
        let mut groups: Vec<(I, Vec<&'a str>, Members)> = Vec::new();
        // Looked up, never iterated: the groups are sorted at the end.
        let mut places: HashMap<I, HashMap<Vec<&'a str>, usize, FixedState>, FixedState> = HashMap::default();
        let mut keys = Vec::new();
        for (index, used) in self.used.iter().enumerate() {
            let Some(id) = of(used) else { continue };
            keys.clear();
            self.keys(used, split_by(id), &mut keys);
            let of_id = places.entry(id).or_default();
            match of_id.get(keys.as_slice()) {
                Some(place) => groups[*place].2.push(index),
                None => {
                    of_id.insert(keys.clone(), groups.len());
                    groups.push((id, keys.clone(), vec![index]));
                }
            }
        }
        groups.sort();
        groups
    }

    /// The values of a pool's keys for one series. A group lies within a payer, so its payer comes along.
    fn keys(&self, used: &Used<'a>, split_by: &SplitBy, keys: &mut Vec<&'a str>) {
        for key in &split_by.0 {
            match key {
                SplitKey::Root => keys.push(self.root.as_str()),
                SplitKey::Payer => keys.push(used.payer.as_str()),
                SplitKey::Group => {
                    keys.push(used.payer.as_str());
                    keys.push(used.group.map_or("", GroupName::as_str));
                }
                SplitKey::Account => keys.push(used.series.account.as_str()),
                SplitKey::Region => keys.push(&used.series.region),
                SplitKey::Service => keys.push(&used.series.service),
                SplitKey::Sku => keys.push(self.catalogue.sku(used.sku).id.as_str()),
                SplitKey::Attribute(name) => {
                    let own = used.series.attributes.iter().find(|(own, _)| **own == **name);
                    keys.push(own.map_or("", |(_, value)| value));
                }
            }
        }
    }

    /// A pool's counters become priced units: the total is divided once and, if asked, rounded; the members get parts
    /// of it by largest remainder (BILLING.md decision 6). Members of another conversion are divided apart.
    fn convert(&mut self, price: &Price, members: &Members) -> Result<(), FoldError> {
        let mut kinds: BTreeMap<(Convert, u32), Members> = BTreeMap::new();
        for index in members {
            let used = &self.used[*index];
            let scale = self.catalogue.meter(used.meter).scale;
            kinds.entry((self.catalogue.sku(used.sku).convert, scale)).or_default().push(*index);
        }
        let overflow = || FoldError::Overflow { what: format!("the quantity under price {}", price.id) };
        for ((convert, scale), members) in &kinds {
            let raw: Vec<i128> = members.iter().map(|index| self.used[*index].value).collect();
            let parts = if convert.divide == Quantity::ONE && !convert.by_hours_of_cycle {
                let step = power_of_ten(SCALE - scale);
                let parts: Option<Vec<i128>> = raw.iter().map(|value| value.checked_mul(step)).collect();
                parts.ok_or_else(overflow)?
            } else {
                let sum: I256 = raw.iter().map(|value| I256::from(*value)).sum();
                let hours = if convert.by_hours_of_cycle { self.hours } else { 1 };
                let scaled = sum.checked_mul(I256::from(power_of_ten(2 * SCALE - scale))).ok_or_else(overflow)?;
                let total = divide(scaled, I256::from(convert.divide.0) * I256::from(hours), Rounding::HalfUp);
                prorata(i128::try_from(total).map_err(|_| overflow())?, &raw)
            };
            for (index, part) in members.iter().zip(parts) {
                self.left[*index] = part;
            }
        }
        if let Some((decimals, mode)) = price.round_units {
            let exact: Vec<i128> = members.iter().map(|index| self.left[*index]).collect();
            let total = sum(&exact).ok_or_else(overflow)?;
            if total != 0 {
                let rounded = Money(total).round(decimals, mode).ok_or_else(overflow)?;
                for (index, part) in members.iter().zip(prorata(rounded.0, &exact)) {
                    self.left[*index] = part;
                }
            }
        }
        Ok(())
    }

    /// Cuts the series that any sequence will ask for into lots of their buckets.
    fn cut_lots(&mut self) {
        for (index, used) in self.used.iter().enumerate() {
            let sku = self.catalogue.sku(used.sku);
            let by_pool = sku.pools.iter().any(|pool| self.catalogue.pool(*pool).share == Attribution::Sequence);
            if !by_pool && self.catalogue.price(sku.price).attribution != Attribution::Sequence {
                continue;
            }
            let counters = &self.counters[used.counters.clone()];
            let values = netted(&counters.iter().map(|counter| counter.value).collect::<Vec<_>>());
            let hours = match self.catalogue.meter(used.meter).bucket {
                Bucket::Day => 24,
                Bucket::Hour | Bucket::FiveMinutes | Bucket::Month => 1,
            };
            let times = counters.iter().map(|counter| u32::from(counter.bucket.unwrap_or(0)) * hours);
            self.lots.insert(index, times.zip(prorata(self.left[index], &values)).collect());
        }
    }

    fn free_pools(&mut self) -> Result<(), FoldError> {
        let catalogue = self.catalogue;
        // In the order of the catalogue's pools; a series may draw from several, one after the other.
        let mut ids: Vec<_> = self.used.iter().flat_map(|used| catalogue.sku(used.sku).pools.iter().copied()).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            let free = catalogue.pool(id);
            let draws = |used: &Used<'a>| catalogue.sku(used.sku).pools.contains(&id).then_some(id);
            for (_, keys, members) in self.group(draws, |id| &catalogue.pool(id).split_by) {
                let source = Source::FreePool { pool: free.id.clone() };
                let pool = self.shared(&free.id, &free.split_by, keys, &members)?;
                self.give_free(free.units, free.share, source, pool, &members)?;
            }
        }
        Ok(())
    }

    /// Makes up to `units` of the members' quantities free.
    fn give_free(
        &mut self,
        units: Quantity,
        share: Attribution,
        source: Source,
        pool: Option<u32>,
        members: &Members,
    ) -> Result<(), FoldError> {
        let free = units.0.min(self.sum_left(members)?);
        if free <= 0 {
            return Ok(());
        }
        let parts = match share {
            Attribution::Prorata => {
                let weights: Vec<i128> = members.iter().map(|index| self.left[*index]).collect();
                let parts = prorata(free, &weights);
                self.shrink_lots(members, &parts);
                parts
            }
            Attribution::Sequence => self.take(free, members),
        };
        assert!(parts.iter().sum::<i128>() == free, "free parts sum to the free units");
        for (index, part) in members.iter().zip(parts) {
            self.left[*index] -= part;
            if part != 0 {
                let (source, rate) = (source.clone(), Rate::ZERO);
                self.cells.push(Cell { item: *index, source, quantity: part, rate, amount: 0, pool });
            }
        }
        Ok(())
    }

    /// Takes each member's part off its lots, in proportion.
    fn shrink_lots(&mut self, members: &Members, parts: &[i128]) {
        for (index, part) in members.iter().zip(parts) {
            let Some(lots) = self.lots.get_mut(index).filter(|_| *part != 0) else { continue };
            let sizes: Vec<i128> = lots.iter().map(|(_, size)| *size).collect();
            for (lot, off) in lots.iter_mut().zip(prorata(*part, &sizes)) {
                lot.1 -= off;
            }
        }
    }

    /// Takes `amount` of the members' lots, by time, then account, usage type, operation and region. Parts are by member.
    fn take(&mut self, amount: i128, members: &Members) -> Vec<i128> {
        let mut order = Vec::new();
        for (place, index) in members.iter().enumerate() {
            let series = self.used[*index].series;
            let who = (&series.account, &series.usage_type, &series.operation, &series.region);
            let lots = self.lots[index].iter().enumerate();
            order.extend(lots.map(|(lot, (time, size))| (*time, who, place, lot, *size)));
        }
        order.sort();
        let mut sizes: Vec<i128> = order.iter().map(|(.., size)| *size).collect();
        let taken = take_in_sequence(&mut sizes, amount);
        let mut parts = vec![0; members.len()];
        for ((_, _, place, lot, _), part) in order.into_iter().zip(taken) {
            parts[place] += part;
            let lots = self.lots.get_mut(&members[place]).expect("a member by sequence has lots");
            lots[lot].1 -= part;
        }
        parts
    }

    /// One pool climbs its ladder; every slice is divided over the members.
    fn climb(&mut self, price: &Price, keys: Vec<&str>, members: &Members) -> Result<(), FoldError> {
        let pool = self.shared(&price.id, &price.split_by, keys, members)?;
        let free = Source::FreeUnits { price: price.id.clone() };
        self.give_free(price.free_units, price.attribution, free, pool, members)?;
        let overflow = || FoldError::Overflow { what: format!("the amount under price {}", price.id) };
        let total = self.sum_left(members)?;
        let slices = price.ladder.charge(Quantity(total)).ok_or_else(overflow)?;
        let weights: Vec<i128> = members.iter().map(|index| self.left[*index]).collect();
        let package = price.ladder.package.map(|package| package.size);
        let first = self.cells.len();
        for slice in &slices {
            let tier = &price.ladder.tiers[slice.tier];
            let (rate, tier) = (tier.rate, Tier { index: slice.tier as u32 + 1, begin: tier.begin, end: tier.end });
            if let Some(pool) = pool {
                let slice = PoolSlice { tier, quantity: slice.quantity, rate, amount: slice.amount };
                self.pools[pool as usize].slices.push(slice);
            }
            let quantities = match price.attribution {
                Attribution::Prorata => prorata(slice.quantity.0, &weights),
                Attribution::Sequence => self.take(slice.quantity.0, members),
            };
            // Flat parts go like the slice's quantity; where there is none in it, by what the members brought.
            let by_slice = price.attribution == Attribution::Sequence && !slice.quantity.is_zero();
            let amounts = prorata(slice.amount.0, if by_slice { &quantities } else { &weights });
            assert!(quantities.iter().sum::<i128>() == slice.quantity.0, "parts of a slice sum to its quantity");
            assert!(amounts.iter().sum::<i128>() == slice.amount.0, "parts of a slice sum to its amount");
            for ((index, quantity), amount) in members.iter().zip(quantities).zip(amounts) {
                if quantity != 0 || amount != 0 {
                    let source = Source::Price { price: price.id.clone(), tier, package };
                    self.cells.push(Cell { item: *index, source, quantity, rate, amount, pool });
                }
            }
        }
        if self.catalogue.rounding.at == RoundingAt::Line {
            self.round_charge(first, &price.id)?;
        }
        Ok(())
    }

    /// Rounds a whole charge to what can be paid and divides it there again.
    fn round_charge(&mut self, first: usize, price: &PriceId) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under price {price}") };
        let rule = self.catalogue.rounding;
        let cells = &mut self.cells[first..];
        // Ties go by account id, then SKU: the members' order before the tiers'.
        cells.sort_by_key(|cell| cell.item);
        let exact: Vec<i128> = cells.iter().map(|cell| cell.amount).collect();
        let total = sum(&exact).ok_or_else(overflow)?;
        if total == 0 {
            return Ok(());
        }
        let rounded = rule.round(Money(total)).ok_or_else(overflow)?;
        let parts = prorata_steps(rounded.0, rule.step(), &exact);
        for (cell, part) in cells.iter_mut().zip(parts) {
            cell.amount = part;
        }
        Ok(())
    }

    /// Writes down a pool of more than one series.
    fn shared(
        &mut self,
        id: &PriceId,
        split_by: &SplitBy,
        keys: Vec<&str>,
        members: &Members,
    ) -> Result<Option<u32>, FoldError> {
        if members.len() < 2 {
            return Ok(None);
        }
        let quantity = Quantity(self.sum_left(members)?);
        let mut named = Vec::with_capacity(keys.len());
        let mut values = keys.into_iter();
        for key in &split_by.0 {
            if *key == SplitKey::Group {
                named.push((SplitKey::Payer, values.next().unwrap_or_default().to_owned()));
            }
            named.push((key.clone(), values.next().unwrap_or_default().to_owned()));
        }
        self.pools.push(SharedPool { id: id.clone(), keys: named, quantity, slices: Vec::new() });
        Ok(Some(self.pools.len() as u32 - 1))
    }

    fn sum_left(&self, members: &Members) -> Result<i128, FoldError> {
        let total = members.iter().try_fold(0i128, |sum, index| sum.checked_add(self.left[*index]));
        total.ok_or_else(|| FoldError::Overflow { what: "the quantity of a pool".to_owned() })
    }
}

fn sum(values: &[i128]) -> Option<i128> {
    values.iter().try_fold(0i128, |sum, value| sum.checked_add(*value))
}
