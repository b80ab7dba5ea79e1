//! Units used of one thing make units of another cheaper (section 2.1).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::draft::{Draft, in_scope};
use crate::model::exact::{Exact, rounded, whole};
use crate::model::pool::parts;
use crate::model::rounding::SCALE;
use crate::model::series::number;

/// A part of a paid slice that was used in one bucket.
struct Lot {
    account: String,
    item: usize,
    slice: usize,
    /// Of the cycle, in which the bucket begins.
    minute: i64,
    /// What is left to be waived.
    units: Exact,
    /// What the bucket held of the slice.
    size: Exact,
    /// What private rates left of the slice, by unit.
    price: Exact,
}

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    for payer in draft.together(clause, "payer") {
        let of_payer = |item: &usize| payer.as_ref().is_none_or(|payer| draft.items[*item].member.payer == *payer);
        let items: Vec<usize> = (0..draft.items.len()).filter(of_payer).collect();
        // By hour, where each hour's source meets the same hour's target, else all together.
        let hourly = clause["period"] == "hour";
        let mut periods: BTreeMap<i64, BTreeMap<String, Exact>> = BTreeMap::new();
        for item in items.iter().map(|item| &draft.items[*item]).filter(|item| in_scope(&clause["source"], item)) {
            let sizes: Vec<Exact> = item.lots.iter().map(|(_, size)| size.clone()).collect();
            let by_hour = item.lots.iter().map(|(minute, _)| minute / 60).zip(parts(&item.quantity, &sizes)).collect();
            for (hour, units) in if hourly { by_hour } else { vec![(0, item.quantity.clone())] } {
                let of_hour = periods.entry(hour).or_default();
                *of_hour.entry(item.series.account.clone()).or_insert_with(|| whole(0)) += units;
            }
        }
        let mut lots = Vec::new();
        for item in items.iter().filter(|item| in_scope(&clause["target"], &draft.items[**item])) {
            lots.extend(lots_of(draft, *item));
        }
        let mut taken: BTreeMap<(usize, usize), Exact> = BTreeMap::new();
        let mut give = |lot: &mut Lot, open: &mut Exact| {
            let part = lot.units.clone().min(open.clone());
            lot.units -= &part;
            *open -= &part;
            *taken.entry((lot.item, lot.slice)).or_insert_with(|| whole(0)) += part;
        };
        let order =
            |lot: &Lot| (-lot.price.clone(), lot.minute, -lot.size.clone(), lot.account.clone(), lot.item, lot.slice);
        for (hour, entitled) in periods {
            let of_period = |lot: &&mut Lot| !hourly || lot.minute / 60 == hour;
            lots.sort_by_key(order);
            let mut rest = whole(0);
            for (account, source) in entitled {
                let units = source * number(&clause["target_units"], "1") / number(&clause["source_units"], "1");
                let mut open = rounded(&units, SCALE);
                let own = lots.iter_mut().filter(of_period).filter(|lot| lot.account == account);
                own.for_each(|lot| give(lot, &mut open));
                rest += open;
            }
            lots.sort_by_key(|lot| (-lot.price.clone(), lot.account.clone(), order(lot)));
            lots.iter_mut().filter(of_period).for_each(|lot| give(lot, &mut rest));
        }
        for ((item, slice), units) in taken {
            let share = number(&clause["percent"], "100") / whole(100);
            let base = rounded(&(draft.left_of(slice) * &units / &draft.lines[slice].quantity), SCALE);
            let off = rounded(&(base * share), SCALE);
            *draft.waived.entry(slice).or_insert_with(|| whole(0)) += units;
            let off = draft.line_of(off).min(draft.net(item));
            draft.add(clause, item, Some(slice), -off);
        }
    }
}

/// The lots of an item's paid slices, without what an earlier waiver took.
fn lots_of(draft: &Draft<'_>, item: usize) -> Vec<Lot> {
    let own = &draft.items[item];
    let mut lots = Vec::new();
    // What nothing is left to pay of is passed over.
    for slice in draft.slices_of(item).into_iter().filter(|_| draft.net(item) > whole(0)) {
        let line = &draft.lines[slice];
        let units = &line.quantity - draft.waived.get(&slice).cloned().unwrap_or_else(|| whole(0));
        if units <= whole(0) || draft.left_of(slice) <= whole(0) {
            continue;
        }
        let price = draft.left_of(slice) / &line.quantity;
        let sizes: Vec<Exact> = own.lots.iter().map(|(_, size)| size.clone()).collect();
        for ((minute, _), units) in own.lots.iter().zip(parts(&units, &sizes)) {
            let (account, size, price) = (own.series.account.clone(), units.clone(), price.clone());
            lots.push(Lot { account, item, slice, minute: *minute, units, size, price });
        }
    }
    lots
}
