//! BlobStore: documents in their canonical form under their hash. What they mean is decided by whoever asks; compiled
//! catalogues are cached in [`super::catalogues`].

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use parking_lot::RwLock;

use super::content::{ContentStore, Hash};

/// Documents by blake3 hash. Methods may block.
pub trait BlobStore: Send + Sync + 'static {
    /// Keeps `bytes`, durable on return; putting them again is cheap.
    ///
    /// # Errors
    /// A disk that fails, or bytes that are not what `hash` says.
    fn put(&self, hash: &Hash, bytes: Bytes) -> io::Result<()>;

    /// The bytes under `hash`, checked.
    fn get(&self, hash: &Hash) -> io::Result<Option<Bytes>>;
}

fn check(hash: &Hash, bytes: &[u8]) -> io::Result<()> {
    let found = blake3::hash(bytes);
    if found.as_bytes() == hash {
        return Ok(());
    }
    let named = blake3::Hash::from_bytes(*hash);
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("blob has hash {found}, it was announced as {named}")))
}

/// In sled.
pub struct SledBlobs(ContentStore);

impl SledBlobs {
    /// Opens or makes the store in `folder`.
    pub fn open(folder: &Path) -> io::Result<Self> {
        ContentStore::open(folder).map(Self)
    }
}

impl BlobStore for SledBlobs {
    fn put(&self, hash: &Hash, bytes: Bytes) -> io::Result<()> {
        check(hash, &bytes)?;
        self.0.put(hash, &bytes)?;
        self.0.flush()
    }

    fn get(&self, hash: &Hash) -> io::Result<Option<Bytes>> {
        self.0.get(hash)
    }
}

/// In memory: the twin.
#[derive(Default)]
pub struct MemoryBlobs(RwLock<HashMap<Hash, Bytes>>);

impl BlobStore for MemoryBlobs {
    fn put(&self, hash: &Hash, bytes: Bytes) -> io::Result<()> {
        check(hash, &bytes)?;
        self.0.write().insert(*hash, bytes);
        Ok(())
    }

    fn get(&self, hash: &Hash) -> io::Result<Option<Bytes>> {
        Ok(self.0.read().get(hash).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_store(store: &dyn BlobStore) {
        let hash = *blake3::hash(b"{}").as_bytes();
        assert_eq!(store.get(&hash).unwrap(), None);
        assert!(store.put(&hash, Bytes::from_static(b"[]")).is_err());
        assert_eq!(store.get(&hash).unwrap(), None, "what was refused is not kept");
        store.put(&hash, Bytes::from_static(b"{}")).unwrap();
        store.put(&hash, Bytes::from_static(b"{}")).unwrap();
        assert_eq!(store.get(&hash).unwrap().as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn both_twins_behave_alike() {
        check_store(&MemoryBlobs::default());
        let folder = tempfile::tempdir().unwrap();
        check_store(&SledBlobs::open(folder.path()).unwrap());
    }
}
