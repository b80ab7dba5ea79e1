//! Tells a torn tail from damage in the middle of raft-engine's newest file.
//!
//! raft-engine, told to tolerate a torn tail, drops everything behind the first batch it cannot read. A crash tears only
//! the last batch, because each flush ends before the next begins; so a sound batch *behind* a broken one means damage,
//! and dropping what follows would forget what was acknowledged. Looked at before the engine opens the directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// First bytes of a file, then version and alignment of 8 bytes each.
const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const FILE_HEADER_BYTES: usize = MAGIC.len() + 16;

/// Length and kind of compression, then the offset of the footer; 8 bytes each.
const BATCH_HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

/// Checks the newest file of each of raft-engine's two queues in `dir`.
///
/// # Errors
/// Damage in the middle of one, naming file and place.
pub(crate) fn check(dir: &Path) -> io::Result<()> {
    for suffix in [".raftlog", ".rewrite"] {
        if let Some((sequence, path)) = newest(dir, suffix)? {
            check_file(&path, sequence)?;
        }
    }
    Ok(())
}

fn newest(dir: &Path, suffix: &str) -> io::Result<Option<(u64, PathBuf)>> {
    let mut newest = None;
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let sequence = name.and_then(|name| name.strip_suffix(suffix)).and_then(|number| number.parse::<u64>().ok());
        if let Some(sequence) = sequence {
            newest = newest.max(Some((sequence, path)));
        }
    }
    Ok(newest)
}

fn check_file(path: &Path, sequence: u64) -> io::Result<()> {
    let bytes = fs::read(path)?;
    if !bytes.starts_with(MAGIC) || bytes.len() < FILE_HEADER_BYTES {
        // A crash right after the file was made; the engine judges its header.
        return Ok(());
    }
    let mut at = FILE_HEADER_BYTES;
    while let Some(length) = batch_at(&bytes, at, sequence) {
        at += length;
    }
    let broken = at;
    for later in broken + 1..bytes.len().saturating_sub(BATCH_HEADER_BYTES) {
        if batch_at(&bytes, later, sequence).is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is damaged at byte {broken}, with sound entries behind it at byte {later}; rebuild this \
                     replica from its peers",
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Length of the batch at `at`, if there is a sound one. Files are reused: batches of an earlier use carry another
/// signature and count as absent.
fn batch_at(bytes: &[u8], at: usize, sequence: u64) -> Option<usize> {
    let header = bytes.get(at..at + BATCH_HEADER_BYTES)?;
    let first = u64::from_be_bytes(header[..8].try_into().ok()?);
    let footer_at = usize::try_from(u64::from_be_bytes(header[8..].try_into().ok()?)).ok()?;
    let compression = first & 0xff;
    let length = usize::try_from(first >> 8).ok()?;
    if compression > 1 || footer_at < BATCH_HEADER_BYTES || length < footer_at + CHECKSUM_BYTES {
        return None;
    }
    let footer = bytes.get(at.checked_add(footer_at)?..at.checked_add(length)?)?;
    let (items, checksum) = footer.split_at(footer.len() - CHECKSUM_BYTES);
    let stored = u32::from_le_bytes(checksum.try_into().ok()?) ^ sequence as u32;
    (crc32fast::hash(items) == stored).then_some(length)
}
