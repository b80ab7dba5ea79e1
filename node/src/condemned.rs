//! Replicas of this node whose state is wrong or lost, from the moment that it is known. Who finds them is in `data`, who
//! rebuilds them is [`crate::rebuild`].

use std::collections::BTreeMap;

use parking_lot::Mutex;
use reckoner_shard::base::id::ShardId;
use tokio::sync::Notify;

/// A replica that must not go on.
#[derive(Clone, Debug)]
pub struct Condemned {
    pub shard: ShardId,
    /// Why, as a sentence.
    pub reason: String,
    /// Nodes that are known to be right, with their addresses; none: any other that has a replica.
    pub sources: Vec<(u64, String)>,
}

/// The replicas of this node that are being rebuilt.
#[derive(Default)]
pub struct Rebuilds {
    /// Not begun.
    condemned: Mutex<Vec<Condemned>>,
    /// Begun, with the reason.
    running: Mutex<BTreeMap<ShardId, String>>,
    told: Notify,
}

impl Rebuilds {
    /// A replica has to be rebuilt.
    pub fn condemn(&self, condemned: Condemned) {
        self.condemned.lock().push(condemned);
        self.told.notify_one();
    }

    /// Returns when a replica was condemned, or was rebuilt.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// Those that were condemned and not begun, each once: from now on they are.
    pub fn begin(&self) -> Vec<Condemned> {
        let mut running = self.running.lock();
        let mut begun: Vec<Condemned> = std::mem::take(&mut *self.condemned.lock());
        begun.retain(|condemned| running.insert(condemned.shard, condemned.reason.clone()).is_none());
        begun
    }

    /// Whether the shard's replica is not to be opened yet.
    pub fn is_running(&self, shard: ShardId) -> bool {
        self.running.lock().contains_key(&shard)
    }

    /// What is being rebuilt, and why.
    pub fn running(&self) -> Vec<(ShardId, String)> {
        self.running.lock().iter().map(|(shard, reason)| (*shard, reason.clone())).collect()
    }

    /// It is over: the replica may be opened.
    pub fn end(&self, shard: ShardId) {
        self.running.lock().remove(&shard);
        self.told.notify_one();
    }
}
