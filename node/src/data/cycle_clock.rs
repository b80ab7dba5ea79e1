//! The cycle clock: an actor beside each shard that works only on its leader. It gives a new shard its genesis, sees
//! which cycles are due, and proposes the next step of each: cut, billed, issue, archived. Every step is a small entry
//! and harmless when repeated, so the next leader simply goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use reckoner_raft::error::Error;
use reckoner_shard::base::id::{AccountId, Slot};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::machine::command::{BilledRoot, Command, CommandOutcome};
use reckoner_shard::machine::query::DueStep;
use reckoner_shard::placement::slot_of;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::billing::digest;
use super::reach;
use super::shard::{Read, Shard};
use super::thresholds::Thresholds;
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
        Ok(Ticking { context, shard, thresholds: Thresholds::default() })
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
        let now = self.context.clock.now().max(read.view.stamp);
        let mut due = read.view.due(now);
        due.truncate(STEPS_MAX);
        let mut commands = self.thresholds.reached(&self.context, &read, now).await;
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
        if !to_archive.is_empty() {
            match self.shard.folds().archive(&read.view, to_archive).await {
                Ok(archived) => {
                    let command = |(root, cycle, hash)| Command::Archived { root, cycle, hash };
                    commands.extend(archived.into_iter().map(command));
                }
                Err(reason) => tracing::error!(shard = %self.shard.id(), reason, "cycles cannot be archived"),
            }
        }
        let waiting = !to_bill.is_empty();
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
        let status = self.shard.group().status();
        let node = self.context.node;
        let others: Vec<&String> = status
            .addresses
            .iter()
            .filter(|(id, _)| id.0 != node && status.voters.contains(id))
            .map(|(_, at)| at)
            .collect();
        let answers = join_all(others.iter().map(|address| self.ask(address, &own))).await;
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
            if (same + 1) * 2 > status.voters.len() {
                agreed.entry(slot_of(billed.root.as_str())).or_default().push(BilledRoot::clone(billed));
            }
        }
        agreed.into_iter().map(|(slot, roots)| Command::Billed { slot, roots }).collect()
    }

    /// What a peer folded for each of `own`; shorter or empty where it does not say.
    async fn ask(&self, address: &str, own: &[Arc<BilledRoot>]) -> Vec<bytes::Bytes> {
        let Ok(channel) = reach::channel(&self.context, address) else { return Vec::new() };
        let mut client = InternalClient::new(channel);
        let cut = |billed: &Arc<BilledRoot>| CutCycle { root: billed.root.to_string(), cycle: billed.cycle.ordinal() };
        let request = FoldedRequest { shard: self.shard.id().0, cycles: own.iter().map(cut).collect() };
        match timeout(ASK_TIMEOUT, client.folded(request)).await {
            Ok(Ok(reply)) => reply.into_inner().hashes,
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}
