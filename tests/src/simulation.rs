//! Whole nodes under faults, from a seed: producers push through the client library, a cycle ends and is closed in the
//! middle of it, nodes crash and links break, nodes come and go; then everything is healed and compared with what clients
//! were told.
//!
//! What goes wrong is in [`crate::faults`], who takes part in [`crate::producing`], [`crate::members`] and [`crate::layouts`], what is checked
//! in [`crate::judge`], what a node is made of in [`crate::cluster`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_client::error::Error;
use reckoner_client::proto;
use reckoner_raft::types::GroupId;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::time::{CycleId, Timestamp};
use serde_json::json;

use crate::cluster::{Machine, Settings};
use crate::crash::Steps;
use crate::faults::{Injected, Mix, Storm, Victim, Wire};
use crate::judge::judge;
use crate::layouts;
use crate::members::{self, Operator};
use crate::nomads::{self, Going};
use crate::oracle::Oracle;
use crate::planted::Planted;
use crate::producing::Producer;
use crate::report::{self, Failure, Plan, Report, Run};
use crate::world::{CYCLE, CYCLE_END, ROOTS, Shared, World, is_automatic, root};

/// A step of the simulation.
const TICK: Duration = Duration::from_millis(2);

/// After the storm everything must be answered and equal within this. A connection that lost a packet is only given up
/// after its keep-alive, which takes twenty seconds; a replica that was sent a snapshot has five minutes to take it in, and
/// the answer may be what was lost.
const HEALING_MAX: Duration = Duration::from_secs(400);

/// Sequenced producers, and producers by id.
const SEQUENCED: u64 = 2;
const BY_ID: u64 = 1;

/// Nodes that found the cluster.
const FOUNDERS: u64 = 3;

/// How far a clock is ahead that is wrong.
const DAY: Duration = Duration::from_secs(86_400);

/// A clock that is wrong for a while.
struct WrongClock {
    /// How far it is ahead, nanoseconds.
    clock: Arc<AtomicI64>,
    /// How much further then.
    by: i64,
    from: Duration,
    until: Duration,
    is_wrong: bool,
}

impl WrongClock {
    /// Sets it as it should be now; whether it became wrong with that.
    fn turn(&mut self, now: Duration, stormy: bool) -> bool {
        let wrong = stormy && (self.from..self.until).contains(&now);
        if wrong != self.is_wrong {
            self.is_wrong = wrong;
            self.clock.fetch_add(if wrong { self.by } else { -self.by }, Ordering::Relaxed);
            tracing::info!(by = self.by, wrong, ?now, "a clock is set");
            return wrong;
        }
        false
    }
}

/// The documents of every run.
fn documents() -> Vec<proto::Document> {
    let document = |kind: &str, json: serde_json::Value| proto::Document {
        kind: kind.to_owned(),
        json: json.to_string().into(),
        source: String::new(),
    };
    let mut documents = vec![document(
        "Catalogue",
        json!({
            "kind": "Catalogue", "name": "simulated", "currency": "USD", "effective": CYCLE,
            "meters": [
                { "id": "requests", "service": "gateway", "usage_type": "requests", "scale": 0 },
                { "id": "transfer", "service": "gateway", "usage_type": "transfer", "scale": 3, "bucket": "day" },
            ],
            "skus": [
                { "id": "requests", "match": { "usage_type": "requests" }, "unit": "requests", "rate": "0.010" },
                { "id": "transfer", "match": { "usage_type": "transfer" }, "unit": "GB", "rate": "0.050" },
            ],
        }),
    )];
    for number in 1..=ROOTS {
        let name = root(number);
        let accounts: Vec<_> = ["a", "b", "n"][..if number == 1 { 3 } else { 2 }].iter().collect();
        let accounts: Vec<_> = accounts.into_iter().map(|own| json!({ "id": format!("{name}-{own}") })).collect();
        let close = if is_automatic(number) { "automatic" } else { "manual" };
        documents.push(document(
            "Hierarchy",
            json!({
                "kind": "Hierarchy", "root": name, "catalogue": "simulated",
                "accounts": accounts,
                "cycles": { "first": CYCLE, "close": close, "grace": "0h" },
            }),
        ));
    }
    documents
}

/// Applies the documents, however often it takes.
async fn set_up(world: World) -> turmoil::Result {
    let client = world.client(1);
    loop {
        let done = async {
            client.apply("documents", documents()).await?;
            client.job("documents", Duration::from_secs(1)).await
        };
        match done.await {
            Ok(job) if job.state == "done" => break,
            Ok(job) if job.state == "refused" => {
                world.violated(format!("the documents are refused: {:?}", job.steps));
                return Ok(());
            }
            Ok(_) => (),
            Err(error) if error.retryable() => world.heard(&format!("not applied yet: {error}")),
            Err(error) => {
                world.violated(format!("the documents cannot be applied: {error}"));
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.heard("applied");
    world.shared.lock().open = true;
    Ok(())
}

/// Closes the cycle of the hierarchies that do not close by themselves, and sees to it that all are closed in the end.
async fn close(world: World) -> turmoil::Result {
    world.opened().await;
    let client = world.client(2);
    let mut random = world.random(2);
    let cycle: CycleId = CYCLE.parse().expect("a cycle");
    let mut open: Vec<u64> = (1..=ROOTS).filter(|number| !is_automatic(*number)).collect();
    while !open.is_empty() {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..500))).await;
        let at = random.random_range(0..open.len());
        let name = root(open[at]);
        let closed = client.close(&AccountId::new(&name).expect("a name"), cycle).await;
        world.heard(&format!(
            "close of {name}: {:?}",
            closed.as_ref().map(|reply| &reply.state).map_err(|e| e.to_string())
        ));
        match closed {
            Ok(reply) if reply.state == "issued" => {
                let mut shared = world.shared.lock();
                for bill in reply.bills {
                    let seen = shared.oracle.bill(&bill.root, &bill.cycle, &bill.payer, &bill.body_hash);
                    if let Err(words) = seen {
                        shared.run.violated(words);
                    }
                }
                open.swap_remove(at);
            }
            Ok(_) => (),
            Err(error) => {
                let running = matches!(&error, Error::Refused { code, .. } if code == "CYCLE_RUNNING");
                if !running && !error.retryable() {
                    world.violated(format!("close of {name}: {error}"));
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Runs one seed.
///
/// # Errors
/// What was violated, with the story.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let Plan { seed, length, planted, .. } = *plan;
    let mut random = SmallRng::seed_from_u64(seed ^ 0x5EED);
    let mut mix = Mix::draw(&mut random);
    if let Some(planted) = planted {
        mix = mix.harsh(planted);
    }
    if plan.quiet {
        mix = Mix::none();
    }
    let wire = Wire::new(mix.clone(), random.random(), planted);
    let end: Timestamp = CYCLE_END.parse().expect("an instant");
    let snapshots_often = planted.is_some() || plan.quiet;
    let steps = Steps::new(plan.crash);
    // A clock that is a day ahead has to cut before the end, so that stays out of reach.
    let before_end = if planted == Some(Planted::ClockAhead) { 2.0 } else { random.random_range(0.2..0.7) };
    let settings = Settings {
        seed,
        founders: FOUNDERS,
        shards: 2,
        base: Timestamp(end.0 - (length.as_nanos() as f64 * before_end) as i64),
        snapshot_bytes: random.random_range(2_000..if snapshots_often { 6_000 } else { 60_000 }),
        wire: wire.clone(),
        steps: steps.clone(),
        planted,
    };
    // Planted bugs and crash points are looked for in clusters that stay as they are.
    let changes = if mix.operate && planted.is_none() { members::draw(&mut random) } else { Vec::new() };
    // Nodes that come and go, or slots; now and then both at once.
    let is_still = changes.is_empty() || random.random_bool(0.4);
    let is_still = is_still && planted.is_none() && !plan.quiet;
    let wishes = match is_still && random.random_bool(0.6) {
        true => layouts::draw(&mut random),
        // Crash points lie inside a slot move too.
        false if plan.quiet => layouts::one_move(),
        false => Vec::new(),
    };
    let joiners = changes.iter().filter(|change| matches!(change, members::Change::Join(_))).count() as u64;
    let machines: Vec<Machine> = (1..=FOUNDERS + joiners)
        .map(|number| {
            let mut ahead = random.random_range(Duration::ZERO..Duration::from_millis(1_500));
            let mut behind = random.random_bool(0.5);
            if planted == Some(Planted::ClockAhead) && number == 1 {
                (ahead, behind) = (DAY, false);
            }
            Machine::new(number, ahead, behind, settings.clone())
        })
        .collect();
    let shared = Shared {
        run: Run::default(),
        oracle: Oracle::default(),
        bad: BTreeSet::new(),
        open: false,
        replicas: FOUNDERS,
        layouts: !wishes.is_empty(),
    };
    let world = World { seed, settings, machines, length, shared: Arc::new(Mutex::new(shared)) };
    let mut sim = report::builder(seed, TICK, mix.latency_max).build();
    for machine in &world.machines {
        let machine = machine.clone();
        sim.host(machine.victim.name.clone(), move || machine.clone().run());
    }
    sim.client("setup", set_up(world.clone()));
    sim.client("closer", close(world.clone()));
    if !changes.is_empty() {
        sim.client("operator", Operator::new(world.clone(), changes).work());
    }
    if !wishes.is_empty() {
        sim.client("planner", layouts::work(world.clone(), wishes));
    }
    // Crash points lie inside account moves too.
    let is_nomadic = planted.is_none() && (plan.quiet || seed % 2 == 0);
    if is_nomadic || planted == Some(Planted::TransfersNotKept) {
        let going = Going::default();
        sim.client("mover", nomads::work(world.clone(), going.clone(), plan.quiet));
        let nomad = Producer::of_nomad(world.clone(), SEQUENCED + BY_ID + 1, going);
        sim.client(nomad.name.clone(), nomad.work());
    }
    // A clock that goes wrong, by hours or days, for a part of the storm: never those of a majority. In half of these runs
    // another goes as wrong in the moment in which the first is set right.
    let mut wrong_clocks = Vec::new();
    if planted.is_none() && !plan.quiet && random.random_bool(0.5) {
        let machine = random.random_range(0..FOUNDERS as usize);
        let seconds: i64 = random.random_range(3_600..3 * 86_400);
        let by = seconds * 1_000_000_000 * if random.random_bool(0.6) { 1 } else { -1 };
        let from = length.mul_f64(random.random_range(0.0..0.7));
        let until = from + length.mul_f64(random.random_range(0.1..0.6));
        let wrong = |machine: usize, from: Duration, until: Duration| WrongClock {
            clock: world.machines[machine].ahead.clone(),
            by,
            from,
            until,
            is_wrong: false,
        };
        wrong_clocks.push(wrong(machine, from, until));
        if random.random_bool(0.5) {
            wrong_clocks.push(wrong((machine + 1) % FOUNDERS as usize, until, until + length.mul_f64(0.3)));
        }
    }
    let mut clocks = 0;
    let mut bystanders = Vec::new();
    for number in 1..=SEQUENCED + BY_ID {
        let producer = Producer::new(world.clone(), number, number > SEQUENCED);
        bystanders.push(producer.name.clone());
        sim.client(producer.name.clone(), producer.work());
    }
    let victims: Vec<Victim> = world.machines.iter().map(|machine| machine.victim.clone()).collect();
    let groups = (0..=world.settings.shards).map(GroupId).collect();
    // In some runs the cluster is founded in fair weather, in others it is not.
    let fair_start = random.random_bool(0.6);
    let mut storm = Storm::new(mix, random.random(), victims, groups, wire);
    storm.cut_also(bystanders);
    // Under crash points one node is away for a while, so that the others have to send it a snapshot.
    let mut away = plan.quiet.then_some(length / 4);
    let mut calm_since = None;
    let mut judging = false;
    let judged = loop {
        match calm_since {
            None if sim.elapsed() >= length => {
                storm.calm(&mut sim);
                calm_since = Some(sim.elapsed());
            }
            None if fair_start && !world.shared.lock().open => (),
            None => storm.step(&mut sim, TICK),
            Some(_) => storm.after(&mut sim),
        }
        for clock in &mut wrong_clocks {
            clocks += u64::from(clock.turn(sim.elapsed(), calm_since.is_none()));
        }
        if away.is_some_and(|at| sim.elapsed() >= at) {
            away = None;
            storm.take_down(&mut sim, FOUNDERS as usize - 1, length / 2);
        }
        let done = match report::step(&mut sim) {
            Ok(done) => done,
            Err(words) => break Err(words),
        };
        for machine in &world.machines {
            world.check(machine.equal());
        }
        if let Some(words) = world.shared.lock().run.violations.first() {
            break Err(words.clone());
        }
        if done && calm_since.is_some() && !storm.any_down() {
            if judging {
                break Ok(());
            }
            judging = true;
            sim.client("judge", judge(world.clone()));
        }
        if calm_since.is_some_and(|since| sim.elapsed() > since + HEALING_MAX) {
            let missing = world.shared.lock().oracle.unanswered();
            for context in world.machines.iter().filter_map(Machine::context) {
                let (node, status) = (context.node, context.meta.group().status());
                tracing::info!(node, ?status, map = ?context.meta.state(), "what a node knows of the cluster");
            }
            break Err(format!("not healed {HEALING_MAX:?} after the storm; {missing} records without a verdict"));
        }
    };
    let simulated = sim.elapsed();
    // After a panic inside a node its runtime cannot be dropped in order.
    std::mem::forget(sim);
    let injected = Injected { crash_points: steps.reached().into(), clocks, ..storm.injected() };
    let shared = world.shared.lock();
    tracing::info!(refused = ?shared.oracle.refused(), "refused");
    let (trace, checked) = (shared.run.trace(), shared.run.checked);
    let report = Report { seed, trace, simulated, injected, checked, steps: steps.counts() };
    judged.map(|()| report).map_err(|words| Failure { seed, words, story: storm.story.clone() })
}
