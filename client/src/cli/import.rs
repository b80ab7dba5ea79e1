//! `catalogue import`: a provider's price list in, a catalogue out, and a report of what was read, closed and refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use reckoner_shard::base::id::{CatalogueName, Currency};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::pricing::document::CatalogueDocument;
use serde::Serialize;

use super::documents::{Applied, submit};
use super::output::Out;
use super::{Exit, Globals};
use crate::error::Error;
use crate::files::documents::{Document, expand, load, read_source};
use crate::files::finding::Source;
use crate::files::import::build::{Built, Wanted, build};
use crate::files::import::item::{Note, Origin, Pick, What};
use crate::files::import::{aws, oci};

/// Notes that are shown to people; all of them are in the JSON.
const NOTES_SHOWN: usize = 50;

/// Whose price list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// AWS price list offer files, JSON, format v1
    AwsOffer,
    /// Oracle Cloud's price list, JSON
    Oci,
}

/// Arguments of `catalogue import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArguments {
    /// Whose price list it is
    #[arg(long, value_enum, value_name = "FORM")]
    pub from: Provider,
    /// Files of the list; several make one catalogue
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Name of the catalogue
    #[arg(long)]
    pub name: CatalogueName,
    /// First cycle of this version, like 2026-09; the prices in force when it begins are taken
    #[arg(long, value_name = "CYCLE")]
    pub effective: CycleId,
    /// Needed where the list has prices in several currencies
    #[arg(long, value_name = "CODE")]
    pub currency: Option<Currency>,
    /// The version before, whose meters stay; with --apply the cluster is asked for it
    #[arg(long, value_name = "CATALOGUE.yaml")]
    pub after: Option<PathBuf>,
    /// Write the catalogue to this file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Apply the catalogue to the cluster, unless something of the list was refused
    #[arg(long)]
    pub apply: bool,
}

/// What `catalogue import -o json` prints.
#[derive(Serialize)]
struct Imported<'a> {
    name: &'a CatalogueName,
    effective: CycleId,
    currency: Currency,
    origins: &'a [Origin],
    meters: usize,
    skus: usize,
    prices: usize,
    pools: usize,
    refused: usize,
    notes: &'a [Note],
    /// Where the catalogue was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<Applied>,
}

/// Runs `catalogue import`. Exit 1 where a product was refused: its usage would have no price.
pub async fn run(arguments: &ImportArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let pick = Pick { currency: arguments.currency, effective: arguments.effective };
    let list = match arguments.from {
        Provider::AwsOffer => aws::read_offers(&arguments.files, &pick)?,
        Provider::Oci => oci::read_lists(&arguments.files, &pick)?,
    };
    let after = match &arguments.after {
        Some(path) => Some(catalogue_in(path, &arguments.name)?),
        None if arguments.apply => applied_before(&arguments.name, globals).await?,
        None => None,
    };
    let wanted = Wanted { name: arguments.name.clone(), effective: arguments.effective, after: after.as_ref() };
    let built = build(list, &wanted)?;
    let yaml = built.yaml()?;
    let empty = built.document.skus.is_empty();
    if let Some(path) = arguments.out.as_ref().filter(|_| !empty) {
        let failed = |error| Error::invalid(format!("{} cannot be written: {error}", path.display()));
        std::fs::write(path, &yaml).map_err(failed)?;
    }
    let refused = built.count(What::Refused);
    let applied = match arguments.apply && refused == 0 && !empty {
        true => Some(submit(&read_source(&written(arguments, yaml)).0, globals).await?),
        false => None,
    };
    let document = &built.document;
    if out.is_json() {
        let exit = match &applied {
            Some(applied) => applied.ended(globals, out),
            None if refused == 0 && !empty => Exit::Ok,
            None => Exit::Failed,
        };
        out.json(&Imported {
            name: &document.name,
            effective: document.effective,
            currency: document.currency,
            origins: &built.origins,
            meters: document.meters.len(),
            skus: document.skus.len(),
            prices: document.prices.len(),
            pools: document.pools.len(),
            refused,
            notes: &built.notes,
            out: arguments.out.as_ref().filter(|_| !empty).map(|path| path.display().to_string()),
            applied,
        });
        return Ok(exit);
    }
    show(&built, out);
    if empty {
        return Err(Error::invalid(
            "nothing of the list can be priced, so there is no catalogue; see the places above",
        ));
    }
    match (&applied, &arguments.out) {
        (Some(applied), _) => {
            applied.table(out);
            return Ok(applied.ended(globals, out));
        }
        (None, Some(path)) => out.next(&format!("reckoner apply -f {}", path.display())),
        (None, None) => out.next("give --out FILE to write the catalogue, or --apply"),
    }
    if refused > 0 {
        let not_applied = if arguments.apply { "nothing was applied: " } else { "" };
        out.say(&format!("{not_applied}what was refused has no price in the catalogue; see the places above"));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Ok)
}

fn show(built: &Built, out: &Out) {
    let origins = built.origins.iter().map(|origin| {
        vec![origin.file.clone(), origin.offer.clone(), origin.version.clone(), origin.products.to_string()]
    });
    out.table(&["file", "offer", "version", "products"], &[3], origins.collect());
    let word = |what: What| match what {
        What::Refused => "refused",
        What::Closed => "closed",
        What::Taken => "taken",
        What::Repeated => "repeated",
        What::LeftOut => "left out",
    };
    let notes = built.notes.iter().take(NOTES_SHOWN);
    let notes: Vec<Vec<String>> = notes
        .map(|note| vec![word(note.what).to_owned(), note.file.clone(), note.place.clone(), note.message.clone()])
        .collect();
    if !notes.is_empty() {
        out.table(&["what", "file", "place", "why"], &[], notes);
    }
    if built.notes.len() > NOTES_SHOWN {
        out.say(&format!("and {} more; -o json tells all", built.notes.len() - NOTES_SHOWN));
    }
    let document = &built.document;
    let products: usize = built.origins.iter().map(|origin| origin.products).sum();
    out.say(&format!(
        "{products} products became {} SKUs under {} meters and {} pools in {}; {} refused, {} gaps closed",
        document.skus.len(),
        document.meters.len(),
        document.pools.len(),
        document.currency,
        built.count(What::Refused),
        built.count(What::Closed)
    ));
}

fn written(arguments: &ImportArguments, yaml: String) -> Arc<Source> {
    let name = arguments.out.as_ref().map_or("the imported catalogue".to_owned(), |path| path.display().to_string());
    Arc::new(Source { name, text: yaml })
}

/// The newest version of the catalogue among the documents of a file.
fn catalogue_in(path: &Path, name: &CatalogueName) -> Result<CatalogueDocument, Error> {
    let mut newest: Option<CatalogueDocument> = None;
    for file in expand(&[path.to_owned()])? {
        let (placed, findings) = read_source(&load(&file)?);
        if let Some(finding) = findings.first() {
            return Err(Error::invalid(finding.to_string()));
        }
        for placed in placed {
            if let Document::Catalogue(document) = placed.document
                && document.name == *name
                && newest.as_ref().is_none_or(|known| known.effective <= document.effective)
            {
                newest = Some(*document);
            }
        }
    }
    newest.ok_or_else(|| Error::invalid(format!("{} holds no catalogue '{name}'", path.display())))
}

/// The newest version that the cluster has; none where there is none yet.
async fn applied_before(name: &CatalogueName, globals: &Globals) -> Result<Option<CatalogueDocument>, Error> {
    let client = globals.connect().await?;
    if client.list_catalogues(Some(name.as_str())).await?.versions.is_empty() {
        return Ok(None);
    }
    let reply = client.show_catalogue(name.as_str(), None).await?;
    let document = serde_json::from_slice(&reply.json);
    document.map(Some).map_err(|error| Error::invalid(format!("the catalogue of the cluster cannot be read: {error}")))
}
