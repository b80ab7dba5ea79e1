//! The journal on raft-engine: kill, torn tail, damage, refused flush. A kill is a copy of the directory as it stands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use bytes::Bytes;
use parking_lot::Mutex;
use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission};

use crate::store::engine::{EngineJournal, EngineOptions};
use crate::store::journal::{Change, Fatal, Journal, Record, Stored};
use crate::types::GroupId;
use crate::wire;
use crate::wire::proto::LogPosition;

const ONE: GroupId = GroupId(1);
const TWO: GroupId = GroupId(2);

fn quiet() -> Fatal {
    Arc::new(|_| {})
}

fn record(index: u64, term: u64) -> Record {
    Record { index, term, kind: 1, payload: Bytes::from(format!("entry {index} of term {term}, {}", "x".repeat(200))) }
}

fn append(from: u64, to: u64, term: u64) -> Change {
    Change::Append((from..to).map(|index| record(index, term)).collect())
}

fn purge(through: u64) -> Change {
    let mark = LogPosition { term: 1, index: through };
    Change::Purge { through, mark: wire::record_out(&mark) }
}

/// Submits and waits for the flush.
fn write(journal: &dyn Journal, group: GroupId, changes: Vec<Change>) -> io::Result<()> {
    let (sender, receiver) = channel();
    journal.submit(group, changes, Box::new(move |result| sender.send(result).expect("somebody waits")));
    receiver.recv().expect("called back")
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copied");
        }
    }
    to
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("0000000000000001.raftlog")
}

/// Where the first batch that holds `needle` has it.
fn find(bytes: &[u8], needle: &str) -> usize {
    bytes
        .windows(needle.len())
        .position(|window| window == needle.as_bytes())
        .unwrap_or_else(|| panic!("{needle} is not in the file"))
}

fn terms(journal: &dyn Journal, group: GroupId) -> Vec<(u64, u64)> {
    let entries = journal.load(group).expect("loaded").entries;
    let mut found = Vec::new();
    let mut next = entries.start;
    while next < entries.end {
        for record in journal.read(group, next..entries.end, 500).expect("read") {
            assert_eq!(record, self::record(record.index, record.term));
            next = record.index + 1;
            found.push((record.index, record.term));
        }
    }
    found
}

#[test]
fn what_was_called_back_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = EngineJournal::open(dir.path(), quiet()).expect("opened");
    let mut expected = Vec::new();
    for round in 0..5_u64 {
        write(&journal, ONE, vec![append(round * 10, round * 10 + 10, round)]).expect("written");
        let vote = Bytes::from(format!("vote {round}"));
        write(&journal, TWO, vec![Change::Vote(vote.clone())]).expect("written");
        expected.extend((round * 10..round * 10 + 10).map(|index| (index, round)));
        let killed = copy(dir.path());
        let again = EngineJournal::open(killed.path(), quiet()).expect("opened after the kill");
        assert_eq!(terms(&again, ONE), expected);
        assert_eq!(again.load(TWO).expect("loaded").vote, Some(vote));
        assert_eq!(again.groups(), [ONE, TWO]);
    }
}

#[test]
fn truncation_and_purge_survive_a_kill() {
    // Each row: changes, then the entries that must be there, as (index, term).
    let run = |from: u64, to: u64, term| (from..to).map(move |index| (index, term));
    type Row = (Change, Vec<(u64, u64)>);
    let rows: Vec<Row> = vec![
        (append(0, 10, 1), run(0, 10, 1).collect()),
        (Change::TruncateFrom(6), run(0, 6, 1).collect()),
        (append(6, 8, 2), run(0, 6, 1).chain(run(6, 8, 2)).collect()),
        (purge(3), run(4, 6, 1).chain(run(6, 8, 2)).collect()),
        (Change::TruncateFrom(5), run(4, 5, 1).collect()),
        // A snapshot at 6 replaces the log, two cut-off entries lie behind it in the engine.
        (purge(6), vec![]),
        (append(7, 9, 3), run(7, 9, 3).collect()),
        // One far beyond the end.
        (purge(20), vec![]),
        (append(21, 24, 3), run(21, 24, 3).collect()),
        (Change::TruncateFrom(21), vec![]),
        (append(21, 22, 4), run(21, 22, 4).collect()),
        (Change::Forget, vec![]),
        (append(0, 2, 5), run(0, 2, 5).collect()),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let journal = EngineJournal::open(dir.path(), quiet()).expect("opened");
    for (at, (change, expected)) in rows.into_iter().enumerate() {
        write(&journal, ONE, vec![change]).expect("written");
        assert_eq!(terms(&journal, ONE), expected, "row {at}");
        let killed = copy(dir.path());
        let again = EngineJournal::open(killed.path(), quiet()).expect("opened after the kill");
        assert_eq!(terms(&again, ONE), expected, "row {at} after a kill");
        let next = expected.last().map(|(index, _)| index + 1);
        if let Some(next) = next {
            write(&again, ONE, vec![append(next, next + 1, 9)]).expect("goes on");
        }
    }
}

#[test]
fn what_a_forgotten_replica_promised_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = EngineJournal::open(dir.path(), quiet()).expect("opened");
    write(&journal, ONE, vec![append(0, 10, 1), Change::Vote(Bytes::from_static(b"before"))]).expect("written");
    let (vote, pledged) = (Bytes::from_static(b"vote"), Bytes::from_static(b"entry 9"));
    let forget = vec![Change::Forget, Change::Vote(vote.clone()), Change::Pledged(pledged.clone())];
    write(&journal, ONE, forget).expect("written");
    let expected = Stored { vote: Some(vote), pledged: Some(pledged), ..Stored::default() };
    assert_eq!(journal.load(ONE).expect("loaded"), expected);
    let killed = copy(dir.path());
    let again = EngineJournal::open(killed.path(), quiet()).expect("opened after the kill");
    assert_eq!(again.load(ONE).expect("loaded"), expected);
    write(&again, ONE, vec![append(0, 2, 2)]).expect("begins anew");
    assert_eq!(again.load(ONE).expect("loaded"), Stored { entries: 0..2, ..expected });
}

#[test]
fn a_torn_tail_is_dropped_and_nothing_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = EngineJournal::open(dir.path(), quiet()).expect("opened");
    write(&journal, ONE, vec![append(0, 5, 1)]).expect("written");
    write(&journal, ONE, vec![append(5, 8, 1)]).expect("written");
    let bytes = fs::read(log_file(dir.path())).expect("readable");
    let start = find(&bytes, "entry 5 of");
    let end = find(&bytes, "entry 7 of") + 230;
    let kept: Vec<_> = (0..5).map(|index| (index, 1)).collect();
    for cut in [start + 1, start + 100, (start + end) / 2, end] {
        let torn = copy(dir.path());
        let file = fs::OpenOptions::new().write(true).open(log_file(torn.path())).expect("writable");
        file.set_len(cut as u64).expect("cut");
        let again = EngineJournal::open(torn.path(), quiet()).expect("opened");
        assert_eq!(terms(&again, ONE), kept, "cut at {cut}");
        write(&again, ONE, vec![append(5, 6, 2)]).expect("goes on");
    }
    // Pages of one write may reach the disk in any order.
    let torn = copy(dir.path());
    let mut spoilt = bytes.clone();
    spoilt[start + 10..start + 200].fill(0);
    fs::write(log_file(torn.path()), spoilt).expect("written");
    let again = EngineJournal::open(torn.path(), quiet()).expect("opened");
    assert_eq!(terms(&again, ONE), kept);
}

#[test]
fn damage_before_the_tail_is_an_error_that_names_the_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = EngineJournal::open(dir.path(), quiet()).expect("opened");
    for round in 0..4 {
        write(&journal, ONE, vec![append(round * 3, round * 3 + 3, 1)]).expect("written");
    }
    let bytes = fs::read(log_file(dir.path())).expect("readable");

    // In an entry: found by whoever reads it.
    let spoilt = copy(dir.path());
    let mut changed = bytes.clone();
    changed[find(&bytes, "entry 4 of")] ^= 1;
    fs::write(log_file(spoilt.path()), &changed).expect("written");
    let again = EngineJournal::open(spoilt.path(), quiet()).expect("opened");
    let error = again.read(ONE, 3..6, 10_000).expect_err("damaged");
    let words = error.to_string();
    assert!(words.contains("entries 3 to 5 of group 1"), "{words}");
    assert!(words.contains(&spoilt.path().display().to_string()), "{words}");

    // In the frame of a batch: the journal does not open, for what follows would be forgotten.
    let spoilt = copy(dir.path());
    let mut changed = bytes.clone();
    // The third batch begins 38 bytes before its first payload; right before that lies the second one's checksum.
    changed[find(&bytes, "entry 6 of") - 40] ^= 1;
    fs::write(log_file(spoilt.path()), &changed).expect("written");
    let error = EngineJournal::open(spoilt.path(), quiet()).map(|_| ()).expect_err("damaged");
    let words = error.to_string();
    assert!(words.contains("0000000000000001.raftlog"), "{words}");
    assert!(words.contains("rebuild"), "{words}");
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = EngineJournal::open(dir.path(), quiet()).expect("opened");
    assert!(EngineJournal::open(dir.path(), quiet()).is_err());
    journal.close();
    drop(journal);
    EngineJournal::open(dir.path(), quiet()).expect("free again");
}

/// A file system whose flushes can be made to fail.
#[derive(Default)]
struct Failing {
    fails: Arc<AtomicBool>,
}

struct FailingHandle {
    inner: Arc<<DefaultFileSystem as FileSystem>::Handle>,
    fails: Arc<AtomicBool>,
}

impl Handle for FailingHandle {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.inner.truncate(offset)
    }
    fn file_size(&self) -> io::Result<usize> {
        self.inner.file_size()
    }
    fn sync(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("no more"));
        }
        self.inner.sync()
    }
}

impl FileSystem for Failing {
    type Handle = FailingHandle;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = <DefaultFileSystem as FileSystem>::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<FailingHandle> {
        Ok(FailingHandle { inner: Arc::new(DefaultFileSystem.create(path)?), fails: self.fails.clone() })
    }
    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<FailingHandle> {
        Ok(FailingHandle { inner: Arc::new(DefaultFileSystem.open(path, permission)?), fails: self.fails.clone() })
    }
    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        DefaultFileSystem.delete(path)
    }
    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        DefaultFileSystem.rename(from, to)
    }
    fn new_reader(&self, handle: Arc<FailingHandle>) -> io::Result<Self::Reader> {
        DefaultFileSystem.new_reader(handle.inner.clone())
    }
    fn new_writer(&self, handle: Arc<FailingHandle>) -> io::Result<Self::Writer> {
        DefaultFileSystem.new_writer(handle.inner.clone())
    }
}

#[test]
fn a_refused_flush_is_final_and_acknowledges_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let system = Failing::default();
    let fails = system.fails.clone();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = heard.clone();
    let fatal: Fatal = Arc::new(move |reason| listener.lock().push(reason.to_owned()));
    let journal = EngineJournal::open_with(dir.path(), EngineOptions::default(), system, fatal).expect("opened");
    write(&journal, ONE, vec![append(0, 3, 1)]).expect("written");
    fails.store(true, Ordering::SeqCst);
    write(&journal, ONE, vec![append(3, 4, 1)]).expect_err("refused");
    // The disk may claim to be well again; what was lost is lost.
    fails.store(false, Ordering::SeqCst);
    write(&journal, ONE, vec![append(3, 4, 1)]).expect_err("latched");
    write(&journal, TWO, vec![Change::Vote(Bytes::from_static(b"v"))]).expect_err("latched");
    assert_eq!(heard.lock().len(), 1, "{:?}", heard.lock());
}

#[test]
fn one_flush_carries_what_many_groups_wrote() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = EngineJournal::open(dir.path(), quiet()).expect("opened");
    let (sender, receiver) = channel();
    for group in 0..50 {
        let sender = sender.clone();
        journal.submit(
            GroupId(group),
            vec![append(0, 4, 1)],
            Box::new(move |result| sender.send(result.is_ok()).expect("somebody waits")),
        );
    }
    drop(sender);
    assert_eq!(receiver.iter().filter(|sound| *sound).count(), 50);
    for group in 0..50 {
        assert_eq!(journal.load(GroupId(group)).expect("loaded").entries, 0..4);
    }
    assert_eq!(journal.load(GroupId(77)).expect("loaded"), Stored::default());
}

#[test]
fn old_files_go_when_every_group_was_purged() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EngineOptions { file_bytes: 1 << 20, keep_bytes: 8 << 20 };
    let journal = EngineJournal::open_with(dir.path(), options, DefaultFileSystem, quiet()).expect("opened");
    let large = |index| {
        Change::Append(vec![Record { index, term: 1, kind: 1, payload: Bytes::from(vec![index as u8; 1 << 20]) }])
    };
    write(&journal, TWO, vec![Change::Vote(Bytes::from_static(b"kept"))]).expect("written");
    for index in 0..160 {
        write(&journal, ONE, vec![large(index)]).expect("written");
        if index >= 2 {
            write(&journal, ONE, vec![purge(index - 2)]).expect("purged");
        }
    }
    journal.close();
    let size: u64 = fs::read_dir(dir.path())
        .expect("readable")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("readable").len())
        .sum();
    assert!(size < 100 << 20, "{size} bytes are left of 160 MiB");
    drop(journal);
    let again = EngineJournal::open_with(dir.path(), options, DefaultFileSystem, quiet()).expect("opened");
    assert_eq!(again.load(ONE).expect("loaded").entries, 158..160);
    assert_eq!(again.load(TWO).expect("loaded").vote.as_deref(), Some(&b"kept"[..]));
}
