//! Taking a backup of a running cluster. Each hierarchy lives in one shard, so an image a shard is enough, as long as nothing
//! went from shard to shard between the first of them and the last: the cluster says what could have, and then everything is
//! taken again. The manifest is written when all else is on disk.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use prost::Message as _;
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::base::id::ShardId;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::layout::{
    CATALOGUES, CLUSTER, FORMAT, FileRow, MANIFEST, Manifest, PACK_BYTES, ShardRow, UNFINISHED, Unfinished, Writing,
    failed, image_name, is_part, pack_name, sync_folder,
};
use crate::client::Client;
use crate::error::Error;
use crate::proto;

/// How often images are taken again because something went from shard to shard meanwhile.
const ROUNDS_MAX: u32 = 5;

/// How often a shard's image is begun again when its stream broke, such as when its node stopped.
const TRIES_MAX: u32 = 5;

/// Between two looks at a cluster that is busy, and before an image is begun again.
const WAIT: Duration = Duration::from_millis(500);

/// A stream that is silent for so long is given up: writing the snapshot of the largest shard takes half a minute.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Bills and archives that are asked for at a time.
const CONTENTS_ASKED: usize = 256;

/// What a backup tells while it is taken.
pub enum Told {
    /// So many bytes will come of a shard.
    Shard { shard: u32, bytes: u64 },
    /// So many of them came.
    Came { bytes: u64 },
    /// Why it has to wait or to begin again.
    Waits { why: String },
}

/// Takes a backup into `folder`, which has to be empty, absent, or to hold a backup of the same cluster that did not end.
/// Waits at most `patience` for a cluster that moves slots or applies documents.
///
/// # Errors
/// A folder that holds something else, a cluster that stays busy or cannot be reached, a disk that fails. What was written
/// stays, and the next run begins anew over it.
pub async fn take(
    client: &Client,
    folder: &Path,
    patience: Duration,
    told: &mut dyn FnMut(Told),
) -> Result<Manifest, Error> {
    let deadline = Instant::now() + patience;
    let mut before = idle(client, deadline, told).await?;
    let _held = claim(folder, &before.cluster)?;
    let mut packs = Packs::begin(folder);
    for round in 1.. {
        let mut shards = Vec::new();
        let mut files = Vec::new();
        for shard in &before.shards {
            let (row, file, contents) = image(client, *shard, folder, told).await?;
            packs.fetch(client, *shard, contents).await?;
            shards.push(row);
            files.push(file);
        }
        let after = idle(client, deadline, told).await?;
        if after.cluster != before.cluster {
            return Err(Error::invalid(format!("cluster {} answers, it began with {}", after.cluster, before.cluster)));
        }
        if after.mark == before.mark {
            return end(client, folder, after, shards, files, packs).await;
        }
        if round == ROUNDS_MAX {
            let why = format!("slots moved or documents were applied during each of {ROUNDS_MAX} rounds");
            return Err(Error::unavailable(why + "; try again when that is over"));
        }
        told(Told::Waits { why: "slots moved or documents were applied meanwhile; all shards are taken again".into() });
        before = after;
    }
    unreachable!("the last round ends it")
}

/// What the cluster says of itself once nothing goes from shard to shard.
async fn idle(client: &Client, deadline: Instant, told: &mut dyn FnMut(Told)) -> Result<proto::BackupReply, Error> {
    let mut said = String::new();
    loop {
        let reply = client.backup().await?;
        if reply.format != FORMAT {
            let found = reply.format;
            return Err(Error::invalid(format!("the cluster makes backups of format {found}, this version {FORMAT}")));
        }
        if reply.busy.is_empty() {
            return Ok(reply);
        }
        if Instant::now() + WAIT >= deadline {
            return Err(Error::unavailable(format!("{}; shards do not fit each other until that is over", reply.busy)));
        }
        if said != reply.busy {
            told(Told::Waits { why: reply.busy.clone() });
            said = reply.busy;
        }
        sleep(WAIT).await;
    }
}

/// Makes `folder` this backup's own: nobody else writes there while the answer is held.
fn claim(folder: &Path, cluster: &str) -> Result<File, Error> {
    let io = |error| failed(folder, &error);
    std::fs::create_dir_all(folder).map_err(io)?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name());
    let names: Vec<_> = std::fs::read_dir(folder).map_err(io)?.map(name).collect::<Result<_, _>>().map_err(io)?;
    let names: Vec<String> = names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let shown = folder.display();
    if names.iter().any(|name| name == MANIFEST) {
        let of = Manifest::read(folder).map(|known| format!(" of cluster {}, taken {}", known.cluster, known.taken));
        let of = of.unwrap_or_default();
        return Err(Error::invalid(format!("{shown} holds a backup{of}; name another directory")));
    }
    if let Some(other) = names.iter().find(|name| !is_part(name)) {
        return Err(Error::invalid(format!("{shown} is not empty, it has {other}; name an empty directory")));
    }
    let path = folder.join(UNFINISHED);
    let io = |error| failed(&path, &error);
    let known = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Unfinished>(&bytes).ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(io(error)),
    };
    if let Some(known) = known.filter(|known| known.cluster != cluster) {
        let why = format!("{shown} holds a part of a backup of cluster {}, this is {cluster}", known.cluster);
        return Err(Error::invalid(why + "; name another directory"));
    }
    let held = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match held.try_lock() {
        Ok(()) => (),
        Err(TryLockError::WouldBlock) => {
            return Err(Error::invalid(format!("{shown} is being written by another backup; name another directory")));
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    for name in names.iter().filter(|name| *name != UNFINISHED) {
        let part = folder.join(name);
        std::fs::remove_file(&part).map_err(|error| failed(&part, &error))?;
    }
    let unfinished = Unfinished { cluster: cluster.to_owned() };
    let text = serde_json::to_string_pretty(&unfinished).expect("it is a string");
    std::fs::write(&path, text + "\n").map_err(io)?;
    held.sync_all().map_err(io)?;
    sync_folder(folder)?;
    Ok(held)
}

/// Writes a shard's image; its rows, and what it names.
async fn image(
    client: &Client,
    shard: u32,
    folder: &Path,
    told: &mut dyn FnMut(Told),
) -> Result<(ShardRow, FileRow, Vec<Hash>), Error> {
    let mut tries = 1;
    loop {
        match image_once(client, shard, folder, told).await {
            Err(error) if error.retryable() && tries < TRIES_MAX => {
                told(Told::Waits { why: format!("shard {shard} is begun again: {error}") });
                tries += 1;
                sleep(WAIT).await;
            }
            came => return came,
        }
    }
}

async fn image_once(
    client: &Client,
    shard: u32,
    folder: &Path,
    told: &mut dyn FnMut(Told),
) -> Result<(ShardRow, FileRow, Vec<Hash>), Error> {
    let mut parts = client.image(ShardId(shard)).await?;
    let broken = |what: &str| Error::unavailable(format!("the image of shard {shard} {what}"));
    let first = next(parts.message()).await?.ok_or_else(|| broken("did not come"))?;
    let head = first.head.ok_or_else(|| broken("came without its head"))?;
    told(Told::Shard { shard, bytes: head.bytes });
    let mut file = Writing::begin(folder, &image_name(shard))?;
    let mut contents = Vec::new();
    while let Some(part) = next(parts.message()).await? {
        for hash in &part.contents {
            contents.push(hash.as_ref().try_into().map_err(|_| broken("names a hash that has not 32 bytes"))?);
        }
        file.put(&part.bytes)?;
        told(Told::Came { bytes: part.bytes.len() as u64 });
    }
    let file = file.end()?;
    let digest = Hash::try_from(head.digest.as_ref()).map_err(|_| broken("has no hash"))?;
    if (file.bytes, &file.blake3) != (head.bytes, &hex(&digest)) || contents.len() as u64 != head.contents {
        return Err(broken("is not what its head announced"));
    }
    let row = ShardRow {
        shard,
        index: head.index,
        term: head.term,
        slot_epoch: head.slot_epoch,
        contents: head.contents,
        file: file.name.clone(),
    };
    Ok((row, file, contents))
}

/// The next message of a stream.
async fn next<T>(message: impl Future<Output = Result<Option<T>, Status>>) -> Result<Option<T>, Error> {
    match timeout(SILENCE_MAX, message).await {
        Ok(came) => came.map_err(|status| Error::from_status(&status)),
        Err(_) => Err(Error::unavailable(format!("nothing came for {} s", SILENCE_MAX.as_secs()))),
    }
}

/// Bills and archives on their way to packs, each once.
struct Packs {
    folder: PathBuf,
    here: BTreeSet<Hash>,
    open: Option<Writing>,
    full: Vec<FileRow>,
}

impl Packs {
    fn begin(folder: &Path) -> Packs {
        Packs { folder: folder.to_owned(), here: BTreeSet::new(), open: None, full: Vec::new() }
    }

    /// Fetches what is not here yet.
    async fn fetch(&mut self, client: &Client, shard: u32, wanted: Vec<Hash>) -> Result<(), Error> {
        let mut missing: Vec<Hash> = wanted.into_iter().filter(|hash| !self.here.contains(hash)).collect();
        let mut tries = 1;
        while !missing.is_empty() {
            let asked = &missing[..missing.len().min(CONTENTS_ASKED)];
            match self.fetch_some(client, shard, asked).await {
                Err(error) if error.retryable() && tries < TRIES_MAX => {
                    tries += 1;
                    sleep(WAIT).await;
                }
                came => came?,
            }
            missing.retain(|hash| !self.here.contains(hash));
        }
        Ok(())
    }

    async fn fetch_some(&mut self, client: &Client, shard: u32, asked: &[Hash]) -> Result<(), Error> {
        let mut parts = client.contents(ShardId(shard), asked).await?;
        let mut bytes = BytesMut::new();
        while let Some(part) = next(parts.message()).await? {
            bytes.extend_from_slice(&part.bytes);
            if part.last {
                let whole = bytes.split();
                let hash = *blake3::hash(&whole).as_bytes();
                if part.hash[..] != hash {
                    return Err(Error::unavailable(format!("bill or archive {} came damaged", hex(&hash))));
                }
                self.put(&hash, &whole)?;
            }
        }
        match asked.iter().find(|hash| !self.here.contains(*hash)) {
            Some(missing) => Err(Error::unavailable(format!("bill or archive {} did not come", hex(missing)))),
            None => Ok(()),
        }
    }

    fn put(&mut self, hash: &Hash, bytes: &[u8]) -> Result<(), Error> {
        if !self.here.insert(*hash) {
            return Ok(());
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Writing::begin(&self.folder, &pack_name(self.full.len() + 1))?),
        };
        open.content(hash, bytes)?;
        if open.bytes() >= PACK_BYTES {
            self.end_pack()?;
        }
        Ok(())
    }

    fn end_pack(&mut self) -> Result<(), Error> {
        if let Some(open) = self.open.take() {
            self.full.push(open.end()?);
        }
        Ok(())
    }
}

/// Writes what is left, and then the manifest.
async fn end(
    client: &Client,
    folder: &Path,
    cluster: proto::BackupReply,
    shards: Vec<ShardRow>,
    mut files: Vec<FileRow>,
    mut packs: Packs,
) -> Result<Manifest, Error> {
    packs.end_pack()?;
    files.append(&mut packs.full);
    let mut catalogues = Writing::begin(folder, CATALOGUES)?;
    let mut kept = BTreeSet::new();
    for version in &cluster.catalogues {
        let hash =
            version.hash.as_ref().try_into().map_err(|_| Error::invalid("a catalogue's hash has not 32 bytes"))?;
        if kept.insert(hash) {
            catalogues.content(&hash, &client.blob(&hash).await?)?;
        }
    }
    files.push(catalogues.end()?);
    let mut own = Writing::begin(folder, CLUSTER)?;
    own.put(&cluster.encode_to_vec())?;
    files.push(own.end()?);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: cluster.cluster,
        taken: jiff::Timestamp::now().to_string(),
        map_epoch: cluster.map_epoch,
        shards,
        contents: packs.here.len() as u64,
        catalogues: cluster.catalogues.len() as u64,
        files,
        seal: String::new(),
    };
    sync_folder(folder)?;
    let name = format!("{MANIFEST}.new");
    let mut file = Writing::begin(folder, &name)?;
    file.put(manifest.text().as_bytes())?;
    file.end()?;
    let (from, to) = (folder.join(name), folder.join(MANIFEST));
    std::fs::rename(&from, &to).map_err(|error| failed(&to, &error))?;
    sync_folder(folder)?;
    // Only a word for the next run, which finds the manifest now.
    let _ = std::fs::remove_file(folder.join(UNFINISHED));
    Manifest::read(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_empty_or_an_unfinished_backup_of_the_same_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let held = claim(&path, "one").unwrap();
        let refused = |found: Result<File, Error>, word: &str| {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        refused(claim(&path, "one"), "another backup");
        drop(held);
        std::fs::write(path.join("shard-1.image"), "half").unwrap();
        refused(claim(&path, "two"), "of cluster one");
        drop(claim(&path, "one").unwrap());
        assert_eq!(names(&path), [UNFINISHED], "what was half is gone");
        std::fs::write(path.join("notes.txt"), "mine").unwrap();
        refused(claim(&path, "one"), "notes.txt");
        std::fs::rename(path.join("notes.txt"), path.join(MANIFEST)).unwrap();
        refused(claim(&path, "one"), "holds a backup");
        assert_eq!(names(&path), [MANIFEST, UNFINISHED], "nothing was touched");
    }
}
