//! Bytes in a sled database under their own blake3 hash, cut into pages. Which bytes, and which database, is decided by
//! [`super::blobs`] and [`super::bills`].

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::durable;

/// A blake3 hash.
pub type Hash = [u8; 32];

/// Size of a page. sled takes 1.4 times the bytes at 32 to 64 KiB and keeps larger values in files that it does not
/// give back (crates.md).
const PAGE_BYTES: usize = 32 << 10;

/// sled's own cache a database: what is read often is cached above it, compiled.
const CACHE_BYTES: u64 = 8 << 20;

/// Format of a value's first page.
const FORMAT: u8 = 1;

/// A sled database of contents.
pub struct ContentStore {
    path: PathBuf,
    database: sled::Db,
    /// Whether anything was put since the last flush; flushes exclude each other.
    dirty: Mutex<bool>,
}

fn failed(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

fn key(hash: &Hash, page: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(hash);
    key[32..].copy_from_slice(&page.to_be_bytes());
    key
}

impl ContentStore {
    /// Opens or makes the database at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let database = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(|error| failed(path, error))?;
        Ok(Self { path: path.to_owned(), database, dirty: Mutex::new(false) })
    }

    /// Puts `bytes`, whose hash is `hash`; not durable before [`ContentStore::flush`]. Putting them again changes
    /// nothing.
    pub fn put(&self, hash: &Hash, bytes: &[u8]) -> io::Result<()> {
        if self.has(hash)? {
            return Ok(());
        }
        self.replace(hash, bytes)
    }

    /// Puts `bytes` whatever is there under their hash.
    pub fn replace(&self, hash: &Hash, bytes: &[u8]) -> io::Result<()> {
        let mut first = vec![FORMAT];
        first.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        let (head, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES));
        first.extend_from_slice(head);
        let mut batch = sled::Batch::default();
        batch.insert(key(hash, 0).as_slice(), first);
        for (page, part) in rest.chunks(PAGE_BYTES).enumerate() {
            batch.insert(key(hash, page as u32 + 1).as_slice(), part);
        }
        let mut dirty = self.dirty.lock();
        self.database.apply_batch(batch).map_err(|error| failed(&self.path, error))?;
        *dirty = true;
        Ok(())
    }

    /// Whether content under `hash` was put.
    pub fn has(&self, hash: &Hash) -> io::Result<bool> {
        self.database.contains_key(key(hash, 0)).map_err(|error| failed(&self.path, error))
    }

    /// The content under `hash`.
    ///
    /// # Errors
    /// The database's, or content that is not what its hash says.
    pub fn get(&self, hash: &Hash) -> io::Result<Option<Bytes>> {
        let read = |page| self.database.get(key(hash, page)).map_err(|error| failed(&self.path, error));
        let Some(first) = read(0)? else { return Ok(None) };
        let damaged = |what: &str| {
            let name = blake3::Hash::from_bytes(*hash).to_hex();
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: content {name} {what}", self.path.display()))
        };
        if first.len() < 9 || first[0] != FORMAT {
            return Err(damaged("has an unknown format"));
        }
        let length = u64::from_be_bytes(first[1..9].try_into().expect("eight bytes"));
        let mut bytes = BytesMut::from(&first[9..]);
        let mut page = 1;
        while (bytes.len() as u64) < length {
            let next = read(page)?.ok_or_else(|| damaged("lacks a page"))?;
            bytes.extend_from_slice(&next);
            page += 1;
        }
        if blake3::hash(&bytes).as_bytes() != hash {
            return Err(damaged("is damaged"));
        }
        Ok(Some(bytes.freeze()))
    }

    /// Every hash that is held, in order.
    pub fn hashes(&self) -> io::Result<Vec<Hash>> {
        let mut hashes: Vec<Hash> = Vec::new();
        for key in self.database.iter().keys() {
            let key = key.map_err(|error| failed(&self.path, error))?;
            let hash: Hash = key[..32].try_into().expect("keys begin with a hash");
            if hashes.last() != Some(&hash) {
                hashes.push(hash);
            }
        }
        Ok(hashes)
    }

    /// Makes everything that was put durable: sled's flush, then every file and folder of the database synced.
    pub fn flush(&self) -> io::Result<()> {
        let mut dirty = self.dirty.lock();
        if *dirty {
            self.database.flush().map_err(|error| failed(&self.path, error))?;
            durable::sync_tree(&self.path)?;
            *dirty = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_of_every_size_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let contents: Vec<Vec<u8>> = [0, 1, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 3 * PAGE_BYTES]
            .into_iter()
            .map(|length| (0..length).map(|at| (at * 7 % 251) as u8).collect())
            .collect();
        {
            let store = ContentStore::open(folder.path()).unwrap();
            for bytes in &contents {
                let hash = *blake3::hash(bytes).as_bytes();
                assert_eq!(store.get(&hash).unwrap(), None);
                store.put(&hash, bytes).unwrap();
                store.put(&hash, bytes).unwrap();
            }
            store.flush().unwrap();
        }
        let store = ContentStore::open(folder.path()).unwrap();
        for bytes in &contents {
            let hash = *blake3::hash(bytes).as_bytes();
            assert_eq!(store.get(&hash).unwrap().as_deref(), Some(bytes.as_slice()));
        }
        assert_eq!(store.hashes().unwrap().len(), contents.len());
    }

    #[test]
    fn damage_is_an_error_not_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        let hash = *blake3::hash(b"right").as_bytes();
        store.put(&hash, b"wrong").unwrap();
        assert_eq!(store.get(&hash).unwrap_err().kind(), io::ErrorKind::InvalidData);
        store.put(&hash, b"right").unwrap();
        assert!(store.get(&hash).is_err(), "what is there is not looked at");
        store.replace(&hash, b"right").unwrap();
        assert_eq!(store.get(&hash).unwrap().as_deref(), Some(&b"right"[..]));
    }
}
