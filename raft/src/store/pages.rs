//! A machine's chunks to pages and back: chunks are framed into one stream, which is cut into pages of one size.
//!
//! So a database never sees records that are tiny (which cost it space) or large (which it stores as files that it does
//! not give back), and chunks come back exactly as they were put.

use std::io;

use bytes::{Buf, Bytes, BytesMut};

use crate::machine::{ChunkSink, ChunkSource};
use crate::store::snapshot::{PageSource, SnapshotWriter};
use crate::wire::{FORMAT, proto::Manifest};

/// Size of a page. sled takes 1.4 times the bytes at 32 to 64 KiB, 1.9 times at 8 KiB; above 128 KiB it leaks files.
pub const PAGE_BYTES: usize = 32 << 10;

/// Largest chunk; a length beyond it means damage.
const CHUNK_BYTES_MAX: usize = 1 << 30;

/// Section and length before each chunk.
const FRAME_BYTES: usize = 8;

/// Cuts chunks into pages and counts and hashes what it wrote.
pub struct PageWriter {
    writer: Box<dyn SnapshotWriter>,
    page: Vec<u8>,
    pages: u64,
    bytes: u64,
    digest: blake3::Hasher,
}

impl PageWriter {
    /// Writes into `writer`.
    pub fn new(writer: Box<dyn SnapshotWriter>) -> Self {
        Self { writer, page: Vec::with_capacity(PAGE_BYTES), pages: 0, bytes: 0, digest: blake3::Hasher::new() }
    }

    fn put_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = PAGE_BYTES - self.page.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == PAGE_BYTES {
                self.end_page()?;
            }
        }
        Ok(())
    }

    fn end_page(&mut self) -> io::Result<()> {
        self.writer.page(&self.page)?;
        self.digest.update(&self.page);
        self.pages += 1;
        self.bytes += self.page.len() as u64;
        self.page.clear();
        Ok(())
    }

    /// Writes the last page and returns the writer with the manifest's counts filled in.
    pub fn finish(mut self) -> io::Result<(Box<dyn SnapshotWriter>, Manifest)> {
        if !self.page.is_empty() {
            self.end_page()?;
        }
        let manifest = Manifest {
            format: FORMAT,
            page_count: self.pages,
            byte_count: self.bytes,
            digest: self.digest.finalize().as_bytes().to_vec().into(),
            ..Manifest::default()
        };
        Ok((self.writer, manifest))
    }
}

impl ChunkSink for PageWriter {
    fn put(&mut self, section: u32, chunk: &[u8]) -> io::Result<()> {
        if chunk.len() > CHUNK_BYTES_MAX {
            return Err(io::Error::other(format!("a chunk of {} bytes exceeds {CHUNK_BYTES_MAX}", chunk.len())));
        }
        self.put_bytes(&section.to_le_bytes())?;
        self.put_bytes(&(chunk.len() as u32).to_le_bytes())?;
        self.put_bytes(chunk)
    }
}

/// Reads chunks out of pages.
pub struct ChunkReader {
    pages: Box<dyn PageSource>,
    rest: BytesMut,
}

impl ChunkReader {
    /// Reads from `pages`.
    pub fn new(pages: Box<dyn PageSource>) -> Self {
        Self { pages, rest: BytesMut::new() }
    }

    /// Gathers at least `count` bytes; false when the pages end before.
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        while self.rest.len() < count {
            match self.pages.next()? {
                Some(page) => self.rest.extend_from_slice(&page),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl ChunkSource for ChunkReader {
    fn next(&mut self) -> io::Result<Option<(u32, Bytes)>> {
        let cut = || io::Error::new(io::ErrorKind::InvalidData, "the last chunk is cut short");
        if !self.fill(FRAME_BYTES)? {
            return if self.rest.is_empty() { Ok(None) } else { Err(cut()) };
        }
        let section = self.rest.get_u32_le();
        let length = self.rest.get_u32_le() as usize;
        if length > CHUNK_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a chunk claims {length} bytes")));
        }
        if !self.fill(length)? {
            return Err(cut());
        }
        Ok(Some((section, self.rest.split_to(length).freeze())))
    }
}

/// Checks counts and digest of `manifest` against pages that are read once.
pub(crate) fn verify(manifest: &Manifest, mut pages: Box<dyn PageSource>) -> io::Result<()> {
    let mut tally = Tally::default();
    while let Some(page) = pages.next()? {
        tally.add(&page);
    }
    tally.check(manifest)
}

/// Counts and digest of pages as they pass.
#[derive(Default)]
pub(crate) struct Tally {
    pages: u64,
    bytes: u64,
    digest: blake3::Hasher,
}

impl Tally {
    pub fn add(&mut self, page: &[u8]) {
        self.pages += 1;
        self.bytes += page.len() as u64;
        self.digest.update(page);
    }

    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages, bytes and digest, as a manifest names them.
    pub fn finish(self) -> (u64, u64, Bytes) {
        (self.pages, self.bytes, self.digest.finalize().as_bytes().to_vec().into())
    }

    pub fn check(&self, manifest: &Manifest) -> io::Result<()> {
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if manifest.format != FORMAT {
            return wrong(format!("snapshot has format {}, this version reads {FORMAT}", manifest.format));
        }
        if (self.pages, self.bytes) != (manifest.page_count, manifest.byte_count) {
            return wrong(format!(
                "snapshot has {} pages of {} bytes, its manifest names {} of {}",
                self.pages, self.bytes, manifest.page_count, manifest.byte_count
            ));
        }
        if self.digest.finalize().as_bytes()[..] != manifest.digest[..] {
            return wrong("snapshot's digest is not the one in its manifest".to_owned());
        }
        Ok(())
    }
}
