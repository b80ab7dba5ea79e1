//! Who belongs to whom, as last learnt: account and usage time to root and slot, and the compiled catalogues that give
//! quantities their scale. All of it is a hint: the machine decides, and its refusals say when to ask again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reckoner_shard::base::id::{AccountId, Slot};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::placement::slot_of;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::usage::series::SeriesKey;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::proto;

/// Accounts of one question; what a node answers within a few milliseconds.
pub const RESOLVE_ACCOUNTS_MAX: usize = 1_000;
/// Accounts kept; beyond, all are forgotten and asked for again as needed (about 200 bytes each).
const ACCOUNTS_KEPT_MAX: usize = 1_000_000;
/// An answer that did not help is not asked for again before this: a flood of unknown accounts must not become a flood
/// of questions.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often a node is asked again that knows a hierarchy and not yet its catalogue: two seconds in all.
const LAGGING_TRIES: u32 = 20;
const LAGGING_PAUSE: Duration = Duration::from_millis(100);
/// Scale of a definition whose meter is not known: the machine refuses its records, whatever their scale.
const SCALE_UNKNOWN: u8 = 12;

/// A time in a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub root: AccountId,
    pub slot: Slot,
    /// From this instant on.
    pub from: Timestamp,
    /// Up to, not including; `None`: for ever.
    pub until: Option<Timestamp>,
    /// Newest catalogue version that governs the root; `None` where none is active yet.
    pub catalogue: Option<[u8; 32]>,
}

impl Member {
    /// Whether an instant is within.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// Where records of a series go, and for which usage times that is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub slot: Slot,
    /// Decimals of the meter, 0 to 12.
    pub scale: u8,
    pub from: Timestamp,
    /// Up to, not including.
    pub until: Option<Timestamp>,
}

impl Home {
    /// Whether an instant is within.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

#[derive(Clone, Debug)]
struct Known {
    members: Arc<[Member]>,
    asked: Instant,
}

/// The caches of one client.
#[derive(Debug, Default)]
pub struct Directory {
    accounts: Mutex<HashMap<AccountId, Known>>,
    catalogues: Mutex<HashMap<[u8; 32], Arc<Catalogue>>>,
}

impl Directory {
    /// Forgets what is known of an account.
    pub fn forget(&self, account: &AccountId) {
        self.accounts.lock().remove(account);
    }

    /// Whether an account belongs somewhere at that time, as last learnt.
    pub(crate) fn places(&self, account: &AccountId, at: Timestamp) -> bool {
        self.known(account).is_some_and(|known| known.members.iter().any(|member| member.holds(at)))
    }

    fn known(&self, account: &AccountId) -> Option<Known> {
        self.accounts.lock().get(account).cloned()
    }

    fn keep(&self, account: AccountId, members: Arc<[Member]>) {
        let mut accounts = self.accounts.lock();
        if accounts.len() >= ACCOUNTS_KEPT_MAX {
            accounts.clear();
        }
        accounts.insert(account, Known { members, asked: Instant::now() });
    }
}

impl Client {
    /// Memberships of many accounts at once, into the cache: one question per thousand.
    pub async fn prefetch(&self, accounts: &[AccountId]) -> Result<(), Error> {
        let directory = self.directory();
        let mut missing: Vec<AccountId> =
            accounts.iter().filter(|account| directory.known(account).is_none()).cloned().collect();
        missing.sort_unstable();
        missing.dedup();
        for chunk in missing.chunks(RESOLVE_ACCOUNTS_MAX) {
            self.ask_for(chunk, false).await?;
        }
        Ok(())
    }

    /// Memberships of an account, from the cache where it has any that hold at `at`; else asked for, if need be of the
    /// account's own slot.
    pub async fn members(&self, account: &AccountId, at: Timestamp) -> Result<Arc<[Member]>, Error> {
        let known = self.directory().known(account);
        if let Some(known) = &known {
            let fits = known.members.iter().any(|member| member.holds(at));
            if fits || known.asked.elapsed() < ASK_AGAIN_AFTER {
                return Ok(known.members.clone());
            }
        }
        let one = std::slice::from_ref(account);
        if known.is_none() {
            let members = self.ask_for(one, false).await?;
            if members.iter().any(|member| member.holds(at)) {
                return Ok(members);
            }
        }
        self.ask_for(one, true).await
    }

    /// Where records of a series with this usage time go. An account that nobody knows goes to its own slot, where the
    /// refusal is remembered; a meter that nobody knows is left to the machine to refuse.
    pub async fn home(&self, key: &SeriesKey, at: Timestamp) -> Result<Home, Error> {
        let members = self.members(&key.account, at).await?;
        let Some(member) = members.iter().find(|member| member.holds(at)) else {
            let slot = slot_of(key.account.as_str());
            // Valid for this instant alone: the account may be known by the next.
            return Ok(Home { slot, scale: SCALE_UNKNOWN, from: at, until: Some(Timestamp(at.0.saturating_add(1))) });
        };
        let mut scale = self.scale(member, key).await?;
        let known = self.directory().known(&key.account);
        let mut tries = match member.catalogue {
            // Every hierarchy has a catalogue: the node that answered lags behind.
            None => LAGGING_TRIES,
            Some(_) => u32::from(known.is_none_or(|known| known.asked.elapsed() >= ASK_AGAIN_AFTER)),
        };
        while scale.is_none() && tries > 0 {
            tries -= 1;
            // A newer catalogue may declare the meter.
            let members = self.ask_for(std::slice::from_ref(&key.account), true).await?;
            if let Some(member) = members.iter().find(|member| member.holds(at)) {
                scale = self.scale(member, key).await?;
                if member.catalogue.is_some() {
                    break;
                }
            }
            if tries > 0 {
                tokio::time::sleep(LAGGING_PAUSE).await;
            }
        }
        let (slot, from, until) = (member.slot, member.from, member.until);
        match scale {
            Some(scale) => Ok(Home { slot, scale, from, until }),
            None => Ok(Home { slot, scale: SCALE_UNKNOWN, from: at, until: Some(Timestamp(at.0.saturating_add(1))) }),
        }
    }

    /// A catalogue version by hash, compiled once.
    pub async fn catalogue(&self, hash: &[u8; 32]) -> Result<Arc<Catalogue>, Error> {
        if let Some(catalogue) = self.directory().catalogues.lock().get(hash) {
            return Ok(catalogue.clone());
        }
        let json = self.blob(hash).await?;
        let broken = |why: String| {
            let hash = blake3::Hash::from_bytes(*hash);
            Error::invalid(format!("catalogue {hash} cannot be used by this client: {why}; use a newer client"))
        };
        let document: CatalogueDocument = serde_json::from_slice(&json).map_err(|error| broken(error.to_string()))?;
        let catalogue = Catalogue::compile(&document)
            .map_err(|problems| broken(problems.first().map(ToString::to_string).unwrap_or_default()))?;
        let catalogue = Arc::new(catalogue);
        self.directory().catalogues.lock().insert(*hash, catalogue.clone());
        Ok(catalogue)
    }

    async fn scale(&self, member: &Member, key: &SeriesKey) -> Result<Option<u8>, Error> {
        let Some(hash) = &member.catalogue else { return Ok(None) };
        let catalogue = self.catalogue(hash).await?;
        // Attributes do not choose the meter; one that it does not keep is refused by the machine.
        let none: &[(&str, &str)] = &[];
        let meter = catalogue.meter_of(&key.service, &key.usage_type, &key.operation, &key.region, none);
        Ok(meter.ok().and_then(|index| u8::try_from(catalogue.meter(index).scale).ok()))
    }

    /// Asks the accounts' own slots again, whatever is known.
    pub(crate) async fn learn_anew(&self, accounts: &[AccountId]) -> Result<(), Error> {
        for chunk in accounts.chunks(RESOLVE_ACCOUNTS_MAX) {
            self.ask_for(chunk, true).await?;
        }
        Ok(())
    }

    /// Asks for up to a thousand accounts and keeps the answers; gives back those of the last.
    async fn ask_for(&self, accounts: &[AccountId], fresh: bool) -> Result<Arc<[Member]>, Error> {
        let names = accounts.iter().map(ToString::to_string).collect();
        let reply = self.resolve(names, fresh).await?;
        if reply.accounts.len() != accounts.len() {
            let (asked, came) = (accounts.len(), reply.accounts.len());
            return Err(Error::invalid(format!("asked for {asked} accounts, {came} came back")));
        }
        let mut last: Arc<[Member]> = Arc::new([]);
        for (account, resolved) in accounts.iter().zip(reply.accounts) {
            let members: Result<Vec<Member>, Error> = resolved.memberships.iter().map(member).collect();
            last = members?.into();
            self.directory().keep(account.clone(), last.clone());
        }
        Ok(last)
    }
}

fn member(wire: &proto::Membership) -> Result<Member, Error> {
    let root =
        AccountId::new(&wire.root).map_err(|bad| Error::invalid(format!("a membership names no root: {bad}")))?;
    let slot = u16::try_from(wire.slot).map_err(|_| Error::invalid(format!("slot {} does not exist", wire.slot)))?;
    let catalogue = wire.catalogue.as_ref().and_then(|version| version.hash.as_ref().try_into().ok());
    Ok(Member { root, slot: Slot(slot), from: Timestamp(wire.from_ns), until: wire.until_ns.map(Timestamp), catalogue })
}
