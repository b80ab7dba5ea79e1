//! `validate` and `apply`: documents in files, checked here and applied as a job of the cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::output::Out;
use super::{Exit, Globals};
use crate::client::Client;
use crate::error::Error;
use crate::files::documents::{Document, Placed, expand, read_files};
use crate::files::finding::{Finding, FindingRow};
use crate::proto;

/// How long one question for a job's progress may wait at the server.
const JOB_WAIT: Duration = Duration::from_secs(1);

/// Files of documents.
#[derive(Args, Clone, Debug)]
pub struct Files {
    /// YAML files; a folder stands for all *.yaml in it
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "PATH")]
    pub files: Vec<PathBuf>,
}

/// What `validate -o json` prints.
#[derive(Serialize)]
struct Validated {
    valid: bool,
    documents: Vec<DocumentRow>,
    findings: Vec<FindingRow>,
}

#[derive(Serialize)]
struct DocumentRow {
    kind: &'static str,
    name: String,
    file: String,
}

impl DocumentRow {
    fn of(placed: &Placed) -> DocumentRow {
        let (kind, name) = (placed.document.kind(), placed.document.name().to_owned());
        DocumentRow { kind, name, file: placed.source.name.clone() }
    }
}

/// `validate`: exit 1 where something would be refused.
pub fn validate(files: &Files, out: &Out) -> Result<Exit, Error> {
    let (documents, findings) = read_files(&expand(&files.files)?)?;
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    if out.is_json() {
        out.json(&Validated {
            valid: errors == 0,
            documents: documents.iter().map(DocumentRow::of).collect(),
            findings: findings.iter().map(Finding::row).collect(),
        });
    } else {
        out.findings(&findings);
        let rows = documents.iter().map(|placed| {
            let row = DocumentRow::of(placed);
            vec![row.kind.to_owned(), row.name, row.file]
        });
        if !documents.is_empty() {
            out.table(&["kind", "name", "file"], &[], rows.collect());
        }
    }
    if errors > 0 {
        out.say(&format!("{}: nothing of this can be applied", count(errors, "error")));
        return Ok(Exit::Failed);
    }
    out.next(&format!("reckoner apply -f {}", words(&files.files)));
    Ok(Exit::Ok)
}

/// What `apply -o json` prints.
#[derive(Serialize)]
pub(super) struct Applied {
    job: String,
    state: String,
    steps: Vec<StepRow>,
}

#[derive(Serialize)]
struct StepRow {
    step: String,
    state: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// `apply`: checks here first, then applies catalogues, hierarchies, contracts in this order, and waits for the job.
pub async fn apply(files: &Files, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let (mut documents, findings) = read_files(&expand(&files.files)?)?;
    out.findings(&findings);
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    if errors > 0 {
        return Err(Error::invalid(format!("{} in the files above; nothing was applied", count(errors, "error"))));
    }
    documents.sort_by_key(|placed| match placed.document {
        Document::Catalogue(_) => 0,
        Document::Hierarchy(_) => 1,
        Document::Contract(_) => 2,
    });
    let applied = submit(&documents, globals).await?;
    applied.show(out);
    Ok(applied.ended(globals, out))
}

/// Applies checked documents as a job and waits for it.
pub(super) async fn submit(documents: &[Placed], globals: &Globals) -> Result<Applied, Error> {
    let client = globals.connect().await?;
    let job = uuid::Uuid::now_v7().to_string();
    let wire = documents.iter().map(|placed| placed.document.wire(&placed.source.name)).collect();
    let job = client.apply(&job, wire).await?.job;
    let reply = wait(&client, &job, Duration::from_secs(globals.timeout)).await?;
    Ok(Applied::new(job, &reply, documents))
}

/// Waits for a job's end, or as long as is said: how far it is by then.
pub(super) async fn wait(client: &Client, job: &str, patience: Duration) -> Result<proto::JobReply, Error> {
    let deadline = Instant::now() + patience;
    loop {
        let reply = client.job(job, JOB_WAIT).await?;
        if reply.state != "running" || Instant::now() >= deadline {
            return Ok(reply);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Applied {
    fn new(job: String, reply: &proto::JobReply, documents: &[Placed]) -> Applied {
        let steps = reply.steps.iter().map(|step| StepRow {
            step: step.name.clone(),
            state: step.state.clone(),
            detail: step.refusal.as_ref().map_or_else(|| step.detail.clone(), |refusal| refusal.detail.clone()),
            reason: step.refusal.as_ref().map(|refusal| refusal.reason.clone()),
            shard: step.shard,
            file: step.document.and_then(|at| documents.get(at as usize)).map(|placed| placed.source.name.clone()),
        });
        Applied { job, state: reply.state.clone(), steps: steps.collect() }
    }

    fn show(&self, out: &Out) {
        if out.is_json() {
            return out.json(self);
        }
        self.table(out);
    }

    /// The steps for people.
    pub(super) fn table(&self, out: &Out) {
        let rows = self.steps.iter().map(|row| {
            let why = match &row.reason {
                Some(reason) => format!("{reason}: {}", row.detail),
                None => row.detail.clone(),
            };
            vec![row.step.clone(), row.state.clone(), why]
        });
        out.table(&["step", "state", "detail"], &[], rows.collect());
    }

    /// How it ended, and what to do next.
    pub(super) fn ended(&self, globals: &Globals, out: &Out) -> Exit {
        match self.state.as_str() {
            "done" => {
                out.next("reckoner usage push -f usage.jsonl   (or 'reckoner accounts list' to see what is there)");
                Exit::Ok
            }
            "running" => {
                out.say(&format!(
                    "the job goes on by itself; {} s are over and the steps above that wait are not done yet",
                    globals.timeout
                ));
                Exit::Unavailable
            }
            _ => {
                out.next("correct what was refused and apply the files again; steps that are done change nothing");
                Exit::Failed
            }
        }
    }
}

/// `1 error`, `2 errors`.
fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// Paths as they were given, for a hint.
fn words(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
}
