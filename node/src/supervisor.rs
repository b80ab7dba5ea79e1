//! The root actor: starts the keeper, the job runner, the placer and the mover, restarts what failed, and stops all in their order. What the
//! children do is in their own files; a shard that halts is the keeper's matter.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::context::Context;
use crate::keeper::{self, Keeper};
use crate::meta::runner::{self, Runner};
use crate::mover::{self, Mover};
use crate::placer::{self, Placer};

/// A child that fails more often than this within [`RESTART_WINDOW`] fails for a reason that a restart does not heal.
const RESTARTS_MAX: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

pub enum Message {
    /// Stop the children in their order, then this actor.
    Stop { done: oneshot::Sender<()> },
}

pub struct Supervisor;

pub struct Children {
    context: Arc<Context>,
    keeper: ActorRef<keeper::Message>,
    runner: ActorRef<runner::Message>,
    placer: ActorRef<placer::Message>,
    mover: ActorRef<mover::Message>,
    failures: Vec<Instant>,
    stopping: bool,
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = Children;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        context: Arc<Context>,
    ) -> Result<Children, ActorProcessingErr> {
        let (keeper, _) = Actor::spawn_linked(None, Keeper, context.clone(), myself.get_cell()).await?;
        let (runner, _) = Actor::spawn_linked(None, Runner, context.clone(), myself.get_cell()).await?;
        let (placer, _) = Actor::spawn_linked(None, Placer, context.clone(), myself.get_cell()).await?;
        let (mover, _) = Actor::spawn_linked(None, Mover, context.clone(), myself.get_cell()).await?;
        Ok(Children { context, keeper, runner, placer, mover, failures: Vec::new(), stopping: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Stop { done } => {
                state.stop().await;
                // The asker may have run out of patience.
                let _ = done.send(());
                myself.stop(None);
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) if !state.stopping => {
                state.restart(&myself, who.get_id(), &error.to_string()).await
            }
            _ => Ok(()),
        }
    }
}

impl Children {
    /// First what makes new work, then what holds the groups: the keeper hands leaders over before it closes them.
    async fn stop(&mut self) {
        self.stopping = true;
        let timeout = Some(Duration::from_millis(self.context.config.stop_timeout_ms));
        if self.mover.stop_and_wait(None, timeout).await.is_err() {
            tracing::warn!("the mover did not stop in time");
        }
        if self.placer.stop_and_wait(None, timeout).await.is_err() {
            tracing::warn!("the placer did not stop in time");
        }
        if self.runner.stop_and_wait(None, timeout).await.is_err() {
            tracing::warn!("the job runner did not stop in time");
        }
        let (done, stopped) = oneshot::channel();
        if self.keeper.send_message(keeper::Message::Stop { done }).is_ok() {
            // Dropped when the keeper is gone already.
            let _ = stopped.await;
        }
    }

    async fn restart(
        &mut self,
        myself: &ActorRef<Message>,
        who: ActorId,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let now = Instant::now();
        self.failures.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        self.failures.push(now);
        if self.failures.len() > RESTARTS_MAX {
            let reason = format!("an actor failed {} times within {RESTART_WINDOW:?}: {error}", self.failures.len());
            self.context.fate.seal(&reason);
            return Ok(());
        }
        let context = self.context.clone();
        if who == self.keeper.get_id() {
            tracing::error!(error, "the keeper failed and is started again");
            (self.keeper, _) = Actor::spawn_linked(None, Keeper, context, myself.get_cell()).await?;
        } else if who == self.runner.get_id() {
            tracing::error!(error, "the job runner failed and is started again");
            (self.runner, _) = Actor::spawn_linked(None, Runner, context, myself.get_cell()).await?;
        } else if who == self.placer.get_id() {
            tracing::error!(error, "the placer failed and is started again");
            (self.placer, _) = Actor::spawn_linked(None, Placer, context, myself.get_cell()).await?;
        } else if who == self.mover.get_id() {
            tracing::error!(error, "the mover failed and is started again");
            (self.mover, _) = Actor::spawn_linked(None, Mover, context, myself.get_cell()).await?;
        }
        Ok(())
    }
}
