//! Whether a node may go on under the identity in its data directory. A node that was removed, one that the cluster went on
//! without, a copy of a directory beside its original, an emptied directory under an old name: each could vote against what it
//! once acknowledged, or wait for ever. Others are asked before anything is opened, and again while nobody is heard. What the
//! answer is, is read off the meta group's state in `api::internal`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use reckoner_client::client::{Client, ClientConfig};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::context::Context;
use crate::datadir::DataDir;
use crate::internal::internal_client::InternalClient;
use crate::internal::{HelloRequest, RecogniseReply, RecogniseRequest};

/// How long a node may take to say what it knows; one that does not answer knows nothing.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two rounds of asking while nobody is heard.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What a node is to the one that is asked, as its reply carries it.
pub const UNKNOWN: u32 = 0;
pub const MEMBER: u32 = 1;
pub const REMOVED: u32 = 2;
pub const RECOVERED: u32 = 3;
pub const RESTORED: u32 = 4;

/// Why a node must not serve from its directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Expelled(pub String);

/// What others say, the word that counts most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Nothing,
    /// The cluster has gone on under another identity.
    Outlived(String),
    /// The node belongs to it, at this address.
    Member {
        address: String,
        seen: bool,
    },
    /// Never taken back.
    Removed(String),
}

/// Asks whether the node may start from `data`, at `address`; it listens where it is `bound`. `founding` is the identity that a founder without one would take.
///
/// # Errors
/// Where another node says that it may not, or another process serves under its identity.
pub async fn at_start(
    config: &Config,
    data: &DataDir,
    address: &str,
    bound: SocketAddr,
    founding: Option<(u128, u64)>,
) -> Result<(), Expelled> {
    // What is wrong with the directory itself is told by whoever opens it.
    let Ok(known) = data.identity() else { return Ok(()) };
    let own = match &known {
        Some(identity) => identity.cluster_id().ok().map(|cluster| (cluster, identity.node_id)),
        None => founding,
    };
    let Some((cluster, node)) = own else { return Ok(()) };
    let members = known.iter().flat_map(|identity| &identity.members).chain(&config.members);
    let mut others: BTreeSet<String> =
        members.map(|member| member.address.clone()).chain(config.join.iter().cloned()).collect();
    let before = data.last_address().filter(|before| before != address);
    others.extend(before.clone());
    others.remove(address);
    let others: Vec<String> = others.into_iter().collect();
    let Ok(client) = Client::lazy(&others, ClientConfig::default()) else { return Ok(()) };
    // Whoever answers there is not this process, which does not serve yet: its settings were copied with the directory.
    if bound.to_string() != address {
        refuse_twin(&client, address, cluster, node, None).await?;
    }
    // Left by a crash, or copied with the directory.
    if let Some(before) = before {
        refuse_twin(&client, &before, cluster, node, None).await?;
    }
    match ask(&client, &others, cluster, node).await {
        Word::Removed(why) | Word::Outlived(why) => Err(Expelled(why)),
        Word::Member { seen: true, .. } if known.is_none() => Err(Expelled(format!(
            "node {node} of cluster {cluster:032x} was at work before, and its --data-dir is empty: what it acknowledged is lost \
             with the directory, so it must not come back under its id; remove it (reckoner cluster nodes remove {node} \
             --apply) and start this one with --join"
        ))),
        Word::Member { address: recorded, .. } if known.is_some() && recorded != address => {
            refuse_twin(&client, &recorded, cluster, node, None).await
        }
        Word::Member { .. } | Word::Nothing => Ok(()),
    }
}

/// Asks while the node has not been recognised, and whenever it knows no leader; ends the node where it is told that it does
/// not belong to the cluster any more.
pub async fn watch(context: Weak<Context>) {
    let mut is_known = false;
    loop {
        {
            let Some(context) = context.upgrade() else { return };
            if context.stopping.is_cancelled() || context.fate.sealed().is_some() {
                return;
            }
            if !is_known || context.meta.leader().is_none() {
                match look(&context).await {
                    Ok(known) => is_known |= known,
                    Err(Expelled(why)) => return context.fate.expel(&why),
                }
            }
        }
        sleep(WATCH_INTERVAL).await;
    }
}

async fn look(context: &Context) -> Result<bool, Expelled> {
    let state = context.meta.state();
    let nodes = state.nodes().map(|node| node.address.clone());
    let members = context.members.iter().map(|member| member.address.clone());
    let mut others: BTreeSet<String> = nodes.chain(members).chain(context.config.join.iter().cloned()).collect();
    others.remove(&context.address);
    let others: Vec<String> = others.into_iter().collect();
    match ask(&context.client, &others, context.cluster, context.node).await {
        Word::Removed(why) | Word::Outlived(why) => Err(Expelled(why)),
        Word::Member { address, .. } => {
            if address != context.address {
                refuse_twin(&context.client, &address, context.cluster, context.node, Some(context.run)).await?;
            }
            Ok(true)
        }
        Word::Nothing => Ok(false),
    }
}

/// Refuses where another process answers at `address` under the same identity; `run` is this process's own, where it answers
/// there itself.
///
/// # Errors
/// That process.
pub async fn refuse_twin(
    client: &Client,
    address: &str,
    cluster: u128,
    node: u64,
    run: Option<u64>,
) -> Result<(), Expelled> {
    let Ok(channel) = client.routes().channel(address) else { return Ok(()) };
    let Ok(Ok(reply)) = timeout(ASK_TIMEOUT, InternalClient::new(channel).hello(HelloRequest {})).await else {
        return Ok(());
    };
    let reply = reply.into_inner();
    if reply.node != node || reply.cluster[..] != cluster.to_be_bytes() || Some(reply.run) == run {
        return Ok(());
    }
    Err(Expelled(format!(
        "another process serves as node {node} of cluster {cluster:032x} at {address}: this --data-dir is a copy of its, or it \
         moved; two may not go on under one identity, so remove the copy"
    )))
}

async fn ask(client: &Client, addresses: &[String], cluster: u128, node: u64) -> Word {
    let asked = addresses.iter().map(|address| ask_one(client, address, cluster, node));
    join_all(asked).await.into_iter().max().unwrap_or(Word::Nothing)
}

async fn ask_one(client: &Client, address: &str, cluster: u128, node: u64) -> Word {
    let Ok(channel) = client.routes().channel(address) else { return Word::Nothing };
    let request = RecogniseRequest { cluster: Bytes::copy_from_slice(&cluster.to_be_bytes()), node };
    match timeout(ASK_TIMEOUT, InternalClient::new(channel).recognise(request)).await {
        Ok(Ok(reply)) => word(reply.into_inner(), address, cluster, node),
        _ => Word::Nothing,
    }
}

fn word(reply: RecogniseReply, at: &str, cluster: u128, node: u64) -> Word {
    let anew = "remove its --data-dir, and start it with --join to join anew";
    match reply.standing {
        MEMBER => Word::Member { address: reply.address, seen: reply.seen },
        REMOVED => Word::Removed(format!("node {node} was removed from cluster {cluster:032x}, says {at}; {anew}")),
        RECOVERED => Word::Outlived(format!(
            "cluster {cluster:032x} lost its majority and went on without node {node} as {}, says {at}; {anew}",
            reply.cluster
        )),
        RESTORED => Word::Outlived(format!(
            "cluster {cluster:032x} was restored from a backup, as {}, says {at}; node {node} is not of it; {anew}",
            reply.cluster
        )),
        _ => Word::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_counts_most_and_a_member_before_an_outlived_cluster() {
        let words = |standings: &[u32]| {
            let reply = |standing: &u32| RecogniseReply { standing: *standing, ..RecogniseReply::default() };
            standings.iter().map(|standing| word(reply(standing), "a:1", 7, 2)).max()
        };
        assert!(matches!(words(&[UNKNOWN, MEMBER, REMOVED, RECOVERED]), Some(Word::Removed(_))));
        assert!(matches!(words(&[RESTORED, MEMBER, UNKNOWN]), Some(Word::Member { .. })));
        assert!(matches!(words(&[UNKNOWN, RECOVERED, 9]), Some(Word::Outlived(_))));
        assert_eq!(words(&[UNKNOWN, 9]), Some(Word::Nothing));
    }
}
