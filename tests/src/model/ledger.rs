//! The reference machine: every record ever sent kept in a list, every question answered by walking it. What a record is
//! told (accepted, late, duplicate, refused) and which cycle it counts in, by the letter of DESIGN.md sections 5 and 7.
//! What the counted usage costs lives in `bill.rs`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bill::{Counter, Series, list, selects, text};
use super::exact::{Exact, exact, ten_to, whole};

/// What is measured, as a caller writes it down. `start` is in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub series: Series,
    /// A decimal.
    pub quantity: String,
    pub start: i64,
}

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

/// A cycle as a number that sorts: months since year 0.
pub type Cycle = u32;

/// Days from 1970-01-01 to the first of a month, by counting.
pub fn start_of(cycle: Cycle) -> i64 {
    let leap = |year: u32| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let days_of = |year: u32, month: u32| match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let months = (1970 * 12..cycle).map(|month| days_of(month / 12, month % 12 + 1));
    months.sum::<i64>() * 86_400_000_000_000
}

pub fn cycle_of(time: i64) -> Cycle {
    (1970 * 12..).find(|cycle| start_of(cycle + 1) > time).expect("time ends somewhere")
}

/// `2026-09`.
pub fn cycle_name(cycle: Cycle) -> String {
    format!("{:04}-{:02}", cycle / 12, cycle % 12 + 1)
}

pub fn hours_of(cycle: Cycle) -> i64 {
    (start_of(cycle + 1) - start_of(cycle)) / 3_600_000_000_000
}

/// A record that counts.
#[derive(Clone, Debug)]
struct Counted {
    cycle: Cycle,
    late: bool,
    row: Row,
}

/// One hierarchy with all that was ever counted for it.
#[derive(Clone, Debug)]
pub struct Root {
    pub hierarchy: Value,
    /// Versions with the cycle each takes effect in, oldest first.
    pub catalogues: Vec<(Cycle, Value)>,
    pub contracts: Vec<(Cycle, Value)>,
    /// The oldest cycle that is not cut.
    pub open: Cycle,
    counted: Vec<Counted>,
}

/// What a producer sent to one slot.
#[derive(Clone, Debug, Default)]
struct Producer {
    mark: Option<u64>,
    refused: BTreeMap<u64, &'static str>,
    by_id: BTreeMap<String, (Row, Verdict)>,
}

/// All hierarchies and producers.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub roots: BTreeMap<String, Root>,
    producers: BTreeMap<(String, String), Producer>,
}

impl Root {
    pub fn new(hierarchy: Value, first: Cycle, catalogue: Value) -> Root {
        let catalogues = vec![(first, catalogue)];
        Root { hierarchy, catalogues, contracts: Vec::new(), open: first, counted: Vec::new() }
    }

    /// The version of a document that governs a cycle.
    pub fn governing(versions: &[(Cycle, Value)], cycle: Cycle) -> Option<&Value> {
        versions.iter().rev().find(|(from, _)| *from <= cycle).map(|(_, document)| document)
    }
}
