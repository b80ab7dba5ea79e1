//! What is done to a group while no host has it open: looking at what a replica holds, founding a group anew from an image,
//! and making one replica the only voter when the majority is lost for good. Whether any of it should be done is decided by
//! whoever calls; nothing here talks to a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::sync::mpsc;

use bytes::Bytes;

use crate::machine::{ChunkSource, Committed, Position};
use crate::store::journal::{Change, Journal, Record};
use crate::store::pages::{ChunkReader, PAGE_BYTES, Tally};
use crate::store::snapshot::SnapshotStore;
use crate::types::{GroupId, NodeId};
use crate::wire::proto::{EntryKind, LogPosition, Manifest, Member, Membership, Vote, Voters};
use crate::wire::{self, FORMAT};

/// Entries that are read at a time while a membership is looked for.
const LOOK_ENTRIES: u64 = 256;

/// Bytes of them: a few of the largest.
const LOOK_BYTES: usize = 16 << 20;

/// What one replica holds of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The group.
    pub group: GroupId,
    /// The last entry, in the log or in the snapshot that replaced it; none where nothing was ever written.
    pub last: Option<Position>,
    /// The last entry that this replica knew to be on a majority. It may lag behind what was.
    pub committed: Option<Position>,
    /// The highest term that this replica voted in.
    pub voted: u64,
    /// Members with a vote, by the last entry here that says so: more than one set while members change, here as one.
    pub voters: BTreeSet<NodeId>,
    /// Members without.
    pub learners: BTreeSet<NodeId>,
    /// Addresses of all of them.
    pub addresses: BTreeMap<NodeId, String>,
    /// What is wrong with snapshots that cannot be used.
    pub damaged: Vec<String>,
}

impl Standing {
    /// Whether there is a replica at all.
    pub fn is_there(&self) -> bool {
        self.last.is_some()
    }

    /// Entries here that are not known to be on a majority.
    pub fn uncertain(&self) -> u64 {
        let next = |at: &Option<Position>| at.map_or(0, |at| at.index + 1);
        next(&self.last).saturating_sub(next(&self.committed))
    }
}

/// What this node's disk holds of `group`.
///
/// # Errors
/// Bytes that fail their checksum, or a log that does not go on from a good snapshot: such a replica can be rebuilt from a
/// peer, and not be the one that others are rebuilt from.
pub fn standing(group: GroupId, journal: &dyn Journal, snapshots: &dyn SnapshotStore) -> io::Result<Standing> {
    let stored = journal.load(group)?;
    let found = snapshots.load(group)?;
    let newest = found.good.first().map(|stored| stored.manifest().clone());
    let snapshot = newest.as_ref().and_then(|manifest| manifest.position.as_ref()).map(position_in);
    let mark = |bytes: &Option<Bytes>, what: &str| -> io::Result<Option<Position>> {
        let record = bytes.as_ref().map(|bytes| wire::record_in::<LogPosition>(bytes, what)).transpose()?;
        Ok(record.as_ref().map(position_in))
    };
    let purged = mark(&stored.purged, "purge mark")?;
    if purged.map(|at| at.index) > snapshot.map(|at| at.index) {
        let begins = purged.map_or(0, |at| at.index);
        let damaged = found.bad.join("; ");
        let why =
            format!("group {group}: the log begins behind entry {begins} and no snapshot reaches there: {damaged}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let vote = stored.vote.as_ref().map(|bytes| wire::record_in::<Vote>(bytes, "vote")).transpose()?;
    let mut standing =
        Standing { group, voted: vote.map_or(0, |vote| vote.term), damaged: found.bad, ..Standing::default() };
    let in_log = last_entry(group, journal, &stored.entries)?;
    standing.last = in_log.max(purged).max(snapshot);
    standing.committed = mark(&stored.committed, "commit mark")?.max(snapshot).min(standing.last);
    let membership = match last_membership(group, journal, &stored.entries)? {
        Some(membership) => Some(membership),
        None => newest.and_then(|manifest| manifest.membership),
    };
    if let Some(membership) = membership {
        standing.voters = membership.configs.iter().flat_map(|set| &set.nodes).copied().map(NodeId).collect();
        for member in membership.members {
            let node = NodeId(member.node);
            if !standing.voters.contains(&node) {
                standing.learners.insert(node);
            }
            standing.addresses.insert(node, member.address);
        }
    }
    Ok(standing)
}

/// What this node's disk holds of a group's state: the newest snapshot, and the proposals in the log behind it.
pub type Kept = (Option<Box<dyn ChunkSource>>, Vec<Committed>);

/// Everything that is kept of `group` here, committed or not. Only for groups that fit in memory.
///
/// # Errors
/// As [`standing`].
pub fn kept(group: GroupId, journal: &dyn Journal, snapshots: &dyn SnapshotStore) -> io::Result<Kept> {
    let stored = journal.load(group)?;
    let newest = snapshots.load(group)?.good.into_iter().next();
    let begins = newest.as_ref().and_then(|stored| stored.manifest().position.as_ref().map(|at| at.index + 1));
    let source = match &newest {
        Some(newest) => Some(Box::new(ChunkReader::new(newest.pages()?)) as Box<dyn ChunkSource>),
        None => None,
    };
    let mut entries = Vec::new();
    let mut next = begins.unwrap_or(0).max(stored.entries.start);
    while next < stored.entries.end {
        let records = journal.read(group, next..stored.entries.end, LOOK_BYTES)?;
        let Some(last) = records.last() else { return Err(gap(group, next)) };
        next = last.index + 1;
        let normal = records.into_iter().filter(|record| i32::from(record.kind) == EntryKind::Normal as i32);
        entries.extend(normal.map(|record| Committed {
            position: Position { index: record.index, term: record.term },
            bytes: record.payload,
        }));
    }
    Ok((source, entries))
}

/// Makes `node`'s replica the only member of its group, whatever the others hold, and puts `commands` behind it in the log.
/// Where the entry that does it stands. The replica elects itself when it is opened next, and everything in its log counts
/// as committed from then on. Doing it again does no harm.
///
/// # Errors
/// As [`standing`]; where nothing is here of the group; the disk's.
pub fn make_only_voter(
    group: GroupId,
    journal: &dyn Journal,
    snapshots: &dyn SnapshotStore,
    node: NodeId,
    address: &str,
    commands: Vec<Bytes>,
) -> io::Result<Position> {
    let standing = standing(group, journal, snapshots)?;
    let Some(last) = standing.last else {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("nothing is here of group {group}")));
    };
    let stored = journal.load(group)?;
    let mut changes = Vec::new();
    // A snapshot that is ahead of the log has replaced it.
    if last.index + 1 > stored.entries.end {
        changes.push(Change::Purge { through: last.index, mark: wire::record_out(&position_out(last)) });
    }
    let term = standing.voted.max(last.term) + 1;
    changes.push(Change::Vote(wire::record_out(&Vote { term, node: node.0, committed: false })));
    let at = Position { index: last.index + 1, term };
    let membership = prost::Message::encode_to_vec(&alone(node, address));
    let first = (EntryKind::Membership, Bytes::from(membership));
    let rest = commands.into_iter().map(|command| (EntryKind::Normal, command));
    let records = std::iter::once(first).chain(rest).zip(at.index..).map(|((kind, payload), index)| Record {
        index,
        term,
        kind: kind as u8,
        payload,
    });
    changes.push(Change::Append(records.collect()));
    submit(group, journal, changes)?;
    Ok(at)
}

/// An image of a group at one entry, as another cluster's replica had it.
pub struct Image<'a> {
    /// The entry that it contains last.
    pub at: Position,
    /// blake3 hashes of what it refers to and does not contain.
    pub attachments: Vec<[u8; 32]>,
    /// Its chunks in their frames, one stream.
    pub bytes: &'a mut dyn io::Read,
}

/// Founds `group` on this node alone, from an image.
///
/// # Errors
/// Where something is here of the group already; the disk's.
pub fn found_from(
    group: GroupId,
    journal: &dyn Journal,
    snapshots: &dyn SnapshotStore,
    node: NodeId,
    address: &str,
    image: Image<'_>,
) -> io::Result<()> {
    if standing(group, journal, snapshots)?.is_there() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("group {group} is here already")));
    }
    let mut writer = snapshots.begin(group)?;
    let (mut tally, mut page) = (Tally::default(), Vec::with_capacity(PAGE_BYTES));
    loop {
        page.clear();
        let read = (&mut *image.bytes).take(PAGE_BYTES as u64).read_to_end(&mut page)?;
        if read > 0 {
            writer.page(&page)?;
            tally.add(&page);
        }
        if read < PAGE_BYTES {
            break;
        }
    }
    let (page_count, byte_count, digest) = tally.finish();
    let at = position_out(image.at);
    let manifest = Manifest {
        format: FORMAT,
        position: Some(at),
        membership_position: Some(at),
        membership: Some(alone(node, address)),
        page_count,
        byte_count,
        digest,
        attachments: image.attachments.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
    };
    let sealed = writer.seal(manifest)?;
    snapshots.adopt(group, &sealed)?;
    // The log begins behind the image, in a term that nobody has voted in.
    let mark = wire::record_out(&at);
    let vote = wire::record_out(&Vote { term: image.at.term, node: node.0, committed: false });
    submit(group, journal, vec![Change::Vote(vote), Change::Purge { through: image.at.index, mark }])
}

fn alone(node: NodeId, address: &str) -> Membership {
    Membership {
        configs: vec![Voters { nodes: vec![node.0] }],
        members: vec![Member { node: node.0, address: address.to_owned() }],
    }
}

fn submit(group: GroupId, journal: &dyn Journal, changes: Vec<Change>) -> io::Result<()> {
    let (told, done) = mpsc::channel();
    journal.submit(
        group,
        changes,
        Box::new(move |result| {
            // It is waited for below.
            let _ = told.send(result);
        }),
    );
    done.recv().unwrap_or_else(|_| Err(io::Error::other("the journal closed before its flush")))
}

fn last_entry(group: GroupId, journal: &dyn Journal, entries: &std::ops::Range<u64>) -> io::Result<Option<Position>> {
    if entries.is_empty() {
        return Ok(None);
    }
    let index = entries.end - 1;
    let records = journal.read(group, index..entries.end, 0)?;
    let last = records.first().map(|record| Position { index: record.index, term: record.term });
    last.map(Some).ok_or_else(|| gap(group, index))
}

fn gap(group: GroupId, index: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("entry {index} of group {group} is missing"))
}

/// The last membership in the log, looked for from its end.
fn last_membership(
    group: GroupId,
    journal: &dyn Journal,
    entries: &std::ops::Range<u64>,
) -> io::Result<Option<Membership>> {
    let mut end = entries.end;
    while end > entries.start {
        let start = end.saturating_sub(LOOK_ENTRIES).max(entries.start);
        let mut found = None;
        let mut next = start;
        while next < end {
            let records = journal.read(group, next..end, LOOK_BYTES)?;
            let Some(last) = records.last() else { return Err(gap(group, next)) };
            next = last.index + 1;
            let is_membership = |record: &&Record| i32::from(record.kind) == EntryKind::Membership as i32;
            found = records.into_iter().rev().find(|record| is_membership(&record)).or(found);
        }
        if let Some(record) = found {
            let membership: Membership = prost::Message::decode(record.payload)
                .map_err(|error| wire::Malformed(format!("membership of entry {}: {error}", record.index)))?;
            return Ok(Some(membership));
        }
        end = start;
    }
    Ok(None)
}

fn position_in(position: &LogPosition) -> Position {
    Position { index: position.index, term: position.term }
}

fn position_out(position: Position) -> LogPosition {
    LogPosition { term: position.term, index: position.index }
}
