//! The one task that owns what is on its way: it packs runs into batches, keeps several in flight a shard, reads the
//! verdicts, and sends again what has none: the same records under the same numbers, in the same order, to the same slot.
//! Gathering records is `gather`'s matter, carrying bytes is `lane`'s.

mod rehome;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reckoner_shard::base::id::{ShardId, Slot};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::codec;
use reckoner_shard::machine::command::{BatchVerdict, Outcome, SegmentVerdict, Verdict};
use reckoner_shard::placement::SLOTS;
use reckoner_shard::usage::segment::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Head, HeadMode, Packed, Writer};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::gather::{Batching, Message, Shared, Sink};
use super::lane::{Event, InFlight, Lane, LaneEvent, Sent};
use super::numbers::Numbers;
use super::records::{Astray, Records, Run, Settled};
use crate::error::Error;
use crate::proto;
use crate::proto::push_reply::Result as PushResult;
use crate::retry::Waits;

/// A batch ends before a record could take it over the limit: a definition has at most 5 names and 16 attributes of two
/// names, 128 bytes each.
const BATCH_BYTES_FULL: usize = BATCH_BYTES_MAX - 64 * 1024;
/// A segment that is out of order although nothing is ahead of it stays so: after this many answers it is an error.
const OUT_OF_ORDER_MAX: u32 = 3;
/// How often waits and ages are looked at while there is work.
const TICK: Duration = Duration::from_millis(2);
/// Longest wait before a shard's leader is looked for again, unless a server asks for more.
const LANE_WAIT_MAX: Duration = Duration::from_millis(100);
/// A question for the shard map that takes longer is asked anew when the map is needed again.
const MAP_DEADLINE: Duration = Duration::from_secs(2);

/// What is known of a slot.
#[derive(Debug, Default)]
struct SlotState {
    /// Of the slot's table; 0: not learnt.
    generation: u32,
    /// Last number sent in order; falls back to `settled` when something has to be sent again.
    sent: Option<u64>,
    /// Last number that has a verdict.
    settled: Option<u64>,
    /// Segments under way.
    in_flight: u32,
    /// Something has to be sent again: what is in `held` waits until nothing is under way, so that order is kept.
    holding: bool,
    held: VecDeque<Run>,
    /// Set when the server asked for a pause.
    not_before: Option<Instant>,
    /// Refusals for disorder in a row although nothing was ahead.
    disorder: u32,
}

impl SlotState {
    /// Adds a run to what waits, by number.
    fn keep(&mut self, run: Run) {
        let place = self.held.iter().rposition(|held| held.first() < run.first()).map_or(0, |before| before + 1);
        self.held.insert(place, run);
    }
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
    inbox: mpsc::UnboundedReceiver<Message>,
    events: mpsc::UnboundedReceiver<LaneEvent>,
    events_in: mpsc::UnboundedSender<LaneEvent>,
    numbers: Numbers,
    slots: Vec<SlotState>,
    lanes: BTreeMap<ShardId, Lane>,
    /// The shard map that the lanes follow: its epoch, and the shard of each slot.
    map: (u64, Arc<[ShardId]>),
    next_tag: u64,
    next_stream: u64,
    /// The shard map should be asked for.
    map_is_old: bool,
    /// A question for the map is under way.
    asking: Arc<AtomicBool>,
    /// When the last verdict came, and what has gone wrong since; for giving up.
    progress: Instant,
    trouble: String,
    /// Slots began to hold since the queues were last looked through.
    unswept: bool,
    /// Slots that hold runs.
    holding: Vec<Slot>,
    /// Records whose account may have moved, until they are looked up again.
    astray: Vec<Astray>,
}

impl Driver {
    pub fn new(shared: Arc<Shared>, sink: Box<dyn Sink>, inbox: mpsc::UnboundedReceiver<Message>) -> Driver {
        let (events_in, events) = mpsc::unbounded_channel();
        Driver {
            shared,
            sink,
            inbox,
            events,
            events_in,
            numbers: Numbers::default(),
            slots: (0..SLOTS).map(|_| SlotState::default()).collect(),
            lanes: BTreeMap::new(),
            map: (0, Arc::new([])),
            next_tag: 1,
            next_stream: 1,
            map_is_old: false,
            asking: Arc::default(),
            progress: Instant::now(),
            trouble: String::new(),
            unswept: false,
            holding: Vec::new(),
            astray: Vec::new(),
        }
    }

    /// Runs until the batcher is dropped, which gives up what has no verdict, or until a fatal error.
    pub async fn run(mut self) {
        let mut tick = Instant::now() + TICK;
        loop {
            let idle = self.shared.outstanding.load(Ordering::Acquire) == 0;
            if idle {
                self.progress = Instant::now();
            }
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.on_event(event),
                message = self.inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return,
                },
                () = self.shared.work.notified(), if idle => {}
                () = tokio::time::sleep_until(tick), if !idle => {
                    tick = Instant::now() + TICK;
                    self.shared.seal_old();
                    self.on_tick();
                }
            }
            self.pump();
            if self.shared.failed.get().is_some() {
                self.abandon();
                return;
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Series(key, scale) => self.numbers.add(key, scale),
            Message::Local { number, id, refusal } => {
                let records = match number {
                    Some(number) => Records::Number(number),
                    None => Records::Id(&id),
                };
                self.shared.count(&Verdict::Refused(refusal.clone()), 1);
                self.sink.settled(Settled { verdict: &Verdict::Refused(refusal), records });
                self.shared.settle(1);
            }
            Message::Sealed(body) => body.into_runs(false).into_iter().for_each(|run| self.route(run)),
            Message::Found(body) => body.into_runs(true).into_iter().for_each(|run| self.route(run)),
            Message::Lost(astray) => self.give_up(&astray),
        }
    }

    /// A new run joins the queue of its slot's shard, or waits behind what is being sent again.
    fn route(&mut self, run: Run) {
        self.follow_map();
        let slot = &mut self.slots[usize::from(run.slot.0)];
        if slot.holding {
            slot.keep(run);
            return;
        }
        match self.shard_of(run.slot) {
            Some(shard) => self.lane(shard).ready.push_back(run),
            None => {
                self.map_is_old = true;
                self.hold(run, None);
            }
        }
    }

    fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        self.map.1.get(usize::from(slot.0)).copied()
    }

    /// Follows a new shard map: what waits in a slot's old lane goes ahead of what comes later, into the new one.
    fn follow_map(&mut self) {
        if self.shared.client.routes().epoch() == self.map.0 {
            return;
        }
        self.map = self.shared.client.routes().map();
        let waiting: Vec<Run> = self.lanes.values_mut().flat_map(|lane| std::mem::take(&mut lane.ready)).collect();
        for run in waiting {
            match self.shard_of(run.slot) {
                Some(shard) => self.lane(shard).ready.push_back(run),
                None => self.hold(run, None),
            }
        }
    }

    fn lane(&mut self, shard: ShardId) -> &mut Lane {
        self.lanes.entry(shard).or_insert_with(|| Lane::new(shard))
    }

    /// Sends whatever may go.
    fn pump(&mut self) {
        self.look_up();
        self.follow_map();
        self.sweep();
        let shards: Vec<ShardId> = self.lanes.keys().copied().collect();
        for shard in shards {
            while self.send_one(shard) {}
        }
    }

    /// Sends one batch to a shard; false where nothing may go now.
    fn send_one(&mut self, shard: ShardId) -> bool {
        let in_flight_max = self.shared.config.in_flight_max;
        let Some(lane) = self.lanes.get_mut(&shard) else { return false };
        let waiting = lane.not_before.is_some_and(|until| until > Instant::now());
        if lane.ready.is_empty() || lane.in_flight.len() >= in_flight_max || waiting {
            return false;
        }
        if !lane.is_up() {
            let id = self.next_stream;
            self.next_stream += 1;
            if let Err(error) = lane.open(&self.shared.client, id, in_flight_max, self.events_in.clone()) {
                self.shared.fail(error);
                return false;
            }
        }
        let runs = std::mem::take(&mut lane.ready);
        let (batch, sent, rest) = self.pack(runs);
        let tag = self.next_tag;
        self.next_tag += 1;
        let map_epoch = self.shared.client.routes().epoch();
        let Some(lane) = self.lanes.get_mut(&shard) else { return false };
        lane.ready = rest;
        let request = proto::PushRequest { tag, shard: shard.0, map_epoch, batch };
        lane.in_flight.insert(tag, InFlight { sent, at: Instant::now() });
        if !lane.send(request) {
            self.lane_down(shard, None);
            return false;
        }
        true
    }

    /// Packs runs from the front into one batch; gives back what did not fit.
    fn pack(&mut self, mut runs: VecDeque<Run>) -> (Bytes, Vec<Sent>, VecDeque<Run>) {
        let mut writer = Writer::new();
        let mut sent = Vec::new();
        while let Some(mut run) = runs.pop_front() {
            let room = BATCH_RECORDS_MAX - writer.records();
            if room == 0 || writer.bytes() >= BATCH_BYTES_FULL {
                runs.push_front(run);
                break;
            }
            if run.len() > room {
                runs.push_front(run.split(room as u32));
            }
            let definitions = self.pack_run(&mut writer, &mut run, &mut runs);
            let slot = &mut self.slots[usize::from(run.slot.0)];
            let previous = slot.sent;
            let is_ordered = self.shared.epoch.is_some() && !run.stray;
            debug_assert!(!is_ordered || previous < Some(run.first()), "numbers go to a slot in order");
            slot.in_flight += 1;
            if is_ordered {
                slot.sent = Some(run.last());
            }
            sent.push(Sent { run, definitions, previous });
        }
        (Bytes::from(writer.finish()), sent, runs)
    }

    /// Packs one run as a segment. A run that would make the batch too large is cut, and its rest put back.
    fn pack_run(&mut self, writer: &mut Writer, run: &mut Run, runs: &mut VecDeque<Run>) -> Vec<u32> {
        let slot = &self.slots[usize::from(run.slot.0)];
        let generation = slot.generation;
        let mode = match self.shared.epoch {
            Some(epoch) if run.stray => HeadMode::Strays { epoch },
            Some(epoch) => HeadMode::Sequenced { epoch, previous: slot.sent },
            None => HeadMode::ById,
        };
        writer.segment(&Head { slot: run.slot, generation, producer: self.shared.producer.as_str(), mode });
        self.numbers.begin();
        let mut definitions = Vec::new();
        let mut full_after = None;
        let body = run.body.clone();
        for (place, record) in run.records().iter().enumerate() {
            let series = self.numbers.reference(record.series, generation, writer, &mut definitions);
            let extra = if record.has_extra { body.extras.get(&record.number) } else { None };
            writer.push(&Packed {
                series,
                number: record.number,
                id: if self.shared.epoch.is_some() { &[] } else { body.ids.get(record.number) },
                quantity: record.quantity,
                start: Timestamp(record.start),
                end: extra.and_then(|extra| extra.end),
                amount: extra.and_then(|extra| extra.amount),
                corrects: extra.map_or(&[], |extra| extra.corrects.as_bytes()),
            });
            // Only definitions, ids and extras make a record large enough to matter within a segment.
            if (!definitions.is_empty() || self.shared.epoch.is_none() || record.has_extra)
                && writer.bytes() >= BATCH_BYTES_FULL
                && place + 1 < run.len()
            {
                full_after = Some(place as u32 + 1);
                break;
            }
        }
        if let Some(count) = full_after {
            runs.push_front(run.split(count));
        }
        definitions
    }

    fn on_event(&mut self, event: LaneEvent) {
        let Some(lane) = self.lanes.get_mut(&event.shard) else { return };
        if !lane.is_current(event.stream) {
            return;
        }
        match event.event {
            Event::Down(error) => self.lane_down(event.shard, error),
            Event::Reply(reply) => {
                let Some(batch) = lane.in_flight.remove(&reply.tag) else { return };
                self.on_reply(event.shard, batch, reply);
            }
        }
    }

    fn on_reply(&mut self, shard: ShardId, batch: InFlight, reply: proto::PushReply) {
        match reply.result {
            Some(PushResult::Outcome(bytes)) => match codec::decode_outcome(&bytes) {
                Ok(Outcome::Usage(verdict)) => {
                    self.sink.batch(batch.at.elapsed());
                    if let Some(lane) = self.lanes.get_mut(&shard) {
                        lane.waits = None;
                        lane.followed = false;
                    }
                    if let Some(position) = reply.position {
                        self.map_is_old |= position.slot_epoch > self.shared.client.routes().epoch();
                        self.shared.positions.lock().insert(shard, position);
                    }
                    self.on_verdict(batch, &verdict);
                }
                Ok(Outcome::Commands(_)) => self.not_understood(batch, "an outcome of commands"),
                Err(error) => self.not_understood(batch, &error.to_string()),
            },
            Some(PushResult::Failure(failure)) => {
                let error = Error::from_failure(failure);
                match error {
                    // The node answers for the shard no more, or cannot say: another one knows who leads.
                    Error::Unavailable { redirect: None, unknown: true, .. } => {
                        self.requeue(batch);
                        self.lane_down(shard, Some(error));
                    }
                    Error::Unavailable { ref redirect, retry_after, .. } => {
                        self.learn(shard, redirect.as_ref());
                        let at_once = redirect.as_ref().is_some_and(|redirect| !redirect.leader_address.is_empty());
                        self.requeue(batch);
                        self.pause(shard, retry_after, at_once, &error);
                    }
                    Error::Refused { code, detail } => {
                        let reason = crate::error::reason_of(&code).unwrap_or(Reason::Malformed);
                        self.refuse(batch, &Refusal::new(reason, detail));
                    }
                    Error::Invalid { .. } => {
                        self.requeue(batch);
                        self.shared.fail(error);
                    }
                }
            }
            None => self.not_understood(batch, "nothing"),
        }
    }

    fn not_understood(&mut self, batch: InFlight, what: &str) {
        self.requeue(batch);
        self.shared.fail(Error::invalid(format!("a node answered a batch with {what}; use a client of its version")));
    }

    fn on_verdict(&mut self, batch: InFlight, verdict: &BatchVerdict) {
        if let Some(refusal) = &verdict.refused {
            if refusal.reason.heals() {
                self.map_is_old |= refusal.reason == Reason::WrongShard;
                for sent in batch.sent {
                    self.come_back(&sent.run);
                    self.hold(sent.run, Some(refusal.reason));
                }
            } else {
                self.refuse(batch, refusal);
            }
            return;
        }
        for (at, sent) in batch.sent.into_iter().enumerate() {
            self.come_back(&sent.run);
            match verdict.segment(at as u32) {
                None => self.settle(&sent.run, 0, sent.run.len() as u32, &Verdict::Accepted { late: false }),
                Some(segment) => self.on_segment(sent, segment),
            }
        }
    }

    fn on_segment(&mut self, sent: Sent, verdict: &SegmentVerdict) {
        let slot = &mut self.slots[usize::from(sent.run.slot.0)];
        if let Some(refusal) = &verdict.whole {
            if !refusal.reason.heals() {
                // First: who waits for these verdicts must find the failure with them.
                if refusal.reason == Reason::StaleEpoch || refusal.reason == Reason::ProducerKind {
                    self.shared.fail(refusal.clone().into());
                }
                self.settle(&sent.run, 0, sent.run.len() as u32, &Verdict::Refused(refusal.clone()));
                return;
            }
            match refusal.reason {
                Reason::StaleSeries => slot.generation = 0,
                Reason::WrongShard => self.map_is_old = true,
                Reason::OutOfOrder => self.on_disorder(&sent, refusal),
                _ => {}
            }
            self.trouble = refusal.to_string();
            self.hold(sent.run, Some(refusal.reason));
            return;
        }
        slot.generation = verdict.generation;
        self.numbers.learn(&sent.definitions, &verdict.series, verdict.generation);
        for range in &verdict.ranges {
            self.settle(&sent.run, range.first, range.count, &range.verdict);
        }
    }

    /// Disorder behind a segment that is being sent again is expected; of one that refers to what is settled it is a
    /// contradiction.
    fn on_disorder(&mut self, sent: &Sent, refusal: &Refusal) {
        let resumes = self.shared.config.resume_after.is_some();
        let slot = &mut self.slots[usize::from(sent.run.slot.0)];
        if sent.previous != slot.settled {
            return;
        }
        slot.disorder += 1;
        if slot.settled.is_none() && resumes {
            // The slot knows this producer from before: 0 is at or under every mark, and all up to `resume_after` is
            // settled, as the caller says.
            slot.settled = Some(0);
        } else if slot.disorder >= OUT_OF_ORDER_MAX {
            let why = format!(
                "{}; the producer sent to this slot before: send from its first number again, or say with resume_after \
                 up to where everything has a verdict",
                refusal.detail
            );
            self.shared.fail(Refusal::new(Reason::OutOfOrder, why).into());
        }
    }

    /// One segment less is under way.
    fn come_back(&mut self, run: &Run) {
        let slot = &mut self.slots[usize::from(run.slot.0)];
        slot.in_flight -= 1;
    }

    /// Records have their verdict.
    fn settle(&mut self, run: &Run, first: u32, count: u32, verdict: &Verdict) {
        let from = (first as usize).min(run.len());
        let to = from.saturating_add(count as usize).min(run.len());
        let records = &run.records()[from..to];
        let slot = &mut self.slots[usize::from(run.slot.0)];
        slot.disorder = 0;
        self.progress = Instant::now();
        if let (true, Some(last)) = (self.shared.epoch.is_some() && !run.stray, records.last()) {
            slot.settled = slot.settled.max(Some(last.number));
        }
        if self.may_have_moved(run, records, verdict) {
            return;
        }
        let count = records.len() as u64;
        self.shared.count(verdict, count);
        let records = Records::Sent { records, ids: &run.body.ids, by_id: self.shared.epoch.is_none() };
        self.sink.settled(Settled { verdict, records });
        self.shared.settle(count);
    }

    /// A whole batch is refused for good.
    fn refuse(&mut self, batch: InFlight, refusal: &Refusal) {
        for sent in batch.sent {
            self.come_back(&sent.run);
            self.settle(&sent.run, 0, sent.run.len() as u32, &Verdict::Refused(refusal.clone()));
        }
    }

    /// A whole batch has no verdict: all of it is sent again.
    fn requeue(&mut self, batch: InFlight) {
        for sent in batch.sent {
            self.come_back(&sent.run);
            self.hold(sent.run, None);
        }
    }

    /// A run waits in its slot until nothing of the slot is under way; later runs of the slot wait behind it.
    fn hold(&mut self, run: Run, reason: Option<Reason>) {
        let at = run.slot;
        let slot = &mut self.slots[usize::from(at.0)];
        if !slot.holding {
            slot.holding = true;
            self.holding.push(at);
            self.unswept = true;
        }
        if let Some(Reason::Moving | Reason::SlotMoving | Reason::ResourceExhausted | Reason::WrongShard) = reason {
            slot.not_before = Some(Instant::now() + self.shared.config.pause);
        }
        slot.keep(run);
    }

    /// Takes queued runs of holding slots out of the queues: they come after what is being sent again. A later number
    /// that went first would move the mark past the earlier ones, which would then pass for duplicates.
    fn sweep(&mut self) {
        if !std::mem::take(&mut self.unswept) {
            return;
        }
        for lane in self.lanes.values_mut() {
            for run in std::mem::take(&mut lane.ready) {
                let slot = &mut self.slots[usize::from(run.slot.0)];
                if slot.holding { slot.keep(run) } else { lane.ready.push_back(run) }
            }
        }
    }

    /// Lets slots go on that have nothing under way and nothing to wait for.
    fn release(&mut self) {
        self.sweep();
        let now = Instant::now();
        let mut waiting = Vec::new();
        for at in std::mem::take(&mut self.holding) {
            let slot = &mut self.slots[usize::from(at.0)];
            let shard = self.map.1.get(usize::from(at.0)).copied();
            let paused = slot.not_before.is_some_and(|until| until > now);
            let (Some(shard), 0, false) = (shard, slot.in_flight, paused) else {
                waiting.push(at);
                continue;
            };
            slot.holding = false;
            slot.not_before = None;
            // A slot that moved may have given later ones their verdict where it is now, while these lost theirs where it
            // was: they refer to nothing, and are recognised.
            let first = slot.held.iter().find(|run| !run.stray).map(Run::first);
            slot.sent = slot.settled.filter(|settled| first.is_none_or(|first| *settled < first));
            let held = std::mem::take(&mut slot.held);
            let lane = self.lanes.entry(shard).or_insert_with(|| Lane::new(shard));
            lane.ready.extend(held);
        }
        self.holding = waiting;
    }

    /// The stream to a shard is over: nothing on it has a verdict.
    fn lane_down(&mut self, shard: ShardId, error: Option<Error>) {
        let Some(lane) = self.lanes.get_mut(&shard) else { return };
        lane.close();
        let address = std::mem::take(&mut lane.address);
        let batches = std::mem::take(&mut lane.in_flight);
        for batch in batches.into_values() {
            self.requeue(batch);
        }
        let error = error.unwrap_or_else(|| Error::unavailable("the stream ended"));
        match &error {
            Error::Unavailable { redirect, retry_after, .. } => {
                if redirect.is_none() {
                    self.shared.client.routes().forget_leader(shard, &address);
                    self.map_is_old = true;
                }
                self.learn(shard, redirect.as_ref());
                let at_once = redirect.as_ref().is_some_and(|redirect| !redirect.leader_address.is_empty());
                self.pause(shard, *retry_after, at_once, &error);
            }
            Error::Refused { .. } | Error::Invalid { .. } => self.shared.fail(error),
        }
    }

    fn learn(&mut self, shard: ShardId, redirect: Option<&proto::Redirect>) {
        let Some(redirect) = redirect else { return };
        self.map_is_old |= self.shared.client.routes().learn_redirect(redirect);
        // The stream goes to the wrong node: what is still on it comes back by itself or is given up with it.
        if redirect.shard == shard.0
            && let Some(lane) = self.lanes.get_mut(&shard)
            && lane.is_up()
            && lane.address != redirect.leader_address
        {
            lane.close();
            let batches = std::mem::take(&mut lane.in_flight);
            for batch in batches.into_values() {
                self.requeue(batch);
            }
        }
    }

    /// No stream to the shard is tried for a while. A redirect to a known leader is followed at once, but not two in a row:
    /// nodes that disagree are not chased in a ring.
    fn pause(&mut self, shard: ShardId, hint: Option<Duration>, at_once: bool, error: &Error) {
        self.trouble = error.to_string();
        let (seed, far) = (self.shared.client.config().seed, Instant::now() + Duration::from_secs(3_600));
        let lane = self.lane(shard);
        lane.followed = at_once && !lane.followed;
        if lane.followed {
            lane.not_before = None;
            tracing::debug!(%shard, %error, "a shard is led elsewhere");
            return;
        }
        let wait = lane.waits.get_or_insert_with(|| Waits::new(far, seed)).next(hint).unwrap_or(crate::retry::WAIT_MAX);
        // One stream a shard is looked for, so that asking often costs nobody much, and an election is over soon.
        let wait = if hint.is_none() { wait.min(LANE_WAIT_MAX) } else { wait };
        lane.not_before = Some(Instant::now() + wait);
        tracing::debug!(%shard, %error, ?wait, "a shard does not take batches now");
    }

    fn on_tick(&mut self) {
        let patience = self.shared.config.give_up_after;
        if self.progress.elapsed() >= patience {
            let (spent, why) = (patience.as_secs_f32(), std::mem::take(&mut self.trouble));
            self.shared.fail(Error::Unavailable {
                message: format!("no record got a verdict for {spent} s: {why}"),
                unknown: true,
                retry_after: None,
                redirect: None,
            });
            return;
        }
        self.map_is_old |= self.shared.client.routes().wants_refresh();
        // Asked beside this task: verdicts do not wait for the map.
        if self.map_is_old && !self.asking.swap(true, Ordering::AcqRel) {
            self.map_is_old = false;
            let (client, asking) = (self.shared.client.with_deadline(MAP_DEADLINE), self.asking.clone());
            tokio::spawn(async move {
                if let Err(error) = client.refresh_routes().await {
                    tracing::debug!(%error, "the shard map could not be asked for");
                }
                asking.store(false, Ordering::Release);
            });
        }
        self.release();
        let patience = self.shared.client.config().attempt;
        let stuck: Vec<ShardId> = self
            .lanes
            .values()
            .filter(|lane| lane.in_flight.first_key_value().is_some_and(|(_, batch)| batch.at.elapsed() > patience))
            .map(|lane| lane.shard)
            .collect();
        for shard in stuck {
            let message = format!("no answer to a batch within {} s", patience.as_secs_f32());
            self.lane_down(shard, Some(Error::unavailable(message)));
        }
    }

    /// A fatal error: whoever waits is told, nothing more is sent.
    fn abandon(&mut self) {
        self.shared.room.close();
        self.shared.done.notify_waiters();
        self.lanes.clear();
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

/// Kept here so that the batcher's settings and the driver's use of them are read together.
impl Batching {
    pub(super) fn bounded(mut self) -> Batching {
        self.records_max = self.records_max.clamp(1, BATCH_RECORDS_MAX);
        self.bytes_max = self.bytes_max.clamp(1, BATCH_BYTES_FULL);
        self.in_flight_max = self.in_flight_max.clamp(1, 64);
        self.records_in_flight_max = self.records_in_flight_max.clamp(self.records_max, 1 << 24);
        self
    }
}
