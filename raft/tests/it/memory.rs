//! Groups over the twins in memory. Time is tokio's own and stands still while somebody works, so these are quick.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use reckoner_raft::error::Error;
use reckoner_raft::group::{Group, Role};
use reckoner_raft::store::memory::MemoryDisk;
use reckoner_raft::timings::Limits;
use reckoner_raft::types::{GroupId, NodeId};

use crate::harness::*;

#[tokio::test(start_paused = true)]
async fn one_node_applies_in_order_and_answers() {
    let wires = Wires::default();
    let mut node = memory_node(1, &wires, MemoryDisk::new(), Shelf::default());
    let group = node.open(1, Some(&members(&[1]))).await.expect("opened");
    let groups = [group.clone()];
    leader(&groups).await;
    let mut last = 0;
    for number in 1..=10 {
        let applied = propose(&groups, format!("line {number}").as_bytes()).await;
        assert_eq!(applied.outcome, Bytes::from(number.to_string()));
        assert!(applied.position.index > last);
        last = applied.position.index;
    }
    assert_eq!(node.book(1).lines().len(), 10);
    let barrier = group.read_barrier(SOON).await.expect("barrier");
    assert_eq!(barrier.index, last);
    group.wait_applied(last, SOON).await.expect("applied");
    let never = group.wait_applied(last + 1, Duration::from_millis(50)).await;
    assert!(matches!(never, Err(Error::Unavailable { .. })), "{never:?}");
}

#[tokio::test(start_paused = true)]
async fn too_large_is_refused_before_it_is_written() {
    let wires = Wires::default();
    let mut node = memory_node(1, &wires, MemoryDisk::new(), Shelf::default());
    let group = node.open(1, Some(&members(&[1]))).await.expect("opened");
    leader(std::slice::from_ref(&group)).await;
    let before = group.status().last_log;
    let bytes = Bytes::from(vec![0; Limits::default().entry_bytes_max + 1]);
    let refused = group.propose(bytes, SOON).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(group.status().last_log, before);
}

#[tokio::test(start_paused = true)]
async fn the_others_go_on_when_the_leader_stops() {
    let (wires, nodes, groups) = three().await;
    for number in 0..5 {
        propose(&groups, format!("before {number}").as_bytes()).await;
    }
    let first = leader(&groups).await;
    groups[first].stop().await;
    wires.unplug(nodes[first].id);
    let rest: Vec<Group> =
        groups.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, group)| group.clone()).collect();
    for number in 0..5 {
        propose(&rest, format!("after {number}").as_bytes()).await;
    }
    let alive: Vec<&Node> = nodes.iter().filter(|n| n.id != nodes[first].id).collect();
    same_books(&alive, 10).await;
    assert_eq!(groups[first].status().role, Role::Stopped);
    let refused = groups[first].propose(Bytes::from_static(b"late"), SOON).await;
    assert!(matches!(refused, Err(Error::Stopped { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_names_the_leader() {
    let (_wires, _nodes, groups) = three().await;
    let at = leader(&groups).await;
    let follower = (at + 1) % 3;
    until("the leader known", || groups[follower].status().leader).await;
    let refused = groups[follower].propose(Bytes::from_static(b"x"), SOON).await;
    let Err(Error::NotLeader { leader: Some((node, address)) }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(node.0, at as u64 + 1);
    assert_eq!(address, format!("n{node}"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_majority_takes_nothing_on_trust() {
    let (wires, nodes, groups) = three().await;
    let at = leader(&groups).await;
    propose(&groups, b"known").await;
    wires.cut(nodes[at].id);
    let result = groups[at].propose(Bytes::from_static(b"lost"), Duration::from_millis(300)).await;
    assert!(matches!(result, Err(Error::Unknown { .. } | Error::Unavailable { .. })), "{result:?}");
    let barrier = groups[at].read_barrier(Duration::from_millis(300)).await;
    assert!(barrier.is_err(), "{barrier:?}");
    let rest: Vec<Group> = (0..3).filter(|n| *n != at).map(|n| groups[n].clone()).collect();
    propose(&rest, b"others").await;
    wires.heal(nodes[at].id);
    let all: Vec<&Node> = nodes.iter().collect();
    same_books(&all, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_barrier_after_a_hand_over_is_not_stale() {
    let (_wires, nodes, groups) = three().await;
    for round in 0..6 {
        let applied = propose(&groups, format!("round {round}").as_bytes()).await;
        let at = leader(&groups).await;
        let to = nodes[(at + 1) % 3].id;
        groups[at].transfer_leader(to, SOON).await.expect("handed over");
        let new = (at + 1) % 3;
        until("the new leader", || (groups[new].status().role == Role::Leader).then_some(())).await;
        let barrier = groups[new].read_barrier(SOON).await.expect("barrier");
        assert!(barrier.index >= applied.position.index);
        assert_eq!(nodes[new].book(1).lines().len(), round + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_to_a_peer_that_is_behind() {
    let (wires, nodes, groups) = three().await;
    let at = leader(&groups).await;
    let (to, term) = ((at + 1) % 3, groups[at].status().term);
    wires.cut(nodes[to].id);
    propose(&groups[at..=at], b"missed").await;
    let writing = async {
        // Meanwhile this one leads as before.
        for number in 0..20 {
            let line = Bytes::from(format!("meanwhile {number}"));
            groups[at].propose(line, SOON).await.expect("taken");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let handing = groups[at].transfer_leader(nodes[to].id, Duration::from_millis(300));
    let (handed, ()) = tokio::join!(handing, writing);
    assert!(matches!(&handed, Err(Error::Unavailable { reason }) if reason.contains("behind")), "{handed:?}");
    assert_eq!((groups[at].status().role, groups[at].status().term), (Role::Leader, term));
    // Back, it is waited for: what it missed comes to it at once, whatever pause it had been given.
    wires.heal(nodes[to].id);
    let handed = groups[at].transfer_leader(nodes[to].id, SOON).await;
    assert_eq!(handed, Ok(()));
    until("the new leader", || (groups[to].status().role == Role::Leader).then_some(())).await;
    let all: Vec<&Node> = nodes.iter().collect();
    same_books(&all, 21).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_writes_during_a_hand_over_is_told_that_nobody_leads_yet() {
    let (wires, nodes, groups) = three().await;
    let at = leader(&groups).await;
    let to = (at + 1) % 3;
    propose(&groups, b"before").await;
    until("everything there", || {
        (groups[at].status().matched.get(&nodes[to].id) == Some(&groups[at].status().last_log)).then_some(())
    })
    .await;
    // Nobody hears that it should take over.
    wires.cut(nodes[at].id);
    let handed = groups[at].transfer_leader(nodes[to].id, Duration::from_millis(50)).await;
    assert!(matches!(&handed, Err(Error::Unavailable { .. })), "{handed:?}");
    let refused = groups[at].propose(Bytes::from_static(b"between"), SOON).await;
    assert_eq!(refused, Err(Error::NotLeader { leader: None }));
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_nothing_that_was_acknowledged() {
    let wires = Wires::default();
    let ids = members(&[1, 2, 3]);
    let disks: Vec<MemoryDisk> = (0..3).map(|_| MemoryDisk::new()).collect();
    for disk in &disks {
        disk.set_torn(true);
    }
    let mut acknowledged = Vec::new();
    for life in 0..4 {
        let mut nodes: Vec<Node> =
            (1..=3).map(|id| memory_node(id, &wires, disks[id as usize - 1].clone(), Shelf::default())).collect();
        let mut groups = Vec::new();
        for node in &mut nodes {
            node.disk.set_flush_delay(Duration::from_millis(3));
            groups.push(node.open(1, Some(&ids)).await.expect("opened"));
        }
        for number in 0..7 {
            let line = format!("life {life} line {number}");
            propose(&groups, line.as_bytes()).await;
            acknowledged.push(Bytes::from(line));
        }
        // Some that nobody waits for, then the power goes everywhere.
        for group in &groups {
            let group = group.clone();
            tokio::spawn(async move {
                let _ = group.propose(Bytes::from_static(b"hanging"), SOON).await;
            });
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        for (node, group) in nodes.iter().zip(&groups) {
            node.disk.crash();
            wires.unplug(node.id);
            group.stop().await;
        }
    }
    let mut node_set: Vec<Node> =
        (1..=3).map(|id| memory_node(id, &wires, disks[id as usize - 1].clone(), Shelf::default())).collect();
    let mut groups = Vec::new();
    for node in &mut node_set {
        groups.push(node.open(1, Some(&ids)).await.expect("opened"));
    }
    propose(&groups, b"end").await;
    let at = leader(&groups).await;
    let lines: Vec<Bytes> = node_set[at].book(1).lines().into_iter().filter(|line| line.starts_with(b"life")).collect();
    assert_eq!(lines, acknowledged);
}

#[tokio::test(start_paused = true)]
async fn a_refused_flush_acknowledges_nothing_and_says_so_once() {
    let (_wires, nodes, groups) = three().await;
    propose(&groups, b"sound").await;
    let at = leader(&groups).await;
    nodes[at].disk.set_refusing(true);
    let result = groups[at].propose(Bytes::from_static(b"refused"), Duration::from_secs(2)).await;
    assert!(result.is_err(), "{result:?}");
    until("the hook called", || (nodes[at].refused.lock().len() == 1).then_some(())).await;
    until("the replica stopped", || (groups[at].status().role == Role::Stopped).then_some(())).await;
    assert!(groups[at].status().failure.is_some());
    let rest: Vec<Group> = (0..3).filter(|n| *n != at).map(|n| groups[n].clone()).collect();
    propose(&rest, b"goes on").await;
    assert_eq!(nodes[at].refused.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_halts_stops_its_replica() {
    let wires = Wires::default();
    let mut node = memory_node(1, &wires, MemoryDisk::new(), Shelf::default());
    let group = node.open(1, Some(&members(&[1]))).await.expect("opened");
    leader(std::slice::from_ref(&group)).await;
    let result = group.propose(Bytes::from_static(b"halt"), SOON).await;
    assert!(result.is_err(), "{result:?}");
    until("stopped", || (group.status().role == Role::Stopped).then_some(())).await;
    let failure = group.status().failure;
    assert_eq!(failure.as_deref(), Some("asked to"));
    let again = group.propose(Bytes::from_static(b"x"), SOON).await;
    assert!(matches!(again, Err(Error::Stopped { .. })), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn restart_gives_the_same_bytes_from_snapshot_and_log() {
    let wires = Wires::default();
    let disk = MemoryDisk::new();
    let ids = members(&[1]);
    let mut expected = Vec::new();
    for life in 0..4 {
        let mut node = memory_node(1, &wires, disk.clone(), Shelf::default());
        let group = node.open(1, Some(&ids)).await.expect("opened");
        let groups = [group.clone()];
        leader(&groups).await;
        group.read_barrier(SOON).await.expect("barrier");
        assert_eq!(node.book(1).bytes(), expected, "life {life}");
        for number in 0..20 {
            propose(&groups, format!("{life}/{number};").as_bytes()).await;
            if number == 9 || number == 15 {
                group.snapshot_now().await.expect("snapshot");
            }
        }
        expected = node.book(1).bytes();
        let status = group.status();
        let snapshot = status.snapshot.expect("a snapshot").index;
        // Two are kept, and the log reaches back to the older one.
        let purged = until("a purge", || group.status().purged).await;
        assert!(purged < snapshot, "{purged} {snapshot}");
        assert_eq!(disk.entries(GroupId(1)).start, purged + 1);
        if life % 2 == 0 {
            node.host.stop().await;
        } else {
            disk.crash();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_falls_back_to_the_one_before() {
    let wires = Wires::default();
    let disk = MemoryDisk::new();
    let ids = members(&[1]);
    let mut node = memory_node(1, &wires, disk.clone(), Shelf::default());
    let group = node.open(1, Some(&ids)).await.expect("opened");
    let groups = [group.clone()];
    leader(&groups).await;
    for number in 0..9 {
        propose(&groups, format!("{number}").as_bytes()).await;
        if number % 3 == 0 {
            group.snapshot_now().await.expect("snapshot");
        }
    }
    let expected = node.book(1).bytes();
    node.host.stop().await;
    assert!(disk.corrupt_snapshot(GroupId(1)));
    let mut node = memory_node(1, &wires, disk.clone(), Shelf::default());
    let group = node.open(1, Some(&ids)).await.expect("opened from the older");
    leader(std::slice::from_ref(&group)).await;
    group.read_barrier(SOON).await.expect("barrier");
    assert_eq!(node.book(1).bytes(), expected);
    node.host.stop().await;
    // The damaged one is gone; with the last one damaged too, the log does not reach back.
    assert!(disk.corrupt_snapshot(GroupId(1)));
    let mut node = memory_node(1, &wires, disk, Shelf::default());
    let refused = node.open(1, Some(&ids)).await.map(|group| group.status());
    let Err(Error::StateLost { reason }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("begins behind entry"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_its_state_gets_it_from_a_peer_and_keeps_its_log() {
    let (wires, mut nodes, groups) = three().await;
    for number in 0..9 {
        propose(&groups, format!("{number}").as_bytes()).await;
        for group in groups.iter().filter(|_| number % 3 == 0) {
            group.snapshot_now().await.expect("snapshot");
        }
    }
    let at = leader(&groups).await;
    let (lost, from) = ((at + 1) % 3, (at + 2) % 3);
    until("a purge", || groups[lost].status().purged).await;
    propose(&groups, b"attach:a letter").await;
    let vote = groups[lost].status().term;
    nodes[lost].host.forget_state(GroupId(1)).await.expect("forgotten");
    let refused = nodes[lost].open(1, None).await.map(|group| group.status());
    assert!(matches!(refused, Err(Error::StateLost { .. })), "{refused:?}");
    // While it is closed the others go on, and its log is behind what it is sent.
    let rest: Vec<Group> = [at, from].map(|n| groups[n].clone()).into();
    propose(&rest, b"meanwhile").await;
    nodes[lost].shelf.0.lock().clear();
    let (source, host) = (nodes[from].id, nodes[lost].host.clone());
    let own = format!("n{}", nodes[lost].id);
    wires.cut(source);
    let cut = host.fetch_state(GroupId(1), source, &format!("n{source}"), &own).await;
    assert!(matches!(cut, Err(Error::Unavailable { .. })), "{cut:?}");
    wires.heal(source);
    host.fetch_state(GroupId(1), source, &format!("n{source}"), &own).await.expect("fetched");
    let again = nodes[lost].open(1, None).await.expect("opened");
    until("its vote, which stands", || (again.status().term >= vote).then_some(())).await;
    let mut groups = groups;
    groups[lost] = again;
    propose(&groups, b"all again").await;
    let all: Vec<&Node> = nodes.iter().collect();
    same_books(&all, 12).await;
    let letter = *blake3::hash(b"attach:a letter").as_bytes();
    assert!(nodes[lost].shelf.0.lock().contains_key(&letter));
}

#[tokio::test(start_paused = true)]
async fn a_lagging_follower_and_an_empty_one_get_a_snapshot_with_its_attachments() {
    let (wires, mut nodes, mut groups) = three().await;
    let at = leader(&groups).await;
    let behind = (at + 1) % 3;
    propose(&groups, b"everybody").await;
    wires.cut(nodes[behind].id);
    let connected: Vec<Group> = (0..3).filter(|n| *n != behind).map(|n| groups[n].clone()).collect();
    propose(&connected, b"attach:a letter").await;
    for number in 0..30 {
        propose(&connected, format!("while away {number}").as_bytes()).await;
        if number % 10 == 9 {
            for group in &connected {
                group.snapshot_now().await.expect("snapshot");
            }
        }
    }
    assert_eq!(wires.snapshots_begun(), 0);
    // The leader lets go of its log only after a call to the one that is away has failed.
    for group in &connected {
        until("a purge", || group.status().purged).await;
    }
    wires.heal(nodes[behind].id);
    let all: Vec<&Node> = nodes.iter().collect();
    same_books(&all, 32).await;
    assert!(wires.snapshots_begun() > 0, "it was to need a snapshot");
    let letter = *blake3::hash(b"attach:a letter").as_bytes();
    assert!(nodes[behind].shelf.0.lock().contains_key(&letter));

    // A fourth node starts with nothing.
    let mut fourth = memory_node(4, &wires, MemoryDisk::new(), Shelf::default());
    let joining = fourth.open(1, None).await.expect("opened");
    let at = leader(&groups).await;
    groups[at].add_learner(NodeId(4), "n4", SOON).await.expect("learner");
    until("the learner up to date", || (fourth.book(1).lines().len() == 32).then_some(())).await;
    assert!(fourth.shelf.0.lock().contains_key(&letter));
    let voters: BTreeSet<NodeId> = [1, 2, 3, 4].map(NodeId).into();
    groups[at].change_membership(voters.clone(), false, SOON).await.expect("voter");
    until("it knows", || (joining.status().voters == voters).then_some(())).await;
    groups.push(joining);
    nodes.push(fourth);
    propose(&groups, b"four now").await;
    let all: Vec<&Node> = nodes.iter().collect();
    same_books(&all, 33).await;
}

#[tokio::test(start_paused = true)]
async fn attachments_lost_here_are_fetched_before_the_group_serves() {
    let (wires, nodes, groups) = three().await;
    propose(&groups, b"attach:kept elsewhere").await;
    propose(&groups, b"and a line").await;
    let lost = 1;
    groups[lost].wait_applied(3, SOON).await.expect("applied");
    groups[lost].snapshot_now().await.expect("snapshot");
    groups[lost].stop().await;
    nodes[lost].host.stop().await;
    let shelf = Shelf::default();
    let mut back = memory_node(2, &wires, nodes[lost].disk.clone(), shelf.clone());
    back.open(1, None).await.expect("opened");
    let hash = *blake3::hash(b"attach:kept elsewhere").as_bytes();
    assert!(shelf.0.lock().contains_key(&hash));

    // Without peers the group does not open.
    back.host.stop().await;
    wires.cut(NodeId(2));
    let mut alone = memory_node(2, &wires, nodes[lost].disk.clone(), Shelf::default());
    let refused = alone.open(1, None).await.map(|group| group.status());
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn snapshots_come_by_bytes_and_by_time() {
    let wires = Wires::default();
    let limits = Limits { snapshot_log_bytes: 100_000, snapshot_interval: Duration::from_secs(600), ..limits() };
    let mut node = memory_node_with(1, &wires, MemoryDisk::new(), Shelf::default(), limits);
    let group = node.open(1, Some(&members(&[1]))).await.expect("opened");
    let groups = [group.clone()];
    leader(&groups).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(group.status().snapshot, None);
    let mut last = 0;
    for _ in 0..11 {
        last = propose(&groups, &[b'x'; 10_000]).await.position.index;
    }
    until("a snapshot by bytes", || (group.status().snapshot.map(|at| at.index) == Some(last)).then_some(())).await;
    let last = propose(&groups, b"a little more").await.position.index;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_ne!(group.status().snapshot.map(|at| at.index), Some(last));
    tokio::time::sleep(Duration::from_secs(310)).await;
    assert_eq!(group.status().snapshot.map(|at| at.index), Some(last));
}

#[tokio::test(start_paused = true)]
async fn peers_of_another_cluster_and_calls_for_another_node_are_refused() {
    use reckoner_raft::wire::proto;
    let wires = Wires::default();
    let mut node = memory_node(1, &wires, MemoryDisk::new(), Shelf::default());
    node.open(1, Some(&members(&[1]))).await.expect("opened");
    let request = |format, cluster: u128, to, group| proto::PeerRequest {
        format,
        cluster: Bytes::copy_from_slice(&cluster.to_be_bytes()),
        from: 2,
        to,
        group,
        call: Some(proto::peer_request::Call::Vote(proto::VoteCall {
            vote: Some(proto::Vote { term: 0, node: 2, committed: false }),
            last: None,
            leadership_transfer: false,
        })),
    };
    use proto::RefusalCode::{Malformed, NoGroup, WrongPeer};
    for (call, expected) in [
        (request(1, 2, 1, 1), Some(WrongPeer)),
        (request(1, 1, 3, 1), Some(WrongPeer)),
        (request(1, 1, 1, 9), Some(NoGroup)),
        (request(2, 1, 1, 1), Some(Malformed)),
        (request(1, 1, 1, 1), None),
    ] {
        let reply = node.host.handle(call).await;
        let code = match reply.answer {
            Some(proto::peer_reply::Answer::Refusal(refusal)) => Some(refusal.code()),
            _ => None,
        };
        assert_eq!(code, expected);
    }
}
