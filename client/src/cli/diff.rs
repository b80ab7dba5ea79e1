//! `diff`: what applying files would change in the cluster, field by field. Nothing is applied.

use reckoner_shard::account::tree::Hierarchy;
use reckoner_shard::base::refusal::Reason;
use reckoner_shard::base::time::CycleId;
use serde::Serialize;
use serde_json::Value;

use super::documents::Files;
use super::output::Out;
use super::{Exit, Globals};
use crate::client::Client;
use crate::error::Error;
use crate::files::compare::{Change, changes};
use crate::files::documents::{Document, Placed, expand, read_files};
use crate::proto;

/// What `diff -o json` prints.
#[derive(Serialize)]
struct Compared {
    differs: bool,
    documents: Vec<Row>,
}

/// One document of the files against the cluster.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    file: String,
    state: State,
    /// What of the cluster it was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Same,
    Differs,
    /// The cluster has no version that begins with its cycle.
    NewVersion,
    New,
}

/// What the cluster has of a document.
struct Known {
    against: String,
    value: Value,
    /// It is the version that the file states, not one before it.
    own: bool,
}

/// Runs `diff`. Exit 2 where something differs.
pub async fn run(files: &Files, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let (documents, findings) = read_files(&expand(&files.files)?)?;
    out.findings(&findings);
    if findings.iter().any(|finding| finding.is_error()) {
        return Err(Error::invalid("the files above have errors; correct them first"));
    }
    let client = globals.connect().await?;
    let mut rows = Vec::with_capacity(documents.len());
    for placed in &documents {
        rows.push(row(placed, &client).await?);
    }
    let differs = rows.iter().any(|row| row.state != State::Same);
    let exit = if differs { Exit::Differences } else { Exit::Ok };
    if out.is_json() {
        out.json(&Compared { differs, documents: rows });
        return Ok(exit);
    }
    for row in &rows {
        let against = row.against.as_ref().map_or_else(String::new, |against| format!(" ({against})"));
        let state = match row.state {
            State::Same => "same as in the cluster".to_owned(),
            State::Differs => format!("{} fields differ", row.changes.len()),
            State::NewVersion => format!("a new version, {} fields differ from the one before", row.changes.len()),
            State::New => "not in the cluster".to_owned(),
        };
        out.line(&format!("{} {}: {state}{against}", row.kind, row.name));
        for change in &row.changes {
            out.line(&format!("  {change}"));
        }
    }
    if differs {
        out.next("reckoner apply with the same files");
    }
    Ok(exit)
}

async fn row(placed: &Placed, client: &Client) -> Result<Row, Error> {
    let (known, own) = match &placed.document {
        Document::Catalogue(document) => {
            let known = catalogue(client, document.name.as_str(), document.effective).await?;
            (known, serde_json::to_value(document))
        }
        Document::Hierarchy(document) => {
            let reply = found(client.documents(&document.root, None).await)?;
            let known = reply.map(|reply| known_json(&reply.hierarchy, "as it stands".to_owned(), true)).transpose()?;
            // In the same form as the cluster's: what goes without saying left out.
            (known, serde_json::to_value(Hierarchy::create(document).document(None)))
        }
        Document::Contract(document) => {
            let reply = found(client.documents(&document.root, None).await)?;
            let versions = reply.map(|reply| reply.contracts).unwrap_or_default();
            let known = contract(&versions, document.effective)?;
            (known, serde_json::to_value(document))
        }
    };
    let own = own.expect("a document of strings is always JSON");
    let (state, against, changes) = match known {
        None => (State::New, None, Vec::new()),
        Some(known) => {
            let changes = changes(&known.value, &own);
            let state = match (known.own, changes.is_empty()) {
                (true, true) => State::Same,
                (true, false) => State::Differs,
                (false, _) => State::NewVersion,
            };
            (state, Some(known.against), changes)
        }
    };
    let (kind, name) = (placed.document.kind(), placed.document.name().to_owned());
    Ok(Row { kind, name, file: placed.source.name.clone(), state, against, changes })
}

/// An answer, or nothing where the cluster does not know what was asked for.
fn found<T>(reply: Result<T, Error>) -> Result<Option<T>, Error> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(error)
            if matches!(error.reason(), Some(Reason::UnknownRoot | Reason::UnknownCatalogue | Reason::NotFound)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn known_json(json: &[u8], against: String, own: bool) -> Result<Known, Error> {
    let value = serde_json::from_slice(json);
    let value = value.map_err(|error| Error::invalid(format!("the cluster's document cannot be read: {error}")))?;
    Ok(Known { against, value, own })
}

/// The newest version that begins with the cycle, else the newest that begins before it.
fn nearest<V>(versions: Vec<(CycleId, u32, V)>, effective: CycleId) -> Option<(CycleId, u32, V)> {
    versions.into_iter().filter(|(from, ..)| *from <= effective).max_by_key(|(from, number, _)| (*from, *number))
}

async fn catalogue(client: &Client, name: &str, effective: CycleId) -> Result<Option<Known>, Error> {
    let reply = client.list_catalogues(Some(name)).await?;
    let versions = reply.versions.iter().filter_map(|row| {
        let version = row.version.as_ref()?;
        Some((row.effective.parse().ok()?, version.version, ()))
    });
    let Some((from, number, ())) = nearest(versions.collect(), effective) else { return Ok(None) };
    let reply = client.show_catalogue(name, Some(number)).await?;
    known_json(&reply.json, format!("version {number}, effective {from}"), from == effective).map(Some)
}

fn contract(versions: &[proto::ContractText], effective: CycleId) -> Result<Option<Known>, Error> {
    let versions = versions.iter().filter_map(|row| {
        let version = row.version.as_ref()?;
        Some((row.effective.parse().ok()?, version.version, row))
    });
    let Some((from, number, row)) = nearest(versions.collect(), effective) else { return Ok(None) };
    known_json(&row.json, format!("version {number}, effective {from}"), from == effective).map(Some)
}
