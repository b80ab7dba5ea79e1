//! Making files durable: sled's flush hands bytes to the system and does not promise more, so whoever needs a promise
//! syncs every file and folder of the database itself.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes a folder's own entries durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes every file and folder below `path`, and `path` itself, durable.
pub fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => sync_tree(&entry.path())?,
            kind if kind.is_file() => match File::open(entry.path()) {
                Ok(file) => file.sync_all()?,
                // A file that the database removed meanwhile holds nothing that anybody needs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(error),
            },
            _ => (),
        }
    }
    sync_folder(path)
}
