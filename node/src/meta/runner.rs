//! The job runner: an actor on every node that works only on the meta group's leader. It founds the cluster once, keeps
//! nodes' addresses, and runs jobs step by step. What a step does is in [`super::step`].

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;

use super::command::{Command, EndSteps, NodeRow, PutNode, StepEnd, StepState};
use super::state::founding;
use super::step::{self, Came};
use crate::config::Member;
use crate::context::Context;
use crate::recognition::refuse_twin;

/// How often the runner looks when nobody woke it: a step that waits is tried again.
const INTERVAL: Duration = Duration::from_millis(500);

pub enum Message {
    /// Look what there is to do.
    Look,
}

pub struct Runner;

pub struct Running {
    context: Arc<Context>,
    /// Told when a look is over, so that looks never queue up.
    looked: Arc<Notify>,
}

impl Actor for Runner {
    type Msg = Message;
    type State = Running;
    type Arguments = Arc<Context>;

    async fn pre_start(&self, myself: ActorRef<Message>, context: Arc<Context>) -> Result<Running, ActorProcessingErr> {
        let looked = Arc::new(Notify::new());
        let (mut seen, over) = (context.meta.watch(), looked.clone());
        tokio::spawn(async move {
            while myself.send_message(Message::Look).is_ok() {
                over.notified().await;
                let changed = tokio::time::timeout(INTERVAL, seen.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
            }
        });
        Ok(Running { context, looked })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Look => {
                if running.context.meta.leads() {
                    running.look().await;
                }
                running.looked.notify_one();
            }
        }
        Ok(())
    }
}

impl Running {
    async fn look(&self) {
        let state = self.context.meta.state();
        if !state.is_founded() {
            self.found().await;
            return;
        }
        self.correct_own_address().await;
        let open: Vec<String> = state.jobs().iter().filter(|job| !job.ended()).map(|job| job.id.clone()).collect();
        for job in open {
            self.advance(&job).await;
        }
    }

    async fn found(&self) {
        let context = &self.context;
        let node = |member: &Member| NodeRow { id: member.id, address: member.address.clone(), ..NodeRow::default() };
        let nodes = context.members.iter().map(node).collect();
        let command = founding(context.cluster, nodes, context.shards_founded);
        if let Err(error) = context.meta.propose(command).await {
            tracing::debug!(%error, "the cluster is not founded yet");
        }
    }

    /// A single node may come back under another port; only it needs to know.
    async fn correct_own_address(&self) {
        let context = &self.context;
        if context.meta.state().address(context.node) == Some(context.address.as_str()) {
            return;
        }
        let recorded = context.meta.state().address(context.node).unwrap_or_default().to_owned();
        let (client, run) = (&context.client, Some(context.run));
        if let Err(twin) = refuse_twin(client, &recorded, context.cluster, context.node, run).await {
            return context.fate.expel(&twin.to_string());
        }
        let node = NodeRow { id: context.node, address: context.address.clone(), ..NodeRow::default() };
        if let Err(error) = context.meta.propose(Command::PutNode(PutNode { node: Some(node) })).await {
            tracing::debug!(%error, "the own address is not recorded yet");
        }
    }

    /// Runs the steps of a job until it ends or one has to wait.
    async fn advance(&self, id: &str) {
        let context = &self.context;
        loop {
            let state = context.meta.state();
            let Some(job) = state.job(id) else { return };
            let wave = job.next_wave();
            if wave.is_empty() {
                context.waits.set(id, None);
                return;
            }
            let came = join_all(wave.iter().map(|at| step::run(context, job, &job.steps[*at]))).await;
            let (mut ends, mut waits) = (Vec::new(), None);
            for (at, came) in wave.into_iter().zip(came) {
                let (state, detail, refusal) = match came {
                    Came::Done(detail) => (StepState::Done, detail, 0),
                    Came::Refused(refusal) => (StepState::Refused, refusal.detail, u32::from(refusal.reason.number())),
                    Came::Later(what) => {
                        tracing::info!(job = id, step = job.steps[at].name, what, "a step of a job waits");
                        waits.get_or_insert(what);
                        continue;
                    }
                };
                ends.push(StepEnd { step: at as u32, state: state as i32, detail, refusal });
            }
            if !ends.is_empty() {
                let ended = EndSteps { job: id.to_owned(), ends };
                if let Err(error) = context.meta.propose(Command::EndSteps(ended)).await {
                    tracing::info!(job = id, %error, "steps were done and not recorded, they will be repeated");
                    return;
                }
            }
            if waits.is_some() {
                context.waits.set(id, waits);
                return;
            }
        }
    }
}
