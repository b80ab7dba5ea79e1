//! Rebuilding a replica whose state is wrong or lost while its log and its vote stand: both are what it acknowledged, so
//! both stay; the snapshots go, and a peer sends one of what it has applied. The group is closed meanwhile, so that nobody
//! is served from what was there before.
//!
//! Who decides that a state is wrong, and which peer is right, is not here.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::oneshot;

use crate::applier::snapshot_of;
use crate::error::Error;
use crate::group::Group;
use crate::host::Host;
use crate::machine::on_worker;
use crate::net::network::Network;
use crate::net::transport::Lane;
use crate::types::{GroupId, NodeId, Peer};
use crate::wire::proto;
use crate::wire::proto::peer_reply::Answer;
use crate::wire::proto::peer_request::Call;

/// Time for a peer to say that it will send its state.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that sends nothing for so long sends nothing more: longer than it takes to write a snapshot of what a node holds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl Host {
    /// Closes `group` and removes its snapshots, which hold a state that is not to be trusted. Its log and its vote stay.
    /// Until [`Host::fetch_state`] the group opens only where its log reaches back to the beginning.
    pub async fn forget_state(&self, group: GroupId) -> Result<(), Error> {
        self.close(group).await?;
        let busy = self.reserve(group, false)?;
        let snapshots = self.inner.config.snapshots.clone();
        on_worker(self.inner.config.workers.as_ref(), move || snapshots.forget(group)).await.map_err(Error::storage)?;
        drop(busy);
        Ok(())
    }

    /// Gets a snapshot of what `from` has applied of `group`, which is closed here, and keeps it: [`Host::open`] goes on
    /// from it. `own_address` is where this node is reached.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when that node does not send it; another may.
    pub async fn fetch_state(
        &self,
        group: GroupId,
        from: NodeId,
        address: &str,
        own_address: &str,
    ) -> Result<(), Error> {
        let busy = self.reserve(group, false)?;
        let mut came = self.inner.awaited.wait(group);
        let fetched = self.inner.seeds.scope(self.fetch_awaited(group, from, address, own_address, &mut came)).await;
        self.inner.awaited.give_up(group);
        drop(busy);
        fetched
    }

    async fn fetch_awaited(
        &self,
        group: GroupId,
        from: NodeId,
        address: &str,
        own_address: &str,
        came: &mut oneshot::Receiver<()>,
    ) -> Result<(), Error> {
        let call = Call::StateWanted(proto::StateWanted { address: own_address.to_owned() });
        let answer = self.inner.caller.call(from, address, group, Lane::Bulk, call, ASK_TIMEOUT).await;
        answer.map_err(|error| Error::unavailable(error.to_string()))?;
        loop {
            let left = SILENCE_MAX.saturating_sub(self.inner.awaited.silence(group));
            if left.is_zero() {
                return Err(Error::unavailable(format!("node {from} sent nothing for {SILENCE_MAX:?}")));
            }
            match tokio::time::timeout(left, &mut *came).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => return Err(Error::unavailable("the state is fetched by somebody else")),
                Err(_) => (),
            }
        }
    }

    /// Sends a replica that lost its state what is applied here, beside everything else.
    pub(crate) fn send_state(&self, group: &Group, to: NodeId, address: String) -> Answer {
        let (host, group) = (self.clone(), group.clone());
        let sending = async move {
            let sent = host.ship_state(&group, to, address).await;
            if let Err(reason) = sent {
                tracing::warn!(group = %group.id(), %to, reason, "the state is not sent");
            }
        };
        tokio::spawn(self.inner.seeds.scope(sending));
        Answer::SnapshotTaken(proto::SnapshotTaken {})
    }

    async fn ship_state(&self, group: &Group, to: NodeId, address: String) -> Result<(), String> {
        // The current one may end before what the asker's log begins with.
        group.snapshot_now().await.map_err(|error| error.to_string())?;
        let current = group.inner.shared.current.lock().clone().ok_or("nothing is applied here")?;
        let vote = group.inner.raft.metrics().borrow_watched().vote;
        let snapshot = snapshot_of(current).map_err(|error| error.to_string())?;
        let network = Network { group: group.id(), caller: self.inner.caller.clone() };
        let shipped = network.link(to, &Peer { address }, Lane::Bulk).ship(vote, snapshot).await;
        shipped.map(drop).map_err(|error| error.to_string())
    }
}
