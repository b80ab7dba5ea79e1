//! An operator in a run with whole nodes: lets nodes join, drains and restores them, strikes off those that are drained
//! or lost, all through the client library and in the middle of the storm; and in the end sees to it that every replica is
//! where it should be. Who decides where that is: the product's planner.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;
use reckoner_client::client::Client;
use reckoner_client::error::Error;
use reckoner_client::proto;

use crate::cluster::address;
use crate::world::World;

/// Replicas that a shard has where there are nodes enough.
const REPLICAS: u64 = 3;

/// One change, by the numbers of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A machine starts and joins.
    Join(u64),
    /// Its replicas go to the others.
    Drain(u64),
    /// It may hold replicas again.
    Restore(u64),
    /// It is struck off, once it holds nothing, and taken away.
    Remove(u64),
    /// It is taken away without a word, and struck off for the other that joined.
    Lose(u64, u64),
}

/// Draws a sequence of changes; what is left of the founders and those who joined is at least three nodes.
pub fn draw(random: &mut SmallRng) -> Vec<Change> {
    let one = random.random_range(1..=3);
    let other = one % 3 + 1;
    match random.random_range(0..6) {
        0 => vec![Change::Join(4)],
        1 => vec![Change::Join(4), Change::Drain(one), Change::Remove(one)],
        2 => vec![Change::Drain(one), Change::Restore(one)],
        3 => vec![Change::Join(4), Change::Lose(one, 4)],
        4 => {
            vec![Change::Join(4), Change::Drain(one), Change::Restore(one), Change::Drain(other), Change::Remove(other)]
        }
        _ => vec![
            Change::Join(4),
            Change::Join(5),
            Change::Drain(one),
            Change::Remove(one),
            Change::Drain(other),
            Change::Remove(other),
        ],
    }
}

/// Makes the changes, one after the other.
pub struct Operator {
    world: World,
    client: Client,
    random: SmallRng,
    changes: Vec<Change>,
}

impl Operator {
    /// An operator of a run.
    pub fn new(world: World, changes: Vec<Change>) -> Self {
        let (client, random) = (world.client(4), world.random(4));
        Self { world, client, random, changes }
    }

    /// Until every change is made and every replica where it should be.
    pub async fn work(mut self) -> turmoil::Result {
        self.world.opened().await;
        let mut active: BTreeSet<u64> = (1..=self.world.settings.founders).collect();
        for change in self.changes.clone() {
            self.pause(1_500).await;
            self.world.heard(&format!("operator begins {change:?}"));
            match change {
                Change::Join(number) => {
                    self.join(number).await;
                    active.insert(number);
                }
                Change::Drain(number) => {
                    self.set(number, "draining", None).await;
                    active.remove(&number);
                }
                Change::Restore(number) => {
                    self.set(number, "active", None).await;
                    active.insert(number);
                }
                Change::Remove(number) => {
                    while !self.is_empty(number).await {
                        self.pause(300).await;
                    }
                    self.set(number, "removed", None).await;
                    self.take_away(number);
                }
                Change::Lose(number, successor) => {
                    // Whoever joined has to have its replicas first: with it on its way two losses would be one too many.
                    self.settled(&active).await;
                    self.take_away(number);
                    self.pause(1_000).await;
                    self.set(number, "removed", Some(successor)).await;
                    active.remove(&number);
                }
            }
            self.world.settings.wire.operated();
            self.world.heard(&format!("operator made {change:?}"));
        }
        self.settled(&active).await;
        self.world.heard("every replica is where it should be");
        Ok(())
    }

    async fn pause(&mut self, millis_max: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(20..millis_max))).await;
    }

    fn take_away(&self, number: u64) {
        if let Some(machine) = self.world.machines.iter().find(|machine| machine.number == number) {
            *machine.victim.gone.lock() = true;
        }
    }

    async fn join(&mut self, number: u64) {
        if let Some(machine) = self.world.machines.iter().find(|machine| machine.number == number) {
            machine.switch_on();
        }
        while self.status_of(number).await.is_none() {
            self.pause(300).await;
        }
    }

    /// Says what is wanted of a node, until that is heard.
    async fn set(&mut self, number: u64, state: &str, successor: Option<u64>) {
        loop {
            let request = proto::SetNodeRequest {
                name: address(number),
                state: state.to_owned(),
                replacement: successor.map(address).unwrap_or_default(),
                plan: false,
            };
            match self.client.set_node(request).await {
                Ok(_) => return,
                Err(error) if error.retryable() => self.world.heard(&format!("{number} is not {state} yet: {error}")),
                // It still answers: the wish was heard and the node has not heard of it, or a crash lies behind.
                Err(Error::Refused { code, .. }) if code == "IN_USE" => (),
                // Struck off by an attempt whose answer was lost.
                Err(Error::Refused { code, .. }) if code == "NOT_FOUND" && state == "removed" => return,
                Err(error) => return self.world.violated(format!("node {number} cannot be {state}: {error}")),
            }
            self.pause(200).await;
        }
    }

    async fn status(&mut self) -> Option<proto::StatusReply> {
        match self.client.status().await {
            Ok(status) => Some(status),
            Err(error) => {
                self.world.heard(&format!("no status: {error}"));
                None
            }
        }
    }

    async fn status_of(&mut self, number: u64) -> Option<proto::NodeStatus> {
        self.status().await?.nodes.into_iter().find(|node| node.address == address(number))
    }

    /// Whether a node holds nothing any more and is to hold nothing.
    async fn is_empty(&mut self, number: u64) -> bool {
        self.status_of(number).await.is_some_and(|node| node.replicas == 0 && node.state == "draining")
    }

    /// Waits until every shard has its replicas on machines that are `active`, as many as there are machines for. Nodes
    /// that have not heard of the latest change yet give answers too: they count for nothing.
    async fn settled(&mut self, active: &BTreeSet<u64>) {
        let expected = active.iter().map(|number| address(*number)).collect::<BTreeSet<_>>();
        let replicas = REPLICAS.min(active.len() as u64);
        loop {
            if let Some(status) = self.status().await {
                let is_active = |node: &&proto::NodeStatus| node.state == "active";
                let known = status.nodes.iter().filter(is_active).map(|node| node.address.clone()).collect();
                let ids: Vec<u64> = status.nodes.iter().filter(is_active).map(|node| node.id).collect();
                let there = |shard: &proto::ShardStatus| {
                    !shard.moving
                        && shard.wanted.len() as u64 == replicas
                        && shard.replicas.len() as u64 == replicas
                        && shard.wanted.iter().all(|node| ids.contains(node))
                };
                let shards = self.world.settings.shards as usize;
                let is_all = status.shards.len() == shards || self.world.shared.lock().layouts;
                if expected == known && is_all && !status.shards.is_empty() && status.shards.iter().all(there) {
                    self.world.shared.lock().replicas = replicas;
                    return;
                }
            }
            self.pause(300).await;
        }
    }
}
