//! Whole nodes under faults, from a seed: producers push through the client library, a cycle ends and is closed in the
//! middle of it, nodes crash and links break; then everything is healed and compared with what clients were told.
//!
//! What goes wrong is in [`crate::faults`], what is checked in [`crate::oracle`], what a node is made of in
//! [`crate::cluster`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::proto;
use reckoner_raft::types::GroupId;
use reckoner_shard::base::id::{AccountId, ProducerId, ShardId};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::machine::command;
use reckoner_shard::usage::record::UsageRecord;
use serde_json::json;

use crate::cluster::{self, Machine, Settings};
use crate::faults::{Mix, Planted, Storm, Victim, Wire};
use crate::oracle::{Name, Oracle, Place, Verdict, thousandths};
use crate::report::{self, Failure, Report, Run};

/// A step of the simulation.
const TICK: Duration = Duration::from_millis(2);

/// After the storm everything must be answered and equal within this. A connection that lost a packet is only given up
/// after its keep-alive, which takes twenty seconds.
const HEALING_MAX: Duration = Duration::from_secs(180);

/// The cycle that ends during the storm, and the next.
const CYCLE: &str = "2024-09";
const NEXT: &str = "2024-10";

/// When it ends.
const CYCLE_END: &str = "2024-10-01T00:00:00Z";

/// Hierarchies; odd ones close by themselves, even ones when told.
const ROOTS: u64 = 5;

/// Sequenced producers, and producers by id.
const SEQUENCED: u64 = 2;
const BY_ID: u64 = 1;

/// Price of a request, and of a unit of transfer, in thousandths of a dollar.
const RATE_REQUESTS: i128 = 10;
const RATE_TRANSFER: i128 = 50;

fn root(number: u64) -> String {
    format!("root{number}")
}

fn is_automatic(root: u64) -> bool {
    root % 2 == 1
}

/// Quantities on the bills of a cycle, in thousandths.
type Billed = BTreeMap<Place, i128>;

/// Everything that is shared by clients and the judge.
struct Shared {
    run: Run,
    oracle: Oracle,
    /// The documents are applied: usage may come.
    open: bool,
}

/// A run, as its parts see it.
#[derive(Clone)]
struct World {
    seed: u64,
    settings: Settings,
    machines: Vec<Machine>,
    /// Length of the storm.
    length: Duration,
    shared: Arc<Mutex<Shared>>,
}

impl World {
    fn heard(&self, what: &str) {
        self.shared.lock().run.heard(turmoil::sim_elapsed().unwrap_or_default(), what);
    }

    fn violated(&self, what: impl Into<String>) {
        self.shared.lock().run.violated(what.into());
    }

    /// Keeps a complaint of the oracle.
    fn check(&self, checked: Result<(), String>) {
        if let Err(words) = checked {
            self.violated(words);
        }
    }

    fn client(&self, number: u64) -> Client {
        let endpoints: Vec<String> = (1..=self.settings.nodes).map(cluster::address).collect();
        let config = ClientConfig {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(2),
            connector: Some(cluster::connector()),
            seed: Some(self.seed ^ number << 40),
        };
        Client::lazy(&endpoints, config).expect("addresses of nodes are addresses")
    }

    fn random(&self, number: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.wrapping_mul(31) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn stormy(&self) -> bool {
        turmoil::sim_elapsed().unwrap_or(self.length) < self.length
    }

    /// Waits until the documents are applied.
    async fn opened(&self) {
        while !self.shared.lock().open {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
        let close = if is_automatic(number) { "automatic" } else { "manual" };
        documents.push(document(
            "Hierarchy",
            json!({
                "kind": "Hierarchy", "root": name, "catalogue": "simulated",
                "accounts": [{ "id": format!("{name}-a") }, { "id": format!("{name}-b") }],
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

/// Usage of one record, from its producer's generator.
fn draw(random: &mut SmallRng, id: String) -> (UsageRecord, Place, i128) {
    let root = root(random.random_range(1..=ROOTS));
    let account = match random.random_range(0..3) {
        0 => root.clone(),
        1 => format!("{root}-a"),
        _ => format!("{root}-b"),
    };
    let (usage_type, amount) = match random.random_bool(0.5) {
        true => ("requests", random.random_range(0..1_000) * 1_000),
        false => ("transfer", random.random_range(0..1_000_000)),
    };
    let cycle = if random.random_bool(0.6) { CYCLE } else { NEXT };
    let start = format!("{cycle}-{:02}T{:02}:00:00Z", random.random_range(1..=30), random.random_range(0..24));
    let quantity = format!("{}.{:03}", amount / 1_000, amount % 1_000);
    let record = UsageRecord {
        id,
        account: AccountId::new(&account).expect("a name"),
        service: "gateway".to_owned(),
        usage_type: usage_type.to_owned(),
        operation: String::new(),
        region: ["north", "south"][random.random_range(0..2)].to_owned(),
        quantity: quantity.parse().expect("a decimal"),
        start: start.parse().expect("an instant"),
        end: None,
        attributes: BTreeMap::new(),
        amount: None,
        corrects: None,
    };
    let place = Place { root, cycle: cycle.to_owned(), account, usage_type: usage_type.to_owned() };
    (record, place, amount)
}

/// A producer: its records in order, and which of them have a verdict. It outlives its batchers.
struct Producer {
    world: World,
    number: u64,
    name: String,
    by_id: bool,
    client: Client,
    random: SmallRng,
    records: Vec<UsageRecord>,
    answered: Arc<Mutex<BTreeSet<u64>>>,
    /// Added to every number when the planted bug forgets them.
    shift: u64,
}

impl Producer {
    fn new(world: World, number: u64, by_id: bool) -> Self {
        let client = world.client(10 + number);
        let random = world.random(10 + number);
        let name = format!("producer{number}");
        Self { world, number, name, by_id, client, random, records: Vec::new(), answered: Arc::default(), shift: 0 }
    }

    /// Hears verdicts.
    fn sink(&self) -> impl Fn(Settled<'_>) + Send + 'static + use<> {
        let (world, name, answered, shift) = (self.world.clone(), self.name.clone(), self.answered.clone(), self.shift);
        move |settled| {
            let verdict = match settled.verdict {
                command::Verdict::Accepted { late } => Verdict::Accepted { late: *late },
                command::Verdict::Duplicate => Verdict::Duplicate,
                command::Verdict::Refused(refusal) => Verdict::Refused(refusal.reason.code()),
            };
            let by_id = settled.ids().filter_map(|id| id.rsplit('-').next()?.parse().ok());
            let numbers: Vec<u64> = settled.numbers().chain(by_id).map(|number: u64| number - shift).collect();
            world.heard(&format!("{name} {verdict:?} {numbers:?}"));
            let mut shared = world.shared.lock();
            // Every record here is a good one.
            if let command::Verdict::Refused(refusal) = settled.verdict {
                shared.run.violated(format!("{name} {numbers:?} refused: {refusal}"));
            }
            for number in numbers {
                answered.lock().insert(number);
                let named = Name { producer: name.clone(), number };
                if let Err(words) = shared.oracle.told(&named, &verdict) {
                    shared.run.violated(words);
                }
            }
        }
    }

    /// The highest number up to which everything has a verdict.
    fn settled(&self) -> u64 {
        let answered = self.answered.lock();
        (1..=self.records.len() as u64).take_while(|number| answered.contains(number)).last().unwrap_or(0)
    }

    /// A batcher, as a process would make it when it starts; and the first number to push through it.
    async fn begin(&mut self) -> Option<(Batcher, u64)> {
        let mut batching = Batching {
            records_max: self.random.random_range(1..20),
            age_max: Duration::from_millis(self.random.random_range(1..40)),
            in_flight_max: self.random.random_range(1..5),
            records_in_flight_max: 1_000,
            pause: Duration::from_millis(20),
            give_up_after: Duration::from_secs(1_000),
            ..Batching::default()
        };
        let producer = ProducerId::new(&self.name).expect("a name");
        // A process that starts again goes on where it knows that everything has a verdict, or simply begins again.
        let from = if self.random.random_bool(0.7) { self.settled() } else { 0 };
        if self.world.settings.planted == Some(Planted::FreshNumbers) {
            self.shift += self.records.len() as u64;
        }
        if self.by_id {
            let begun = Batcher::by_id(self.client.clone(), producer, batching, self.sink()).await;
            return self.heard_of(begun).map(|batcher| (batcher, from + 1));
        }
        let opened = self.client.open_producer(&producer, None, None).await;
        let epoch = self.heard_of(opened)?.epoch;
        batching.resume_after = (from > 0).then_some(from + self.shift);
        let begun = Batcher::sequenced(self.client.clone(), producer, epoch, batching, self.sink()).await;
        self.heard_of(begun).map(|batcher| (batcher, from + 1))
    }

    /// A call that failed is part of the trace; one that cannot succeed is a violation.
    fn heard_of<T>(&self, called: Result<T, reckoner_client::error::Error>) -> Option<T> {
        called
            .map_err(|error| {
                self.world.heard(&format!("{} {error}", self.name));
                if !error.retryable() {
                    self.world.violated(format!("{}: {error}", self.name));
                }
            })
            .ok()
    }

    /// Hands a record over, new or again.
    async fn push(&mut self, batcher: &Batcher, number: u64) -> bool {
        while self.records.len() < number as usize {
            let next = self.records.len() as u64 + 1;
            let id = if self.by_id { format!("{}-{next}", self.name) } else { String::new() };
            let (record, place, amount) = draw(&mut self.random, id);
            let name = Name { producer: self.name.clone(), number: next };
            self.world.shared.lock().oracle.sent(name, place, amount);
            self.records.push(record);
        }
        let mut record = self.records[number as usize - 1].clone();
        if self.by_id && self.shift > 0 {
            record.id = format!("{}-{}", self.name, number + self.shift);
        }
        let pushed = batcher.push_record((!self.by_id).then_some(number + self.shift), &record).await;
        self.heard_of(pushed).is_some()
    }

    /// Pushes until the storm is over, with a process that dies now and then; then until everything has its verdict, and
    /// a little more: everything has to work again.
    async fn work(mut self) -> turmoil::Result {
        self.world.opened().await;
        let mut after = 0;
        while after < 2 {
            let stormy = self.world.stormy();
            let Some((batcher, from)) = self.begin().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let more = if stormy { self.random.random_range(10..60) } else { 5 };
            let until = self.records.len() as u64 + more;
            let mut whole = true;
            for number in from..=until {
                whole &= self.push(&batcher, number).await;
                if number > until - more {
                    tokio::time::sleep(Duration::from_millis(self.random.random_range(0..60))).await;
                }
                if !whole {
                    break;
                }
            }
            // In the storm the process may die with records under way; later it waits for every verdict.
            if !stormy || self.random.random_bool(0.4) {
                let flushed = batcher.flush().await;
                whole &= self.heard_of(flushed).is_some();
                self.read_back(&batcher).await;
            }
            after += u64::from(!stormy && whole);
        }
        let count = self.records.len() as u64;
        self.world.shared.lock().run.checked += count;
        if self.settled() != count {
            self.world.violated(format!(
                "producer {} has {} of {count} verdicts after the end",
                self.number,
                self.settled()
            ));
        }
        Ok(())
    }

    /// A read after an acknowledgement contains it.
    async fn read_back(&mut self, batcher: &Batcher) {
        for position in batcher.positions() {
            self.world.shared.lock().oracle.position(position.shard, position.index);
        }
        let root = root(self.random.random_range(1..=ROOTS));
        let before: Vec<u64> = {
            let shared = self.world.shared.lock();
            (0..=self.world.settings.shards).map(|shard| shared.oracle.floor(shard)).collect()
        };
        let request = proto::GetUsageRequest { root, cycle: NEXT.to_owned(), ..Default::default() };
        let Ok(reply) = self.client.usage(request).await else { return };
        let position = reply.position.unwrap_or_default();
        self.world.heard(&format!("{} reads at {} {}", self.name, position.shard, position.index));
        let mut shared = self.world.shared.lock();
        let floor = before.get(position.shard as usize).copied().unwrap_or(0);
        shared.run.checked += 1;
        if let Err(words) = shared.oracle.read(position.shard, floor, position.index) {
            shared.run.violated(words);
        }
    }
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
                let running =
                    matches!(&error, reckoner_client::error::Error::Refused { code, .. } if code == "CYCLE_RUNNING");
                if !running && !error.retryable() {
                    world.violated(format!("close of {name}: {error}"));
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// After the end: what every node says against what clients were told.
async fn judge(world: World) -> turmoil::Result {
    let client = world.client(3);
    let mut bodies = Vec::new();
    for number in 1..=ROOTS {
        let name = root(number);
        let (hashes, billed) = judge_bills(&world, &client, &name).await;
        bodies.extend(hashes);
        judge_usage(&world, &client, &name, CYCLE, Some(&billed)).await;
        judge_usage(&world, &client, &name, NEXT, None).await;
    }
    judge_replicas(&world).await;
    for machine in &world.machines {
        for (root, hash) in &bodies {
            match machine.bill(hash) {
                Some(body) if blake3::hash(&body).as_bytes() == hash => (),
                Some(_) => world.violated(format!("node {} holds another bill of {root}", machine.node)),
                None => world.violated(format!("node {} lacks the bill of {root}", machine.node)),
            }
        }
    }
    Ok(())
}

/// Asks until there is an answer; everything is healed, so there has to be one.
async fn insist<T, F: Future<Output = Result<T, reckoner_client::error::Error>>>(
    world: &World,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Option<T> {
    for _ in 0..20 {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(error) if error.retryable() => world.heard(&format!("{what}: {error}")),
            Err(error) => {
                world.violated(format!("{what}: {error}"));
                return None;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.violated(format!("{what}: no answer although everything is healed"));
    None
}

/// What a cycle holds. Of a closed one the node keeps in its archive what came in time, and shows it as `billed`.
async fn judge_usage(world: &World, client: &Client, root: &str, cycle: &str, billed: Option<&Billed>) {
    let mut found: BTreeMap<Place, (i128, i128)> = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = proto::GetUsageRequest {
            root: root.to_owned(),
            cycle: cycle.to_owned(),
            page_token: page_token.clone(),
            page_size: 3,
            ..Default::default()
        };
        let Some(reply) = insist(world, "usage", || client.usage(request.clone())).await else { return };
        for counter in reply.counters {
            let place = Place {
                root: root.to_owned(),
                cycle: cycle.to_owned(),
                account: counter.account,
                usage_type: counter.usage_type,
            };
            let amount = match thousandths(&counter.quantity) {
                Ok(amount) => amount,
                Err(words) => return world.violated(words),
            };
            let sums = found.entry(place).or_default();
            if counter.late { sums.1 += amount } else { sums.0 += amount }
        }
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for (place, quantity) in billed.into_iter().flatten() {
        let in_time = &mut found.entry(place.clone()).or_default().0;
        if *in_time != 0 && in_time != quantity {
            world.violated(format!("{place:?} holds {in_time} after its bill charged {quantity}"));
        }
        *in_time = *quantity;
    }
    let mut shared = world.shared.lock();
    let checked = shared.oracle.check_usage(root, cycle, &found);
    if let Err(words) = checked {
        shared.run.violated(words);
    }
    let word = format!("{root} {cycle} {found:?}");
    shared.run.heard(Duration::ZERO, &word);
}

/// The bills of the closed cycle: their lines are what counted in time, at the stated prices.
async fn judge_bills(world: &World, client: &Client, root: &str) -> (Vec<(String, [u8; 32])>, Billed) {
    let request = proto::ShowBillsRequest { root: root.to_owned(), cycle: CYCLE.to_owned(), ..Default::default() };
    let mut bodies = Vec::new();
    let mut billed = Billed::new();
    let asked = insist(world, "bills", || async {
        match client.bills(request.clone()).await {
            // Nothing was used in time, so there is nothing to bill; the oracle knows better if that is not so.
            Err(reckoner_client::error::Error::Refused { code, .. }) if code == "NOT_FOUND" => Ok(Default::default()),
            other => other,
        }
    });
    let Some(reply) = asked.await else { return (bodies, billed) };
    let mut total = 0;
    for bill in &reply.bills {
        let Some(detail) = &bill.detail else {
            world.violated(format!("a bill of {root} has no detail"));
            continue;
        };
        let mut shared = world.shared.lock();
        let seen = shared.oracle.bill(root, &detail.cycle, &detail.payer, &bill.body_hash);
        if let Err(words) = seen {
            shared.run.violated(words);
        }
        drop(shared);
        if let Ok(hash) = bill.body_hash[..].try_into() {
            bodies.push((root.to_owned(), hash));
        }
        for line in detail.lines.iter().filter(|line| line.kind == "usage") {
            let place = Place {
                root: root.to_owned(),
                cycle: CYCLE.to_owned(),
                account: line.account.clone(),
                usage_type: line.usage_type.clone(),
            };
            match thousandths(line.quantity.as_deref().unwrap_or("0")) {
                Ok(quantity) => *billed.entry(place).or_default() += quantity,
                Err(words) => world.violated(words),
            }
        }
        let expected: i128 = billed
            .iter()
            .map(|(place, quantity)| {
                quantity * if place.usage_type == "requests" { RATE_REQUESTS } else { RATE_TRANSFER }
            })
            .sum();
        total += expected;
        // The total has up to six decimals: thousandths of a unit at thousandths of a dollar.
        let stated = millionths(&detail.total);
        if stated != Some(total) {
            world.violated(format!("the bill of {root} totals {}, its usage costs {total} millionths", detail.total));
        }
    }
    let shared = world.shared.lock();
    let checked = shared.oracle.check_billed(root, CYCLE, &billed);
    drop(shared);
    world.check(checked);
    (bodies, billed)
}

fn millionths(decimal: &str) -> Option<i128> {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let kept = fraction.trim_end_matches('0');
    let fraction: i128 = format!("{kept:0<6}").parse().ok()?;
    (kept.len() <= 6).then_some(whole.parse::<i128>().ok()? * 1_000_000 + fraction)
}

/// All replicas of a shard, once they have applied the same, have the same state.
async fn judge_replicas(world: &World) {
    for shard in 1..=world.settings.shards {
        let mut same = false;
        for _ in 0..200 {
            let applied = |shards: &[reckoner_node::data::shard::Shard]| -> Vec<Option<u64>> {
                shards.iter().map(|shard| shard.group().status().applied.map(|at| at.index)).collect()
            };
            let shards: Vec<_> =
                world.machines.iter().filter_map(|machine| machine.context()?.shards.get(ShardId(shard))).collect();
            let before = applied(&shards);
            let mut hashes = Vec::new();
            for shard in &shards {
                hashes.push(shard.hash().await.map(|(_, hash)| hash).ok());
            }
            let floor = world.shared.lock().oracle.floor(shard);
            let equal = before.windows(2).all(|pair| pair[0] == pair[1]) && before == applied(&shards);
            if equal && shards.len() as u64 == world.settings.nodes && before[0] >= Some(floor) {
                let differ = hashes.iter().any(|hash| hash.is_none() || *hash != hashes[0]);
                if differ {
                    world.violated(format!("replicas of shard {shard} differ at entry {:?}: {hashes:?}", before[0]));
                }
                world.heard(&format!("shard {shard} at {:?} {:?}", before[0], hashes[0]));
                same = true;
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if !same {
            world.violated(format!("replicas of shard {shard} do not come to the same entry"));
        }
    }
}

/// Runs one seed for `length` of storm.
///
/// # Errors
/// What was violated, with the story.
pub fn run(seed: u64, length: Duration, planted: Option<Planted>) -> Result<Report, Failure> {
    let mut random = SmallRng::seed_from_u64(seed ^ 0x5EED);
    let mut mix = Mix::draw(&mut random);
    if planted.is_some() {
        mix = mix.harsh();
    }
    let wire = Wire::new(mix.clone(), random.random(), planted);
    let end: Timestamp = CYCLE_END.parse().expect("an instant");
    let settings = Settings {
        seed,
        nodes: 3,
        shards: 2,
        base: Timestamp(end.0 - (length.as_nanos() as f64 * random.random_range(0.2..0.7)) as i64),
        snapshot_bytes: random.random_range(2_000..60_000),
        wire: wire.clone(),
        planted,
    };
    let machines: Vec<Machine> = (1..=settings.nodes)
        .map(|node| {
            let ahead = random.random_range(Duration::ZERO..Duration::from_millis(1_500));
            Machine::new(node, ahead, random.random_bool(0.5), settings.clone())
        })
        .collect();
    let shared = Shared { run: Run::default(), oracle: Oracle::default(), open: false };
    let world = World { seed, settings, machines, length, shared: Arc::new(Mutex::new(shared)) };
    let mut sim = report::builder(seed, TICK, mix.latency_max).build();
    for machine in &world.machines {
        let machine = machine.clone();
        sim.host(machine.victim.name.clone(), move || machine.clone().run());
    }
    sim.client("setup", set_up(world.clone()));
    sim.client("closer", close(world.clone()));
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
        let done = match report::step(&mut sim) {
            Ok(done) => done,
            Err(words) => break Err(words),
        };
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
            break Err(format!("not healed {HEALING_MAX:?} after the storm; {missing} records without a verdict"));
        }
    };
    let simulated = sim.elapsed();
    // After a panic inside a node its runtime cannot be dropped in order.
    std::mem::forget(sim);
    let injected = storm.injected();
    let shared = world.shared.lock();
    tracing::info!(refused = ?shared.oracle.refused(), "refused");
    let report = Report { seed, trace: shared.run.trace(), simulated, injected, checked: shared.run.checked };
    judged.map(|()| report).map_err(|words| Failure { seed, words, story: storm.story.clone() })
}
