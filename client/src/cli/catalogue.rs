//! `catalogue list` and `catalogue show`; `catalogue import` has a file of its own.

use clap::{Args, Subcommand};
use reckoner_shard::base::id::CatalogueName;
use reckoner_shard::pricing::document::CatalogueDocument;
use serde::Serialize;

use super::output::Out;
use super::{Exit, Globals, import};
use crate::error::Error;
use crate::files::bundle::hex;
use crate::proto;

/// `catalogue ...`
#[derive(Subcommand, Clone, Debug)]
pub enum CatalogueCommand {
    /// List catalogues and their versions
    List(ListArguments),
    /// Show one version as it can be applied again
    Show(ShowArguments),
    /// Make a catalogue of a provider's price list; what cannot be in it is told with its place
    Import(import::ImportArguments),
}

/// Arguments of `catalogue list`.
#[derive(Args, Clone, Debug)]
pub struct ListArguments {
    /// Only this catalogue
    pub name: Option<CatalogueName>,
}

/// Arguments of `catalogue show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArguments {
    /// The catalogue
    pub name: CatalogueName,
    /// Its version; without it the newest
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub version: Option<u32>,
}

/// Runs `catalogue ...`.
pub async fn run(command: CatalogueCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match command {
        CatalogueCommand::List(arguments) => list(&arguments, globals, out).await,
        CatalogueCommand::Show(arguments) => show(&arguments, globals, out).await,
        CatalogueCommand::Import(arguments) => import::run(&arguments, globals, out).await,
    }
}

#[derive(Serialize)]
struct VersionRow {
    name: String,
    version: u32,
    hash: String,
    effective: String,
    currency: String,
    meters: u32,
    skus: u32,
    prices: u32,
    shards: Vec<u32>,
}

#[derive(Serialize)]
struct Listed {
    versions: Vec<VersionRow>,
}

fn row(version: &proto::CatalogueVersion) -> VersionRow {
    let (name, number, hash) = match &version.version {
        Some(named) => (named.name.clone(), named.version, hex(&named.hash)),
        None => Default::default(),
    };
    VersionRow {
        name,
        version: number,
        hash,
        effective: version.effective.clone(),
        currency: version.currency.clone(),
        meters: version.meters,
        skus: version.skus,
        prices: version.prices,
        shards: version.shards.clone(),
    }
}

async fn list(arguments: &ListArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let reply = client.list_catalogues(arguments.name.as_ref().map(CatalogueName::as_str)).await?;
    let rows: Vec<VersionRow> = reply.versions.iter().map(row).collect();
    if out.is_json() {
        out.json(&Listed { versions: rows });
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        out.say("there is no catalogue yet");
        out.next("reckoner apply -f catalogue.yaml");
        return Ok(Exit::Ok);
    }
    let first = rows[0].name.clone();
    let rows = rows.into_iter().map(|row| {
        vec![
            row.name,
            row.version.to_string(),
            row.effective,
            row.currency,
            row.meters.to_string(),
            row.skus.to_string(),
            row.prices.to_string(),
            row.shards.len().to_string(),
            row.hash[..row.hash.len().min(12)].to_owned(),
        ]
    });
    let header = ["name", "version", "effective", "currency", "meters", "skus", "prices", "shards", "hash"];
    out.table(&header, &[1, 4, 5, 6, 7], rows.collect());
    out.next(&format!("reckoner catalogue show {first}"));
    Ok(Exit::Ok)
}

async fn show(arguments: &ShowArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let reply = client.show_catalogue(arguments.name.as_str(), arguments.version).await?;
    let version = reply.version.as_ref().map(row);
    let unreadable = |why: String| Error::invalid(format!("the catalogue cannot be read: {why}; use a newer client"));
    if out.is_json() {
        let document: serde_json::Value =
            serde_json::from_slice(&reply.json).map_err(|error| unreadable(error.to_string()))?;
        out.json(&serde_json::json!({ "version": version, "document": document }));
        return Ok(Exit::Ok);
    }
    let document: CatalogueDocument =
        serde_json::from_slice(&reply.json).map_err(|error| unreadable(error.to_string()))?;
    let yaml = serde_saphyr::to_string(&document).map_err(|error| unreadable(error.to_string()))?;
    if let Some(version) = version {
        out.say(&format!(
            "{} version {}, effective {}, hash {}",
            version.name, version.version, version.effective, version.hash
        ));
    }
    out.line(yaml.trim_end());
    Ok(Exit::Ok)
}
