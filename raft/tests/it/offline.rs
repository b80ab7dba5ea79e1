//! What is done to a group that nobody has open: a replica that goes on alone, and a group that is founded from an image.

use std::time::Duration;

use bytes::Bytes;
use reckoner_raft::group::Group;
use reckoner_raft::machine::Position;
use reckoner_raft::offline::{Image, found_from, kept, make_only_voter, standing};
use reckoner_raft::store::memory::MemoryDisk;
use reckoner_raft::types::{GroupId, NodeId};

use crate::harness::*;

const GROUP: GroupId = GroupId(1);

/// Three nodes with one group and ten lines, the first of which is an attachment's.
async fn three(wires: &Wires) -> (Vec<Node>, Vec<Group>) {
    let members = members(&[1, 2, 3]);
    let mut nodes: Vec<Node> = (1..=3).map(|id| memory_node(id, wires, MemoryDisk::new(), Shelf::default())).collect();
    let mut groups = Vec::new();
    for node in &mut nodes {
        groups.push(node.open(1, Some(&members)).await.expect("opened"));
    }
    leader(&groups).await;
    for number in 0..10 {
        let line = if number == 0 { "attach: body".to_owned() } else { format!("line {number}") };
        propose(&groups, line.as_bytes()).await;
    }
    until("the same lines everywhere", || nodes.iter().all(|node| node.book(1).lines().len() == 10).then_some(()))
        .await;
    (nodes, groups)
}

fn lines(node: &Node) -> Vec<Bytes> {
    node.book(1).lines()
}

#[tokio::test(start_paused = true)]
async fn the_replica_that_is_left_goes_on_alone() {
    for snapshots in [0, 1, 2] {
        let wires = Wires::default();
        let (nodes, groups) = three(&wires).await;
        // With a snapshot the membership may be in it alone, and with two the log begins behind the first.
        for number in 0..snapshots {
            propose(&groups, format!("more {number}").as_bytes()).await;
            until("it is everywhere", || nodes.iter().all(|node| lines(node).len() == 11 + number).then_some(())).await;
            groups[1].snapshot_now().await.expect("a snapshot");
        }
        let before = lines(&nodes[1]);
        for node in &nodes {
            node.host.stop().await;
            wires.unplug(node.id);
        }
        let (disk, shelf) = (nodes[1].disk.clone(), nodes[1].shelf.clone());
        let (journal, store) = (disk.journal(quiet()), disk.snapshots());
        let found = standing(GROUP, &journal, &store).expect("it is read");
        let last = found.last.expect("it is there");
        assert_eq!(found.voters.iter().map(|node| node.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((found.addresses[&NodeId(3)].as_str(), found.uncertain()), ("n3", 0), "an orderly stop knows");
        assert!(!standing(GroupId(2), &journal, &store).expect("it is read").is_there());
        assert!(make_only_voter(GroupId(2), &journal, &store, NodeId(2), "n2", vec![]).is_err());
        // Twice, as after an interruption.
        for _ in 0..2 {
            let told = vec![Bytes::from_static(b"alone")];
            let at = make_only_voter(GROUP, &journal, &store, NodeId(2), "n2", told).expect("it is written");
            assert!(at.index > last.index && at.term > last.term);
        }
        let found = standing(GROUP, &journal, &store).expect("it is read");
        assert_eq!(found.voters.iter().map(|node| node.0).collect::<Vec<_>>(), [2]);
        assert_eq!(found.uncertain(), 4);
        let (_, entries) = kept(GROUP, &journal, &store).expect("it is read");
        assert_eq!(entries.last().map(|entry| &entry.bytes[..]), Some(&b"alone"[..]));

        let mut node = memory_node(2, &wires, disk, shelf);
        let group = [node.open(1, None).await.expect("opened")];
        leader(&group).await;
        propose(&group, b"on").await;
        let expected: Vec<Bytes> =
            before.into_iter().chain(["alone", "alone", "on"].map(|line| Bytes::from(line.as_bytes()))).collect();
        assert_eq!(lines(&node), expected, "{snapshots} snapshots");
        // One that was lost and comes back does not get in: the others do not know it.
        node.host.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_founded_from_an_image() {
    let wires = Wires::default();
    let (nodes, groups) = three(&wires).await;
    groups[0].wait_applied(groups[0].read_barrier(SOON).await.map_or(10, |at| at.index), SOON).await.expect("applied");
    let image = groups[0].image().await.expect("an image");
    let (at, mut bytes, mut pages) = (image.at(), Vec::new(), image.pages().expect("pages"));
    while let Some(page) = pages.next().expect("a page") {
        bytes.extend_from_slice(&page);
    }
    assert_eq!(bytes.len() as u64, image.byte_count());
    assert_eq!(blake3::hash(&bytes).as_bytes()[..], image.digest()[..]);
    let attachments: Vec<[u8; 32]> = image.attachments().iter().map(|hash| hash[..].try_into().expect("32")).collect();
    assert_eq!(attachments, [*blake3::hash(b"attach: body").as_bytes()]);

    let other = Wires::default();
    let (disk, shelf) = (MemoryDisk::new(), nodes[0].shelf.clone());
    let (journal, store) = (disk.journal(quiet()), disk.snapshots());
    let found = |at: Position| {
        let image = Image { at, attachments: attachments.clone(), bytes: &mut &bytes[..] };
        found_from(GROUP, &journal, &store, NodeId(9), "n9", image)
    };
    found(at).expect("founded");
    assert!(found(at).is_err(), "once");
    let mut node = memory_node(9, &other, disk.clone(), shelf.clone());
    let group = node.open(1, None).await.expect("opened");
    leader(std::slice::from_ref(&group)).await;
    assert_eq!(lines(&node), lines(&nodes[0]));
    let applied = propose(std::slice::from_ref(&group), b"on").await;
    assert!(applied.position.index > at.index && applied.position.term > at.term);
    // Another joins it, and gets everything.
    let mut second = memory_node(10, &other, MemoryDisk::new(), Shelf::default());
    let joined = second.open(1, None).await.expect("opened");
    group.add_learner(NodeId(10), "n10", Duration::from_secs(5)).await.expect("added");
    until("it has all lines", || (lines(&second) == lines(&node)).then_some(())).await;
    assert!(joined.status().learners.contains(&NodeId(10)));
}
