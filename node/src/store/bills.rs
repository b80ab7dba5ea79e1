//! BillStore: bills and archived counters of billed cycles, by content hash, a database a cycle. Which hash belongs to
//! which payer and number is the shard's to know; this store only keeps what the shard's state names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use reckoner_shard::base::time::CycleId;

use super::content::{ContentStore, Hash};

/// Contents of billed cycles. Methods may block.
pub trait BillStore: Send + Sync + 'static {
    /// Puts `bytes`, whose blake3 hash is `hash`, to the others of `cycle`, or to those that came by hash alone; not
    /// durable before [`BillStore::flush`].
    fn put(&self, cycle: Option<CycleId>, hash: &Hash, bytes: Bytes) -> io::Result<()>;

    /// The bytes under `hash`, checked; `cycle` says where to look first.
    fn get(&self, cycle: Option<CycleId>, hash: &Hash) -> io::Result<Option<Bytes>>;

    /// Whether something is held under `hash`.
    fn has(&self, cycle: Option<CycleId>, hash: &Hash) -> io::Result<bool>;

    /// Puts `bytes` in place of what is held under `hash` and is damaged, or is not there.
    fn mend(&self, hash: &Hash, bytes: Bytes) -> io::Result<()> {
        self.put(None, hash, bytes)
    }

    /// Makes everything that was put durable.
    fn flush(&self) -> io::Result<()>;
}

/// Folder of what came from a peer, which knows no cycle.
const RECEIVED: &str = "received";

/// In sled, a database a cycle.
pub struct SledBills {
    folder: PathBuf,
    /// `None`: what came by hash alone.
    open: RwLock<BTreeMap<Option<CycleId>, Arc<ContentStore>>>,
}

impl SledBills {
    /// Opens the store in `folder` with every cycle that it holds.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut open = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let cycle = match name.to_str() {
                Some(RECEIVED) => None,
                Some(name) => match name.parse() {
                    Ok(cycle) => Some(cycle),
                    Err(_) => continue,
                },
                None => continue,
            };
            open.insert(cycle, Arc::new(ContentStore::open(&entry.path())?));
        }
        Ok(Self { folder: folder.to_owned(), open: RwLock::new(open) })
    }

    fn of(&self, cycle: Option<CycleId>) -> io::Result<Arc<ContentStore>> {
        if let Some(store) = self.open.read().get(&cycle) {
            return Ok(store.clone());
        }
        let mut open = self.open.write();
        if let Some(store) = open.get(&cycle) {
            return Ok(store.clone());
        }
        let name = cycle.map_or_else(|| RECEIVED.to_owned(), |cycle| cycle.to_string());
        let store = Arc::new(ContentStore::open(&self.folder.join(name))?);
        super::durable::sync_folder(&self.folder)?;
        open.insert(cycle, store.clone());
        Ok(store)
    }

    /// The databases to look into, the likely one first.
    fn candidates(&self, cycle: Option<CycleId>) -> Vec<Arc<ContentStore>> {
        let open = self.open.read();
        let likely = open.get(&cycle).into_iter();
        likely.chain(open.iter().rev().filter(|(at, _)| **at != cycle).map(|(_, store)| store)).cloned().collect()
    }
}

impl BillStore for SledBills {
    fn put(&self, cycle: Option<CycleId>, hash: &Hash, bytes: Bytes) -> io::Result<()> {
        self.of(cycle)?.put(hash, &bytes)
    }

    fn get(&self, cycle: Option<CycleId>, hash: &Hash) -> io::Result<Option<Bytes>> {
        for store in self.candidates(cycle) {
            if let Some(bytes) = store.get(hash)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    fn has(&self, cycle: Option<CycleId>, hash: &Hash) -> io::Result<bool> {
        for store in self.candidates(cycle) {
            if store.has(hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn mend(&self, hash: &Hash, bytes: Bytes) -> io::Result<()> {
        let mut held = false;
        for store in self.candidates(None) {
            if store.has(hash)? {
                held = true;
                if store.get(hash).is_err() {
                    store.replace(hash, &bytes)?;
                }
            }
        }
        if held { Ok(()) } else { self.put(None, hash, bytes) }
    }

    fn flush(&self) -> io::Result<()> {
        let stores: Vec<_> = self.open.read().values().cloned().collect();
        stores.iter().try_for_each(|store| store.flush())
    }
}

/// In memory: the twin.
#[derive(Default)]
pub struct MemoryBills(RwLock<BTreeMap<Hash, Bytes>>);

impl BillStore for MemoryBills {
    fn put(&self, _cycle: Option<CycleId>, hash: &Hash, bytes: Bytes) -> io::Result<()> {
        self.0.write().insert(*hash, bytes);
        Ok(())
    }

    fn get(&self, _cycle: Option<CycleId>, hash: &Hash) -> io::Result<Option<Bytes>> {
        Ok(self.0.read().get(hash).cloned())
    }

    fn has(&self, _cycle: Option<CycleId>, hash: &Hash) -> io::Result<bool> {
        Ok(self.0.read().contains_key(hash))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bills_are_found_with_and_without_their_cycle() {
        let folder = tempfile::tempdir().unwrap();
        let cycle = |name: &str| name.parse::<CycleId>().unwrap();
        let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
        let check = |store: &dyn BillStore| {
            store.put(Some(cycle("2024-09")), &hash(b"september"), Bytes::from_static(b"september")).unwrap();
            store.put(Some(cycle("2024-10")), &hash(b"october"), Bytes::from_static(b"october")).unwrap();
            store.flush().unwrap();
            for at in [None, Some(cycle("2024-09")), Some(cycle("2024-10")), Some(cycle("2024-11"))] {
                assert_eq!(store.get(at, &hash(b"september")).unwrap().as_deref(), Some(&b"september"[..]));
                assert!(store.has(at, &hash(b"october")).unwrap());
                assert!(!store.has(at, &hash(b"november")).unwrap());
            }
        };
        check(&MemoryBills::default());
        check(&SledBills::open(folder.path()).unwrap());
        let again = SledBills::open(folder.path()).unwrap();
        assert!(again.has(None, &hash(b"september")).unwrap());
    }
}
