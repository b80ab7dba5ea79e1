//! The files of a backup and the manifest that names them, which is written last. Every file is named with its length and
//! its blake3; the manifest carries its own.
//!
//! ```text
//! manifest.json     what is here; seal = blake3 of the same text with an empty seal
//! cluster.bin       BackupReply (protobuf): slots, shards, catalogue versions
//! shard-N.image     a shard's state: chunks, each behind section and length (u32 each, little endian)
//! contents-N.pack   bills and archives: each behind its blake3 (32 bytes) and length (u64, little endian)
//! catalogues.pack   canonical documents of all catalogue versions, likewise
//! unfinished.json   only while it is being taken
//! ```

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use reckoner_shard::base::hash::{Hash, hex};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Layout that this version writes and reads.
pub const FORMAT: u32 = 1;

pub const MANIFEST: &str = "manifest.json";
pub const UNFINISHED: &str = "unfinished.json";
pub const CLUSTER: &str = "cluster.bin";
pub const CATALOGUES: &str = "catalogues.pack";

/// A pack ends after this much: files that a tool can still carry, and few of them.
pub const PACK_BYTES: u64 = 256 << 20;

/// Longest chunk or content; a length beyond it means damage.
const LENGTH_MAX: u64 = 1 << 30;

/// Section and length before a chunk.
const FRAME_BYTES: usize = 8;

/// Hash and length before a content.
const LABEL_BYTES: usize = 40;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Id of the cluster, 32 hexadecimal digits.
    pub cluster: String,
    /// When it was complete, by the clock of the machine that wrote it.
    pub taken: String,
    /// Epoch of the shard map.
    pub map_epoch: u64,
    /// By id.
    pub shards: Vec<ShardRow>,
    /// Bills and archives in the packs.
    pub contents: u64,
    /// Versions of catalogues.
    pub catalogues: u64,
    /// All files but this one, by name.
    pub files: Vec<FileRow>,
    /// blake3 of this text with an empty seal, in hexadecimal.
    pub seal: String,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRow {
    pub shard: u32,
    /// The last entry of its log that the image contains.
    pub index: u64,
    pub term: u64,
    /// Epoch of the shard map when it was taken.
    pub slot_epoch: u64,
    /// Bills and archives that it names.
    pub contents: u64,
    pub file: String,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRow {
    pub name: String,
    pub bytes: u64,
    /// In hexadecimal.
    pub blake3: String,
}

/// What a directory says that is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// Id of the cluster that it is of.
    pub cluster: String,
}

/// Name of a shard's image.
pub fn image_name(shard: u32) -> String {
    format!("shard-{shard}.image")
}

/// Name of a pack of bills and archives.
pub fn pack_name(number: usize) -> String {
    format!("contents-{number}.pack")
}

/// Whether a file of this name was written by a backup that did not end.
pub fn is_part(name: &str) -> bool {
    let between = |first: &str, last: &str| {
        name.strip_prefix(first)
            .and_then(|rest| rest.strip_suffix(last))
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    [CLUSTER, CATALOGUES, UNFINISHED, "manifest.json.new"].contains(&name)
        || between("shard-", ".image")
        || between("contents-", ".pack")
}

/// Damage, by the file that has it.
pub fn damaged(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{}: {what}; the backup is damaged, use another", path.display()))
}

/// The disk's refusal, by the file.
pub fn failed(path: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("{}: {error}", path.display()))
}

impl Manifest {
    /// The text as it is written, sealed.
    pub fn text(&self) -> String {
        let open = Manifest { seal: String::new(), ..self.clone() }.plain();
        Manifest { seal: blake3::hash(open.as_bytes()).to_hex().to_string(), ..self.clone() }.plain()
    }

    fn plain(&self) -> String {
        serde_json::to_string_pretty(self).expect("rows of strings and numbers are always JSON") + "\n"
    }

    /// Reads the manifest in `folder`.
    ///
    /// # Errors
    /// Where there is none, it is damaged, or of another format.
    pub fn read(folder: &Path) -> Result<Manifest, Error> {
        let path = folder.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = if folder.join(UNFINISHED).exists() { "a backup that did not end" } else { "no backup" };
                return Err(Error::invalid(format!("{}: {what}: {MANIFEST} is missing", folder.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged(&path, "it is no text")),
            Err(error) => return Err(failed(&path, &error)),
        };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| damaged(&path, error))?;
        if manifest.format != FORMAT {
            let found = manifest.format;
            let why = format!("{}: it has format {found}, this version reads {FORMAT}", path.display());
            return Err(Error::invalid(why + "; use the version that wrote it"));
        }
        if manifest.text() != text {
            return Err(damaged(&path, "it is not what its seal says"));
        }
        Ok(manifest)
    }

    /// All bytes that it names.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A file of a backup on its way to the disk.
pub struct Writing {
    path: PathBuf,
    name: String,
    file: BufWriter<File>,
    bytes: u64,
    digest: blake3::Hasher,
}

impl Writing {
    /// Begins a file, in place of one of the same name.
    pub fn begin(folder: &Path, name: &str) -> Result<Writing, Error> {
        let path = folder.join(name);
        let file = File::create(&path).map_err(|error| failed(&path, &error))?;
        let (file, digest) = (BufWriter::with_capacity(1 << 20, file), blake3::Hasher::new());
        Ok(Writing { path, name: name.to_owned(), file, bytes: 0, digest })
    }

    /// How much was put.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| failed(&self.path, &error))?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Adds a content of a pack.
    pub fn content(&mut self, hash: &Hash, bytes: &[u8]) -> Result<(), Error> {
        self.put(hash)?;
        self.put(&(bytes.len() as u64).to_le_bytes())?;
        self.put(bytes)
    }

    /// Makes the file durable; its row.
    pub fn end(self) -> Result<FileRow, Error> {
        let failed = |error: io::Error| failed(&self.path, &error);
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(FileRow { name: self.name, bytes: self.bytes, blake3: self.digest.finalize().to_hex().to_string() })
    }
}

/// Makes a folder's entries durable.
pub fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| failed(path, &error))
}

/// A file of a backup, read.
pub struct Reading {
    path: PathBuf,
    file: BufReader<File>,
}

impl Reading {
    pub fn begin(folder: &Path, name: &str) -> Result<Reading, Error> {
        let path = folder.join(name);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(&path, "it is missing"),
            _ => failed(&path, &error),
        })?;
        Ok(Reading { path, file: BufReader::with_capacity(1 << 20, file) })
    }

    /// The rest as a stream.
    pub fn stream(&mut self) -> &mut dyn Read {
        &mut self.file
    }

    /// The next chunk of an image with its section; `None` at the end.
    pub fn chunk(&mut self) -> Result<Option<(u32, Vec<u8>)>, Error> {
        let Some(frame) = self.label::<FRAME_BYTES>()? else { return Ok(None) };
        let (section, length) = frame.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        Ok(Some((number(section), self.body(number(length).into())?)))
    }

    /// The next content of a pack, checked; `None` at the end.
    pub fn content(&mut self) -> Result<Option<(Hash, Bytes)>, Error> {
        let Some(label) = self.label::<LABEL_BYTES>()? else { return Ok(None) };
        let (hash, length) = label.split_at(32);
        let hash: Hash = hash.try_into().expect("32 bytes");
        let body = self.body(u64::from_le_bytes(length.try_into().expect("eight bytes")))?;
        if blake3::hash(&body).as_bytes() != &hash {
            return Err(damaged(&self.path, format!("{} is not what its hash says", hex(&hash))));
        }
        Ok(Some((hash, body.into())))
    }

    fn label<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Error> {
        let mut label = Vec::with_capacity(N);
        let read = (&mut self.file).take(N as u64).read_to_end(&mut label);
        read.map_err(|error| failed(&self.path, &error))?;
        if label.is_empty() {
            return Ok(None);
        }
        label.try_into().map(Some).map_err(|_| damaged(&self.path, "it is cut short"))
    }

    fn body(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        if length > LENGTH_MAX {
            return Err(damaged(&self.path, format!("a part claims {length} bytes")));
        }
        let mut body = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut body).map_err(|error| failed(&self.path, &error))?;
        if body.len() as u64 != length {
            return Err(damaged(&self.path, "it is cut short"));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = FileRow { name: CLUSTER.into(), bytes: 3, blake3: "00".into() };
        let shard = ShardRow { shard: 1, index: 9, term: 2, slot_epoch: 1, contents: 0, file: image_name(1) };
        Manifest {
            format: FORMAT,
            version: "0.1.0".into(),
            cluster: "0b".into(),
            taken: "2026-11-22T14:00:00Z".into(),
            map_epoch: 1,
            shards: vec![shard],
            contents: 0,
            catalogues: 0,
            files: vec![file],
            seal: String::new(),
        }
    }

    #[test]
    fn every_byte_of_a_manifest_is_under_its_seal() {
        let folder = tempfile::tempdir().unwrap();
        let text = manifest().text().into_bytes();
        let write = |bytes: &[u8]| std::fs::write(folder.path().join(MANIFEST), bytes).unwrap();
        write(&text);
        assert_eq!(Manifest::read(folder.path()).unwrap().files, manifest().files);
        for at in 0..text.len() {
            let mut flipped = text.clone();
            flipped[at] ^= 1;
            write(&flipped);
            let error = Manifest::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(MANIFEST), "byte {at}: {error}");
        }
        write(&text[..text.len() - 1]);
        assert!(Manifest::read(folder.path()).is_err(), "cut short");
    }

    #[test]
    fn packs_and_images_come_back_and_say_when_they_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let mut pack = Writing::begin(folder.path(), "p").unwrap();
        for content in [&b"one"[..], b"", b"three"] {
            pack.content(blake3::hash(content).as_bytes(), content).unwrap();
        }
        let row = pack.end().unwrap();
        let bytes = std::fs::read(folder.path().join("p")).unwrap();
        assert_eq!((row.bytes, row.blake3), (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string()));
        let mut pack = Reading::begin(folder.path(), "p").unwrap();
        let mut read = Vec::new();
        while let Some((_, content)) = pack.content().unwrap() {
            read.push(content);
        }
        assert_eq!(read, [&b"one"[..], b"", b"three"]);
        for length in [1, 39, 41, bytes.len() - 1] {
            std::fs::write(folder.path().join("p"), &bytes[..length]).unwrap();
            let mut pack = Reading::begin(folder.path(), "p").unwrap();
            let error = loop {
                match pack.content() {
                    Ok(Some(_)) => (),
                    Ok(None) => panic!("{length} bytes are not whole"),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains("cut short"), "{error}");
        }
    }

    #[test]
    fn only_its_own_parts_are_removed() {
        for (name, expected) in [
            ("shard-1.image", true),
            ("contents-12.pack", true),
            (CLUSTER, true),
            (UNFINISHED, true),
            (MANIFEST, false),
            ("shard-.image", false),
            ("shard-1.image.bak", false),
            ("notes.txt", false),
        ] {
            assert_eq!(is_part(name), expected, "{name}");
        }
    }
}
