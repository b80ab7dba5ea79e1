//! An account that goes from one hierarchy to another in a run with whole nodes, while a producer of its own sends usage of
//! it, dies, and sends again. Whose the usage from the date on is, the move's job says in the end; till then either may be.
//! In runs for crash points its new hierarchy does not take it in at first, so that it stays till it is asked for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;
use reckoner_client::client::Client;
use reckoner_client::error::Error;
use reckoner_client::proto;
use reckoner_shard::account::transfer::WayDocument;
use reckoner_shard::base::id::{AccountId, GroupName};
use serde_json::json;

use crate::push::document;
use crate::world::{NEXT, World, root};

/// The move's job.
const JOB: &str = "nomad";

/// The job of the move that comes to nothing.
const IN_VAIN: &str = "in-vain";

/// The account, and where it goes from the next cycle's first instant on.
pub fn account() -> String {
    format!("{}-n", root(1))
}

/// Where it goes.
pub fn target() -> String {
    root(2)
}

/// Whether usage of the next cycle may come.
#[derive(Debug, Clone, Default)]
pub struct Going(Arc<AtomicBool>);

impl Going {
    /// The cycle of a record.
    pub fn cycle<'c>(&self, random: &mut SmallRng, now: &'c str, next: &'c str) -> &'c str {
        if random.random_bool(0.5) && self.0.load(Ordering::SeqCst) { next } else { now }
    }
}

/// Moves the account, however often it has to be asked for. `quiet`: it surely moves, and not at the first attempt.
pub async fn work(world: World, going: Going, quiet: bool) -> turmoil::Result {
    world.opened().await;
    let (client, mut random) = (world.client(6), world.random(6));
    tokio::time::sleep(Duration::from_millis(random.random_range(100..3_000))).await;
    let way = WayDocument {
        account: AccountId::new(&account()).expect("a name"),
        from: AccountId::new(&root(1)).expect("a name"),
        to: AccountId::new(&target()).expect("a name"),
        at: format!("{NEXT}-01T00:00:00Z").parse().expect("an instant"),
        payer: None,
        group: None,
    };
    // Usage that comes first keeps the account where it is.
    let is_rash = !quiet && random.random_bool(0.3);
    if quiet {
        go_in_vain(&world, &client, &way).await;
    }
    let mut is_known = false;
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(10..150))).await;
        if is_rash || has_ended(&client).await {
            going.0.store(true, Ordering::SeqCst);
        }
        if !is_known {
            let asked = client.apply(JOB, vec![document("AccountMove", json!(way))]).await;
            is_known = heard(&world, asked);
            continue;
        }
        let Ok(job) = client.job(JOB, Duration::from_millis(100)).await else { continue };
        let refusal = job.steps.iter().find_map(|step| step.refusal.as_ref());
        match (job.state.as_str(), refusal) {
            ("running", _) => continue,
            ("done", _) => {
                world.heard("the account has moved");
                world.shared.lock().oracle.rehome(&account(), NEXT, &target());
            }
            (_, Some(refusal)) if refusal.reason == "EFFECTIVE_TOO_EARLY" && is_rash => {
                world.heard("the account stays");
            }
            _ => world.violated(format!("the account does not move: {job:?}")),
        }
        going.0.store(true, Ordering::SeqCst);
        return Ok(());
    }
}

/// Moves it to a group that its new hierarchy does not have: it has left by then, and has to be back.
async fn go_in_vain(world: &World, client: &Client, way: &WayDocument) {
    let nowhere = WayDocument { group: Some(GroupName::new("nowhere").expect("a name")), ..way.clone() };
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asked = client.apply(IN_VAIN, vec![document("AccountMove", json!(nowhere))]).await;
        if !heard(world, asked) {
            continue;
        }
        let Ok(job) = client.job(IN_VAIN, Duration::from_millis(100)).await else { continue };
        let refusal = job.steps.iter().find_map(|step| step.refusal.as_ref());
        match (job.state.as_str(), refusal) {
            ("running", _) => continue,
            // Whoever goes on with it after a crash may only hear that it was refused.
            ("refused", Some(refusal)) if ["INVALID_DOCUMENT", "VERSION_CONFLICT"].contains(&&*refusal.reason) => break,
            _ => world.violated(format!("the account moves to a group that is not there: {job:?}")),
        }
    }
    world.heard("the account is not taken in");
    if has_ended(client).await {
        world.violated("the account was not taken in and has left");
    }
}

/// Whether somebody knows that the account leaves.
async fn has_ended(client: &Client) -> bool {
    let name = AccountId::new(&account()).expect("a name");
    let Ok(shown) = client.show_account(&name).await else { return false };
    let ends = |own: &proto::AccountMembership| own.account.as_ref().is_some_and(|account| account.until_ns.is_some());
    shown.memberships.iter().any(ends)
}

/// Whether the move was asked for: an answer that was lost is asked for again, under the same job.
fn heard(world: &World, asked: Result<proto::ApplyReply, Error>) -> bool {
    match asked {
        Ok(_) => true,
        Err(error) => {
            world.heard(&format!("the move is not asked for yet: {error}"));
            if !error.retryable() {
                world.violated(format!("the move cannot be asked for: {error}"));
            }
            false
        }
    }
}
