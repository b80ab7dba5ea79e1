//! `usage push`: a file as a sequenced producer whose numbers are its lines, so that pushing it again counts nothing
//! twice. Reading lines is `files::usage`'s matter, sending them `batch`'s.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use reckoner_shard::base::id::ProducerId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::machine::command::Verdict;
use serde::Serialize;

use super::output::Out;
use super::usage::PushArguments;
use super::{Exit, Globals};
use crate::batch::batcher::Batcher;
use crate::batch::gather::{Batching, Totals};
use crate::batch::records::Settled;
use crate::client::Client;
use crate::error::Error;
use crate::files::usage::{Row, UsageReader, digest, mark};
use crate::proto;

/// Rows whose accounts are looked up together.
const WINDOW: usize = 4_096;
/// Problems that are kept for the report; more are counted.
const PROBLEMS_MAX: usize = 10_000;

/// What `usage push -o json` prints.
#[derive(Serialize)]
struct Pushed {
    file: String,
    producer: String,
    epoch: u64,
    /// Records that were read.
    records: u64,
    accepted: u64,
    late: u64,
    duplicate: u64,
    refused: u64,
    /// Lines that are no records.
    unreadable: u64,
    /// By line; at most 10,000.
    problems: Vec<Problem>,
    /// Why the file was not read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

#[derive(Clone, Serialize)]
struct Problem {
    line: u64,
    /// Stable code; UNREADABLE for a line that is no record.
    reason: String,
    detail: String,
}

/// What went wrong, by line.
#[derive(Default)]
struct Problems {
    kept: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, line: u64, reason: &str, detail: &str) {
        if self.kept.len() < PROBLEMS_MAX {
            self.kept.push(Problem { line, reason: reason.to_owned(), detail: detail.to_owned() });
        }
    }
}

/// Pushes a file and waits for all verdicts. Exit 1 where a line was not accepted or the file is cut off.
pub async fn push(arguments: &PushArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let path = arguments.file.as_path();
    let reader = UsageReader::open(path)?;
    let client = globals.connect().await?;
    let (producer, epoch) = open(&client, arguments, out).await?;
    let total = mark(path, None)?.map_or(0, |(lines, _)| lines);
    let problems = Arc::new(Mutex::new(Problems::default()));
    let bar = out.progress(total, "lines");
    let sink = {
        let (problems, bar) = (problems.clone(), bar.clone());
        move |settled: Settled<'_>| {
            bar.inc(settled.count());
            if let Verdict::Refused(refusal) = settled.verdict {
                let mut problems = problems.lock();
                for line in settled.numbers() {
                    problems.add(line, &refusal.reason.code(), &refusal.detail);
                }
            }
        }
    };
    let batcher = Batcher::sequenced(client.clone(), producer.clone(), epoch, Batching::default(), sink).await?;
    let read = feed(&client, &batcher, reader, &problems).await;
    // What came before a cut-off end stands: it is sent and settled before the error is told.
    let totals = batcher.flush().await?;
    bar.finish_and_clear();
    let read = read?;
    if arguments.producer.is_some() && read.last_line > 0 {
        record_progress(&client, path, &producer, epoch, read.last_line).await?;
    }
    Ok(report(path, &producer, epoch, read, totals, problems.lock().kept.clone(), out))
}

/// What was read.
struct Feed {
    records: u64,
    unreadable: u64,
    last_line: u64,
    stopped: Option<Error>,
}

async fn feed(
    client: &Client,
    batcher: &Batcher,
    mut reader: UsageReader,
    problems: &Mutex<Problems>,
) -> Result<Feed, Error> {
    let mut feed = Feed { records: 0, unreadable: 0, last_line: 0, stopped: None };
    loop {
        let mut window: Vec<Row> = Vec::with_capacity(WINDOW);
        while window.len() < WINDOW && feed.stopped.is_none() {
            match reader.next() {
                Some(Ok(row)) => window.push(row),
                Some(Err(error)) => feed.stopped = Some(error),
                None => break,
            }
        }
        if window.is_empty() {
            return Ok(feed);
        }
        let accounts: Vec<_> =
            window.iter().filter_map(|row| row.record.as_ref().ok()).map(|record| record.account.clone()).collect();
        client.prefetch(&accounts).await?;
        for row in window {
            feed.last_line = row.line;
            match row.record {
                Ok(record) => {
                    feed.records += 1;
                    batcher.push_record(Some(row.line), &record).await?;
                }
                Err(why) => {
                    feed.unreadable += 1;
                    problems.lock().add(row.line, "UNREADABLE", &why);
                }
            }
        }
    }
}

/// Opens the producer: under its name, if the file begins as it did before; else under the file's digest.
async fn open(client: &Client, arguments: &PushArguments, out: &Out) -> Result<(ProducerId, u64), Error> {
    let path = arguments.file.as_path();
    let Some(name) = &arguments.producer else {
        let digest = digest(path)?;
        let name = format!("file-{}", &digest.to_hex()[..32]);
        let name = ProducerId::new(&name).map_err(|bad| Error::invalid(bad.to_string()))?;
        out.say(&format!(
            "producer {name}: the file is known by its digest, so an edited file is a new one and would count again; \
             for a file that only grows give --producer NAME"
        ));
        let opened = client.open_producer(&name, None, None).await?;
        return Ok((name, opened.epoch));
    };
    let opened = client.open_producer(name, None, None).await?;
    if let Some(before) = &opened.file {
        let mismatch = |why: String| {
            let detail = format!(
                "{} is not the file that producer '{name}' pushed before: {why}; push the original with new lines at its \
                 end, or use another name",
                path.display()
            );
            Error::from(Refusal::new(Reason::ProducerMismatch, detail))
        };
        match mark(path, Some(before.lines))? {
            None => return Err(mismatch(format!("it has fewer than the {} lines pushed so far", before.lines))),
            Some((_, digest)) if digest[..] != before.digest[..] => {
                return Err(mismatch(format!("its first {} lines have changed", before.lines)));
            }
            Some(_) => {}
        }
    }
    Ok((name.clone(), opened.epoch))
}

/// Remembers how far the file is pushed. A last line without its end is left for the next time.
async fn record_progress(
    client: &Client,
    path: &Path,
    producer: &ProducerId,
    epoch: u64,
    last_line: u64,
) -> Result<(), Error> {
    let marked = match mark(path, Some(last_line))? {
        None => mark(path, Some(last_line - 1))?,
        marked => marked,
    };
    let Some((lines, digest)) = marked else {
        return Err(Error::invalid(format!("{} became shorter while it was pushed; push it again", path.display())));
    };
    let file = proto::FileMark { lines, digest: bytes::Bytes::copy_from_slice(&digest) };
    client.open_producer(producer, Some(epoch), Some(file)).await?;
    Ok(())
}

fn report(
    path: &Path,
    producer: &ProducerId,
    epoch: u64,
    feed: Feed,
    totals: Totals,
    mut problems: Vec<Problem>,
    out: &Out,
) -> Exit {
    problems.sort_by_key(|problem| problem.line);
    for problem in &problems {
        out.warn(&format!("line {}: {}: {}", problem.line, problem.reason, problem.detail));
    }
    let told = problems.len() as u64;
    let bad = totals.refused + feed.unreadable;
    if bad > told {
        out.warn(&format!("{} more lines were not accepted", bad - told));
    }
    if let Some(error) = &feed.stopped {
        out.error(error);
    }
    let (records, unreadable) = (feed.records, feed.unreadable);
    if out.is_json() {
        out.json(&Pushed {
            file: path.display().to_string(),
            producer: producer.to_string(),
            epoch,
            records,
            accepted: totals.accepted,
            late: totals.late,
            duplicate: totals.duplicate,
            refused: totals.refused,
            unreadable,
            problems,
            stopped: feed.stopped.as_ref().map(ToString::to_string),
        });
    } else {
        let row = [records, totals.accepted, totals.late, totals.duplicate, totals.refused, unreadable];
        let header = ["records", "accepted", "late", "duplicate", "refused", "unreadable"];
        out.table(&header, &[0, 1, 2, 3, 4, 5], vec![row.iter().map(u64::to_string).collect()]);
    }
    if records > 0 && totals.duplicate == records {
        out.say(&format!("all {records} records are duplicate: they were counted before, nothing changed"));
    }
    if bad > 0 || feed.stopped.is_some() {
        return Exit::Failed;
    }
    out.next("reckoner accounts list   (then 'reckoner bills estimate --root ACCOUNT --cycle CYCLE')");
    Exit::Ok
}
