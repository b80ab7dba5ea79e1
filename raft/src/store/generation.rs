//! Snapshots in sled, a fresh database a generation: `<dir>/<group>/gen-<index>-<term>/`, and `CURRENT` beside them.
//!
//! One database that is used again leaks disk, so none is. sled's flush does not promise durability, so every file and
//! folder is synced here before `CURRENT` names the generation. Whatever `CURRENT` does not name is removed at start-up.
//! Pages carry a checksum of ours, the manifest a digest of them all: sled's word is not taken for it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::files;
use crate::store::pages::{self, Tally};
use crate::store::snapshot::{Found, PageSource, SnapshotStore, SnapshotWriter, StoredSnapshot};
use crate::types::GroupId;
use crate::wire;
use crate::wire::proto::{Generations, Manifest};

/// Generations kept: the current one, and the one before it to fall back to. The log reaches back to the older.
const KEPT: usize = 2;

/// sled's cache for one open generation. It reads pages once, in order.
const CACHE_BYTES: u64 = 16 << 20;

/// Pages handed to sled at a time: 1 MiB.
const BATCH_PAGES: usize = 32;

const PAGE_FORMAT: u8 = 1;
/// Format and checksum before a page's bytes.
const PAGE_HEADER_BYTES: usize = 5;

const CURRENT: &str = "CURRENT";
const BUILDING: &str = "building-";
const GENERATION: &str = "gen-";
/// Sorts behind every page's key.
const MANIFEST_KEY: &[u8] = b"~manifest";

/// A [`SnapshotStore`] in a directory.
pub struct SledSnapshots {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    state: Mutex<BTreeMap<GroupId, Kept>>,
    buildings: AtomicU64,
}

#[derive(Default)]
struct Kept {
    /// What `CURRENT` names, newest first.
    current: Vec<Arc<Generation>>,
    /// Complete and not adopted yet.
    sealed: Vec<Weak<Generation>>,
}

/// One generation on disk. Its folder goes when it is not kept and nobody reads it any more.
struct Generation {
    path: PathBuf,
    name: String,
    manifest: Manifest,
    kept: AtomicBool,
    /// Shared by all readers: sled opens a database once.
    open: Mutex<Weak<sled::Db>>,
}

impl SledSnapshots {
    /// Keeps snapshots under `dir`, making it if needed.
    pub fn open(dir: impl AsRef<Path>) -> io::Result<Self> {
        let dir = dir.as_ref().to_owned();
        files::create_dir(&dir)?;
        Ok(Self { inner: Arc::new(Inner { dir, state: Mutex::default(), buildings: AtomicU64::new(0) }) })
    }
}

impl Inner {
    fn group_dir(&self, group: GroupId) -> PathBuf {
        self.dir.join(group.to_string())
    }
}

impl SnapshotStore for SledSnapshots {
    fn load(&self, group: GroupId) -> io::Result<Found> {
        let dir = self.inner.group_dir(group);
        let mut found = Found::default();
        if !dir.is_dir() {
            return Ok(found);
        }
        let mut state = self.inner.state.lock();
        let kept = state.entry(group).or_default();
        let (named, rest) = survey(&dir, &mut found.bad)?;
        for name in rest {
            files::remove_dir(&dir.join(name))?;
        }
        let mut good = Vec::new();
        let mut bad = Vec::new();
        for name in named {
            let path = dir.join(&name);
            match Generation::verified(path.clone(), name) {
                Ok(generation) => good.push(Arc::new(generation)),
                Err(error) => {
                    found.bad.push(format!("{}: {error}", path.display()));
                    bad.push(path);
                }
            }
        }
        // With no good one left, the bad are all there is to look at: they stay.
        if !good.is_empty() && !bad.is_empty() {
            write_current(&dir, &good)?;
            for path in bad {
                files::remove_dir(&path)?;
            }
        }
        kept.current.clone_from(&good);
        found.good =
            good.into_iter().map(|generation| Arc::new(Stored(generation)) as Arc<dyn StoredSnapshot>).collect();
        Ok(found)
    }

    fn begin(&self, group: GroupId) -> io::Result<Box<dyn SnapshotWriter>> {
        let dir = self.inner.group_dir(group);
        files::create_dir(&dir)?;
        let number = self.inner.buildings.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{BUILDING}{number}"));
        files::remove_dir(&path)?;
        Ok(Box::new(Writer {
            group,
            store: self.inner.clone(),
            db: Some(open_database(&path)?),
            path: Some(path),
            batch: sled::Batch::default(),
            batched: 0,
            tally: Tally::default(),
        }))
    }

    fn adopt(&self, group: GroupId, snapshot: &Arc<dyn StoredSnapshot>) -> io::Result<()> {
        let mut state = self.inner.state.lock();
        let kept = state.entry(group).or_default();
        let index = index_of(snapshot.manifest());
        let newest = kept.current.first().map(|g| index_of(&g.manifest));
        if newest >= Some(index) {
            return Ok(());
        }
        let generation = kept
            .sealed
            .iter()
            .filter_map(Weak::upgrade)
            .find(|generation| generation.name == snapshot.name())
            .ok_or_else(|| io::Error::other(format!("{} was not made by this store", snapshot.name())))?;
        let mut current = kept.current.clone();
        current.insert(0, generation);
        let older = current.split_off(current.len().min(KEPT));
        current[0].kept.store(true, Ordering::SeqCst);
        write_current(&self.inner.group_dir(group), &current)?;
        kept.current = current;
        kept.sealed.retain(|sealed| sealed.strong_count() > 0);
        for generation in older {
            generation.kept.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    fn forget(&self, group: GroupId) -> io::Result<()> {
        let mut state = self.inner.state.lock();
        if let Some(kept) = state.remove(&group) {
            for generation in kept.current {
                generation.kept.store(false, Ordering::SeqCst);
            }
        }
        files::remove_dir(&self.inner.group_dir(group))
    }
}

/// Names that are kept, newest first, and everything else in the folder that is ours.
fn survey(dir: &Path, bad: &mut Vec<String>) -> io::Result<(Vec<String>, Vec<String>)> {
    let mut generations = Vec::new();
    let mut rest = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(BUILDING) {
            rest.push(name);
        } else if name.starts_with(GENERATION) {
            generations.push(name);
        }
    }
    let named = match fs::read(dir.join(CURRENT)) {
        // A generation that was never named: its log is still there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
        Ok(bytes) => match wire::record_in::<Generations>(&bytes, CURRENT) {
            Ok(current) => current.names,
            Err(error) => {
                bad.push(format!("{}: {error}", dir.join(CURRENT).display()));
                // Complete generations are found by their names alone.
                generations.sort_by_key(|name| std::cmp::Reverse(position_of(name)));
                std::mem::take(&mut generations)
            }
        },
    };
    generations.retain(|name| !named.contains(name));
    rest.append(&mut generations);
    Ok((named, rest))
}

fn position_of(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name.strip_prefix(GENERATION)?.split_once('-')?;
    let term = term.split('.').next()?;
    Some((index.parse().ok()?, term.parse().ok()?))
}

fn write_current(dir: &Path, generations: &[Arc<Generation>]) -> io::Result<()> {
    let current = Generations { names: generations.iter().map(|g| g.name.clone()).collect() };
    files::replace(dir, CURRENT, &wire::record_out(&current))
}

fn index_of(manifest: &Manifest) -> Option<u64> {
    manifest.position.as_ref().map(|position| position.index)
}

/// Opens a database. Damaged ones make sled panic in places: that counts as an error.
fn open_database(path: &Path) -> io::Result<sled::Db> {
    let open = || {
        sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .open()
    };
    guarded(open)
}

fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| io::Error::other(error.to_string())),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the database panicked")),
    }
}

/// A generation being written.
struct Writer {
    group: GroupId,
    store: Arc<Inner>,
    db: Option<sled::Db>,
    /// Present until sealed.
    path: Option<PathBuf>,
    batch: sled::Batch,
    batched: usize,
    tally: Tally,
}

impl Writer {
    fn database(&self) -> io::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| io::Error::other("the snapshot is sealed"))
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batched = 0;
        let db = self.database()?;
        guarded(|| db.apply_batch(batch))
    }
}

impl SnapshotWriter for Writer {
    fn page(&mut self, page: &[u8]) -> io::Result<()> {
        let mut value = Vec::with_capacity(PAGE_HEADER_BYTES + page.len());
        value.push(PAGE_FORMAT);
        value.extend_from_slice(&crc32c::crc32c(page).to_le_bytes());
        value.extend_from_slice(page);
        self.batch.insert(&self.tally.pages().to_be_bytes(), value);
        self.batched += 1;
        self.tally.add(page);
        if self.batched >= BATCH_PAGES {
            self.write_batch()?;
        }
        Ok(())
    }

    fn seal(mut self: Box<Self>, manifest: Manifest) -> io::Result<Arc<dyn StoredSnapshot>> {
        self.tally.check(&manifest)?;
        let position = manifest.position.unwrap_or_default();
        self.write_batch()?;
        let record = wire::record_out(&manifest);
        {
            let db = self.database()?;
            guarded(|| {
                db.insert(MANIFEST_KEY, &record[..])?;
                db.flush()
            })?;
        }
        let db = self.db.take();
        guarded(|| {
            drop(db);
            Ok(())
        })?;
        let built = self.path.take().ok_or_else(|| io::Error::other("the snapshot is sealed"))?;
        let moved = self.store.settle(self.group, &built, &position);
        if moved.is_err() {
            // Given back, so that dropping this removes it.
            self.path = Some(built);
        }
        let (path, name) = moved?;
        let generation =
            Arc::new(Generation { path, name, manifest, kept: AtomicBool::new(false), open: Mutex::new(Weak::new()) });
        let mut state = self.store.state.lock();
        let kept = state.entry(self.group).or_default();
        kept.sealed.push(Arc::downgrade(&generation));
        Ok(Arc::new(Stored(generation)))
    }
}

impl Inner {
    /// Makes a finished database durable and gives it its name.
    fn settle(
        &self,
        group: GroupId,
        built: &Path,
        position: &wire::proto::LogPosition,
    ) -> io::Result<(PathBuf, String)> {
        files::sync_all(built)?;
        let dir = self.group_dir(group);
        let plain = format!("{GENERATION}{}-{}", position.index, position.term);
        let mut name = plain.clone();
        let mut again = 0;
        // The same position may come twice, built here and sent by a leader.
        while dir.join(&name).exists() {
            again += 1;
            name = format!("{plain}.{again}");
        }
        let path = dir.join(&name);
        fs::rename(built, &path)?;
        files::sync_dir(&dir)?;
        Ok((path, name))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.db.take());
        if let Some(path) = self.path.take()
            && let Err(error) = files::remove_dir(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a half-written snapshot stays until the next start");
        }
    }
}

impl Generation {
    /// Reads manifest and every page of the generation at `path`.
    fn verified(path: PathBuf, name: String) -> io::Result<Self> {
        let missing = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if !path.is_dir() {
            return Err(missing("the folder is missing"));
        }
        let db = Arc::new(open_database(&path)?);
        let record =
            guarded(|| db.get(MANIFEST_KEY))?.ok_or_else(|| missing("it has no manifest: it was not finished"))?;
        let manifest: Manifest = wire::record_in(&record, "the manifest")?;
        let pages = DatabasePages { next: 0, ended: false, pages: db.iter(), _held: None, _db: db.clone() };
        pages::verify(&manifest, Box::new(pages))?;
        guarded(|| {
            drop(db);
            Ok(())
        })?;
        Ok(Self { path, name, manifest, kept: AtomicBool::new(true), open: Mutex::new(Weak::new()) })
    }

    fn database(&self) -> io::Result<Arc<sled::Db>> {
        let mut open = self.open.lock();
        if let Some(db) = open.upgrade() {
            return Ok(db);
        }
        let db = Arc::new(open_database(&self.path)?);
        *open = Arc::downgrade(&db);
        Ok(db)
    }
}

/// A generation as its readers hold it.
struct Stored(Arc<Generation>);

impl StoredSnapshot for Stored {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    fn pages(&self) -> io::Result<Box<dyn PageSource>> {
        let db = self.0.database()?;
        Ok(Box::new(DatabasePages { next: 0, ended: false, pages: db.iter(), _db: db, _held: Some(self.0.clone()) }))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::SeqCst)
            && let Err(error) = files::remove_dir(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an old snapshot stays until the next start");
        }
    }
}

/// Pages in the order of their numbers, each checked.
struct DatabasePages {
    next: u64,
    ended: bool,
    // Before what it reads from, so that it goes first.
    pages: sled::Iter,
    _db: Arc<sled::Db>,
    _held: Option<Arc<Generation>>,
}

impl PageSource for DatabasePages {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let damaged = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if self.ended {
            return Ok(None);
        }
        let number = self.next;
        let Some((key, value)) = guarded(|| self.pages.next().transpose())? else {
            return damaged("the manifest is missing".to_owned());
        };
        if &key[..] == MANIFEST_KEY {
            self.ended = true;
            return Ok(None);
        }
        if key[..] != number.to_be_bytes() {
            return damaged(format!("page {number} is missing"));
        }
        if value.len() < PAGE_HEADER_BYTES || value[0] != PAGE_FORMAT {
            return damaged(format!("page {number} has an unknown form"));
        }
        let (header, page) = value.split_at(PAGE_HEADER_BYTES);
        let found = crc32c::crc32c(page).to_le_bytes();
        if header[1..] != found {
            return damaged(format!("page {number} fails its checksum"));
        }
        self.next += 1;
        Ok(Some(Bytes::copy_from_slice(page)))
    }
}
