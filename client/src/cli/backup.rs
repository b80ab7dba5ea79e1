//! `cluster backup`: the whole cluster into a directory, and the proof that a directory holds one. What is written and how
//! it is checked live in [`crate::backup`]; making a cluster of it is `node restore`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::Out;
use super::{Exit, Globals};
use crate::backup::check::{Backup, Checked};
use crate::backup::layout::Manifest;
use crate::backup::take::{Told, take};
use crate::error::Error;

/// Arguments of `cluster backup`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArguments {
    /// Directory to write into: absent, empty, or with a backup of this cluster that did not end
    #[arg(long, required = true, value_name = "DIR")]
    pub to: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Option<BackupVerb>,
}

/// `cluster backup ...`
#[derive(Subcommand, Clone, Debug)]
pub enum BackupVerb {
    /// Check every file of a backup against its hash and decode it, without a server
    Verify {
        /// The directory
        #[arg(value_name = "DIR")]
        from: PathBuf,
    },
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Shown {
    directory: String,
    cluster: String,
    taken: String,
    version: String,
    files: usize,
    bytes: u64,
    contents: u64,
    catalogues: u64,
    /// blake3 of the manifest, which names all else.
    seal: String,
    shards: Vec<ShownShard>,
}

#[derive(Serialize)]
struct ShownShard {
    shard: u32,
    index: u64,
    term: u64,
    slot_epoch: u64,
    contents: u64,
    bytes: u64,
    blake3: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hierarchies: Option<u64>,
}

/// Runs `cluster backup`.
pub async fn run(arguments: BackupArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match (arguments.verb, arguments.to) {
        (Some(BackupVerb::Verify { from }), _) => verify(&from, out),
        (None, Some(to)) => backup(&to, globals, out).await,
        (None, None) => Err(Error::invalid("name a directory with --to")),
    }
}

async fn backup(to: &Path, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let bar = out.progress(0, "bytes");
    let mut total = 0;
    let mut told = |told: Told| match told {
        Told::Shard { shard, bytes } => {
            total += bytes;
            bar.set_length(total);
            if bar.is_hidden() {
                out.say(&format!("shard {shard}: {bytes} bytes"));
            }
        }
        Told::Came { bytes } => bar.inc(bytes),
        Told::Waits { why } => bar.suspend(|| out.say(&why)),
    };
    let manifest = take(&client, to, Duration::from_secs(globals.timeout), &mut told).await?;
    bar.finish_and_clear();
    show(to, manifest, &[], out);
    out.next(&format!("reckoner cluster backup verify {}", to.display()));
    Ok(Exit::Ok)
}

fn verify(from: &Path, out: &Out) -> Result<Exit, Error> {
    let backup = Backup::open(from)?;
    let bar = out.progress(backup.manifest.bytes(), "bytes");
    let checked = backup.check(&mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    show(from, backup.manifest, &checked, out);
    out.say("every file has its hash, and every image can be restored");
    Ok(Exit::Ok)
}

fn show(directory: &Path, manifest: Manifest, checked: &[Checked], out: &Out) {
    let shards = manifest.shards.iter().map(|row| {
        let file = manifest.files.iter().find(|file| file.name == row.file);
        ShownShard {
            shard: row.shard,
            index: row.index,
            term: row.term,
            slot_epoch: row.slot_epoch,
            contents: row.contents,
            bytes: file.map_or(0, |file| file.bytes),
            blake3: file.map(|file| file.blake3.clone()).unwrap_or_default(),
            hierarchies: checked.iter().find(|own| own.shard.shard == row.shard).map(|own| own.hierarchies),
        }
    });
    let shown = Shown {
        directory: directory.display().to_string(),
        files: manifest.files.len(),
        bytes: manifest.bytes(),
        contents: manifest.contents,
        catalogues: manifest.catalogues,
        shards: shards.collect(),
        cluster: manifest.cluster,
        taken: manifest.taken,
        version: manifest.version,
        seal: manifest.seal,
    };
    if out.is_json() {
        return out.json(&shown);
    }
    let rows = shown.shards.iter().map(|row| {
        let hash = row.blake3.get(..12).unwrap_or_default();
        let numbers = [row.shard.into(), row.index, row.term, row.contents, row.bytes];
        numbers.iter().map(ToString::to_string).chain([hash.to_owned()]).collect()
    });
    out.table(&["shard", "index", "term", "bills and archives", "bytes", "blake3"], &[1, 2, 3, 4], rows.collect());
    out.say(&format!(
        "{}: cluster {}, taken {}, {} files of {} bytes, {} bills and archives, {} catalogue versions",
        shown.directory, shown.cluster, shown.taken, shown.files, shown.bytes, shown.contents, shown.catalogues
    ));
}
