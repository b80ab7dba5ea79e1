//! What a producer and a reader of one hierarchy saw, and whether it can be true: checked in one pass over the history in
//! the order of the log, by the positions that every answer carries. Nothing here talks to anybody.

/// Something that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// By this index of the log, so many units were acknowledged.
    Acknowledged { index: u64, units: i128 },
    /// A read at this index gave so many units; before it began, a position and units were known already.
    Read { index: u64, term: u64, units: i128, known_index: u64, known_units: i128 },
}

/// Checks a history of one shard: reads never run back behind what was known, a read contains what was acknowledged at or
/// before its index, equal indexes give equal sums, sums and terms only rise. Answers how many reads were checked.
///
/// # Errors
/// The first contradiction.
pub fn check(history: &[Event]) -> Result<u64, String> {
    let mut events = history.to_vec();
    // Acknowledgements of an index before reads of it.
    events.sort_by_key(|event| match event {
        Event::Acknowledged { index, .. } => (*index, false),
        Event::Read { index, .. } => (*index, true),
    });
    let (mut acknowledged, mut reads) = (0, 0);
    let mut last: Option<(u64, u64, i128)> = None;
    for event in events {
        let (index, term, units) = match event {
            Event::Acknowledged { units, .. } => {
                acknowledged = acknowledged.max(units);
                continue;
            }
            Event::Read { index, term, units, known_index, known_units } => {
                if index < known_index || units < known_units {
                    return Err(format!(
                        "a read at entry {index} gives {units}; {known_units} at entry {known_index} were known before it"
                    ));
                }
                (index, term, units)
            }
        };
        reads += 1;
        if units < acknowledged {
            return Err(format!("a read at entry {index} gives {units}, {acknowledged} were acknowledged up to there"));
        }
        if let Some((before, its_term, its_units)) = last {
            let same = before == index && (its_term, its_units) != (term, units);
            if same || term < its_term || units < its_units {
                return Err(format!(
                    "reads contradict each other: {its_units} at entry {before} of term {its_term}, {units} at entry \
                     {index} of term {term}"
                ));
            }
        }
        last = Some((index, term, units));
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(index: u64, units: i128) -> Event {
        Event::Acknowledged { index, units }
    }

    fn read(index: u64, term: u64, units: i128) -> Event {
        Event::Read { index, term, units, known_index: 0, known_units: 0 }
    }

    #[test]
    fn histories_that_cannot_be_true_are_told_from_those_that_can() {
        for (history, possible) in [
            (vec![acknowledged(5, 10), read(5, 1, 10), read(9, 1, 30)], true),
            (vec![read(9, 1, 30), acknowledged(5, 10), read(4, 1, 0)], true),
            (vec![acknowledged(5, 10), read(6, 1, 9)], false),
            (vec![read(5, 1, 10), read(5, 1, 11)], false),
            (vec![read(5, 1, 10), read(5, 2, 10)], false),
            (vec![read(5, 2, 10), read(6, 1, 10)], false),
            (vec![read(5, 1, 10), read(6, 1, 9)], false),
            (vec![Event::Read { index: 5, term: 1, units: 10, known_index: 6, known_units: 10 }], false),
            (vec![Event::Read { index: 6, term: 1, units: 9, known_index: 6, known_units: 10 }], false),
        ] {
            assert_eq!(check(&history).is_ok(), possible, "{history:?}");
        }
    }
}
