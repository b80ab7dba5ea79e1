//! The cycle clock: an actor beside each shard that works only on its leader. It gives a new shard its genesis, sees
//! which cycles are due, and proposes the next step of each: cut, billed, issue, archived. Every step is a small entry
//! and harmless when repeated, so the next leader simply goes on. It also begins the comparisons of replicas that are due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use reckoner_raft::error::Error;
use reckoner_shard::base::hash::Hash;
use reckoner_shard::base::id::{AccountId, Slot};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::kind::Cause;
use reckoner_shard::machine::command::{BilledRoot, Command, CommandOutcome};
use reckoner_shard::machine::query::DueStep;
use reckoner_shard::placement::slot_of;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::billing::digest;
use super::reach;
use super::shard::{Read, Shard};
use super::thresholds::Thresholds;
use super::versions::Versions;
use crate::context::Context;
use crate::internal::internal_client::InternalClient;
use crate::internal::{CutCycle, FoldedRequest};

/// How long a peer may take to say what it folded.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// How soon to look again while folds run here or at peers.
const FOLD_INTERVAL: Duration = Duration::from_millis(20);

/// Steps of one look, and commands of one entry: usage waits behind an entry, so it stays small.
const STEPS_MAX: usize = 1_024;

pub enum Message {
    /// Look what is due; answers how soon to look again.
    Look { again: oneshot::Sender<Duration> },
}

pub struct CycleClock;

pub struct Ticking {
    context: Arc<Context>,
    shard: Shard,
    thresholds: Thresholds,
    versions: Versions,
}

impl Actor for CycleClock {
    type Msg = Message;
    type State = Ticking;
    type Arguments = (Arc<Context>, Shard);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (context, shard): Self::Arguments,
    ) -> Result<Ticking, ActorProcessingErr> {
        let wake = shard.wake().clone();
        tokio::spawn(async move {
            loop {
                let (again, looked) = oneshot::channel();
                if myself.send_message(Message::Look { again }).is_err() {
                    return;
                }
                // Unanswered when the actor ended meanwhile.
                let Ok(again) = looked.await else { return };
                // Woken or not, the next look is due.
                let _ = timeout(again, wake.notified()).await;
            }
        });
        Ok(Ticking { context, shard, thresholds: Thresholds::default(), versions: Versions::default() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        ticking: &mut Ticking,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Look { again } = message;
        let interval = Duration::from_millis(ticking.context.config.cycle_interval_ms);
        let soon = match ticking.look().await {
            Ok(Looked::Nothing) => interval,
            Ok(Looked::Waiting) => FOLD_INTERVAL.min(interval),
            Ok(Looked::Done) => Duration::ZERO,
            Err(error) => {
                tracing::debug!(shard = %ticking.shard.id(), %error, "a cycle's step waits");
                FOLD_INTERVAL.min(interval)
            }
        };
        // The asker is gone only when the actor is.
        let _ = again.send(soon);
        Ok(())
    }
}

/// What a look found.
enum Looked {
    Nothing,
    /// Folds run; their results come soon.
    Waiting,
    /// Steps were taken; there may be more.
    Done,
}

impl Ticking {
    async fn look(&mut self) -> Result<Looked, Error> {
        if !self.shard.has_begun() && self.shard.view(Some(Slot(0))).await?.view.identity.is_some() {
            self.shard.note_begun();
        }
        match (self.shard.leads(), self.shard.has_begun()) {
            // An election or the leader's first entry comes soon.
            (false, false) => return Ok(Looked::Waiting),
            (false, true) => return Ok(Looked::Nothing),
            (true, false) => return self.genesis().await,
            (true, true) => (),
        }
        let read = self.shard.view(None).await?;
        // The others are asked within moments.
        let Some(time) = self.shard.reading_closely().await else { return Ok(Looked::Waiting) };
        // Not by stamps: one that a wrong clock made stays ahead, and must not end a cycle.
        let now = time.now;
        let mut due = read.view.due(now);
        if !time.is_trusted {
            // What follows from the time alone waits until a majority of clocks agrees what time it is.
            due.retain(|due| !matches!(due.step, DueStep::Cut | DueStep::Claim(Cause::Day(_) | Cause::Shortfall)));
        }
        due.truncate(STEPS_MAX);
        let mut commands = self.thresholds.reached(&self.context, &read, now).await;
        commands.extend(self.versions.raise(&self.context, &self.shard, read.view.machine).await);
        if self.shard.checks().is_due() {
            commands.push(Command::Digest);
        }
        if due.is_empty() && commands.is_empty() {
            return Ok(Looked::Nothing);
        }
        let (mut to_bill, mut to_archive) = (Vec::new(), Vec::new());
        for due in due {
            let (root, cycle) = (due.root, due.cycle);
            match due.step {
                DueStep::Cut => commands.push(Command::Cut { root, cycle, manual: false }),
                DueStep::Claim(cause) => commands.push(Command::Claim { root, cycle, cause }),
                DueStep::Bill => to_bill.push((root, cycle)),
                DueStep::Issue => commands.push(Command::Issue { root, cycle }),
                DueStep::Archive => to_archive.push((root, cycle)),
            }
        }
        let archives_wait = !to_archive.is_empty();
        if archives_wait {
            match self.shard.folds().archive(&read.view, to_archive).await {
                Ok(archived) => {
                    let archived = self.agreed(archived).await;
                    let command = |(root, cycle, hash)| Command::Archived { root, cycle, hash };
                    commands.extend(archived.into_iter().map(command));
                }
                Err(reason) => tracing::error!(shard = %self.shard.id(), reason, "cycles cannot be archived"),
            }
        }
        let waiting = !to_bill.is_empty() || archives_wait;
        commands.extend(self.billed(&read, to_bill).await);
        if commands.is_empty() {
            return Ok(if waiting { Looked::Waiting } else { Looked::Nothing });
        }
        let (outcomes, _) = self.shard.command(&commands).await?;
        let mut refused = 0;
        for (command, outcome) in commands.iter().zip(&outcomes) {
            if let CommandOutcome::Refused(refusal) = outcome {
                refused += 1;
                tracing::warn!(shard = %self.shard.id(), ?command, %refusal, "a cycle's step is refused");
            }
        }
        // Refused steps would be refused again at once.
        Ok(if refused == outcomes.len() { Looked::Nothing } else { Looked::Done })
    }

    async fn genesis(&self) -> Result<Looked, Error> {
        let Some(map) = self.context.meta.map() else { return Ok(Looked::Waiting) };
        let shards = map.shards().len().max(1) as u64;
        let genesis = Command::Genesis {
            shard: self.shard.id(),
            slots: map.slots_of(self.shard.id()),
            epoch: map.epoch,
            ids_bytes_max: self.context.config.ids_bytes_max / shards,
        };
        self.shard.command(&[genesis]).await?;
        Ok(Looked::Done)
    }

    /// *Billed* for those cycles whose folds a majority of voters agrees on, this leader among them.
    async fn billed(&self, read: &Read, to_bill: Vec<(AccountId, CycleId)>) -> Vec<Command> {
        let own: Vec<Arc<BilledRoot>> = to_bill
            .iter()
            .filter_map(|(root, cycle)| self.shard.folds().so_far(&read.view, root, *cycle)?.ok())
            .collect();
        if own.is_empty() {
            return Vec::new();
        }
        let asked: Vec<CutCycle> = own.iter().map(|billed| cut(&billed.root, billed.cycle)).collect();
        let (answers, voters) = self.ask_others(&asked, What::Bills).await;
        let mut agreed: BTreeMap<Slot, Vec<BilledRoot>> = BTreeMap::new();
        for (at, billed) in own.iter().enumerate() {
            let hash = digest(billed);
            let same = answers.iter().filter(|hashes| hashes.get(at).is_some_and(|other| other[..] == hash)).count();
            let differ = answers
                .iter()
                .filter(|hashes| hashes.get(at).is_some_and(|other| !other.is_empty() && other[..] != hash));
            for _ in differ {
                tracing::error!(root = %billed.root, cycle = %billed.cycle, "replicas folded different bills");
            }
            if (same + 1) * 2 > voters {
                agreed.entry(slot_of(billed.root.as_str())).or_default().push(BilledRoot::clone(billed));
            }
        }
        agreed.into_iter().map(|(slot, roots)| Command::Billed { slot, roots }).collect()
    }

    /// Those archives that a majority of voters makes the same, this leader among them: the counters leave memory with
    /// the entry, so one replica's word is not enough.
    async fn agreed(&self, own: Vec<Archive>) -> Vec<Archive> {
        let asked: Vec<CutCycle> = own.iter().map(|(root, cycle, _)| cut(root, *cycle)).collect();
        let (answers, voters) = self.ask_others(&asked, What::Archives).await;
        let count = |at: usize, hash: &Hash| {
            answers.iter().filter(|hashes| hashes.get(at).is_some_and(|other| other[..] == *hash)).count() + 1
        };
        let all = own.into_iter().enumerate();
        all.filter(|(at, (.., hash))| count(*at, hash) * 2 > voters).map(|(_, archive)| archive).collect()
    }

    /// What the other voters say of these cycles, and how many vote.
    async fn ask_others(&self, cycles: &[CutCycle], what: What) -> (Vec<Vec<bytes::Bytes>>, usize) {
        let status = self.shard.group().status();
        let node = self.context.node;
        let others = status.addresses.iter().filter(|(id, _)| id.0 != node && status.voters.contains(id));
        let answers = join_all(others.map(|(_, address)| self.ask(address, cycles, what))).await;
        (answers, status.voters.len())
    }

    /// What a peer has for each of `cycles`; shorter or empty where it does not say.
    async fn ask(&self, address: &str, cycles: &[CutCycle], what: What) -> Vec<bytes::Bytes> {
        let Ok(channel) = reach::channel(&self.context, address) else { return Vec::new() };
        let mut client = InternalClient::new(channel);
        let request = FoldedRequest { shard: self.shard.id().0, cycles: cycles.to_vec() };
        let answer = async {
            match what {
                What::Bills => client.folded(request).await,
                What::Archives => client.archives(request).await,
            }
        };
        match timeout(ASK_TIMEOUT, answer).await {
            Ok(Ok(reply)) => reply.into_inner().hashes,
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

/// What replicas are asked for.
#[derive(Clone, Copy)]
enum What {
    Bills,
    Archives,
}

/// The archive of a cycle, by hash.
type Archive = (AccountId, CycleId, Hash);

fn cut(root: &AccountId, cycle: CycleId) -> CutCycle {
    CutCycle { root: root.to_string(), cycle: cycle.ordinal() }
}
