//! Making files durable, with their folders: what databases and file systems do not promise by themselves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Makes every file of `dir`, the folders in it and `dir` itself durable. A database may remove what it replaced a moment
/// after it was closed, from a thread of its own: a file that went meanwhile holds nothing that anybody needs.
pub(crate) fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            match File::open(entry.path()) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    sync_dir(dir)
}

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces `name` in `dir` as one step: either the old content is there after a crash or the new.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Makes `dir` and whatever is missing above it, durably.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dir(parent)?;
        if let Err(error) = fs::create_dir(dir)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        return sync_dir(parent);
    }
    Ok(())
}

/// Removes `dir` if it is there.
pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_that_went_is_no_error_and_the_rest_is_synced() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("blobs")).expect("made");
        fs::write(dir.path().join("blobs/kept"), b"kept").expect("written");
        // A name with nothing behind it, as between the listing of a folder and the opening of its files.
        std::os::unix::fs::symlink(dir.path().join("gone"), dir.path().join("blobs/gone")).expect("linked");
        sync_all(dir.path()).expect("synced");
        let missing = sync_all(&dir.path().join("none")).expect_err("a folder that is not there is one");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
