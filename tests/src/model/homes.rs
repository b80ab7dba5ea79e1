//! What a slot keeps beside usage: the epochs of the producers at home there with how much of a file each has pushed,
//! and the directory, which account belongs to which root and when.

use std::collections::BTreeMap;

/// How much of a file was pushed: lines, and a digest of them.
pub type Progress = (u64, u8);

/// A producer at home.
#[derive(Clone, Debug, Default)]
struct Home {
    epoch: u64,
    file: Option<Progress>,
}

/// A time of an account with a root: (root, from, until).
pub type Membership = (String, i64, i64);

#[derive(Clone, Debug, Default)]
pub struct Homes {
    producers: BTreeMap<String, Home>,
    directory: BTreeMap<String, Vec<Membership>>,
}

impl Homes {
    /// Without an epoch draws the next one, where the claim is what is recorded; with the current one records progress,
    /// which only grows. Answers epoch and progress.
    pub fn open(
        &mut self,
        producer: &str,
        epoch: Option<u64>,
        file: Option<Progress>,
    ) -> Result<(u64, Option<Progress>), &'static str> {
        let mut home = self.producers.get(producer).cloned().unwrap_or_default();
        let Some(epoch) = epoch else {
            if home.file.is_some() && file.is_some() && home.file != file {
                return Err("PRODUCER_MISMATCH");
            }
            home.epoch += 1;
            self.producers.insert(producer.to_owned(), home.clone());
            return Ok((home.epoch, home.file));
        };
        if epoch != home.epoch {
            return Err("STALE_EPOCH");
        }
        if let Some((lines, digest)) = file {
            let (known, first) = home.file.unwrap_or((0, digest));
            if lines == known && digest != first {
                return Err("PRODUCER_MISMATCH");
            }
            if home.file.is_none() || lines > known {
                home.file = file;
                self.producers.insert(producer.to_owned(), home.clone());
            }
        }
        Ok((home.epoch, home.file))
    }

    /// Sets all times of an account with one root; no instant may belong to two roots. True where something changed.
    pub fn put_directory(&mut self, account: &str, root: &str, times: &[(i64, i64)]) -> Result<bool, &'static str> {
        let old = self.directory.get(account).cloned().unwrap_or_default();
        let taken = |(from, until): &(i64, i64)| {
            old.iter().any(|(other, begin, end)| other != root && begin < until && from < end)
        };
        for time in times {
            if time.0 >= time.1 {
                return Err("INVALID_DOCUMENT");
            }
            if taken(time) {
                return Err("VERSION_CONFLICT");
            }
        }
        let mut new: Vec<Membership> = old.iter().filter(|(other, ..)| other != root).cloned().collect();
        new.extend(times.iter().map(|(from, until)| (root.to_owned(), *from, *until)));
        new.sort_by_key(|(_, from, until)| (*from, *until));
        let changed = new != old;
        self.directory.insert(account.to_owned(), new);
        Ok(changed)
    }

    /// The root that an account belongs to at an instant.
    pub fn resolve(&self, account: &str, at: i64) -> Option<&str> {
        let times = self.directory.get(account)?;
        times.iter().find(|(_, from, until)| *from <= at && at < *until).map(|(root, ..)| root.as_str())
    }
}
