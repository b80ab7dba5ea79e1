//! A replica that was let go and is wanted back: what it once acknowledged may be committed because of it.

use std::collections::BTreeSet;
use std::time::Duration;

use reckoner_raft::group::{Group, Role};
use reckoner_raft::store::journal::{Change, Journal as _};
use reckoner_raft::store::memory::MemoryDisk;
use reckoner_raft::types::{GroupId, NodeId};

use crate::harness::*;

/// Longer than several elections take.
const LONG: Duration = Duration::from_secs(10);

/// Whether one of `groups` leads within [`LONG`].
async fn somebody_leads(groups: &[&Group]) -> bool {
    let leads = async {
        while !groups.iter().any(|group| group.status().role == Role::Leader) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, leads).await.is_ok()
}

/// As before replicas that are let go kept their word: all of it goes.
async fn break_its_word(node: Node, wires: &Wires) -> Node {
    node.host.stop().await;
    let journal = node.disk.journal(quiet());
    let (told, done) = tokio::sync::oneshot::channel();
    let heard = Box::new(move |result| told.send(result).expect("waited for"));
    journal.submit(GroupId(1), vec![Change::Forget], heard);
    done.await.expect("answered").expect("flushed");
    memory_node(node.id.0, wires, node.disk, node.shelf)
}

/// The last leader of {1, 2, 3} and node 4 hold what was acknowledged; of {1, 2, 3} one was let go, and one was away and has not
/// heard that 4 took its place. The two of them are a majority of the members that the absent one knows.
async fn a_majority_of_the_past(keeps_its_word: bool) {
    let (wires, mut nodes, groups) = three().await;
    let led = leader(&groups).await;
    let (gone, away) = ((led + 1) % 3, (led + 2) % 3);
    propose(&groups, b"everybody").await;
    until("the line everywhere", || nodes.iter().all(|node| node.book(1).lines().len() == 1).then_some(())).await;
    wires.cut(nodes[away].id);
    for number in 0..5 {
        propose(&groups[led..=led], format!("two of three {number}").as_bytes()).await;
    }
    let mut fourth = memory_node(4, &wires, MemoryDisk::new(), Shelf::default());
    let joined = fourth.open(1, None).await.expect("opened");
    groups[led].add_learner(NodeId(4), "n4", SOON).await.expect("a learner");
    let voters: BTreeSet<NodeId> = [nodes[led].id, nodes[away].id, NodeId(4)].into();
    groups[led].change_membership(voters, false, SOON).await.expect("a voter");
    nodes[gone].host.forget(GroupId(1)).await.expect("let go");
    propose(&groups[led..=led], b"with the fourth").await;
    until("all lines on the fourth", || (fourth.book(1).lines().len() == 7).then_some(())).await;

    // The leader is lost, the one that was let go is here again with nothing, the absent one comes back.
    groups[led].stop().await;
    wires.unplug(nodes[led].id);
    wires.cut(NodeId(4));
    if !keeps_its_word {
        let node = nodes.remove(gone);
        nodes.insert(gone, break_its_word(node, &wires).await);
    }
    let back = nodes[gone].open(1, None).await.expect("opened anew");
    wires.heal(nodes[away].id);
    let is_lost = somebody_leads(&[&back, &groups[away]]).await;
    assert_eq!(is_lost, !keeps_its_word, "who leads these two lacks what was acknowledged");
    if is_lost {
        return;
    }
    wires.heal(NodeId(4));
    let whole = [joined.clone(), groups[away].clone()];
    propose(&whole, b"the fourth is back").await;
    same_books(&[&fourth, &nodes[away]], 8).await;

    // A member again, with everything: now it votes, and stands.
    let at = leader(&whole).await;
    let (id, address) = (nodes[gone].id, format!("n{}", nodes[gone].id));
    whole[at].add_learner(id, address, SOON).await.expect("a learner");
    let voters: BTreeSet<NodeId> = [id, nodes[away].id, NodeId(4)].into();
    whole[at].change_membership(voters, false, SOON).await.expect("a voter");
    same_books(&[&fourth, &nodes[gone]], 8).await;
    whole[at].transfer_leader(id, SOON).await.expect("handed over");
    until("it leads", || (back.status().role == Role::Leader).then_some(())).await;
    whole[at].stop().await;
    let rest = [back, whole[1 - at].clone()];
    propose(&rest, b"one less").await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_let_go_gives_nobody_a_majority_without_what_it_had() {
    a_majority_of_the_past(true).await;
}

/// The story before is one in which acknowledged lines would go.
#[tokio::test(start_paused = true)]
async fn a_replica_that_forgets_its_word_does() {
    a_majority_of_the_past(false).await;
}

/// Its log is filled from the beginning, where it was a member: it must not stand with less than it once had.
#[tokio::test(start_paused = true)]
async fn a_replica_that_was_let_go_does_not_stand_with_less_than_it_had() {
    let wires = Wires::default();
    let disk = MemoryDisk::new();
    let mut first = memory_node(1, &wires, disk.clone(), Shelf::default());
    let group = first.open(1, Some(&members(&[1]))).await.expect("opened");
    leader(std::slice::from_ref(&group)).await;
    propose(std::slice::from_ref(&group), b"alone").await;
    let had = group.status().last_log;
    first.host.forget(GroupId(1)).await.expect("let go");
    let again = first.open(1, Some(&members(&[1]))).await.expect("opened anew");
    assert!(!somebody_leads(&[&again]).await);
    assert_eq!((had, again.status().last_log), (Some(2), None));
    // The word outlives the process, and a second letting go.
    first.host.forget(GroupId(1)).await.expect("let go again");
    first.host.stop().await;
    let mut first = memory_node(1, &wires, disk, Shelf::default());
    let again = first.open(1, Some(&members(&[1]))).await.expect("opened anew");
    assert!(!somebody_leads(&[&again]).await);
}
