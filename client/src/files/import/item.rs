//! What every price list comes down to: items with a ladder, pools of free units, and notes about what was found on the
//! way. How a list is read and how a catalogue is made of it live beside this file.

use std::collections::{BTreeMap, BTreeSet};

use reckoner_shard::base::id::Currency;
use reckoner_shard::base::money::{Quantity, Rate};
use reckoner_shard::base::time::CycleId;
use serde::Serialize;

use crate::error::Error;

/// A list of this many bytes or more is not read: the largest offer of one region has a few hundred million, and all of
/// it is held in memory while it is sorted out.
pub const LIST_BYTES_MAX: u64 = 1 << 30;

/// What of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// `None`: the one that the list has.
    pub currency: Option<Currency>,
    /// The prices that are in force when this cycle begins.
    pub effective: CycleId,
}

/// Price lists as they were read.
#[derive(Clone, Debug)]
pub struct List {
    pub currency: Currency,
    /// One a file, in the order given.
    pub origins: Vec<Origin>,
    pub items: Vec<Item>,
    pub pools: Vec<Pool>,
    pub notes: Vec<Note>,
}

/// A file of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub file: String,
    /// What the provider calls the list.
    pub offer: String,
    pub version: String,
    /// Entries that the file holds.
    pub products: usize,
}

/// Where something stands: a file, and the way to it from the file's top.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub file: String,
    pub place: String,
}

impl Spot {
    pub fn new(file: &str, place: impl Into<String>) -> Spot {
        Spot { file: file.to_owned(), place: place.into() }
    }
}

/// One product with its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub spot: Spot,
    /// The provider's own id, the same in every version of the list.
    pub sku: String,
    pub name: Option<String>,
    pub service: String,
    pub usage_type: String,
    /// `None`: any.
    pub operation: Option<String>,
    /// `None`: any.
    pub region: Option<String>,
    /// What else the list says of it; used where two items cannot be told apart without.
    pub attributes: BTreeMap<String, String>,
    /// As the list writes it.
    pub unit: String,
    pub tiers: Vec<Tier>,
}

/// A step of a ladder from where the one before ends; only the last has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    pub up_to: Option<Quantity>,
    pub rate: Rate,
}

/// Units that are free for several products together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub spot: Spot,
    pub id: String,
    pub name: Option<String>,
    pub unit: String,
    pub units: Quantity,
    /// Ids of products.
    pub skus: Vec<String>,
}

/// What was done with a thing that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is not in the catalogue, and its usage would have no price.
    Refused,
    /// A gap of one unit was closed.
    Closed,
    /// It was read differently from how it is written.
    Taken,
    /// It stands in the list twice, with the same price.
    Repeated,
    /// It is of a kind that a catalogue of on-demand prices does not hold.
    LeftOut,
}

/// One thing to know about a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    pub what: What,
    pub file: String,
    pub place: String,
    pub message: String,
}

impl Note {
    pub fn new(what: What, spot: &Spot, message: impl Into<String>) -> Note {
        Note { what, file: spot.file.clone(), place: spot.place.clone(), message: message.into() }
    }

    pub fn refused(spot: &Spot, message: impl Into<String>) -> Note {
        Note::new(What::Refused, spot, message)
    }
}

/// The one currency of a list in which prices stand in `codes`.
pub fn only(codes: &BTreeSet<&str>) -> Result<Currency, Error> {
    match codes.iter().copied().collect::<Vec<_>>().as_slice() {
        [one] => Currency::new(one).map_err(|bad| Error::invalid(bad.to_string())),
        [] => Err(Error::invalid("the list holds no price; name another file")),
        several => {
            Err(Error::invalid(format!("the list has prices in {}; choose with --currency", several.join(" and "))))
        }
    }
}
