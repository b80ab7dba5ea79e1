//! The reference machine: every record ever sent kept in a list, every question answered by walking it. What a record is
//! told (accepted, late, duplicate, refused) and which cycle it counts in, by the letter of ARCHITECTURE.md.
//! What the counted usage costs lives in `bill.rs`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bill::{Bills, fold};
use super::calendar::{Cycle, cycle_name, cycle_of, start_of, time_of};
use super::exact::{Exact, exact, whole};
use super::homes::Homes;
use super::ids::{Ids, Name};
use super::record::{Record, Row};
use super::series::{Counter, Member, Series, is_summed, list, selects, text, without_attributes};

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
        }
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

    /// Payer and group of every account that a counter can name.
    pub fn member(&self, account: &str) -> Member {
        let root = text(&self.hierarchy["root"], "").to_owned();
        let mut payers: Vec<String> =
            list(&self.hierarchy, "payers").iter().map(|payer| text(payer, "").to_owned()).collect();
        if payers.is_empty() {
            payers.push(root.clone());
        }
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
        let cycle = cycle_of(row.start);
        let meter = match self.meter_of(&row.series) {
            Ok(meter) => meter.clone(),
            Err(reason) => return Verdict::Refused(reason),
        };
        let changes = meter["level"]["records"] == "change";
        if row.quantity.starts_with('-') && row.corrects.is_none() && !changes {
            return Verdict::Refused("NEGATIVE_QUANTITY");
        }
        if cycle < self.first {
            return Verdict::Refused("TOO_EARLY");
        }
        if cycle > self.open + 1 {
            return Verdict::Refused("TOO_FAR_AHEAD");
        }
        let late = cycle < self.open;
        let (open, name) = (self.open, name.to_owned());
        self.counted.push(Counted { cycle, late, open, meter, name, row: row.clone() });
        Verdict::Accepted { late }
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
            let hour = (counted.row.start - start_of(cycle)) / 3_600_000_000_000;
            let bucket = match text(&counted.meter["bucket"], "month") {
                "hour" => hour,
                "day" => hour / 24 * 24,
                _ => 0,
            };
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
        let balances = BTreeMap::new();
        fold(catalogue, contract, &name, (&counters, &records), &balances, &|account| self.member(account))
    }

    /// The bills of a cycle over everything that was counted, late or not.
    pub fn whole_bills(&self, cycle: Cycle) -> Bills {
        let mut whole = self.clone();
        whole.counted.iter_mut().for_each(|counted| counted.late = false);
        whole.bills(cycle)
    }

    /// How many records were accepted, late ones included.
    pub fn accepted(&self) -> usize {
        self.counted.len()
    }
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
    let owner = |root: &&mut Root| root.slot == slot && root.has_member(&row.series.account, row.start);
    roots.values_mut().find(owner).map_or(Verdict::Refused("UNKNOWN_ACCOUNT"), |root| root.count(row, name))
}
