//! What a peer's call does here: finds the group and asks openraft; takes in snapshots that are shipped to this node.
//!
//! The identity of cluster and node is checked first, so that a reused address cannot join by accident.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::errors::{Fatal, RaftError};
use parking_lot::Mutex;

use crate::applier::snapshot_of;
use crate::group::Group;
use crate::host::{Host, HostConfig};
use crate::machine::on_worker;
use crate::store::snapshot::{SnapshotWriter, StoredSnapshot};
use crate::types::{GroupId, NodeId, Types, Vote};
use crate::wire::proto::peer_reply::Answer;
use crate::wire::proto::peer_request::Call;
use crate::wire::proto::{PeerReply, PeerRequest, RefusalCode};
use crate::wire::{self, FORMAT, Malformed, proto};

/// A snapshot on its way in; one a group, a new one replaces the old.
struct Transfer {
    number: u64,
    vote: Vote,
    manifest: proto::Manifest,
    writer: Box<dyn SnapshotWriter>,
    next_page: u64,
}

/// The snapshots on their way in.
#[derive(Default)]
pub(crate) struct Transfers {
    /// `None` while a part is being written.
    open: Mutex<BTreeMap<GroupId, Option<Transfer>>>,
    numbers: AtomicU64,
}

impl Transfers {
    pub fn clear(&self) {
        self.open.lock().clear();
    }

    fn take(&self, group: GroupId, number: u64) -> Result<Transfer, Refused> {
        let mut open = self.open.lock();
        match open.get_mut(&group) {
            Some(slot) if slot.as_ref().is_some_and(|transfer| transfer.number == number) => {
                Ok(slot.take().expect("looked at right before"))
            }
            _ => Err(Refused(
                RefusalCode::NoTransfer,
                format!("no transfer {number} of group {group} is under way; begin again"),
            )),
        }
    }

    /// Forgets a transfer that was taken for good, unless another began meanwhile.
    fn end(&self, group: GroupId) {
        let mut open = self.open.lock();
        if matches!(open.get(&group), Some(None)) {
            open.remove(&group);
        }
    }

    /// Puts a transfer back, unless another began meanwhile.
    fn put_back(&self, group: GroupId, transfer: Transfer) {
        let mut open = self.open.lock();
        if let Some(slot @ None) = open.get_mut(&group) {
            *slot = Some(transfer);
        }
    }
}

/// Why a call is not carried out.
struct Refused(RefusalCode, String);

impl From<Malformed> for Refused {
    fn from(error: Malformed) -> Self {
        Refused(RefusalCode::Malformed, error.to_string())
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused(RefusalCode::Storage, error.to_string())
    }
}

impl From<Fatal<Types>> for Refused {
    fn from(error: Fatal<Types>) -> Self {
        Refused(RefusalCode::Stopped, error.to_string())
    }
}

impl From<RaftError<Types>> for Refused {
    fn from(error: RaftError<Types>) -> Self {
        Refused(RefusalCode::Stopped, error.to_string())
    }
}

impl Host {
    /// Carries out a peer's call. Never fails: what is wrong travels back as a refusal.
    pub async fn handle(&self, request: PeerRequest) -> PeerReply {
        let (group, from) = (request.group, request.from);
        let answer = match self.inner.seeds.scope(self.answer(request)).await {
            Ok(answer) => answer,
            Err(Refused(code, message)) => {
                tracing::debug!(group, from, ?code, %message, "peer call refused");
                Answer::Refusal(proto::Refusal { code: code.into(), message })
            }
        };
        PeerReply { format: FORMAT, answer: Some(answer) }
    }

    async fn answer(&self, request: PeerRequest) -> Result<Answer, Refused> {
        let config = &self.inner.config;
        if request.format != FORMAT {
            return Err(Refused(
                RefusalCode::Malformed,
                format!("format {}, this version speaks {FORMAT}", request.format),
            ));
        }
        if request.cluster[..] != config.cluster.0.to_be_bytes() {
            return Err(Refused(RefusalCode::WrongPeer, format!("node {} belongs to another cluster", request.from)));
        }
        if request.to != config.node.0 {
            return Err(Refused(
                RefusalCode::WrongPeer,
                format!("this is node {}, node {} was meant", config.node, request.to),
            ));
        }
        let id = GroupId(request.group);
        let call = request.call.ok_or_else(|| Malformed("the call is missing".to_owned()))?;
        if let Call::AttachmentRead(read) = call {
            return self.read_attachment(read).await;
        }
        let group = self.find(id);
        if group.is_none() && self.inner.awaited.heard(id) {
            return match call {
                Call::SnapshotBegin(begin) => self.begin_snapshot(id, begin).await,
                Call::SnapshotPages(pages) => self.take_pages(id, pages).await,
                Call::SnapshotAttachment(part) => self.take_attachment(id, part).await,
                Call::SnapshotEnd(end) => self.end_awaited(id, end.transfer).await,
                _ => Err(Refused(RefusalCode::NoGroup, format!("group {id} waits for its state here"))),
            };
        }
        let group = group.ok_or_else(|| Refused(RefusalCode::NoGroup, format!("group {id} is not open here")))?;
        let raft = &group.inner.raft;
        Ok(match call {
            Call::StateWanted(wanted) => self.send_state(&group, NodeId(request.from), wanted.address),
            Call::Append(call) => {
                let answer = raft.append_entries(wire::append_in(call)?).await?;
                Answer::Append(wire::append_answer_out(answer))
            }
            Call::Vote(call) => {
                let call = wire::vote_call_in(call)?;
                let answer = match group.withheld(&call) {
                    Some(no) => no,
                    None => raft.vote(call).await?,
                };
                Answer::Vote(wire::vote_answer_out(&answer))
            }
            Call::PreVote(call) => {
                let call = wire::vote_call_in(call)?;
                let answer = match group.withheld(&call) {
                    Some(no) => no,
                    None => raft.pre_vote(call).await?,
                };
                Answer::Vote(wire::vote_answer_out(&answer))
            }
            Call::Transfer(_) if group.is_pledged() => {
                return Err(Refused(RefusalCode::NoGroup, format!("group {id} has less here than it once had")));
            }
            Call::Transfer(call) => {
                let answer = raft.handle_transfer_leader(wire::transfer_in(call)?).await?;
                Answer::Transfer(wire::transfer_answer_out(answer))
            }
            Call::SnapshotBegin(begin) => self.begin_snapshot(id, begin).await?,
            Call::SnapshotPages(pages) => self.take_pages(id, pages).await?,
            Call::SnapshotAttachment(part) => self.take_attachment(id, part).await?,
            Call::SnapshotEnd(end) => self.end_snapshot(&group, end.transfer).await?,
            Call::AttachmentRead(_) => unreachable!("answered above"),
        })
    }

    async fn begin_snapshot(&self, group: GroupId, begin: proto::SnapshotBegin) -> Result<Answer, Refused> {
        let config = &self.inner.config;
        let missing = |what: &str| Malformed(format!("{what} of the snapshot is missing"));
        let vote = wire::vote_in(&begin.vote.ok_or_else(|| missing("vote"))?);
        let manifest = begin.manifest.ok_or_else(|| missing("manifest"))?;
        let wanted = hashes(&manifest.attachments)?;
        let (snapshots, attachments) = (config.snapshots.clone(), config.attachments.clone());
        let (writer, lacking) =
            on_worker(config.workers.as_ref(), move || Ok((snapshots.begin(group)?, attachments.missing(&wanted))))
                .await?;
        let number = self.inner.transfers.numbers.fetch_add(1, Ordering::Relaxed);
        let transfer = Transfer { number, vote, manifest, writer, next_page: 0 };
        let replaced = self.inner.transfers.open.lock().insert(group, Some(transfer));
        drop(replaced);
        Ok(Answer::SnapshotReady(proto::SnapshotReady {
            transfer: number,
            missing: lacking.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
        }))
    }

    async fn take_pages(&self, group: GroupId, part: proto::SnapshotPages) -> Result<Answer, Refused> {
        let mut transfer = self.inner.transfers.take(group, part.transfer)?;
        if part.first != transfer.next_page || part.pages.len() != part.checksums.len() {
            return Err(Refused(
                RefusalCode::Malformed,
                format!(
                    "{} pages from {} with {} checksums, page {} comes next",
                    part.pages.len(),
                    part.first,
                    part.checksums.len(),
                    transfer.next_page
                ),
            ));
        }
        let transfer = on_worker(self.inner.config.workers.as_ref(), move || {
            for (page, checksum) in part.pages.iter().zip(&part.checksums) {
                if crc32c::crc32c(page) != *checksum {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("page {} fails its checksum", transfer.next_page),
                    ));
                }
                transfer.writer.page(page)?;
                transfer.next_page += 1;
            }
            Ok(transfer)
        })
        .await?;
        self.inner.transfers.put_back(group, transfer);
        Ok(Answer::SnapshotTaken(proto::SnapshotTaken {}))
    }

    async fn take_attachment(&self, group: GroupId, part: proto::SnapshotAttachment) -> Result<Answer, Refused> {
        let transfer = self.inner.transfers.take(group, part.transfer)?;
        let stored = match hash(&part.hash) {
            Ok(hash) => store_attachment(&self.inner.config, hash, part.body).await,
            Err(malformed) => Err(malformed.into()),
        };
        self.inner.transfers.put_back(group, transfer);
        stored?;
        Ok(Answer::SnapshotTaken(proto::SnapshotTaken {}))
    }

    async fn end_snapshot(&self, group: &Group, number: u64) -> Result<Answer, Refused> {
        let (vote, stored) = self.seal_transfer(group.id(), number).await?;
        let snapshot = snapshot_of(stored)?;
        let answer = group.inner.raft.install_full_snapshot(vote, snapshot).await?;
        Ok(Answer::SnapshotInstalled(proto::SnapshotInstalled { vote: Some(wire::vote_out(&answer.vote)) }))
    }

    /// The same for a group that is closed until its state is here: whoever opens it next goes on from the snapshot.
    async fn end_awaited(&self, group: GroupId, number: u64) -> Result<Answer, Refused> {
        let (vote, stored) = self.seal_transfer(group, number).await?;
        let snapshots = self.inner.config.snapshots.clone();
        on_worker(self.inner.config.workers.as_ref(), move || snapshots.adopt(group, &stored)).await?;
        self.inner.awaited.came(group);
        Ok(Answer::SnapshotInstalled(proto::SnapshotInstalled { vote: Some(wire::vote_out(&vote)) }))
    }

    /// Makes a transfer a complete snapshot, with everything that it refers to.
    async fn seal_transfer(&self, group: GroupId, number: u64) -> Result<(Vote, Arc<dyn StoredSnapshot>), Refused> {
        let transfer = self.inner.transfers.take(group, number)?;
        self.inner.transfers.end(group);
        let config = &self.inner.config;
        let attachments = config.attachments.clone();
        let wanted = hashes(&transfer.manifest.attachments)?;
        let vote = transfer.vote;
        let stored = on_worker(config.workers.as_ref(), move || {
            let missing = attachments.missing(&wanted).len();
            if missing > 0 {
                return Err(io::Error::other(format!("{missing} attachments did not come")));
            }
            if !wanted.is_empty() {
                attachments.flush()?;
            }
            transfer.writer.seal(transfer.manifest)
        })
        .await?;
        Ok((vote, stored))
    }

    async fn read_attachment(&self, read: proto::AttachmentRead) -> Result<Answer, Refused> {
        let hash = hash(&read.hash)?;
        let attachments = self.inner.config.attachments.clone();
        let body = on_worker(self.inner.config.workers.as_ref(), move || attachments.read(&hash)).await?;
        Ok(Answer::AttachmentBody(proto::AttachmentBody { body }))
    }
}

fn hash(bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    bytes.try_into().map_err(|_| Malformed(format!("an attachment's hash has {} bytes, not 32", bytes.len())))
}

pub(crate) fn hashes(all: &[Bytes]) -> Result<Vec<[u8; 32]>, Malformed> {
    all.iter().map(|bytes| hash(bytes)).collect()
}

/// Stores an attachment if its body has the hash.
pub(crate) async fn store_attachment(config: &HostConfig, hash: [u8; 32], body: Bytes) -> io::Result<()> {
    let attachments = config.attachments.clone();
    on_worker(Arc::as_ref(&config.workers), move || {
        if blake3::hash(&body).as_bytes() != &hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an attachment's body does not have its hash"));
        }
        attachments.write(&hash, body)
    })
    .await
}
