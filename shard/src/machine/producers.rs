//! Opening producers in their home slots: epochs, and how much of a file was pushed.

use std::sync::Arc;

use super::command::{Done, FileProgress};
use super::state::{HOMES_PER_SLOT_MAX, Home, State};
use crate::base::id::{ProducerId, Slot};
use crate::base::refusal::{Reason, Refusal};
use crate::placement::slot_of;

impl State {
    /// Draws an epoch, or records progress under the current one; see `Command::OpenProducer`.
    pub(super) fn open_producer(
        &mut self,
        slot: Slot,
        producer: &ProducerId,
        epoch: Option<u64>,
        file: Option<FileProgress>,
        generation: u32,
    ) -> Result<Done, Refusal> {
        if slot != slot_of(producer.as_str()) {
            let detail =
                format!("the home of producer '{producer}' is slot {}, not {slot}", slot_of(producer.as_str()));
            return Err(Refusal::new(Reason::WrongShard, detail));
        }
        let live = self.slot_mut(slot, generation)?;
        let home = live.data.homes.get(producer).copied().unwrap_or_default();
        let next = match epoch {
            None => opened(producer, home, file)?,
            Some(epoch) => progressed(producer, home, epoch, file)?,
        };
        if home.epoch == 0 && live.data.homes.len() >= HOMES_PER_SLOT_MAX {
            let detail =
                format!("slot {slot} has {HOMES_PER_SLOT_MAX} producers at home, which is all it may; reuse names");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        if next != home {
            Arc::make_mut(&mut live.data.homes).insert(producer.clone(), next);
        }
        Ok(Done::Producer { epoch: next.epoch, file: next.file })
    }
}

/// The next epoch. A claim about the file must say what is recorded, so that a changed file cannot pass for the old one.
fn opened(producer: &ProducerId, home: Home, claim: Option<FileProgress>) -> Result<Home, Refusal> {
    if let (Some(recorded), Some(claim)) = (home.file, claim)
        && recorded != claim
    {
        return Err(mismatch(producer, recorded));
    }
    let epoch = home.epoch.checked_add(1);
    let epoch =
        epoch.ok_or_else(|| Refusal::new(Reason::LimitReached, format!("producer '{producer}' has no epoch left")))?;
    Ok(Home { epoch, ..home })
}

/// Progress under the current epoch. It only grows; a late repeat of an earlier step changes nothing.
fn progressed(producer: &ProducerId, home: Home, epoch: u64, file: Option<FileProgress>) -> Result<Home, Refusal> {
    if epoch != home.epoch {
        let detail = format!("producer '{producer}' is at epoch {}, not {epoch}; open it again", home.epoch);
        return Err(Refusal::new(Reason::StaleEpoch, detail));
    }
    match (home.file, file) {
        (Some(recorded), Some(file)) if file.lines == recorded.lines && file.digest != recorded.digest => {
            Err(mismatch(producer, recorded))
        }
        (Some(recorded), Some(file)) if file.lines <= recorded.lines => Ok(home),
        (_, Some(file)) => Ok(Home { file: Some(file), ..home }),
        (_, None) => Ok(home),
    }
}

fn mismatch(producer: &ProducerId, recorded: FileProgress) -> Refusal {
    let detail = format!(
        "the first {} lines that producer '{producer}' pushed are not those of this file; push the file as it was, with \
         lines added at its end, or use another producer name",
        recorded.lines
    );
    Refusal::new(Reason::ProducerMismatch, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(lines: u64, digest: u8) -> FileProgress {
        FileProgress { lines, digest: [digest; 32] }
    }

    #[test]
    fn files_are_recognised_by_what_was_pushed() {
        let producer = ProducerId::new("p").unwrap();
        let home = Home { epoch: 3, file: Some(progress(10, 1)) };
        let open =
            |home, claim| opened(&producer, home, claim).map(|home| home.epoch).map_err(|refusal| refusal.reason);
        assert_eq!(open(Home::default(), None), Ok(1));
        assert_eq!(open(Home::default(), Some(progress(4, 1))), Ok(1));
        assert_eq!(open(home, None), Ok(4));
        assert_eq!(open(home, Some(progress(10, 1))), Ok(4));
        assert_eq!(open(home, Some(progress(10, 2))), Err(Reason::ProducerMismatch));
        assert_eq!(open(home, Some(progress(9, 1))), Err(Reason::ProducerMismatch));
        let record = |epoch, file| {
            let next = progressed(&producer, home, epoch, Some(file));
            next.map(|home| home.file.unwrap().lines).map_err(|refusal| refusal.reason)
        };
        assert_eq!(record(3, progress(12, 5)), Ok(12));
        assert_eq!(record(3, progress(10, 1)), Ok(10));
        assert_eq!(record(3, progress(10, 2)), Err(Reason::ProducerMismatch));
        assert_eq!(record(3, progress(8, 9)), Ok(10));
        assert_eq!(record(2, progress(12, 5)), Err(Reason::StaleEpoch));
        assert_eq!(record(4, progress(12, 5)), Err(Reason::StaleEpoch));
    }
}
