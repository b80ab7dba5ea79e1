//! Checking a backup without a server: every file against its hash, every content against its own, and every image decoded,
//! with all that it names at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::machine::query::View;
use reckoner_shard::machine::state::State;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;

use super::layout::{CATALOGUES, CLUSTER, FORMAT, Manifest, Reading, ShardRow, damaged, failed};
use crate::error::Error;
use crate::proto;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// A backup whose manifest is sound.
pub struct Backup {
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// What it keeps of the cluster itself.
    pub cluster: proto::BackupReply,
}

/// What an image was found to hold.
pub struct Checked {
    pub shard: ShardRow,
    pub hierarchies: u64,
    /// Bills and archives that it names.
    pub contents: Vec<Hash>,
}

impl Backup {
    /// Opens the backup in `folder`.
    ///
    /// # Errors
    /// Where there is none, or what names the rest is damaged; the file is named.
    pub fn open(folder: &Path) -> Result<Backup, Error> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join(CLUSTER);
        let row = manifest.files.iter().find(|file| file.name == CLUSTER);
        let row = row.ok_or_else(|| damaged(&path, "the manifest does not name it"))?;
        check_file(&path, row.bytes, &row.blake3, &mut |_| ())?;
        let bytes = std::fs::read(&path).map_err(|error| failed(&path, &error))?;
        let cluster = proto::BackupReply::decode(&bytes[..]).map_err(|error| damaged(&path, error))?;
        if cluster.format != FORMAT || cluster.cluster != manifest.cluster {
            return Err(damaged(&path, "it is of another format or cluster than the manifest"));
        }
        Ok(Backup { folder: folder.to_owned(), manifest, cluster })
    }

    /// Checks everything; `told` hears of bytes as they are checked, each of the files once.
    ///
    /// # Errors
    /// The first thing that is not as it should be, with the file that has it.
    pub fn check(&self, told: &mut dyn FnMut(u64)) -> Result<Vec<Checked>, Error> {
        for file in &self.manifest.files {
            check_file(&self.folder.join(&file.name), file.bytes, &file.blake3, told)?;
        }
        let mut contents = BTreeSet::new();
        self.contents(&mut |hash, _| {
            contents.insert(hash);
            Ok(())
        })?;
        let mut catalogues = BTreeMap::new();
        self.catalogues(&mut |hash, json| {
            let path = self.folder.join(CATALOGUES);
            let document: CatalogueDocument = serde_json::from_slice(&json).map_err(|error| damaged(&path, error))?;
            let problems = Catalogue::compile(&document).err().unwrap_or_default();
            if let Some(problem) = problems.first() {
                return Err(damaged(&path, format!("catalogue {}: {problem}", hex(&hash))));
            }
            catalogues.insert(hash, json);
            Ok(())
        })?;
        for version in &self.cluster.catalogues {
            if !catalogues.keys().any(|hash| hash[..] == version.hash[..]) {
                let what = format!("version {} of catalogue {} is missing", version.version, version.name);
                return Err(damaged(&self.folder.join(CATALOGUES), what));
            }
        }
        let shards: Vec<u32> = self.manifest.shards.iter().map(|row| row.shard).collect();
        if shards != self.cluster.shards {
            return Err(damaged(&self.folder.join(CLUSTER), "it names other shards than the manifest"));
        }
        let rows = self.manifest.shards.iter();
        rows.map(|row| self.check_shard(row, &contents, &|hash| catalogues.contains_key(hash))).collect()
    }

    fn check_shard(
        &self,
        row: &ShardRow,
        contents: &BTreeSet<Hash>,
        has_catalogue: &dyn Fn(&Hash) -> bool,
    ) -> Result<Checked, Error> {
        let path = self.folder.join(&row.file);
        let view = self.view(row)?;
        let wrong = |what: String| Err(damaged(&path, what));
        if view.shard.0 != row.shard || view.index > row.index {
            let (shard, index) = (view.shard, view.index);
            return wrong(format!("it is of shard {shard} at entry {index}, the manifest says otherwise"));
        }
        let slots = |first: u32, last: u32| (first, last);
        let own: Vec<(u32, u32)> = view
            .identity
            .iter()
            .flat_map(|identity| &identity.slots)
            .map(|range| slots(range.first.into(), range.last.into()))
            .collect();
        let ranges = self.cluster.ranges.iter().filter(|range| range.shard == row.shard);
        let wanted: Vec<(u32, u32)> = ranges.map(|range| slots(range.first, range.last)).collect();
        if view.is_moving() || joined(own) != joined(wanted) {
            return wrong("its slots are not those that the cluster's map gives it".to_owned());
        }
        let versions = view.catalogues.values().flatten();
        if let Some(version) = versions.into_iter().find(|version| !has_catalogue(&version.hash)) {
            return wrong(format!("it names catalogue {}, which is not here", hex(&version.hash)));
        }
        let named = view.contents();
        if let Some(missing) = named.iter().find(|hash| !contents.contains(*hash)) {
            return wrong(format!("it names bill or archive {}, which is not here", hex(missing)));
        }
        let hierarchies = view.roots().count() as u64;
        Ok(Checked { shard: row.clone(), hierarchies, contents: named })
    }

    /// A shard's state, decoded.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn view(&self, row: &ShardRow) -> Result<View, Error> {
        let mut image = Reading::begin(&self.folder, &row.file)?;
        let mut broken = None;
        let parts = std::iter::from_fn(|| match image.chunk() {
            Ok(part) => part,
            Err(error) => {
                broken = Some(error);
                None
            }
        });
        let restored = State::restore(parts);
        if let Some(error) = broken {
            return Err(error);
        }
        let mut state = restored.map_err(|error| damaged(&self.folder.join(&row.file), error))?;
        Ok(state.view())
    }

    /// Hands over every bill and archive, checked.
    ///
    /// # Errors
    /// A pack that cannot be read, or what `take` says.
    pub fn contents(&self, take: &mut dyn FnMut(Hash, Bytes) -> Result<(), Error>) -> Result<(), Error> {
        let is_pack = |name: &str| name.starts_with("contents-");
        self.manifest.files.iter().filter(|file| is_pack(&file.name)).try_for_each(|file| self.pack(&file.name, take))
    }

    /// Hands over every catalogue's document, checked against its hash.
    ///
    /// # Errors
    /// As [`Backup::contents`].
    pub fn catalogues(&self, take: &mut dyn FnMut(Hash, Bytes) -> Result<(), Error>) -> Result<(), Error> {
        self.pack(CATALOGUES, take)
    }

    fn pack(&self, name: &str, take: &mut dyn FnMut(Hash, Bytes) -> Result<(), Error>) -> Result<(), Error> {
        let mut pack = Reading::begin(&self.folder, name)?;
        while let Some((hash, bytes)) = pack.content()? {
            take(hash, bytes)?;
        }
        Ok(())
    }
}

/// Neighbouring ranges as one.
fn joined(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if before.1 + 1 == first => before.1 = last,
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn check_file(path: &Path, bytes: u64, blake3: &str, told: &mut dyn FnMut(u64)) -> Result<(), Error> {
    let mut file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged(path, "it is missing"),
        _ => failed(path, &error),
    })?;
    let found = file.metadata().map_err(|error| failed(path, &error))?.len();
    if found != bytes {
        return Err(damaged(path, format!("it has {found} bytes, the manifest names {bytes}")));
    }
    let (mut digest, mut buffer) = (blake3::Hasher::new(), vec![0; READ_BYTES]);
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(|error| failed(path, &error))? {
            0 => break,
            read => {
                digest.update(&buffer[..read]);
                told(read as u64);
            }
        }
    }
    match digest.finalize().to_hex().as_str() == blake3 {
        true => Ok(()),
        false => Err(damaged(path, "it does not have the hash that the manifest names")),
    }
}
