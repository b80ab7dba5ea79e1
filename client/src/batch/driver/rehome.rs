//! Records that a slot refused because their account is elsewhere: it may have moved since it was looked up. The directory is
//! asked once more, and what it places elsewhere goes there as strays, recognised by number and not by that slot's mark.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reckoner_shard::base::id::{AccountId, Slot};
use reckoner_shard::base::refusal::Reason;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::base::wide::power_of_ten;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::series::SeriesKey;

use super::Driver;
use crate::batch::gather::{Message, Open, Shared};
use crate::batch::records::{Astray, Body, Pending, Records, Run, Series, Settled};
use crate::directory::Home;

/// Between two questions to a directory that cannot be reached.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Driver {
    /// Keeps refused records whose account the directory had placed in this slot; false where the refusal stands.
    pub(super) fn may_have_moved(&mut self, run: &Run, records: &[Pending], verdict: &Verdict) -> bool {
        let Verdict::Refused(refusal) = verdict else { return false };
        let directory = self.shared.client.directory();
        let is_placed = |record: &Pending| {
            let (key, _) = self.numbers.name(record.series);
            directory.places(&key.account, Timestamp(record.start))
        };
        if refusal.reason != Reason::UnknownAccount || !records.iter().all(is_placed) {
            return false;
        }
        for record in records {
            let (key, scale) = self.numbers.name(record.series).clone();
            let id = if self.shared.epoch.is_none() { run.body.ids.get(record.number) } else { &[] };
            let id = String::from_utf8_lossy(id).into_owned();
            let extra = record.has_extra.then(|| run.body.extras.get(&record.number).cloned()).flatten();
            let (record, slot, refusal) = (*record, run.slot, refusal.clone());
            self.astray.push(Astray { record, key, scale, id, extra, slot, refusal });
        }
        true
    }

    /// Has the homes of what went astray looked up, beside this task.
    pub(super) fn look_up(&mut self) {
        if !self.astray.is_empty() {
            tokio::spawn(find(self.shared.clone(), std::mem::take(&mut self.astray)));
        }
    }

    /// The refusal stands.
    pub(super) fn give_up(&mut self, astray: &Astray) {
        let records = match self.shared.epoch {
            Some(_) => Records::Number(astray.record.number),
            None => Records::Id(&astray.id),
        };
        let verdict = Verdict::Refused(astray.refusal.clone());
        self.shared.count(&verdict, 1);
        self.sink.settled(Settled { verdict: &verdict, records });
        self.shared.settle(1);
    }
}

/// Asks the directory, and hands each record back with its new home or its refusal.
async fn find(shared: Arc<Shared>, astray: Vec<Astray>) {
    let mut accounts: Vec<AccountId> = astray.iter().map(|own| own.key.account.clone()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    while let Err(error) = shared.client.learn_anew(&accounts).await {
        tracing::debug!(%error, "the directory could not be asked");
        if shared.failed.get().is_some() {
            return;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    let mut body = Body::default();
    let mut homes: HashMap<(SeriesKey, Slot), Series> = HashMap::new();
    for own in astray {
        let home = home_of(&shared, &own).await;
        let Some(driver) = shared.driver.upgrade() else { return };
        let Some((home, quantity)) = home else {
            let _ = driver.send(Message::Lost(Box::new(own)));
            continue;
        };
        let series = *homes.entry((own.key.clone(), home.slot)).or_insert_with(|| {
            let mut open = shared.open.lock();
            let series = place(&mut open, &own, home);
            // Under the lock, so that the driver sees series in the order of their indexes.
            let _ = driver.send(Message::Series(own.key.clone(), home.scale));
            series
        });
        let number = if shared.epoch.is_none() { body.ids.push(&own.id) } else { own.record.number };
        if let Some(extra) = own.extra {
            body.extras.insert(number, extra);
        }
        body.records.push(Pending { quantity, number, series: series.index, slot: series.slot, ..own.record });
    }
    body.records.sort_by_key(|record| record.number);
    if let (false, Some(driver)) = (body.records.is_empty(), shared.driver.upgrade()) {
        let _ = driver.send(Message::Found(body));
    }
}

/// Another home than the one that refused the record, and its quantity at the scale there.
async fn home_of(shared: &Shared, own: &Astray) -> Option<(Home, i128)> {
    let at = Timestamp(own.record.start);
    if !shared.client.directory().places(&own.key.account, at) {
        return None;
    }
    let home = shared.client.home(&own.key, at).await.ok().filter(|home| home.slot != own.slot)?;
    let quantity = match home.scale.checked_sub(own.scale) {
        Some(finer) => own.record.quantity.checked_mul(power_of_ten(finer.into()))?,
        None => {
            let unit = power_of_ten(u32::from(own.scale - home.scale));
            Some(own.record.quantity / unit).filter(|_| own.record.quantity % unit == 0)?
        }
    };
    Some((home, quantity))
}

/// A new series in the new home; what is pushed from now on goes there.
fn place(open: &mut Open, own: &Astray, home: Home) -> Series {
    let series = Series { index: open.series, slot: home.slot.0, scale: home.scale };
    open.series += 1;
    let known = open.names.entry(own.key.clone()).or_default();
    let at = Timestamp(own.record.start);
    for (old, _) in known.iter_mut().filter(|(old, _)| old.slot == own.slot && old.holds(at)) {
        old.until = Some(home.from.max(old.from));
    }
    known.retain(|(old, _)| old.until.is_none_or(|until| old.from < until));
    known.push((home, series));
    series
}
