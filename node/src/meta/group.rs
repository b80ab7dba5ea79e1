//! MetaState as a machine of replication, and the handle through which this node reads and changes it. With
//! `data::shard` the only place that joins a machine to a group. What a job's steps do is in [`super::job`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message as _;
use reckoner_raft::error::Error;
use reckoner_raft::group::{Group, Role};
use reckoner_raft::machine::{ChunkSink, ChunkSource, Committed, Frozen, Halt, Machine};
use reckoner_raft::types::GroupId;
use reckoner_shard::base::id::ShardId;
use reckoner_shard::placement::{Owned, ShardMap, SlotRange};
use tokio::sync::watch;

use super::command::{self, Command, Outcome};
use super::state::MetaState;

/// The meta group's id. Shards count from 1.
pub const GROUP: GroupId = GroupId(0);

/// How long a change may take: a few elections.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The machine. Each state that it reaches is published as a whole; changes are rare and the tables small.
struct MetaMachine {
    state: MetaState,
    published: watch::Sender<Arc<MetaState>>,
}

/// A machine and the view of the states that it reaches.
pub fn machine() -> (Box<dyn Machine>, watch::Receiver<Arc<MetaState>>) {
    let (published, seen) = watch::channel(Arc::new(MetaState::default()));
    (Box::new(MetaMachine { state: MetaState::default(), published }), seen)
}

impl Machine for MetaMachine {
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, Result<Vec<Bytes>, Halt>> {
        Box::pin(async move {
            let apply = |entry: &Committed| {
                let outcome = self.state.apply(&entry.bytes).map_err(Halt::new)?;
                Ok(outcome.encode_to_vec().into())
            };
            let outcomes = entries.iter().map(apply).collect::<Result<Vec<Bytes>, Halt>>()?;
            self.published.send_replace(Arc::new(self.state.clone()));
            Ok(outcomes)
        })
    }

    fn freeze(&mut self) -> BoxFuture<'_, Result<Box<dyn Frozen>, Halt>> {
        let frozen: Box<dyn Frozen> = Box::new(FrozenMeta(self.state.encode()));
        Box::pin(async move { Ok(frozen) })
    }

    fn restore(&mut self, mut source: Box<dyn ChunkSource>) -> BoxFuture<'_, Result<(), Halt>> {
        Box::pin(async move {
            let chunk = source.next().map_err(|error| Halt::new(format!("meta snapshot: {error}")))?;
            let (_, bytes) = chunk.ok_or_else(|| Halt::new("meta snapshot is empty"))?;
            self.state = MetaState::decode(&bytes).map_err(Halt::new)?;
            self.published.send_replace(Arc::new(self.state.clone()));
            Ok(())
        })
    }
}

struct FrozenMeta(Vec<u8>);

impl Frozen for FrozenMeta {
    fn attachments(&self) -> Vec<[u8; 32]> {
        Vec::new()
    }

    fn write(self: Box<Self>, sink: &mut dyn ChunkSink) -> io::Result<()> {
        sink.put(0, &self.0)
    }
}

/// The meta group on this node.
#[derive(Clone)]
pub struct Meta {
    group: Group,
    seen: watch::Receiver<Arc<MetaState>>,
}

impl Meta {
    pub fn new(group: Group, seen: watch::Receiver<Arc<MetaState>>) -> Self {
        Self { group, seen }
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What this node knows; it may lag behind the leader.
    pub fn state(&self) -> Arc<MetaState> {
        self.seen.borrow().clone()
    }

    /// The state again, whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<MetaState>> {
        self.seen.clone()
    }

    pub fn leads(&self) -> bool {
        self.group.status().role == Role::Leader
    }

    /// Who leads, with the address.
    pub fn leader(&self) -> Option<(u64, String)> {
        self.group.status().leader.map(|(node, address)| (node.0, address))
    }

    /// The shard map; `None` before the cluster is founded.
    pub fn map(&self) -> Option<ShardMap> {
        map_of(&self.state())
    }

    /// Proposes a command; only the leader can.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let applied = self.group.propose(command::encode(command), PROPOSE_TIMEOUT).await?;
        Outcome::decode(applied.outcome)
            .map_err(|error| Error::Unknown { reason: format!("the meta group's answer cannot be read: {error}") })
    }
}

/// The shard map in a state.
pub fn map_of(state: &MetaState) -> Option<ShardMap> {
    let slot = |value: u32| u16::try_from(value).ok();
    let owned = state.ranges().iter().map(|row| {
        let range = SlotRange { first: slot(row.first)?, last: slot(row.last)? };
        Some(Owned { range, shard: ShardId(row.shard) })
    });
    ShardMap::new(state.epoch(), owned.collect::<Option<Vec<_>>>()?)
}
