//! What a catalogue, a contract and a hierarchy would make of usage rows: documents and rows in, bills out, through the
//! same fold as any bill. Nothing is stored and nobody is asked; repeats are recognised by their ids within the rows.

use std::collections::BTreeMap;

use super::bill::BillBody;
use super::difference::{further, settled};
use super::fold::fold;
use super::input::{Counter, FoldError, FoldInput};
use super::pro_forma::pro_forma;
use crate::account::document::HierarchyDocument;
use crate::account::tree::Hierarchy;
use crate::base::id::MeterId;
use crate::base::money::{Money, Quantity, print_scaled};
use crate::base::problem::Problem;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, DAY, HOUR, Period, Timestamp};
use crate::contract::document::ContractDocument;
use crate::contract::terms::Contract;
use crate::pricing::catalogue::{Catalogue, MeterError, MeterIndex, check_correction, counted_of};
use crate::pricing::document::{Aggregation, Bucket, CatalogueDocument, LevelRecords};
use crate::pricing::spread::parts;
use crate::usage::kept::{Entry, Join, Kept};
use crate::usage::record::{UsageRecord, check_sign, scaled};
use crate::usage::series::SeriesKey;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Simulation<'a> {
    pub catalogue: &'a CatalogueDocument,
    pub contract: Option<&'a ContractDocument>,
    pub hierarchy: &'a HierarchyDocument,
    pub records: &'a [UsageRecord],
    pub cycle: CycleId,
    /// Bills that were issued already, oldest first, of any payer. Of those of the cycle the result is the difference;
    /// those of other cycles say what was used of lasting balances.
    pub billed: &'a [BillBody],
    /// Whether the cycle still counts: minima and shortfalls then wait, and a difference says so.
    pub interim: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// One for each payer with usage, by payer.
    pub bodies: Vec<BillBody>,
    /// One for each billing group that the contract prices and that has anything on it; nobody owes them.
    pub pro_forma: Vec<BillBody>,
    pub counted: usize,
    /// Rows that repeat an earlier one word for word.
    pub duplicates: usize,
    /// Rows of other cycles.
    pub elsewhere: usize,
    /// Rows that were not counted, by their place, with the reason.
    pub refused: Vec<(usize, Refusal)>,
}

/// Why nothing could be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    #[error("the catalogue has problems")]
    Catalogue(Vec<Problem>),
    #[error("the contract has problems")]
    Contract(Vec<Problem>),
    #[error("the hierarchy has problems")]
    Hierarchy(Vec<Problem>),
    #[error(transparent)]
    Fold(#[from] FoldError),
}

/// Counts the rows and folds them.
pub fn simulate(simulation: &Simulation<'_>) -> Result<Simulated, SimulateError> {
    let catalogue = Catalogue::compile(simulation.catalogue).map_err(SimulateError::Catalogue)?;
    let problems = simulation.hierarchy.check();
    if problems.iter().any(Problem::is_error) {
        return Err(SimulateError::Hierarchy(problems));
    }
    let contract = simulation.contract.map(|document| Contract::compile(document, Some(&catalogue)));
    let contract = contract.transpose().map_err(SimulateError::Contract)?;
    let hierarchy = Hierarchy::create(simulation.hierarchy);
    let named = simulation.contract.map(|document| document.check_accounts(|id| hierarchy.account(id).is_some()));
    let groups = simulation.contract.map(|document| document.check_groups(|group| hierarchy.groups().contains(group)));
    if let Some(problems) = groups.filter(|problems| !problems.is_empty()) {
        return Err(SimulateError::Contract(problems));
    }
    if let Some(problems) = named.filter(|problems| !problems.is_empty()) {
        return Err(SimulateError::Contract(problems));
    }
    let mut counting = Counting::new(&catalogue, hierarchy, simulation.cycle);
    let mut simulated = Simulated {
        bodies: Vec::new(),
        pro_forma: Vec::new(),
        counted: 0,
        duplicates: 0,
        elsewhere: 0,
        refused: Vec::new(),
    };
    for (index, record) in simulation.records.iter().enumerate() {
        match counting.count(record) {
            Ok(Row::Counted) => simulated.counted += 1,
            Ok(Row::Duplicate) => simulated.duplicates += 1,
            Ok(Row::Elsewhere) => simulated.elsewhere += 1,
            Err(refusal) => simulated.refused.push((index, refusal)),
        }
    }
    let kept = counting.kept();
    let input = FoldInput {
        hierarchy: &counting.hierarchy,
        cycle: simulation.cycle,
        catalogue: &catalogue,
        contract: contract.as_ref(),
        counters: counting.counters(&kept).collect(),
        balances: used(simulation, |cycle| cycle < simulation.cycle).map_err(SimulateError::Fold)?,
        drawn_later: used(simulation, |cycle| cycle > simulation.cycle).map_err(SimulateError::Fold)?,
        interim: simulation.interim,
        own_shortfalls: true,
        settled: settled(simulation.billed, simulation.cycle),
    };
    simulated.pro_forma = pro_forma(&input)?;
    let bodies = fold(&input)?;
    let of_cycle = simulation.billed.iter().filter(|billed| billed.cycle == simulation.cycle);
    let earlier: Vec<BillBody> = of_cycle.cloned().collect();
    simulated.bodies = further(&input, bodies, &earlier)?;
    Ok(simulated)
}

/// What bills of some cycles used of balances.
fn used(simulation: &Simulation<'_>, wanted: impl Fn(CycleId) -> bool) -> Result<BTreeMap<String, Money>, FoldError> {
    let mut used: BTreeMap<String, Money> = BTreeMap::new();
    let bills = simulation.billed.iter().filter(|body| wanted(body.cycle));
    for change in bills.flat_map(|body| &body.balances) {
        let sum = used.entry(change.name.to_string()).or_default();
        let overflow = || FoldError::Overflow { what: format!("balance {}", change.name) };
        *sum = sum.checked_add(change.change).ok_or_else(overflow)?;
    }
    Ok(used)
}

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Counted,
    Duplicate,
    /// It is of another cycle; of a level that is carried it may count for what the cycle begins with.
    Elsewhere,
}

struct Counted {
    meter: MeterIndex,
    value: i128,
    records: u64,
    /// What its meter keeps beside a sum; the cycle is told by the time.
    kept: BTreeMap<i128, Kept>,
    join: Join,
}

impl Counted {
    fn entries(&self) -> Vec<Entry> {
        self.kept.iter().flat_map(|(at, kept)| Entry::all_of(*at, kept.clone(), self.join)).collect()
    }
}

/// The rows of one cycle on their way to counters.
pub struct Counting<'a> {
    catalogue: &'a Catalogue,
    hierarchy: Hierarchy,
    cycle: CycleId,
    /// Records by their ids.
    seen: BTreeMap<&'a str, &'a UsageRecord>,
    counters: BTreeMap<(SeriesKey, Option<u16>), Counted>,
}

impl<'a> Counting<'a> {
    pub fn new(catalogue: &'a Catalogue, hierarchy: Hierarchy, cycle: CycleId) -> Counting<'a> {
        Counting { catalogue, hierarchy, cycle, seen: BTreeMap::new(), counters: BTreeMap::new() }
    }

    /// What the counters keep beside their sums, in their order.
    pub fn kept(&self) -> Vec<Vec<Entry>> {
        self.counters.values().map(Counted::entries).collect()
    }

    /// The counters as a fold takes them, each with what [`Counting::kept`] gave for it.
    pub fn counters<'b>(&'b self, kept: &'b [Vec<Entry>]) -> impl Iterator<Item = Counter<'b>> {
        self.counters.iter().zip(kept).map(|(((series, bucket), counted), kept)| Counter {
            series,
            meter: counted.meter,
            bucket: *bucket,
            value: counted.value,
            records: counted.records,
            kept,
        })
    }

    /// Counts one row.
    pub fn count(&mut self, record: &'a UsageRecord) -> Result<Row, Refusal> {
        record.check()?;
        if let Some(first) = self.seen.get(record.id.as_str()).filter(|_| !record.id.is_empty()) {
            if *first == record {
                return Ok(Row::Duplicate);
            }
            let detail = format!("id '{}' was used by another record before; give each record its own", record.id);
            return Err(Refusal::new(Reason::IdReused, detail));
        }
        let key = record.series();
        let found =
            self.catalogue.meter_of(&key.service, &key.usage_type, &key.operation, &key.region, &key.attributes);
        // Its parts say whose it is.
        if let Ok(index) = found
            && let Some(end) = record.end.filter(|end| self.catalogue.meter(index).spreads && *end > record.start)
        {
            return self.count_spread(record, index, end);
        }
        let account = self.hierarchy.account(&record.account);
        let is_elsewhere = record.start.cycle() != self.cycle;
        if !is_elsewhere && !account.is_some_and(|account| account.is_member_at(record.start)) {
            let detail = format!(
                "account '{}' does not belong to hierarchy '{}' at {}; add it to the hierarchy",
                record.account, self.hierarchy.root, record.start
            );
            return Err(Refusal::new(Reason::UnknownAccount, detail));
        }
        let before = record.start < self.cycle.start() && account.is_some();
        let is_carried = |index: MeterIndex| {
            let meter = self.catalogue.meter(index);
            before && meter.aggregation == Aggregation::Level && meter.level.carry
        };
        if is_elsewhere && !found.as_ref().is_ok_and(|index| is_carried(*index)) {
            return Ok(Row::Elsewhere);
        }
        let index = found.map_err(|error| {
            let reason = match error {
                MeterError::UnknownMeter => Reason::UnknownMeter,
                MeterError::UnknownAttribute(_) => Reason::UnknownAttribute,
            };
            Refusal::new(reason, error.to_string())
        })?;
        let meter = self.catalogue.meter(index);
        let corrects = record.corrects.is_some();
        check_correction(meter.aggregation, meter.keeps_records, meter.id.as_str(), corrects)?;
        let amount = record.amount.map(|amount| Quantity(amount.0));
        let counted_of = counted_of(meter.of_amount, meter.id.as_str(), record.quantity, amount)?;
        let changes = meter.aggregation == Aggregation::Level && meter.level.records == LevelRecords::Change;
        if !changes {
            check_sign(counted_of.0, corrects)?;
        }
        let quantity = match meter.aggregation {
            Aggregation::Count if record.quantity < Quantity::ZERO => -1,
            Aggregation::Count => 1,
            _ => scaled(counted_of, meter.scale)?,
        };
        let (start, id) = (i128::from(record.start.0), record.id.as_bytes().into());
        // What is kept, how it joins, and what is added to the sum.
        let (noted, quantity) = match meter.aggregation {
            Aggregation::Latest => {
                let end = record.end.unwrap_or(record.start).0;
                (Some((0, Kept { value: quantity, end, id, more: Vec::new() }, Join::Latest)), 0)
            }
            Aggregation::Level if changes => {
                (Some((start, Kept { value: quantity, ..Kept::default() }, Join::Add)), quantity)
            }
            Aggregation::Level => (Some((start, Kept { value: quantity, id, ..Kept::default() }, Join::Latest)), 0),
            Aggregation::Sum if meter.keeps_records => {
                (Some((start, Kept { value: quantity, id, ..Kept::default() }, Join::Collect)), quantity)
            }
            Aggregation::Unique => {
                let value = if corrects { -1 } else { 1 };
                (Some((quantity.abs(), Kept { value, ..Kept::default() }, Join::Add)), 0)
            }
            Aggregation::Sum | Aggregation::Count | Aggregation::Maximum | Aggregation::Percentile95 => {
                (None, quantity)
            }
        };
        // Of a record before the cycle only the level that it leaves counts.
        let (quantity, records) = if is_elsewhere { (0, 0) } else { (quantity, 1) };
        let bucket = self.bucket_of(meter.bucket, record.start);
        let (ceiling, scale, id) = (meter.ceiling, meter.scale, meter.id.clone());
        let is_peak = meter.aggregation == Aggregation::Maximum;
        let counted = self.counters.entry((key, bucket)).or_insert_with(|| Counted {
            meter: index,
            value: 0,
            records: 0,
            kept: BTreeMap::new(),
            join: noted.as_ref().map_or(Join::Add, |(_, _, join)| *join),
        });
        let value = if is_peak { Some(counted.value.max(quantity)) } else { counted.value.checked_add(quantity) };
        let is_small = |value: &i128| value.abs() <= ceiling;
        let fits = noted.as_ref().is_none_or(|(_, kept, _)| is_small(&kept.value));
        let Some(value) = value.filter(|value| fits && is_small(value)) else {
            return Err(too_large(record, counted.value, ceiling, (scale, &id)));
        };
        (counted.value, counted.records) = (value, counted.records + records);
        if let Some((at, kept, join)) = noted {
            counted.kept.entry(at).and_modify(|own| own.join(kept.clone(), join)).or_insert(kept);
        }
        if !record.id.is_empty() {
            self.seen.insert(&record.id, record);
        }
        if is_elsewhere {
            return Ok(Row::Elsewhere);
        }
        Ok(Row::Counted)
    }

    /// Counts those parts of a record that lie in the cycle; all of them must be of the hierarchy.
    fn count_spread(&mut self, record: &'a UsageRecord, index: MeterIndex, end: Timestamp) -> Result<Row, Refusal> {
        let meter = self.catalogue.meter(index);
        let corrects = record.corrects.is_some();
        check_correction(meter.aggregation, meter.keeps_records, meter.id.as_str(), corrects)?;
        let amount = record.amount.map(|amount| Quantity(amount.0));
        let counted_of = counted_of(meter.of_amount, meter.id.as_str(), record.quantity, amount)?;
        check_sign(counted_of.0, corrects)?;
        let account = self.hierarchy.account(&record.account);
        let moves = account.and_then(|account| account.periods()).unwrap_or(&[]);
        let moves: Vec<Timestamp> = moves.iter().flat_map(|period| [period.from, period.until]).collect();
        let time = Period { from: record.start, until: end };
        let mut sums: BTreeMap<Option<u16>, i128> = BTreeMap::new();
        for part in parts(scaled(counted_of, meter.scale)?, &time, meter.bucket, &moves)? {
            if !account.is_some_and(|account| account.is_member_at(part.at)) {
                let detail = format!(
                    "account '{}' does not belong to hierarchy '{}' at {}; add it to the hierarchy",
                    record.account, self.hierarchy.root, part.at
                );
                return Err(Refusal::new(Reason::UnknownAccount, detail));
            }
            if part.at.cycle() == self.cycle {
                *sums.entry(self.bucket_of(meter.bucket, part.at)).or_default() += part.quantity;
            }
        }
        let (key, ceiling) = (record.series(), meter.ceiling);
        let value = |bucket: &Option<u16>| self.counters.get(&(key.clone(), *bucket)).map_or(0, |own| own.value);
        for (bucket, part) in &sums {
            let before = value(bucket);
            if before.checked_add(*part).is_none_or(|sum| sum.abs() > ceiling) {
                return Err(too_large(record, before, ceiling, (meter.scale, &meter.id)));
            }
        }
        for (bucket, part) in &sums {
            let counted = self.counters.entry((key.clone(), *bucket)).or_insert_with(|| Counted {
                meter: index,
                value: 0,
                records: 0,
                kept: BTreeMap::new(),
                join: Join::Add,
            });
            (counted.value, counted.records) = (counted.value + part, counted.records + 1);
        }
        if !record.id.is_empty() {
            self.seen.insert(&record.id, record);
        }
        Ok(if sums.is_empty() { Row::Elsewhere } else { Row::Counted })
    }

    /// Ordinal of the hour or day in the cycle.
    fn bucket_of(&self, bucket: Bucket, at: Timestamp) -> Option<u16> {
        let offset = at.0 - self.cycle.start().0;
        match bucket {
            Bucket::Month => None,
            // A month has at most 744 hours.
            Bucket::Day => Some((offset / DAY) as u16),
            Bucket::Hour => Some((offset / HOUR) as u16),
            Bucket::FiveMinutes => Some((offset / (HOUR / 12)) as u16),
        }
    }
}

/// A counter cannot hold a record beside what it has.
fn too_large(record: &UsageRecord, value: i128, ceiling: i128, (scale, id): (u32, &MeterId)) -> Refusal {
    let (ceiling, value) = (print_scaled(ceiling, scale), print_scaled(value, scale));
    let detail = format!(
        "quantity {} would take the counter from {value} past {ceiling}, the most that meter {id} can hold at its prices",
        record.quantity
    );
    Refusal::new(Reason::QuantityTooLarge, detail)
}

#[cfg(test)]
#[path = "simulate_test.rs"]
mod tests;
