//! Catalogue versions coming into use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Done, Effect};
use super::state::{CATALOGUE_VERSIONS_MAX, CATALOGUES_MAX, CatalogueVersion, State};
use crate::base::hash::Hash;
use crate::base::id::CatalogueName;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::CycleId;
use crate::pricing::catalogue::Catalogue;

impl State {
    /// A version governs cycles from `effective` on, none of which is cut for any hierarchy that uses the catalogue.
    pub(super) fn activate_catalogue(
        &mut self,
        name: &CatalogueName,
        version: CatalogueVersion,
        effects: &mut Vec<Effect>,
    ) -> Result<Done, Refusal> {
        if self.identity.is_none() {
            let detail = format!("shard {} has not been told its slots yet; try again", self.shard);
            return Err(Refusal::new(Reason::WrongShard, detail));
        }
        let known = self.catalogues.get(name).map_or(&[][..], Vec::as_slice);
        if known.contains(&version) {
            return Ok(Done::Unchanged);
        }
        if self.moves.is_under_way() {
            let detail = format!("slots are on their way from or to shard {}; try again in a moment", self.shard);
            return Err(Refusal::new(Reason::SlotMoving, detail));
        }
        self.check_version(name, known, &version)?;
        let catalogue = self.compiled.get(&version.hash).expect("an entry's blobs are handed in beside it").clone();
        check_blob(name, &version, &catalogue)?;
        if let Some(last) = known.last() {
            let before = self.compiled.get(&last.hash).expect("every version in use was loaded");
            check_meters(before, &catalogue)?;
        }
        self.lower_ceilings(name, &catalogue);
        effects.push(Effect::CatalogueActivated { name: name.clone(), version: version.version, hash: version.hash });
        Arc::make_mut(&mut self.catalogues).entry(name.clone()).or_default().push(version);
        Ok(Done::Changed)
    }

    fn check_version(
        &self,
        name: &CatalogueName,
        known: &[CatalogueVersion],
        version: &CatalogueVersion,
    ) -> Result<(), Refusal> {
        if known.is_empty() && self.catalogues.len() >= CATALOGUES_MAX || known.len() >= CATALOGUE_VERSIONS_MAX {
            let detail = format!(
                "{} catalogues and {} versions of '{name}' are in use; at most {CATALOGUES_MAX} and \
                 {CATALOGUE_VERSIONS_MAX} fit",
                self.catalogues.len(),
                known.len()
            );
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        if let Some(last) = known.last().filter(|last| version.version <= last.version) {
            let detail = format!("version {} of catalogue '{name}' is in use; the next is above it", last.version);
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        let latest = known.last().map(|last| last.effective);
        let earliest = latest.max(self.latest_open(name)).filter(|earliest| version.effective < *earliest);
        if let Some(earliest) = earliest {
            let detail = format!(
                "catalogue '{name}' cannot change from {} on, for cycles before {earliest} are closed or have a later \
                 version; the earliest possible cycle is {earliest}",
                version.effective
            );
            return Err(Refusal::new(Reason::EffectiveTooEarly, detail));
        }
        Ok(())
    }

    /// The latest cycle that is the open one of some hierarchy with this catalogue.
    fn latest_open(&self, name: &CatalogueName) -> Option<CycleId> {
        let slots = self.slots.iter().flatten();
        let rows = slots.flat_map(|live| live.data.roots.iter());
        rows.filter(|row| row.hierarchy.catalogue == *name).map(|row| row.cycles.open).max()
    }

    /// Counters stay below what every version in use can charge exactly.
    fn lower_ceilings(&mut self, name: &CatalogueName, catalogue: &Catalogue) {
        for live in self.slots.iter_mut().flatten() {
            let Some(number) = live.data.catalogues.iter().position(|known| known == name) else {
                continue;
            };
            live.thaw();
            let rows = Arc::make_mut(&mut live.data.meters).iter_mut();
            for row in rows.filter(|row| usize::from(row.catalogue) == number) {
                let index = catalogue.meter_by_id(row.id.as_str());
                row.ceiling = index.map_or(row.ceiling, |index| row.ceiling.min(catalogue.meter(index).ceiling));
            }
        }
    }
}

fn check_blob(name: &CatalogueName, version: &CatalogueVersion, catalogue: &Catalogue) -> Result<(), Refusal> {
    if catalogue.name != *name || catalogue.effective != version.effective || catalogue.hash != version.hash {
        let detail = format!(
            "the blob is catalogue '{}' effective {}, the command says '{name}' effective {}; stage the right file",
            catalogue.name, catalogue.effective, version.effective
        );
        return Err(Refusal::new(Reason::InvalidDocument, detail));
    }
    Ok(())
}

/// A declared meter stays, as it is: counters outlive versions.
fn check_meters(before: &Catalogue, next: &Catalogue) -> Result<(), Refusal> {
    let conflict = |detail: String| Err(Refusal::new(Reason::VersionConflict, detail));
    if before.currency != next.currency {
        return conflict(format!(
            "catalogue '{}' is in {}, this version in {}",
            next.name, before.currency, next.currency
        ));
    }
    let after: BTreeMap<&str, _> = next.meters().iter().map(|meter| (meter.id.as_str(), meter)).collect();
    for meter in before.meters() {
        let Some(same) = after.get(meter.id.as_str()) else {
            return conflict(format!("meter {} is missing from this version; keep it, without a price", meter.id));
        };
        let is_same = meter.service == same.service
            && meter.usage_type == same.usage_type
            && meter.operation.as_str() == same.operation.as_str()
            && meter.region.as_str() == same.region.as_str()
            && meter.attributes == same.attributes
            && (meter.aggregation, meter.scale, meter.bucket) == (same.aggregation, same.scale, same.bucket)
            && (meter.level, meter.of_amount, meter.keeps_records) == (same.level, same.of_amount, same.keeps_records)
            && meter.spreads == same.spreads;
        if !is_same {
            return conflict(format!(
                "meter {} is not what it was; a meter never changes, declare a new one",
                meter.id
            ));
        }
    }
    Ok(())
}

/// The hash that a command needs beside it.
pub(super) fn needed_blob(command: &super::command::Command) -> Option<Hash> {
    match command {
        super::command::Command::ActivateCatalogue { hash, .. } => Some(*hash),
        _ => None,
    }
}
