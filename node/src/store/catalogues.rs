//! Catalogues compiled once for all shards of the node, from the documents in the BlobStore. Fetching a document that is
//! not here is `data::reach`'s matter.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use reckoner_shard::machine::state::Blobs;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;

use super::blobs::BlobStore;
use super::content::Hash;

/// The compiled catalogues of a node; kept until the process ends, since any cycle not yet issued may name them.
pub struct Catalogues {
    blobs: Arc<dyn BlobStore>,
    compiled: RwLock<HashMap<Hash, Arc<Catalogue>>>,
}

impl Catalogues {
    pub fn new(blobs: Arc<dyn BlobStore>) -> Self {
        Self { blobs, compiled: RwLock::default() }
    }

    /// The catalogue under `hash`, compiled now if it was not yet; `None` where its document is not here. May block.
    ///
    /// # Errors
    /// The disk's, or a document that does not compile: it was checked before it was staged, so that is damage.
    pub fn load(&self, hash: &Hash) -> io::Result<Option<Arc<Catalogue>>> {
        if let Some(catalogue) = self.compiled.read().get(hash) {
            return Ok(Some(catalogue.clone()));
        }
        let Some(bytes) = self.blobs.get(hash)? else { return Ok(None) };
        let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let document: CatalogueDocument =
            serde_json::from_slice(&bytes).map_err(|error| damaged(format!("catalogue document: {error}")))?;
        let compiled = Catalogue::compile(&document).map_err(|problems| {
            let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
            damaged(format!("catalogue document: {}", words.join("; ")))
        })?;
        let compiled = Arc::new(compiled);
        Ok(Some(self.compiled.write().entry(*hash).or_insert(compiled).clone()))
    }
}

/// What the machine is handed beside an entry: only what is compiled already, so that applying never touches a disk.
impl Blobs for Catalogues {
    fn catalogue(&self, hash: &Hash) -> Option<Arc<Catalogue>> {
        self.compiled.read().get(hash).cloned()
    }
}
