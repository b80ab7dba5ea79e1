//! An operator in a run with whole nodes who changes which shards have which slots, through the client library and in the
//! middle of the storm; and in the end sees to it that every slot is where it was wanted. How slots get there is the
//! product's.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;
use reckoner_client::client::Client;
use reckoner_client::proto::set_layout_request::Wish;
use reckoner_client::proto::{MergeShards, MoveSlots, SetLayoutRequest, StatusReply, StopMoves};
use reckoner_shard::placement::slot_of;

use crate::world::{ROOTS, World, root};

/// Draws a sequence of wishes for a cluster of two shards; a later one may come before an earlier one is fulfilled.
pub fn draw(random: &mut SmallRng) -> Vec<Wish> {
    let slot = u32::from(slot_of(&root(random.random_range(1..=ROOTS))).0);
    let to_one = MoveSlots { first: slot, last: slot, to: 1 };
    match random.random_range(0..6) {
        0 => vec![Wish::Scale(3)],
        1 => vec![Wish::Scale(4), Wish::Scale(2)],
        2 => vec![Wish::Split(1), Wish::Merge(MergeShards { from: 3, into: 2 })],
        3 => vec![Wish::Move(to_one), Wish::Move(MoveSlots { to: 2, ..to_one }), Wish::Move(to_one)],
        4 => vec![Wish::Scale(5), Wish::Stop(StopMoves {}), Wish::Scale(1)],
        _ => vec![Wish::Merge(MergeShards { from: 2, into: 1 }), Wish::Scale(2)],
    }
}

/// One hierarchy to another shard and back, whichever it is in.
pub fn one_move() -> Vec<Wish> {
    let slot = u32::from(slot_of(&root(1)).0);
    let to = |to| Wish::Move(MoveSlots { first: slot, last: slot, to });
    vec![to(1), to(2)]
}

/// Wishes, one after the other, until all is as it was wanted last.
pub async fn work(world: World, wishes: Vec<Wish>) -> turmoil::Result {
    let (client, mut random) = (world.client(5), world.random(5));
    let last = wishes.last().copied();
    world.opened().await;
    for (id, wish) in wishes.into_iter().enumerate() {
        pause(&mut random, 2_000).await;
        world.heard(&format!("operator wishes {wish:?}"));
        loop {
            match client.set_layout(SetLayoutRequest { wish: Some(wish), plan: false, id: id.to_string() }).await {
                Ok(_) => break,
                Err(error) if error.retryable() => world.heard(&format!("not wished yet: {error}")),
                Err(error) => {
                    world.violated(format!("{wish:?} is refused: {error}"));
                    return Ok(());
                }
            }
            pause(&mut random, 300).await;
        }
        world.settings.wire.operated();
    }
    loop {
        if let Some(status) = status(&world, &client).await {
            if !status.halted.is_empty() {
                world.violated(format!("slots do not move: {}", status.halted));
                return Ok(());
            }
            let replicas = world.shared.lock().replicas;
            let is_founded = status.shards.iter().all(|shard| !shard.moving && shard.wanted.len() as u64 == replicas);
            let rests = status.slots_to_move + status.slots_moving == 0;
            let is_there = rests && is_founded && status.shards.iter().all(|shard| shard.slots > 0);
            // Whoever answered may not have heard of the last wish.
            if is_there && is_fulfilled(&world, &client, last).await {
                world.heard("every slot is where it should be");
                return Ok(());
            }
        }
        pause(&mut random, 300).await;
    }
}

/// Whether a wish would change nothing any more.
async fn is_fulfilled(world: &World, client: &Client, wish: Option<Wish>) -> bool {
    match client.set_layout(SetLayoutRequest { wish, plan: true, id: String::new() }).await {
        Ok(reply) => !reply.changes,
        Err(error) => {
            world.heard(&format!("no plan: {error}"));
            false
        }
    }
}

async fn pause(random: &mut SmallRng, millis_max: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(20..millis_max))).await;
}

async fn status(world: &World, client: &Client) -> Option<StatusReply> {
    match client.status().await {
        // A node that has not heard of the cluster knows no shard.
        Ok(status) => Some(status).filter(|status| !status.shards.is_empty()),
        Err(error) => {
            world.heard(&format!("no status: {error}"));
            None
        }
    }
}
