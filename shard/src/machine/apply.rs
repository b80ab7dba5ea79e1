//! `State::apply`: one entry into the state. A switchboard: each arm calls into the file that knows.

use super::catalogues::needed_blob;
use super::codec::{Entry, decode_entry, encode_outcome};
use super::command::{Command, CommandOutcome, Done, Effect, Halt, Outcome};
use super::state::{Blobs, CatalogueVersion, Identity, State};
use crate::base::refusal::{Reason, Refusal};
use crate::placement::SLOTS;

/// What an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// An encoded [`Outcome`]: the reply to whoever proposed the entry.
    pub outcome: Vec<u8>,
    /// What every replica has to do now.
    pub effects: Vec<Effect>,
}

impl State {
    /// Applies the entry at `index`. On [`Halt`] nothing has changed: a missing blob is fetched and the entry applied
    /// again; anything else stops the replica.
    pub fn apply(&mut self, index: u64, entry: &[u8], blobs: &dyn Blobs) -> Result<Applied, Halt> {
        let bad_entry = |why: String| Halt::BadEntry { index, why };
        if self.index != 0 && index <= self.index {
            return Err(bad_entry(format!("entry {} was applied before it", self.index)));
        }
        let entry = decode_entry(entry).map_err(bad_entry)?;
        self.check_supported(index, &entry)?;
        self.load(blobs)?;
        if let Entry::Commands { commands, .. } = &entry {
            for hash in commands.iter().filter_map(needed_blob) {
                let blob = blobs.catalogue(&hash).ok_or(Halt::BlobMissing { hash })?;
                self.compiled.insert(hash, blob);
            }
        }
        self.index = index;
        self.stamp = self.stamp.max(entry.stamp());
        let mut effects = Vec::new();
        let outcome = match entry {
            Entry::Usage { generation, batch, .. } => Outcome::Usage(self.ingest(batch, generation)),
            Entry::Commands { generation, commands, .. } => {
                let one = |command| match self.command(command, generation, &mut effects) {
                    Ok(done) => CommandOutcome::Done(done),
                    Err(refusal) => CommandOutcome::Refused(refusal),
                };
                let outcomes = commands.iter().map(one).collect();
                if commands.iter().any(|command| needed_blob(command).is_some()) {
                    self.forget_unused_blobs();
                }
                Outcome::Commands(outcomes)
            }
        };
        Ok(Applied { outcome: encode_outcome(&outcome), effects })
    }

    fn command(&mut self, command: &Command, generation: u32, effects: &mut Vec<Effect>) -> Result<Done, Refusal> {
        // A refused command leaves no effects behind.
        let before = effects.len();
        let done = match command {
            Command::Genesis { shard, slots, epoch, ids_bytes_max } => {
                let identity = Identity { slots: slots.clone(), epoch: *epoch, ids_bytes_max: *ids_bytes_max };
                self.genesis(*shard, identity)
            }
            Command::OpenProducer { slot, producer, epoch, file } => {
                self.open_producer(*slot, producer, *epoch, *file, generation)
            }
            Command::PutHierarchy { document, job } => self.put_hierarchy(document, job, generation),
            Command::PutDirectory { account, root, periods } => self.put_directory(account, root, periods, generation),
            Command::PutContract { document, job } => self.put_contract(document, job),
            Command::ActivateCatalogue { name, version, hash, effective } => {
                let version = CatalogueVersion { version: *version, hash: *hash, effective: *effective };
                self.activate_catalogue(name, version, effects)
            }
            Command::Cut { root, cycle, manual } => self.cut(root, *cycle, *manual, effects),
            Command::Claim { root, cycle, cause } => self.claim(root, *cycle, cause, effects),
            Command::Billed { slot, roots } => self.billed(*slot, roots, effects),
            Command::Issue { root, cycle } => self.issue(root, *cycle, effects),
            Command::Archived { root, cycle, hash } => self.archived(root, *cycle, *hash, effects),
            Command::FreezeSlots { id, slots } => self.freeze_slots(*id, *slots),
            Command::StageSlots { id, slots, at, chunk } => self.stage_slots(*id, *slots, *at, chunk),
            Command::SealSlots { id, slots, seal } => self.seal_slots(*id, *slots, seal, effects),
            Command::SettleSlots { id, slots, epoch } => self.settle_slots(*id, *slots, *epoch),
            Command::MoveAccount { step, way } => self.move_account(*step, way, generation),
            Command::Tick => Ok(Done::Changed),
            Command::Raise { version } => Ok(self.raise(*version)),
            Command::Digest => {
                effects.push(Effect::Digest { index: self.index });
                Ok(Done::Changed)
            }
        };
        if done.is_err() {
            effects.truncate(before);
        }
        done
    }

    /// Nothing of an entry is done that begins what this code does not know.
    fn check_supported(&self, index: u64, entry: &Entry<'_>) -> Result<(), Halt> {
        let Entry::Commands { commands, .. } = entry else { return Ok(()) };
        let known = self.supports;
        let newer = commands.iter().find_map(|command| match command {
            Command::Raise { version } if *version > known => Some(*version),
            _ => None,
        });
        newer.map_or(Ok(()), |version| Err(Halt::NewerMachine { index, version, known }))
    }

    /// Versions only rise.
    fn raise(&mut self, version: u32) -> Done {
        if version <= self.machine {
            return Done::Unchanged;
        }
        self.machine = version;
        Done::Changed
    }

    /// Tells the shard who it is, once.
    fn genesis(&mut self, shard: crate::base::id::ShardId, identity: Identity) -> Result<Done, Refusal> {
        if self.identity.as_ref() == Some(&identity) && shard == self.shard {
            return Ok(Done::Unchanged);
        }
        if shard != self.shard || self.identity.is_some() {
            let detail = format!("this is shard {} and it has begun; a genesis is applied once", self.shard);
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        if identity.slots.iter().any(|range| range.first > range.last || range.last >= SLOTS) {
            let detail = format!("a range of slots is empty or beyond {}", SLOTS - 1);
            return Err(Refusal::new(Reason::InvalidValue, detail));
        }
        self.identity = Some(identity);
        Ok(Done::Changed)
    }
}
