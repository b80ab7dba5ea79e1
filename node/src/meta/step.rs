//! Carrying out one step of an apply job. Every step is safe to repeat: a new leader of the meta group goes on where the
//! old one stopped. Which step is next is decided in [`super::runner`].

use std::sync::Arc;
use std::time::Duration;

use reckoner_client::proto::StageBlobRequest;
use reckoner_client::proto::cluster_client::ClusterClient;
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::machine::command::{AccountWay, Command, CommandOutcome, Done, MoveStep};
use reckoner_shard::placement::slot_of;
use tokio::time::timeout;

use super::command::{self as meta, JobRow, StepKind, StepRow};
use super::job::{self, Content};
use crate::api::status::Trouble;
use crate::context::Context;
use crate::data::reach;
use crate::workers;

/// How long one node may take to put a document on disk.
const STAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Directory rows of one entry: some hundred bytes each, so an entry stays far under its limit and is applied within a
/// millisecond or two.
const DIRECTORY_ROWS_MAX: usize = 2_000;

/// What came of a step.
pub enum Came {
    Done(String),
    Refused(Refusal),
    /// Not yet; the words say what it waits for.
    Later(String),
}

impl From<Trouble> for Came {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            // What a retry can heal is no end of the job, and bills that are being made are a matter of moments.
            Trouble::Refused(refusal) if !refusal.reason.heals() && refusal.reason != Reason::CloseOldestFirst => {
                Came::Refused(refusal)
            }
            other => Came::Later(other.status().message().to_owned()),
        }
    }
}

/// Carries out a step of a job, on the leader of the meta group.
pub async fn run(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Came {
    let done = match step.kind() {
        StepKind::Stage => stage(context, job, step).await,
        StepKind::Register => register(context, job, step).await,
        StepKind::Activate => activate(context, job, step).await,
        StepKind::Hierarchy | StepKind::Contract => put(context, job, step).await,
        StepKind::Directory => directory(context, job, step).await,
        StepKind::MoveAccount => move_account(context, job, step).await,
        StepKind::Unspecified => {
            Err(Refusal::new(Reason::Malformed, "this version does not know the step; upgrade this node").into())
        }
    };
    done.map_or_else(Came::from, Came::Done)
}

fn hash_of(job: &JobRow, step: &StepRow) -> Result<Hash, Trouble> {
    let row = job.documents.get(step.document as usize);
    row.and_then(|row| row.hash.as_ref().try_into().ok()).ok_or_else(|| {
        Refusal::new(Reason::Malformed, format!("job {} lacks document {}", job.id, step.document)).into()
    })
}

async fn content(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Result<(Content, Vec<u8>), Trouble> {
    let hash = hash_of(job, step)?;
    let bytes = reach::blob(context, &hash)
        .await
        .map_err(|why| Trouble::unavailable(format!("document {}: {why}", hex(&hash))))?;
    let kind = &job.documents[step.document as usize].kind;
    let content = job::content_of(kind, &bytes).map_err(|why| Refusal::new(Reason::InvalidDocument, why))?;
    Ok((content, bytes.to_vec()))
}

/// Puts the document on disk at every node that can be reached, and at a majority at least. A node that is down now
/// fetches it when an entry names it.
async fn stage(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Result<String, Trouble> {
    let hash = hash_of(job, step)?;
    let bytes = reach::blob(context, &hash).await.map_err(Trouble::unavailable)?;
    let state = context.meta.state();
    let calls = state.nodes().filter(|node| node.id != context.node).map(|node| async {
        let mut client = ClusterClient::new(reach::channel(context, &node.address)?)
            .max_encoding_message_size(reach::MESSAGE_BYTES_MAX);
        let request = StageBlobRequest { hash: hash.to_vec().into(), json: bytes.clone() };
        match timeout(STAGE_TIMEOUT, client.stage_blob(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(Trouble::unavailable(status.message())),
            Err(_) => Err(Trouble::unavailable(format!("no answer within {STAGE_TIMEOUT:?}"))),
        }
        .map_err(|trouble| Trouble::unavailable(format!("node {}: {}", node.id, trouble.status().message())))
    });
    let results: Vec<Result<(), Trouble>> = futures::future::join_all(calls).await;
    let nodes = results.len() + 1;
    let held = results.iter().filter(|result| result.is_ok()).count() + 1;
    let missing: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|trouble| trouble.status().message().to_owned()).collect();
    if held * 2 <= nodes {
        return Err(Trouble::unavailable(format!("on disk at {held} of {nodes} nodes; {}", missing.join("; "))));
    }
    if missing.is_empty() {
        return Ok(format!("on disk at {held} of {nodes} nodes"));
    }
    Ok(format!("on disk at {held} of {nodes} nodes; fetched later: {}", missing.join("; ")))
}

async fn register(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Result<String, Trouble> {
    let hash = hash_of(job, step)?;
    let (Content::Catalogue(document), _) = content(context, job, step).await? else {
        return Err(Refusal::new(Reason::Malformed, "the step's document is no catalogue").into());
    };
    let register = meta::Register {
        name: document.name.to_string(),
        hash: hash.to_vec().into(),
        effective: document.effective.ordinal(),
    };
    let epoch = context.meta.state().epoch();
    let outcome = context.meta.propose(meta::Command::Register(register)).await;
    let outcome = outcome.map_err(|error| Trouble::of_group(error, 0, epoch))?;
    if let Some(reason) = Reason::from_number(outcome.refusal as u8) {
        return Err(Refusal::new(reason, outcome.detail).into());
    }
    let same = if outcome.unchanged { ", unchanged" } else { "" };
    Ok(format!("version {}{same}", outcome.version))
}

async fn activate(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Result<String, Trouble> {
    let hash = hash_of(job, step)?;
    let (Content::Catalogue(document), _) = content(context, job, step).await? else {
        return Err(Refusal::new(Reason::Malformed, "the step's document is no catalogue").into());
    };
    let state = context.meta.state();
    let row = state.catalogues().iter().rfind(|row| row.name == document.name.as_str() && row.hash.as_ref() == hash);
    let row = row.ok_or_else(|| Trouble::unavailable("the catalogue's version is not known here yet"))?;
    let command = Command::ActivateCatalogue {
        name: document.name.clone(),
        version: u64::from(row.version),
        hash,
        effective: document.effective,
    };
    execute(context, step, command).await
}

async fn put(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Result<String, Trouble> {
    let (content, document) = content(context, job, step).await?;
    let name = format!("{}/{}", job.id, step.document);
    let command = match content {
        Content::Hierarchy(_) => Command::PutHierarchy { document, job: name },
        Content::Contract(_) => Command::PutContract { document, job: name },
        Content::Catalogue(_) | Content::Way(_) => {
            return Err(
                Refusal::new(Reason::Malformed, "the step's document is nothing that a root's shard takes").into()
            );
        }
    };
    execute(context, step, command).await
}

async fn execute(context: &Arc<Context>, step: &StepRow, command: Command) -> Result<String, Trouble> {
    let shard = ShardId(step.shard.unwrap_or_default());
    let (outcomes, _) = reach::execute(context, shard, &[command]).await?;
    match outcomes.into_iter().next() {
        Some(CommandOutcome::Done(Done::Unchanged)) => Ok("unchanged".to_owned()),
        Some(CommandOutcome::Done(_)) => Ok("done".to_owned()),
        Some(CommandOutcome::Refused(refusal)) => Err(refusal.into()),
        None => Err(Trouble::unavailable("the shard answered nothing")),
    }
}

async fn directory(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Result<String, Trouble> {
    let shard = ShardId(step.shard.unwrap_or_default());
    let map = context.meta.map().ok_or_else(|| Trouble::unavailable("the cluster is being founded"))?;
    let (Content::Hierarchy(hierarchy), _) = content(context, job, step).await? else {
        return Err(Refusal::new(Reason::Malformed, "the step's document is no hierarchy").into());
    };
    let root = hierarchy.root.clone();
    let rows = workers::run(context.workers.as_ref(), move || {
        let mut rows = Vec::new();
        for (account, periods) in job::members(&hierarchy) {
            if map.shard_of(slot_of(&account)) == shard {
                let account = AccountId::new(&account).map_err(|error| error.to_string())?;
                rows.push(Command::PutDirectory { account, root: root.clone(), periods });
            }
        }
        Ok::<_, String>(rows)
    })
    .await
    .map_err(|lost| Trouble::unavailable(lost.to_string()))?
    .map_err(|why| Refusal::new(Reason::InvalidDocument, why))?;
    let mut changed = false;
    for part in rows.chunks(DIRECTORY_ROWS_MAX) {
        let (outcomes, _) = reach::execute(context, shard, part).await?;
        for outcome in outcomes {
            match outcome {
                CommandOutcome::Done(done) => changed |= done != Done::Unchanged,
                CommandOutcome::Refused(refusal) => return Err(refusal.into()),
            }
        }
    }
    let same = if changed { "" } else { ", unchanged" };
    Ok(format!("{} accounts{same}", rows.len()))
}

/// Takes an account all the way: until the new hierarchy has it and the directory knows, usage of it waits. A hierarchy that
/// does not take it in leaves all as it was.
async fn move_account(context: &Arc<Context>, job: &JobRow, step: &StepRow) -> Result<String, Trouble> {
    let (Content::Way(way), _) = content(context, job, step).await? else {
        return Err(Refusal::new(Reason::Malformed, "the step's document moves no account").into());
    };
    let way = AccountWay {
        account: way.account,
        from: way.from,
        to: way.to,
        at: way.at,
        payer: way.payer,
        group: way.group,
        job: format!("{}/{}", job.id, step.document),
    };
    go(context, MoveStep::End, &way).await?;
    if let Err(trouble) = go(context, MoveStep::Begin, &way).await {
        // What is only on its way or being billed is tried again; all else is given up.
        if let Came::Refused(refusal) = Came::from(trouble.clone()) {
            go(context, MoveStep::Cancel, &way).await?;
            return Err(refusal.into());
        }
        return Err(trouble);
    }
    go(context, MoveStep::Learn, &way).await?;
    go(context, MoveStep::Settle, &way).await?;
    Ok(format!("from {} on", way.at))
}

async fn go(context: &Arc<Context>, step: MoveStep, way: &AccountWay) -> Result<(), Trouble> {
    let of = match step {
        MoveStep::End | MoveStep::Settle | MoveStep::Cancel => &way.from,
        MoveStep::Begin => &way.to,
        MoveStep::Learn => &way.account,
    };
    let command = Command::MoveAccount { step, way: way.clone() };
    let (_, outcomes, _) = reach::execute_in(context, slot_of(of.as_str()), &[command]).await?;
    match outcomes.into_iter().next() {
        Some(CommandOutcome::Done(_)) => Ok(()),
        Some(CommandOutcome::Refused(refusal)) => Err(refusal.into()),
        None => Err(Trouble::unavailable("the shard answered nothing")),
    }
}
