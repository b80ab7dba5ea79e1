//! The reference machine: every record ever sent kept in a list, every question answered by walking it. What a record is
//! told (accepted, late, duplicate, refused) and which cycle it counts in, by the letter of ARCHITECTURE.md.
//! What the counted usage costs lives in `bill.rs`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bill::{Bills, Whose, fold};
use super::calendar::{Cycle, cycle_name, cycle_of, months, time_of};
use super::exact::{Exact, exact, text as shown, whole};
use super::homes::Homes;
use super::ids::{Ids, Name};
use super::pool_year::is_yearly;
use super::record::{Record, Row};
use super::series::{Counter, Member, Series, is_summed, list, selects, text, without_attributes};
use super::spread::{bucket_of, is_spread, parts};

/// What one record is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted {
        late: bool,
    },
    Duplicate,
    /// The stable code of a reason.
    Refused(&'static str),
}

/// A record that counts.
#[derive(Clone, Debug)]
struct Counted {
    cycle: Cycle,
    late: bool,
    /// The oldest cycle that was not cut when it came.
    open: Cycle,
    meter: Value,
    /// What its sender calls it.
    name: String,
    row: Row,
}

/// One hierarchy with all that was ever counted for it.
#[derive(Clone, Debug)]
pub struct Root {
    pub slot: u16,
    pub hierarchy: Value,
    /// Versions with the cycle each takes effect in, oldest first.
    pub catalogues: Vec<(Cycle, Value)>,
    pub contracts: Vec<(Cycle, Value)>,
    pub first: Cycle,
    /// The oldest cycle that is not cut.
    pub open: Cycle,
    /// The oldest cycle whose counters are still in memory.
    pub archived: Cycle,
    counted: Vec<Counted>,
    accepted: usize,
    /// What the bills of each cycle use of lasting balances, its corrections included.
    posted: BTreeMap<Cycle, BTreeMap<String, Exact>>,
}

/// What a producer sent to one slot. The kind is fixed by the first segment.
#[derive(Clone, Debug)]
enum Producer {
    Sequenced { epoch: u64, mark: Option<u64>, refused: BTreeMap<u64, &'static str> },
    ById,
}

/// How a segment's records are recognised when they come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    Sequenced {
        epoch: u64,
        previous: Option<u64>,
    },
    ById,
    /// By number, recognised like ids: refused elsewhere and sent here out of order.
    Strays {
        epoch: u64,
    },
}

/// A record under its number (sequenced) or its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub number: u64,
    pub id: String,
    pub row: Row,
}

/// All hierarchies and producers.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub roots: BTreeMap<String, Root>,
    pub homes: Homes,
    ids: Ids,
    producers: BTreeMap<(u16, String), Producer>,
}

impl Root {
    pub fn new(slot: u16, hierarchy: Value, first: Cycle, catalogue: Value) -> Root {
        let catalogues = vec![(first, catalogue)];
        Root {
            slot,
            hierarchy,
            catalogues,
            contracts: Vec::new(),
            first,
            open: first,
            archived: first,
            counted: Vec::new(),
            accepted: 0,
            posted: BTreeMap::new(),
        }
    }

    /// Notes what a cycle's bills use of balances; what they used by earlier bills of the cycle is in it.
    pub fn post(&mut self, cycle: Cycle, postings: BTreeMap<String, Exact>) {
        self.posted.insert(cycle, postings);
    }

    /// What bills of earlier cycles used of balances.
    fn used_before(&self, cycle: Cycle) -> BTreeMap<String, Exact> {
        let mut used: BTreeMap<String, Exact> = BTreeMap::new();
        for (name, amount) in self.posted.range(..cycle).flat_map(|(_, posted)| posted) {
            *used.entry(name.clone()).or_insert_with(|| whole(0)) += amount;
        }
        used
    }

    /// The version of a document that governs a cycle.
    pub fn governing(versions: &[(Cycle, Value)], cycle: Cycle) -> Option<&Value> {
        versions.iter().rev().find(|(from, _)| *from <= cycle).map(|(_, document)| document)
    }

    /// Whether an account belongs to the hierarchy at an instant: root and payers always, others by their rows.
    pub fn has_member(&self, account: &str, at: i64) -> bool {
        let named = |value: &Value| value.as_str() == Some(account);
        let inside = |row: &Value| {
            let bound = |field: &str| row[field].as_str().map(time_of);
            bound("from").is_none_or(|from| from <= at) && bound("until").is_none_or(|until| at < until)
        };
        let rows: Vec<&Value> = list(&self.hierarchy, "accounts").iter().filter(|row| named(&row["id"])).collect();
        if rows.is_empty() {
            return named(&self.hierarchy["root"]) || list(&self.hierarchy, "payers").iter().any(named);
        }
        rows.into_iter().any(inside)
    }

    /// All payers; without any the root account.
    pub fn payers(&self) -> Vec<String> {
        let payers: Vec<&Value> = list(&self.hierarchy, "payers").iter().collect();
        let payers = if payers.is_empty() { vec![&self.hierarchy["root"]] } else { payers };
        payers.into_iter().map(|payer| text(payer, "").to_owned()).collect()
    }

    /// Payer and group of every account that a counter can name.
    pub fn member(&self, account: &str) -> Member {
        let (root, payers) = (text(&self.hierarchy["root"], "").to_owned(), self.payers());
        let default = if payers.contains(&root) { root } else { payers[0].clone() };
        let row = list(&self.hierarchy, "accounts").iter().find(|row| row["id"].as_str() == Some(account));
        let stated = |field: &str| row.and_then(|row| row[field].as_str()).map(str::to_owned);
        let own = payers.contains(&account.to_owned()).then(|| account.to_owned());
        Member { payer: own.or(stated("payer")).unwrap_or(default), group: stated("group").unwrap_or_default() }
    }

    /// Whether the account has or had anything to do with the hierarchy.
    fn names(&self, account: &str) -> bool {
        let named = |value: &Value| value.as_str() == Some(account);
        named(&self.hierarchy["root"])
            || list(&self.hierarchy, "payers").iter().any(named)
            || list(&self.hierarchy, "accounts").iter().any(|row| named(&row["id"]))
    }

    /// The meter of a series under the newest catalogue.
    fn meter_of(&self, series: &Series) -> Result<&Value, &'static str> {
        let catalogue = &self.catalogues.last().expect("a hierarchy has a catalogue").1;
        let bare = without_attributes(series);
        let meter = list(catalogue, "meters").iter().find(|meter| selects(meter, &bare)).ok_or("UNKNOWN_METER")?;
        let kept = |name: &str| list(meter, "attributes").iter().any(|kept| kept.as_str() == Some(name));
        if series.attributes.iter().all(|(name, _)| kept(name)) { Ok(meter) } else { Err("UNKNOWN_ATTRIBUTE") }
    }

    /// Counts a record or says why not.
    fn count(&mut self, row: &Row, name: &str) -> Verdict {
        let meter = match self.meter_of(&row.series) {
            Ok(meter) => meter.clone(),
            Err(reason) => return Verdict::Refused(reason),
        };
        if let Err(reason) = check_sign(&meter, row).and_then(|()| self.late(row.start)) {
            return Verdict::Refused(reason);
        }
        self.accepted += 1;
        Verdict::Accepted { late: self.add(&meter, row, name) }
    }

    /// Whether what is used at an instant is late; the error says that it does not count.
    fn late(&self, at: i64) -> Result<bool, &'static str> {
        let cycle = cycle_of(at);
        if cycle < self.first {
            return Err("TOO_EARLY");
        }
        if cycle > self.open + 1 { Err("TOO_FAR_AHEAD") } else { Ok(cycle < self.open) }
    }

    fn add(&mut self, meter: &Value, row: &Row, name: &str) -> bool {
        let (cycle, open) = (cycle_of(row.start), self.open);
        let late = cycle < open;
        self.counted.push(Counted { cycle, late, open, meter: meter.clone(), name: name.to_owned(), row: row.clone() });
        late
    }

    /// Where an account comes and goes.
    pub fn moves(&self, account: &str) -> Vec<i64> {
        let rows = list(&self.hierarchy, "accounts").iter().filter(|row| row["id"].as_str() == Some(account));
        rows.flat_map(|row| ["from", "until"].into_iter().filter_map(|field| row[field].as_str()))
            .map(time_of)
            .collect()
    }

    /// The records of meters that make more of them than a sum, of a cycle and in time or late; with them those that left a
    /// level for it: what came too late for the cycle is known to the next that is not cut.
    fn records(&self, cycle: Cycle, late: bool) -> Vec<Record> {
        let counts = |counted: &&Counted| match counted.cycle == cycle {
            true => counted.late == late,
            false => counted.cycle < cycle && counted.open <= cycle,
        };
        let record = |counted: &Counted| Record {
            series: counted.row.series.clone(),
            id: counted.name.clone(),
            quantity: exact(&counted.row.quantity),
            amount: None,
            start: counted.row.start,
            end: counted.row.end,
            corrects: counted.row.corrects.is_some(),
        };
        self.counted.iter().filter(|counted| !is_summed(&counted.meter)).filter(counts).map(record).collect()
    }

    /// The counters of a cycle of meters of sums and counts: in time and late apart.
    pub fn counters(&self, cycle: Cycle, late: bool) -> Vec<Counter> {
        let mut found: BTreeMap<(Series, i64), (Exact, u64)> = BTreeMap::new();
        let of_cycle = |counted: &&Counted| (counted.cycle, counted.late) == (cycle, late);
        for counted in self.counted.iter().filter(of_cycle).filter(|counted| is_summed(&counted.meter)) {
            let bucket = bucket_of(&counted.meter, counted.row.start);
            let counts = text(&counted.meter["aggregation"], "sum") == "count";
            let quantity = exact(&counted.row.quantity);
            let value = match counts {
                true if quantity < whole(0) => whole(-1),
                true => whole(1),
                false => quantity,
            };
            let counter = found.entry((counted.row.series.clone(), bucket)).or_insert_with(|| (whole(0), 0));
            counter.0 += value;
            counter.1 += 1;
        }
        let counter = |((series, bucket), (value, records))| Counter { series, bucket, value, records };
        found.into_iter().map(counter).collect()
    }

    /// The bills of a cycle over what was counted in time.
    pub fn bills(&self, cycle: Cycle) -> Bills {
        let catalogue = Root::governing(&self.catalogues, cycle).expect("a cycle that counts has a catalogue");
        let name = cycle_name(cycle);
        let contract = Root::governing(&self.contracts, cycle);
        let (counters, records) = (self.counters(cycle, false), self.records(cycle, false));
        let (root, payers) = (text(&self.hierarchy["root"], ""), self.payers());
        let whose = Whose { first: self.first, root, payers: &payers, member: &|account| self.member(account) };
        fold(catalogue, contract, &name, (&counters, &records), &self.used_before(cycle), &whose)
    }

    /// The bills of a cycle over everything that was counted, late or not.
    pub fn whole_bills(&self, cycle: Cycle) -> Bills {
        let mut whole = self.clone();
        whole.counted.iter_mut().for_each(|counted| counted.late = false);
        whole.bills(cycle)
    }

    /// What a bill that is made while the cycle counts comes to: minima wait for the close (decision 16).
    pub fn early_bills(&self, cycle: Cycle) -> Bills {
        let mut early = self.clone();
        for (_, catalogue) in &mut early.catalogues {
            for price in catalogue["prices"].as_array_mut().into_iter().flatten() {
                price.as_object_mut().expect("an object").remove("minimum");
            }
        }
        early.whole_bills(cycle)
    }

    /// Whether a contract that comes into force with a cycle would cut a contract year short of a price whose minimum would
    /// then never be due.
    pub fn cuts_year(&self, contract: &Value, effective: Cycle) -> bool {
        let (_, catalogue) = self.catalogues.last().expect("a hierarchy has a catalogue");
        let least = |price: &Value| exact(text(&price["minimum"], "0")) > whole(0);
        if effective == self.first || !list(catalogue, "prices").iter().any(|price| is_yearly(price) && least(price)) {
            return false;
        }
        // A year by the contract that is in force in the last cycle before, without one by the first cycle of all.
        let last = effective - 1;
        let in_force = |own: &&Value| own["until"].as_str().is_none_or(|until| months(until) > last);
        let before = Root::governing(&self.contracts, last).filter(in_force);
        let starts = |own: &Value| months(text(&own["starts"], text(&own["effective"], "")));
        let since = (last - before.map_or(self.first, starts)) % 12;
        let ends = before.is_some_and(|own| own["until"].as_str().is_some_and(|until| months(until) == effective));
        let goes_on = (effective - starts(contract)) % 12 == since + 1;
        !(since == 11 || ends || goes_on)
    }

    /// How many records were accepted, late ones included.
    pub fn accepted(&self) -> usize {
        self.accepted
    }
}

fn check_sign(meter: &Value, row: &Row) -> Result<(), &'static str> {
    let changes = meter["level"]["records"] == "change";
    let wrong = row.quantity.starts_with('-') && row.corrects.is_none() && !changes;
    if wrong { Err("NEGATIVE_QUANTITY") } else { Ok(()) }
}

impl Ledger {
    /// `ids`: how many the shard keeps.
    pub fn new(ids: usize) -> Ledger {
        let (roots, producers) = (BTreeMap::new(), BTreeMap::new());
        Ledger { roots, homes: Homes::default(), ids: Ids::new(ids), producers }
    }

    /// One segment: a verdict a record, or the reason why the whole segment was refused and nothing moved.
    pub fn push(
        &mut self,
        slot: u16,
        producer: &str,
        sending: Sending,
        records: &[Sent],
    ) -> Result<Vec<Verdict>, &'static str> {
        let key = (slot, producer.to_owned());
        let by_name = !matches!(sending, Sending::Sequenced { .. });
        if by_name && !self.ids.have_room_for(records.iter().map(|sent| &sent.row)) {
            return Err("RESOURCE_EXHAUSTED");
        }
        let fresh = match sending {
            Sending::Sequenced { previous: Some(_), .. } if !self.producers.contains_key(&key) => {
                return Err("OUT_OF_ORDER");
            }
            Sending::Sequenced { epoch, .. } | Sending::Strays { epoch } => {
                Producer::Sequenced { epoch, mark: None, refused: BTreeMap::new() }
            }
            Sending::ById => Producer::ById,
        };
        let known = self.producers.entry(key).or_insert(fresh);
        let mut verdicts = Vec::new();
        match (sending, known) {
            (Sending::Sequenced { epoch, previous }, Producer::Sequenced { epoch: latest, mark, refused }) => {
                if epoch < *latest {
                    return Err("STALE_EPOCH");
                }
                // Only what begins at or under the mark may name no previous: all of it is being sent again.
                let first = records[0].number;
                let in_order = match previous {
                    Some(previous) => mark.is_some_and(|mark| previous <= mark),
                    None => mark.is_none_or(|mark| first <= mark),
                };
                if !in_order {
                    return Err("OUT_OF_ORDER");
                }
                *latest = epoch;
                for Sent { number, row, .. } in records {
                    let name = format!("{producer}/{number:020}");
                    verdicts.push(if mark.is_some_and(|mark| *number <= mark) {
                        refused.get(number).map_or(Verdict::Duplicate, |reason| Verdict::Refused(reason))
                    } else {
                        *mark = Some(*number);
                        let verdict = count(&mut self.roots, slot, row, &name);
                        if let Verdict::Refused(reason) = verdict {
                            refused.insert(*number, reason);
                        }
                        verdict
                    });
                }
            }
            (Sending::ById, Producer::ById) => {}
            (Sending::Strays { epoch }, Producer::Sequenced { epoch: latest, .. }) => {
                if epoch < *latest {
                    return Err("STALE_EPOCH");
                }
                *latest = epoch;
            }
            _ => return Err("PRODUCER_KIND"),
        }
        if by_name {
            for Sent { number, id, row } in records {
                let own = if sending == Sending::ById { format!("id {id}") } else { format!("number {number}") };
                let shown = if sending == Sending::ById { id.clone() } else { format!("{producer}/{number:020}") };
                verdicts.push(self.by_name(slot, (slot, producer.to_owned(), own), &shown, row));
            }
            self.ids.trim();
        }
        Ok(verdicts)
    }

    /// One record by id, or a stray.
    fn by_name(&mut self, slot: u16, name: Name, shown: &str, row: &Row) -> Verdict {
        // What names no series at all is refused for that, however old it is.
        let account = &row.series.account;
        let Some(root) = self.roots.values().find(|root| root.slot == slot && root.names(account)) else {
            return Verdict::Refused("UNKNOWN_ACCOUNT");
        };
        if let Err(reason) = root.meter_of(&row.series) {
            return Verdict::Refused(reason);
        }
        if self.ids.is_too_old(row) {
            return Verdict::Refused("ID_TOO_OLD");
        }
        match self.ids.get(&name) {
            Some(first) if first == row => Verdict::Duplicate,
            Some(_) => Verdict::Refused("ID_REUSED"),
            None => {
                let verdict = count(&mut self.roots, slot, row, shown);
                if matches!(verdict, Verdict::Accepted { .. }) {
                    self.ids.remember(name, row.clone());
                }
                verdict
            }
        }
    }
}

fn count(roots: &mut BTreeMap<String, Root>, slot: u16, row: &Row, name: &str) -> Verdict {
    let account = &row.series.account;
    let known = roots.values().find(|root| root.slot == slot && root.names(account));
    if let Some(meter) = known.and_then(|root| root.meter_of(&row.series).ok().cloned())
        && is_spread(&meter, row.start, row.end)
    {
        let verdict = count_spread(roots, slot, &meter, row, name);
        return verdict.map_or_else(Verdict::Refused, |late| Verdict::Accepted { late });
    }
    let owner = |root: &&mut Root| root.slot == slot && root.has_member(&row.series.account, row.start);
    roots.values_mut().find(owner).map_or(Verdict::Refused("UNKNOWN_ACCOUNT"), |root| root.count(row, name))
}

/// All parts of a record that is spread, or none: each counts as one of its own time, with whoever has the account then.
fn count_spread(
    roots: &mut BTreeMap<String, Root>,
    slot: u16,
    meter: &Value,
    row: &Row,
    name: &str,
) -> Result<bool, &'static str> {
    check_sign(meter, row)?;
    let account = &row.series.account;
    let moves: Vec<i64> =
        roots.values().filter(|root| root.slot == slot).flat_map(|root| root.moves(account)).collect();
    let mut places = Vec::new();
    for (at, part) in parts(meter, &exact(&row.quantity), (row.start, row.end), &moves)? {
        let owner = roots.values().find(|root| root.slot == slot && root.has_member(account, at));
        let owner = owner.ok_or("UNKNOWN_ACCOUNT")?;
        owner.late(at)?;
        places.push((text(&owner.hierarchy["root"], "").to_owned(), at, part));
    }
    let mut late = false;
    for (place, (root, at, part)) in places.into_iter().enumerate() {
        let own = Row { start: at, end: at, quantity: shown(&part), ..row.clone() };
        let root = roots.get_mut(&root).expect("found just before");
        late |= root.add(meter, &own, name);
        // To its sender it is one record.
        root.accepted += usize::from(place == 0);
    }
    Ok(late)
}
