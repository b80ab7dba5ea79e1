//! The first stage: counters become quantities, quantities climb the ladders of their pools behind free units, and every
//! slice is divided over the series that used it. This file says who shares what and gives away free units; `measure.rs`
//! and `convert.rs` make quantities of counters, `climb.rs` amounts of quantities. Contract clauses come after, in `stage.rs`.

use std::collections::BTreeMap;
use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::attribute::{prorata, take_in_sequence};
use super::bill::{SharedPool, Source, UnpricedReason};
use super::input::{Counter, FoldError};
use super::measure::{Measure, Measured, Window};
use crate::base::id::{AccountId, GroupName, PriceId};
use crate::base::money::{Money, Quantity, Rate};
use crate::base::time::{CycleId, HOUR};
use crate::contract::year::PoolYear;
use crate::pricing::active::{Span, prorated};
use crate::pricing::catalogue::{Catalogue, Price, PriceIndex, SkuIndex};
use crate::pricing::document::Attribution;
use crate::pricing::pool::{SplitBy, SplitKey};
use crate::usage::series::SeriesKey;

/// One priced series of the cycle.
#[derive(Clone, Debug)]
pub struct Used<'a> {
    pub series: &'a SeriesKey,
    pub sku: SkuIndex,
    pub payer: &'a AccountId,
    pub group: Option<&'a GroupName>,
    pub measured: Measured,
    pub records: u64,
    pub standing: Standing,
    /// Index of the series that has what is due for its pool without usage: the payer's own.
    pub home: usize,
}

/// Why a series is on a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It was counted.
    Counted,
    /// A contract subscribes to it; it used nothing.
    Subscribed,
    /// It only takes what is due for another series' pool; it is in none.
    Home,
    /// It stands for a fee, and is in no pool.
    Fee,
}

impl Standing {
    fn is_in_pools(self) -> bool {
        matches!(self, Standing::Counted | Standing::Subscribed)
    }
}

impl Used<'_> {
    /// Whether its pool can come to zero and cost something: nothing was used in all or in one of the pool's hours or days,
    /// or what was used is rounded to nothing.
    pub fn can_be_zero(&self, catalogue: &Catalogue) -> bool {
        !self.measured.is_used() || catalogue.price(catalogue.sku(self.sku).price).flat_when_zero
    }
}

/// A series of a meter that chooses tiers.
#[derive(Clone, Debug)]
pub struct Chooser<'a> {
    pub account: &'a str,
    pub payer: &'a AccountId,
    pub group: Option<&'a GroupName>,
    pub measured: Measured,
}

/// A part of a series' charge: what becomes a usage line.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Index of the series.
    pub item: usize,
    pub source: Source,
    /// `None` where it is an amount and nothing else.
    pub quantity: Option<i128>,
    pub rate: Option<Rate>,
    pub amount: i128,
    /// Index of the shared pool.
    pub pool: Option<u32>,
}

/// What the first stage makes.
pub struct Charged<'a> {
    /// Sorted by series; within one free units first, then tiers.
    pub cells: Vec<Cell>,
    pub pools: Vec<SharedPool>,
    /// Priced quantity of each series.
    pub quantities: Vec<i128>,
    /// Series that have no charge after all, and why.
    pub dropped: BTreeMap<usize, UnpricedReason>,
    /// What outlives the cycle.
    pub draws: Vec<Draw<'a>>,
}

impl Charged<'_> {
    /// Adds what is due beside usage.
    pub fn add(&mut self, cells: Vec<Cell>) {
        self.cells.extend(cells);
        // Stable: within a series cells stay in the order in which they were made.
        self.cells.sort_by_key(|cell| cell.item);
    }
}

/// Whose cycle is charged, and what its contract has to say about it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub root: &'a AccountId,
    pub cycle: CycleId,
    /// Of a cycle that goes on: then no minimum is due yet (decision 16).
    pub interim: bool,
    /// When series of prices whose limits are prorated are subscribed to, by their places.
    pub spans: &'a BTreeMap<usize, Vec<Span>>,
    /// For prices whose pools last one.
    pub year: PoolYear,
    /// What was used of balances before the cycle.
    pub balances: &'a BTreeMap<String, Money>,
}

/// What a payer's bill adds to the balance of a pool that outlives the cycle.
#[derive(Clone, Debug)]
pub struct Draw<'a> {
    pub payer: &'a AccountId,
    pub balance: String,
    pub before: Money,
    pub amount: Money,
}

/// Charges all series of a hierarchy's cycle. They are sorted by account, SKU id, then dimensions.
pub fn charge<'a>(
    catalogue: &'a Catalogue,
    asked: &Asked<'a>,
    used: &'a [Used<'a>],
    choosers: &'a [Chooser<'a>],
    counters: &'a [Counter<'a>],
) -> Result<Charged<'a>, FoldError> {
    let cycle = asked.cycle;
    let mut stage = UsageStage {
        catalogue,
        asked: *asked,
        hours: i128::from((cycle.end().0 - cycle.start().0) / HOUR),
        used,
        choosers,
        measure: Measure { catalogue, cycle, counters },
        reaching: None,
        left: vec![0; used.len()],
        lots: BTreeMap::new(),
        quantities: Vec::new(),
        bought: BTreeMap::new(),
        dropped: BTreeMap::new(),
        cells: Vec::with_capacity(used.len()),
        pools: Vec::new(),
        draws: Vec::new(),
    };
    stage.run()?;
    let UsageStage { mut cells, pools, quantities, dropped, draws, .. } = stage;
    // Stable: within a series cells stay in the order in which they were made.
    cells.sort_by_key(|cell| cell.item);
    Ok(Charged { cells, pools, quantities, dropped, draws })
}

/// What chooses the tiers of one price: by the owner's keys, the tier that each owner reaches.
pub(super) type Reached<'a> = BTreeMap<Vec<&'a str>, usize>;

/// Series that share a ladder or a free pool, by their index, ascending.
pub(super) type Members = Vec<usize>;

pub(super) struct UsageStage<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) asked: Asked<'a>,
    /// Of the cycle.
    pub(super) hours: i128,
    pub(super) used: &'a [Used<'a>],
    pub(super) choosers: &'a [Chooser<'a>],
    pub(super) measure: Measure<'a>,
    /// The tiers that the owners of the latest price that asked reach.
    pub(super) reaching: Option<(PriceIndex, Reached<'a>)>,
    /// What of each series no free units have taken.
    pub(super) left: Vec<i128>,
    /// The same as (hour of the cycle, quantity), in order of time, of series that are attributed by sequence or whose
    /// price changes or begins anew within the cycle.
    pub(super) lots: BTreeMap<usize, Vec<(u32, i128)>>,
    quantities: Vec<i128>,
    /// The lots before free pools took from them, of series whose price begins anew within the cycle.
    bought: BTreeMap<usize, Vec<(u32, i128)>>,
    pub(super) dropped: BTreeMap<usize, UnpricedReason>,
    pub(super) cells: Vec<Cell>,
    pub(super) pools: Vec<SharedPool>,
    pub(super) draws: Vec<Draw<'a>>,
}

impl<'a> UsageStage<'a> {
    fn run(&mut self) -> Result<(), FoldError> {
        let catalogue = self.catalogue;
        let mut ladders =
            self.group(|used| Some(catalogue.sku(used.sku).price), |price| &catalogue.price(price).split_by);
        for (price, _, members) in &mut ladders {
            self.drop_too_many(catalogue.price(*price), members);
            self.convert(catalogue.price(*price), members)?;
        }
        ladders.retain(|(_, _, members)| !members.is_empty());
        self.quantities = self.left.clone();
        self.bought = self.lots.clone();
        self.cut_lots();
        self.free_pools()?;
        for (price, keys, members) in ladders {
            self.climb(price, keys, &members)?;
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
        for (index, used) in self.used.iter().enumerate().filter(|(_, used)| used.standing.is_in_pools()) {
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
                SplitKey::Root | SplitKey::Payer | SplitKey::Group | SplitKey::Account => {
                    self.owner_key(used.series.account.as_str(), used.payer, used.group, key, keys);
                }
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

    /// The values of those keys that say whose usage it is; the others are passed over.
    pub(super) fn owner_keys(
        &self,
        account: &'a str,
        payer: &'a AccountId,
        group: Option<&'a GroupName>,
        split_by: &SplitBy,
        keys: &mut Vec<&'a str>,
    ) {
        for key in &split_by.0 {
            self.owner_key(account, payer, group, key, keys);
        }
    }

    fn owner_key(
        &self,
        account: &'a str,
        payer: &'a AccountId,
        group: Option<&'a GroupName>,
        key: &SplitKey,
        keys: &mut Vec<&'a str>,
    ) {
        match key {
            SplitKey::Root => keys.push(self.asked.root.as_str()),
            SplitKey::Payer => keys.push(payer.as_str()),
            SplitKey::Group => {
                keys.push(payer.as_str());
                keys.push(group.map_or("", GroupName::as_str));
            }
            SplitKey::Account => keys.push(account),
            SplitKey::Region | SplitKey::Service | SplitKey::Sku | SplitKey::Attribute(_) => (),
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
            for (_, keys, mut members) in self.group(draws, |id| &catalogue.pool(id).split_by) {
                members.retain(|index| !self.dropped.contains_key(index));
                let source = Source::FreePool { pool: free.id.clone() };
                let pool = self.shared(&free.id, &free.split_by, keys, &members)?;
                self.give_free(free.units, free.share, source, pool, &members, None)?;
            }
        }
        Ok(())
    }

    /// What is left of the members, in the cycle or within some hours.
    pub(super) fn amounts(&self, members: &Members, window: Option<&Window>) -> Vec<i128> {
        let amount = |index: &usize| match window {
            None => self.left[*index],
            Some(window) => {
                let lots = self.lots.get(index).into_iter().flatten();
                lots.filter(|(hour, _)| window.contains(hour)).map(|(_, size)| *size).sum()
            }
        };
        members.iter().map(amount).collect()
    }

    /// What the members used, whatever made it free, in the cycle or within some hours.
    pub(super) fn brought(&self, members: &Members, window: Option<&Window>) -> Vec<i128> {
        let amount = |index: &usize| match window {
            None => self.quantities[*index],
            Some(window) => {
                let lots = self.bought.get(index).into_iter().flatten();
                lots.filter(|(hour, _)| window.contains(hour)).map(|(_, size)| *size).sum()
            }
        };
        members.iter().map(amount).collect()
    }

    /// The least and the most that a pool of these members is charged.
    pub(super) fn limits(&self, price: &Price, members: &Members) -> (Money, Option<Money>) {
        let spans: Vec<Span> =
            members.iter().filter_map(|index| self.asked.spans.get(index)).flatten().copied().collect();
        let period = self.measure.cycle.period();
        let of = |amount: Money| match spans.is_empty() {
            true => Some(amount),
            false => prorated(amount, price.prorate_limits, &spans, &period),
        };
        let least = if self.asked.interim { None } else { of(price.minimum) };
        (least.unwrap_or_default(), price.maximum.and_then(of))
    }

    /// Makes up to `units` of the members' quantities free.
    pub(super) fn give_free(
        &mut self,
        units: Quantity,
        share: Attribution,
        source: Source,
        pool: Option<u32>,
        members: &Members,
        window: Option<&Window>,
    ) -> Result<(), FoldError> {
        let weights = self.amounts(members, window);
        let total = sum(&weights);
        let total = total.ok_or_else(|| FoldError::Overflow { what: "the quantity of a pool".to_owned() })?;
        let free = units.0.min(total);
        if free <= 0 {
            return Ok(());
        }
        let parts = match share {
            Attribution::Prorata => {
                let parts = prorata(free, &weights);
                self.shrink_lots(members, &parts, window);
                parts
            }
            Attribution::Sequence => self.take(free, members, window),
        };
        assert!(parts.iter().sum::<i128>() == free, "free parts sum to the free units");
        for (index, part) in members.iter().zip(parts) {
            self.left[*index] -= part;
            if part != 0 {
                let (source, quantity, rate) = (source.clone(), Some(part), Some(Rate::ZERO));
                self.cells.push(Cell { item: *index, source, quantity, rate, amount: 0, pool });
            }
        }
        Ok(())
    }

    /// Takes each member's part off its lots, in proportion.
    fn shrink_lots(&mut self, members: &Members, parts: &[i128], window: Option<&Window>) {
        for (index, part) in members.iter().zip(parts) {
            let Some(lots) = self.lots.get_mut(index).filter(|_| *part != 0) else { continue };
            let inside = |hour: u32| window.is_none_or(|window| window.contains(&hour));
            let sizes: Vec<i128> = lots.iter().map(|(hour, size)| if inside(*hour) { *size } else { 0 }).collect();
            for (lot, off) in lots.iter_mut().zip(prorata(*part, &sizes)) {
                lot.1 -= off;
            }
        }
    }

    /// Takes `amount` of the members' lots, in the cycle or within some hours, by time, then account, usage type,
    /// operation and region. Parts are by member.
    pub(super) fn take(&mut self, amount: i128, members: &Members, window: Option<&Window>) -> Vec<i128> {
        let mut order = Vec::new();
        for (place, index) in members.iter().enumerate() {
            let series = self.used[*index].series;
            let who = (&series.account, &series.usage_type, &series.operation, &series.region);
            let lots = self.lots.get(index).into_iter().flatten().enumerate();
            let lots = lots.filter(|(_, (time, _))| window.is_none_or(|window| window.contains(time)));
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

    /// Writes down a pool of more than one series.
    pub(super) fn shared(
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

pub(super) fn sum(values: &[i128]) -> Option<i128> {
    values.iter().try_fold(0i128, |sum, value| sum.checked_add(*value))
}
