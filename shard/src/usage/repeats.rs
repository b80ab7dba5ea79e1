//! Recognising what a sequenced producer sent before: one mark a (slot, producer), and the producer's latest refusals so
//! that a repeat gets the first verdict. Ids live in [`super::ids`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::segment::Mode;
use crate::base::refusal::{Reason, Refusal};

/// Refusals kept of one producer in one slot: more than a careful caller has in flight with bad records.
pub const REFUSALS_MAX: usize = 1_024;
/// Producers of one slot: marks live as long as the producer, and each is looked at when a view is made.
pub const PRODUCERS_PER_SLOT_MAX: usize = 16_384;

/// What a slot remembers of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Numbers count its records.
    Sequenced(Mark),
    /// Each record has an id.
    ById,
}

/// How far a sequenced producer has come in one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Highest epoch seen; older writers are fenced off.
    pub epoch: u64,
    /// Highest number consumed; `None` = none yet.
    pub last: Option<u64>,
    /// The latest refused numbers, ascending.
    pub refusals: Arc<VecDeque<(u64, Refusal)>>,
}

impl Mark {
    /// The first refusal of a consumed number; `None` = it was counted, or is too long ago to tell.
    pub fn refusal(&self, number: u64) -> Option<&Refusal> {
        let found = self.refusals.binary_search_by_key(&number, |(number, _)| *number);
        found.ok().map(|index| &self.refusals[index].1)
    }

    /// Remembers that a new number was refused.
    pub fn refuse(&mut self, number: u64, refusal: Refusal) {
        let refusals = Arc::make_mut(&mut self.refusals);
        if refusals.len() == REFUSALS_MAX {
            refusals.pop_front();
        }
        refusals.push_back((number, refusal));
    }
}

/// The producers of one slot.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    seen: BTreeMap<Box<str>, Seen>,
}

impl Producers {
    /// Decides whether a segment may be consumed, and fixes the producer's kind with its first. A refusal has moved
    /// nothing.
    pub fn admit(&mut self, producer: &str, mode: &Mode) -> Result<&mut Seen, Refusal> {
        if !self.seen.contains_key(producer) {
            if self.seen.len() >= PRODUCERS_PER_SLOT_MAX {
                let detail =
                    format!("the slot has {PRODUCERS_PER_SLOT_MAX} producers, which is all it may; reuse names");
                return Err(Refusal::new(Reason::LimitReached, detail));
            }
            if let Mode::Sequenced { previous: Some(previous), .. } = mode {
                return Err(out_of_order(producer, *previous, None));
            }
            let seen = match mode {
                Mode::ById => Seen::ById,
                Mode::Sequenced { epoch, .. } | Mode::Strays { epoch, .. } => {
                    Seen::Sequenced(Mark { epoch: *epoch, ..Mark::default() })
                }
            };
            self.seen.insert(producer.into(), seen);
        }
        let seen = self.seen.get_mut(producer).expect("the producer was added just before");
        match (&mut *seen, mode) {
            (Seen::ById, Mode::ById) => {}
            (Seen::Sequenced(mark), Mode::Sequenced { epoch, previous, first }) => {
                mark.check_epoch(producer, *epoch)?;
                mark.check_order(producer, *previous, *first)?;
                mark.epoch = *epoch;
            }
            (Seen::Sequenced(mark), Mode::Strays { epoch, .. }) => {
                mark.check_epoch(producer, *epoch)?;
                mark.epoch = *epoch;
            }
            (Seen::ById, Mode::Sequenced { .. } | Mode::Strays { .. }) | (Seen::Sequenced(_), Mode::ById) => {
                let (is, sends) = match seen {
                    Seen::ById => ("by id", "numbers"),
                    Seen::Sequenced(_) => ("by number", "ids"),
                };
                let detail = format!(
                    "producer '{producer}' is recognised {is} since its first record and now sends {sends}; use another \
                     producer name"
                );
                return Err(Refusal::new(Reason::ProducerKind, detail));
            }
        }
        Ok(seen)
    }

    pub fn get_mut(&mut self, producer: &str) -> Option<&mut Seen> {
        self.seen.get_mut(producer)
    }

    pub fn get(&self, producer: &str) -> Option<&Seen> {
        self.seen.get(producer)
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Seen)> {
        self.seen.iter().map(|(name, seen)| (&**name, seen))
    }

    /// Puts a producer back as a snapshot told it.
    pub fn restore(&mut self, producer: &str, seen: Seen) {
        self.seen.insert(producer.into(), seen);
    }
}

impl Mark {
    fn check_epoch(&self, producer: &str, epoch: u64) -> Result<(), Refusal> {
        if epoch < self.epoch {
            let detail = format!(
                "producer '{producer}' was opened again under epoch {}, this writer has {epoch}; stop it or open anew",
                self.epoch
            );
            return Err(Refusal::new(Reason::StaleEpoch, detail));
        }
        Ok(())
    }

    /// `previous` above the mark means that something in between never arrived. No previous is only for a segment that
    /// begins at or under the mark: everything from the beginning is being sent again.
    fn check_order(&self, producer: &str, previous: Option<u64>, first: u64) -> Result<(), Refusal> {
        let is_in_order = match (previous, self.last) {
            (None, None) => true,
            (None, Some(last)) => first <= last,
            (Some(previous), last) => last.is_some_and(|last| previous <= last),
        };
        if is_in_order { Ok(()) } else { Err(out_of_order(producer, previous.unwrap_or(first), self.last)) }
    }
}

fn out_of_order(producer: &str, wanted: u64, last: Option<u64>) -> Refusal {
    let seen = last.map_or("nothing".to_owned(), |last| format!("its numbers up to {last}"));
    let detail = format!(
        "producer '{producer}' refers to number {wanted}, this slot has seen {seen}; send what lies between first"
    );
    Refusal::new(Reason::OutOfOrder, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 5;

    fn sequenced(epoch: u64, previous: Option<u64>, first: u64) -> Mode {
        Mode::Sequenced { epoch, previous, first }
    }

    #[test]
    fn segments_are_admitted_by_kind_epoch_and_order() {
        fn check(mark: Option<u64>, mode: Mode, expected: Result<(), Reason>) {
            let mut producers = Producers::default();
            let refusals = Arc::default();
            producers.restore("p", Seen::Sequenced(Mark { epoch: EPOCH, last: mark, refusals }));
            let before = producers.get("p").cloned();
            let result = producers.admit("p", &mode).map(|_| ()).map_err(|refusal| refusal.reason);
            assert_eq!(result, expected, "{mark:?} {mode:?}");
            assert!(result.is_ok() || producers.get("p").cloned() == before, "a refusal moves nothing");
        }
        check(None, sequenced(5, None, 1), Ok(()));
        check(None, sequenced(5, None, 900), Ok(()));
        check(None, sequenced(5, Some(3), 4), Err(Reason::OutOfOrder));
        check(Some(10), sequenced(5, Some(10), 11), Ok(()));
        check(Some(10), sequenced(5, Some(7), 8), Ok(()));
        check(Some(10), sequenced(5, Some(11), 12), Err(Reason::OutOfOrder));
        check(Some(10), sequenced(5, None, 1), Ok(()));
        check(Some(10), sequenced(5, None, 10), Ok(()));
        check(Some(10), sequenced(5, None, 11), Err(Reason::OutOfOrder));
        check(Some(10), sequenced(4, Some(10), 11), Err(Reason::StaleEpoch));
        check(Some(10), sequenced(4, Some(11), 12), Err(Reason::StaleEpoch));
        check(Some(10), sequenced(6, Some(10), 11), Ok(()));
        check(Some(10), Mode::Strays { epoch: 5, first: 99 }, Ok(()));
        check(Some(10), Mode::Strays { epoch: 4, first: 99 }, Err(Reason::StaleEpoch));
        check(Some(10), Mode::ById, Err(Reason::ProducerKind));
    }

    #[test]
    fn the_first_segment_fixes_kind_and_epoch() {
        let mut producers = Producers::default();
        assert_eq!(producers.admit("p", &sequenced(1, Some(1), 2)).unwrap_err().reason, Reason::OutOfOrder);
        assert_eq!(producers.get("p"), None);
        producers.admit("p", &Mode::ById).unwrap();
        assert_eq!(producers.admit("p", &sequenced(1, None, 1)).unwrap_err().reason, Reason::ProducerKind);
        producers.admit("q", &sequenced(3, None, 1)).unwrap();
        assert_eq!(producers.admit("q", &sequenced(2, None, 1)).unwrap_err().reason, Reason::StaleEpoch);
        producers.admit("q", &sequenced(4, None, 1)).unwrap();
        assert_eq!(producers.admit("q", &sequenced(3, None, 1)).unwrap_err().reason, Reason::StaleEpoch);
    }

    #[test]
    fn the_latest_refusals_are_kept() {
        let mut mark = Mark::default();
        for number in 0..1_030 {
            mark.refuse(number, Refusal::new(Reason::InvalidValue, number.to_string()));
        }
        assert_eq!(mark.refusals.len(), REFUSALS_MAX);
        assert_eq!((mark.refusal(5), mark.refusal(1_030)), (None, None));
        assert_eq!(mark.refusal(6).unwrap().detail, "6");
        assert_eq!(mark.refusal(1_029).unwrap().detail, "1029");
    }
}
