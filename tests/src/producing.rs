//! Producers in a run with whole nodes: each pushes through the client library, dies now and then with records under
//! way, and sends again what has no verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::SmallRng;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_client::proto;
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command;
use reckoner_shard::usage::record::UsageRecord;

use crate::nomads::{self, Going};
use crate::oracle::{Name, Place, Verdict};
use crate::planted::Planted;
use crate::world::{CYCLE, CYCLE_END, NEXT, ROOTS, World, root};

/// Usage before the first cycle: refused.
const TOO_EARLY: &str = "2024-08";

/// Clocks of nodes differ by less than this, unless one is wrong.
const SKEW_MAX: Duration = Duration::from_secs(2);

/// Usage of one record, from its producer's generator: of an account that stays where it is.
fn draw(random: &mut SmallRng, id: String) -> (UsageRecord, Place, i128) {
    let root = root(random.random_range(1..=ROOTS));
    let account = match random.random_range(0..3) {
        0 => root.clone(),
        1 => format!("{root}-a"),
        _ => format!("{root}-b"),
    };
    let (usage_type, amount) = draw_amount(random);
    let cycle = match random.random_range(0..100) {
        0..3 => TOO_EARLY,
        3..60 => CYCLE,
        _ => NEXT,
    };
    record(random, id, Place { root, cycle: cycle.to_owned(), account, usage_type: usage_type.to_owned() }, amount)
}

/// The same of the account that moves.
fn draw_nomad(random: &mut SmallRng, going: &Going) -> (UsageRecord, Place, i128) {
    let (usage_type, amount) = draw_amount(random);
    let cycle = going.cycle(random, CYCLE, NEXT).to_owned();
    let (root, account) = (root(1), nomads::account());
    record(random, String::new(), Place { root, cycle, account, usage_type: usage_type.to_owned() }, amount)
}

fn draw_amount(random: &mut SmallRng) -> (&'static str, i128) {
    match random.random_bool(0.5) {
        true => ("requests", random.random_range(0..1_000) * 1_000),
        false => ("transfer", random.random_range(0..1_000_000)),
    }
}

fn record(random: &mut SmallRng, id: String, place: Place, amount: i128) -> (UsageRecord, Place, i128) {
    let cycle = &place.cycle;
    let start = format!("{cycle}-{:02}T{:02}:00:00Z", random.random_range(1..=30), random.random_range(0..24));
    let quantity = format!("{}.{:03}", amount / 1_000, amount % 1_000);
    let record = UsageRecord {
        id,
        account: AccountId::new(&place.account).expect("a name"),
        service: "gateway".to_owned(),
        usage_type: place.usage_type.clone(),
        operation: String::new(),
        region: ["north", "south"][random.random_range(0..2)].to_owned(),
        quantity: quantity.parse().expect("a decimal"),
        start: start.parse().expect("an instant"),
        end: None,
        attributes: BTreeMap::new(),
        amount: None,
        corrects: None,
    };
    (record, place, amount)
}

/// A producer: its records in order, and which of them have a verdict. It outlives its batchers.
pub struct Producer {
    world: World,
    number: u64,
    /// Under which it pushes, and its machine's.
    pub name: String,
    by_id: bool,
    client: Client,
    random: SmallRng,
    records: Vec<UsageRecord>,
    answered: Arc<Mutex<BTreeSet<u64>>>,
    /// Added to every number when the planted bug forgets them.
    shift: u64,
    /// Sends usage of the account that moves.
    going: Option<Going>,
}

impl Producer {
    /// A producer that has sent nothing.
    pub fn new(world: World, number: u64, by_id: bool) -> Self {
        let client = world.client(10 + number);
        let random = world.random(10 + number);
        let name = format!("producer{number}");
        Self {
            world,
            number,
            name,
            by_id,
            client,
            random,
            records: Vec::new(),
            answered: Arc::default(),
            shift: 0,
            going: None,
        }
    }

    /// A producer of usage of the account that moves.
    pub fn of_nomad(world: World, number: u64, going: Going) -> Self {
        Producer { going: Some(going), ..Producer::new(world, number, false) }
    }

    /// Hears verdicts.
    fn sink(&self) -> impl Fn(Settled<'_>) + Send + 'static + use<> {
        let (world, name, answered, shift) = (self.world.clone(), self.name.clone(), self.answered.clone(), self.shift);
        let end: Timestamp = CYCLE_END.parse().expect("an instant");
        let not_late_before = Timestamp(end.0 - SKEW_MAX.as_nanos() as i64);
        move |settled| {
            let verdict = match settled.verdict {
                command::Verdict::Accepted { late } => Verdict::Accepted { late: *late },
                command::Verdict::Duplicate => Verdict::Duplicate,
                command::Verdict::Refused(refusal) => Verdict::Refused(refusal.reason.code()),
            };
            let by_id = settled.ids().filter_map(|id| id.rsplit('-').next()?.parse().ok());
            let numbers: Vec<u64> = settled.numbers().chain(by_id).map(|number: u64| number - shift).collect();
            world.heard(&format!("{name} {verdict:?} {numbers:?}"));
            let is_early = verdict == Verdict::Accepted { late: true } && world.now() < not_late_before;
            let mut shared = world.shared.lock();
            if is_early {
                shared.run.violated(format!("{name} {numbers:?} are late before their cycle ended"));
            }
            for number in numbers {
                answered.lock().insert(number);
                let named = Name { producer: name.clone(), number };
                match settled.verdict {
                    command::Verdict::Refused(refusal) if !shared.bad.contains(&named) => {
                        shared.run.violated(format!("{name} {number} refused: {refusal}"));
                    }
                    command::Verdict::Accepted { .. } if shared.bad.contains(&named) => {
                        shared.run.violated(format!("{name} {number} was counted before the first cycle"));
                    }
                    _ => (),
                }
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
            let (record, place, amount) = match &self.going {
                Some(going) => draw_nomad(&mut self.random, going),
                None => draw(&mut self.random, id),
            };
            let name = Name { producer: self.name.clone(), number: next };
            let mut shared = self.world.shared.lock();
            if place.cycle == TOO_EARLY {
                shared.bad.insert(name.clone());
            }
            shared.oracle.sent(name, place, amount);
            drop(shared);
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
    pub async fn work(mut self) -> turmoil::Result {
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
