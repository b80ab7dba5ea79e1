//! Random histories: the machine beside a naive list, snapshots at random points, the same log twice.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::command::*;
use super::kit::*;
use super::moves_test::{empty, move_all};
use super::state::State;
use crate::usage::segment::{Head, HeadMode, Writer};

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Records of a producer: how far back the resend begins, and new quantities (negative ones are refused).
    Sequence {
        producer: u8,
        back: u64,
        quantities: Vec<i8>,
        month: u8,
    },
    /// Records by id: ids and quantities; the same id may come with another quantity.
    Ids {
        ids: Vec<(u8, i8)>,
    },
    Close,
    Amend {
        accounts: u8,
    },
    Open {
        producer: u8,
    },
    Definitions,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sequence = (0u8..3, 0u64..6, prop::collection::vec(-1i8..20, 0..8), 0u8..3)
        .prop_map(|(producer, back, quantities, month)| Step::Sequence { producer, back, quantities, month });
    let ids = prop::collection::vec((0u8..12, -1i8..4), 1..6).prop_map(|ids| Step::Ids { ids });
    let step = prop_oneof![
        6 => sequence,
        3 => ids,
        1 => Just(Step::Close),
        1 => (1u8..5).prop_map(|accounts| Step::Amend { accounts }),
        1 => (0u8..3).prop_map(|producer| Step::Open { producer }),
        1 => Just(Step::Definitions),
    ];
    prop::collection::vec(step, 1..30)
}

/// What was sent and what must have been counted, as plain lists.
#[derive(Default)]
pub(super) struct Model {
    /// Each producer's records in order: (account, quantity, month).
    sent: BTreeMap<u8, Vec<(u8, i8, u8)>>,
    ids: BTreeMap<u8, i8>,
    /// The month in which an id was counted.
    id_month: BTreeMap<u8, u32>,
    /// (account, month ordinal) -> sum of what was accepted, late or not.
    counted: BTreeMap<(u8, u32), i128>,
    /// Months cut so far.
    cut: u32,
}

const ACCOUNTS: u8 = 5;

fn start(month: u32) -> crate::base::time::Timestamp {
    let mut of = cycle("2024-09");
    for _ in 0..month {
        of = of.next();
    }
    of.start()
}

impl Model {
    /// Does a step to the machine and to the lists, and compares the verdicts.
    pub(super) fn step(&mut self, kit: &mut Kit, step: &Step) {
        match step {
            Step::Sequence { producer, back, quantities, month } => {
                self.sequence(kit, *producer, *back, quantities, *month)
            }
            Step::Ids { ids } => self.by_id(kit, ids),
            Step::Close => {
                let mut of = cycle("2024-09");
                (0..self.cut).for_each(|_| of = of.next());
                kit.stamp = kit.stamp.max(of.end());
                kit.close("acme", &of.to_string());
                self.cut += 1;
            }
            Step::Amend { accounts } => {
                // Accounts 0 to 4 stay, more come: the document only ever grows.
                let names = (0..ACCOUNTS + accounts).map(|n| format!(r#"{{"id":"a{n}"}}"#)).collect::<Vec<_>>();
                kit.put("acme", &format!(r#","accounts":[{}]"#, names.join(","))).ok();
            }
            Step::Open { producer: name } => {
                let name = format!("p{name}");
                kit.ok(Command::OpenProducer { slot: home(&name), producer: producer(&name), epoch: None, file: None });
            }
            Step::Definitions => {
                let mut writer = Writer::new();
                let mode = HeadMode::ById;
                writer.segment(&Head { slot: home("acme"), generation: 0, producer: "definer", mode });
                writer.define(&key("a0", "hours"), 2);
                kit.push(writer);
            }
        }
    }

    fn sequence(&mut self, kit: &mut Kit, producer: u8, back: u64, quantities: &[i8], month: u8) {
        let sent = self.sent.entry(producer).or_default();
        let seen = sent.len();
        let from = seen.saturating_sub(back as usize);
        for quantity in quantities {
            sent.push(((*quantity as u8) % ACCOUNTS, *quantity, month));
        }
        let batch = &sent[from..];
        if batch.is_empty() {
            return;
        }
        let rows: Vec<Row> = batch
            .iter()
            .enumerate()
            .map(|(place, (account, quantity, month))| {
                let mut row =
                    rows(&format!("a{account}"), (from + place + 1) as u64, &[i128::from(*quantity)]).remove(0);
                row.start = start(u32::from(*month));
                row
            })
            .collect();
        let previous = Some(from as u64).filter(|previous| *previous > 0);
        let name = format!("p{producer}");
        let verdict = kit.send("acme", &name, HeadMode::Sequenced { epoch: 1, previous }, &rows);
        let fresh = rows.len() - (seen - from);
        assert!(!verdict.starts_with("whole"), "{verdict}");
        for (account, quantity, month) in &self.sent[&producer][seen..] {
            // Two months from the oldest uncut count; before them is late, after them refused.
            if *quantity >= 0 && u32::from(*month) <= self.cut + 1 {
                *self.counted.entry((*account, u32::from(*month))).or_default() += i128::from(*quantity);
            }
        }
        let repeated: usize = verdict
            .split(", ")
            .filter_map(|run| run.strip_suffix(" duplicate"))
            .map(|count| count.parse::<usize>().unwrap())
            .sum();
        assert!(repeated <= rows.len() - fresh, "{verdict}: only repeats are duplicates");
    }

    fn by_id(&mut self, kit: &mut Kit, ids: &[(u8, i8)]) {
        let mut sent = Vec::new();
        for (id, quantity) in ids {
            let mut row = rows("a0", u64::from(*id), &[i128::from(*quantity)]).remove(0);
            row.start = start(self.cut);
            sent.push(row);
        }
        let mut expected = Vec::new();
        for (id, quantity) in ids {
            // Ids are told apart by content, and the month is a part of it.
            let content = (*quantity, self.cut);
            let known = self.ids.get(id).map(|known| (*known, self.id_month[id]));
            expected.push(match known {
                Some(known) if known == content => "duplicate",
                Some(_) if *quantity >= 0 || known.is_some() => "ID_REUSED",
                _ if *quantity < 0 => "NEGATIVE_QUANTITY",
                _ => {
                    self.ids.insert(*id, *quantity);
                    self.id_month.insert(*id, self.cut);
                    *self.counted.entry((0, self.cut)).or_default() += i128::from(*quantity);
                    "accepted"
                }
            });
        }
        let verdict = kit.send("acme", "ids", HeadMode::ById, &sent);
        let told: Vec<String> = verdict
            .split(", ")
            .flat_map(|run| {
                let (count, word) = run.split_once(' ').unwrap();
                vec![word.to_owned(); count.parse().unwrap()]
            })
            .collect();
        assert_eq!(told, expected);
    }

    /// Everything that the shard counted, archived months left out.
    pub(super) fn check(&self, kit: &mut Kit) {
        let view = kit.state.view();
        for month in self.cut..self.cut + 2 {
            let mut of = cycle("2024-09");
            (0..month).for_each(|_| of = of.next());
            let mut found: BTreeMap<String, i128> = BTreeMap::new();
            for line in view.usage(&account("acme"), of).unwrap() {
                *found.entry(line.series.account.to_string()).or_default() += line.value;
            }
            found.retain(|_, value| *value != 0);
            let expected = self.counted.iter().filter(|((_, at), value)| *at == month && **value != 0);
            let expected: BTreeMap<String, i128> =
                expected.map(|((account, _), value)| (format!("a{account}"), *value)).collect();
            assert_eq!(found, expected, "month {month}");
        }
    }
}

pub(super) fn begin() -> Kit {
    let mut kit = Kit::new();
    let names = (0..ACCOUNTS).map(|n| format!(r#"{{"id":"a{n}"}}"#)).collect::<Vec<_>>();
    kit.put("acme", &format!(r#","accounts":[{}]"#, names.join(","))).unwrap();
    kit
}

fn restored(state: &mut State) -> State {
    let mut parts = Vec::new();
    state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
    State::restore(parts).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_history_counts_what_a_list_would(steps in steps()) {
        let (mut kit, mut model) = (begin(), Model::default());
        for step in &steps {
            model.step(&mut kit, step);
        }
        model.check(&mut kit);
    }

    #[test]
    fn a_snapshot_at_any_point_goes_on_the_same(steps in steps(), at in 0usize..30) {
        let (mut kit, mut model) = (begin(), Model::default());
        for (place, step) in steps.iter().enumerate() {
            if place == at {
                let hash = kit.state.hash();
                kit.state = restored(&mut kit.state);
                prop_assert_eq!(kit.state.hash(), hash);
            }
            model.step(&mut kit, step);
        }
        model.check(&mut kit);
        // The same log without the restart, and with a view taken and dropped between all entries.
        let mut other = State::new(crate::base::id::ShardId(1));
        for (place, entry) in kit.log.iter().enumerate() {
            other.apply(place as u64 + 1, entry, &kit.blobs).unwrap();
            if place % 3 == 0 {
                drop(other.view());
            }
        }
        prop_assert_eq!(other.hash(), kit.state.hash());
    }

    #[test]
    fn a_history_that_moves_between_shards_counts_the_same(
        steps in steps(),
        moves in prop::collection::btree_map(0usize..30, any::<bool>(), 0..6),
    ) {
        let (mut kit, mut other, mut model) = (begin(), empty(1 << 20), Model::default());
        for (place, step) in steps.iter().enumerate() {
            if let Some(commit) = moves.get(&place) {
                move_all(&mut kit, &mut other, place as u64 + 1, *commit);
                if *commit {
                    std::mem::swap(&mut kit, &mut other);
                }
            }
            model.step(&mut kit, step);
        }
        model.check(&mut kit);
        prop_assert!(other.state.view().roots().next().is_none(), "nothing is left behind");
    }

    #[test]
    fn any_cut_and_any_resend_count_the_same(
        quantities in prop::collection::vec(-1i128..50, 1..60),
        cuts in prop::collection::vec((0usize..60, 0usize..20), 0..12),
    ) {
        let mut whole = Kit::acme();
        whole.sequence(None, 1, &quantities);
        let mut cut = Kit::acme();
        let mut sent = 0;
        for (length, back) in cuts.into_iter().chain([(60, 0)]) {
            let from = usize::saturating_sub(sent, back).min(quantities.len());
            let until = (from + length).min(quantities.len()).max(from);
            let previous = Some(from as u64).filter(|previous| *previous > 0);
            cut.sequence(previous, from as u64 + 1, &quantities[from..until]);
            sent = sent.max(until);
        }
        let a = key("a", "bytes");
        prop_assert_eq!(cut.value("acme", "2024-09", &a), whole.value("acme", "2024-09", &a));
        prop_assert_eq!(
            cut.state.view().producers(home("acme")),
            whole.state.view().producers(home("acme"))
        );
    }
}
