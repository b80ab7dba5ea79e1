//! Snapshots in sled: what a kill between the steps leaves, damage, two generations kept, nothing else left behind.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::machine::{ChunkSink, ChunkSource};
use crate::store::generation::SledSnapshots;
use crate::store::pages::{ChunkReader, PAGE_BYTES, PageWriter};
use crate::store::snapshot::{SnapshotStore, StoredSnapshot};
use crate::types::GroupId;
use crate::wire::proto::LogPosition;

const GROUP: GroupId = GroupId(3);

type Chunks = Vec<(u32, Bytes)>;

/// Chunks of every size that matters to the cutting into pages.
fn chunks(seed: u8) -> Chunks {
    [0, 1, 100, PAGE_BYTES - 8, PAGE_BYTES, PAGE_BYTES + 1, 3 * PAGE_BYTES, 5, 700_000]
        .into_iter()
        .enumerate()
        .map(|(at, length)| {
            let fill = |byte: usize| (byte as u8).wrapping_mul(31).wrapping_add(seed);
            (9 - at as u32, (0..length).map(fill).collect())
        })
        .collect()
}

fn write(store: &SledSnapshots, index: u64, chunks: &Chunks) -> Arc<dyn StoredSnapshot> {
    let mut pages = PageWriter::new(store.begin(GROUP).expect("begun"));
    for (section, chunk) in chunks {
        pages.put(*section, chunk).expect("put");
    }
    let (writer, mut manifest) = pages.finish().expect("finished");
    manifest.position = Some(LogPosition { term: 2, index });
    writer.seal(manifest).expect("sealed")
}

fn adopt(store: &SledSnapshots, index: u64, chunks: &Chunks) {
    let snapshot = write(store, index, chunks);
    store.adopt(GROUP, &snapshot).expect("adopted");
}

fn read(snapshot: &dyn StoredSnapshot) -> Chunks {
    let mut reader = ChunkReader::new(snapshot.pages().expect("opened"));
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next().expect("sound") {
        chunks.push(chunk);
    }
    assert_eq!(reader.next().expect("still sound"), None);
    chunks
}

/// Indexes of the good snapshots, and the number of bad ones.
fn load(dir: &Path) -> (Vec<u64>, usize) {
    let store = SledSnapshots::open(dir).expect("opened");
    let found = store.load(GROUP).expect("loaded");
    let indexes = found.good.iter().map(|good| good.manifest().position.expect("a position").index).collect();
    (indexes, found.bad.len())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.join("3"))
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn chunks_come_back_as_they_were_put() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledSnapshots::open(dir.path()).expect("opened");
    adopt(&store, 7, &chunks(1));
    drop(store);
    let store = SledSnapshots::open(dir.path()).expect("opened");
    let found = store.load(GROUP).expect("loaded");
    assert_eq!(found.bad, Vec::<String>::new());
    assert_eq!(read(found.good[0].as_ref()), chunks(1));
    // Two readers at a time.
    let first = found.good[0].pages().expect("opened");
    assert_eq!(read(found.good[0].as_ref()), chunks(1));
    drop(first);
}

#[test]
fn two_generations_are_kept_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledSnapshots::open(dir.path()).expect("opened");
    for index in 1..=5 {
        adopt(&store, index * 10, &chunks(index as u8));
    }
    assert_eq!(names(dir.path()), ["CURRENT", "gen-40-2", "gen-50-2"]);
    // An older one, as when a leader's came meanwhile, changes nothing.
    adopt(&store, 45, &chunks(9));
    assert_eq!(names(dir.path()), ["CURRENT", "gen-40-2", "gen-50-2"]);
    assert_eq!(load(dir.path()).0, [50, 40]);
}

#[test]
fn one_that_is_read_stays_readable_when_newer_ones_come() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledSnapshots::open(dir.path()).expect("opened");
    let snapshot = write(&store, 1, &chunks(1));
    store.adopt(GROUP, &snapshot).expect("adopted");
    let mut reader = ChunkReader::new(snapshot.pages().expect("opened"));
    let first = reader.next().expect("sound").expect("a chunk");
    for index in 2..=4 {
        adopt(&store, index, &chunks(2));
    }
    drop(snapshot);
    let mut all = vec![first];
    while let Some(chunk) = reader.next().expect("sound") {
        all.push(chunk);
    }
    assert_eq!(all, chunks(1));
    drop(reader);
    assert_eq!(names(dir.path()), ["CURRENT", "gen-3-2", "gen-4-2"]);
}

#[test]
fn a_kill_between_the_steps_leaves_the_last_adopted() {
    // Each step leaves something behind; the next start finds the old snapshots and clears the rest.
    type Step = fn(&SledSnapshots, &Path);
    let steps: [(&str, Step); 4] = [
        ("while pages are written", |store, _| {
            let mut writer = store.begin(GROUP).expect("begun");
            for _ in 0..100 {
                writer.page(&[7; PAGE_BYTES]).expect("written");
            }
            std::mem::forget(writer);
        }),
        ("before it is adopted", |store, _| {
            std::mem::forget(write(store, 30, &chunks(3)));
        }),
        ("before CURRENT is switched", |store, dir| {
            std::mem::forget(write(store, 30, &chunks(3)));
            fs::write(dir.join("3/CURRENT.new"), b"half a").expect("written");
        }),
        ("before the oldest is removed", |_, dir| {
            let (from, to) = (dir.join("3/gen-10-2"), dir.join("3/gen-5-2"));
            fs::create_dir(&to).expect("made");
            for entry in fs::read_dir(from).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_file() {
                    fs::copy(&path, to.join(path.file_name().expect("named"))).expect("copied");
                }
            }
        }),
    ];
    for (when, step) in steps {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SledSnapshots::open(dir.path()).expect("opened");
        adopt(&store, 10, &chunks(1));
        adopt(&store, 20, &chunks(2));
        step(&store, dir.path());
        // The kill: nothing of this store runs any more, its locks go with the copy.
        let killed = tempfile::tempdir().expect("a directory");
        copy_tree(dir.path(), killed.path());
        let (good, bad) = load(killed.path());
        assert_eq!((good, bad), (vec![20, 10], 0), "{when}");
        let left: Vec<String> = names(killed.path()).into_iter().filter(|name| name != "CURRENT.new").collect();
        assert_eq!(left, ["CURRENT", "gen-10-2", "gen-20-2"], "{when}");
    }
}

/// As a kill leaves it: of a database that is still open a file may go between its listing and its copy.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("named"));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else if let Err(error) = fs::copy(&path, &target) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{} is not copied: {error}", path.display());
        }
    }
}

#[test]
fn a_damaged_generation_falls_back_to_the_older() {
    type Damage = fn(&Path);
    let spoil: Damage = |generation| {
        let path = generation.join("db");
        let mut bytes = fs::read(&path).expect("readable");
        let middle = bytes.len() / 2;
        for byte in &mut bytes[middle..middle + 64] {
            *byte ^= 0x55;
        }
        fs::write(path, bytes).expect("written");
    };
    let cut: Damage = |generation| {
        let file = fs::OpenOptions::new().write(true).open(generation.join("db")).expect("writable");
        let length = file.metadata().expect("readable").len();
        file.set_len(length / 2).expect("cut");
    };
    let lose: Damage = |generation| fs::remove_dir_all(generation).expect("removed");
    let empty: Damage = |generation| {
        fs::remove_dir_all(generation).expect("removed");
        fs::create_dir(generation).expect("made");
    };
    for (what, damage) in [("spoilt", spoil), ("cut", cut), ("lost", lose), ("empty", empty)] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SledSnapshots::open(dir.path()).expect("opened");
        adopt(&store, 10, &chunks(1));
        adopt(&store, 20, &chunks(2));
        drop(store);
        damage(&dir.path().join("3/gen-20-2"));
        let (good, bad) = load(dir.path());
        assert_eq!((good, bad), (vec![10], 1), "{what}");
        // From then on the older is the current one.
        let (good, bad) = load(dir.path());
        assert_eq!((good, bad), (vec![10], 0), "{what}, again");
        let store = SledSnapshots::open(dir.path()).expect("opened");
        store.load(GROUP).expect("loaded");
        adopt(&store, 20, &chunks(3));
        drop(store);
        assert_eq!(load(dir.path()).0, [20, 10], "{what}, after a new one");
    }
}

#[test]
fn a_damaged_current_file_does_not_hide_the_generations() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledSnapshots::open(dir.path()).expect("opened");
    adopt(&store, 9, &chunks(1));
    adopt(&store, 100, &chunks(2));
    drop(store);
    let current = dir.path().join("3/CURRENT");
    let mut bytes = fs::read(&current).expect("readable");
    bytes[3] ^= 1;
    fs::write(&current, bytes).expect("written");
    let (good, bad) = load(dir.path());
    assert_eq!((good, bad), (vec![100, 9], 1));
}

#[test]
fn given_up_and_forgotten_snapshots_leave_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledSnapshots::open(dir.path()).expect("opened");
    let mut writer = store.begin(GROUP).expect("begun");
    writer.page(&[1; 10]).expect("written");
    drop(writer);
    drop(write(&store, 1, &chunks(1)));
    assert_eq!(names(dir.path()), Vec::<String>::new());
    adopt(&store, 2, &chunks(2));
    store.forget(GROUP).expect("forgotten");
    assert!(!dir.path().join("3").exists());
}
