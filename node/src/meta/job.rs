//! An apply job before it runs: documents are read and checked, all of them and against each other, and only then do
//! they become steps. What a step does is in [`super::step`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use reckoner_client::error::Error;
use reckoner_client::proto;
use reckoner_shard::account::directory::Membership;
use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::account::transfer::WayDocument;
use reckoner_shard::account::tree::Hierarchy;
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::problem::{PathPart, Problem, Severity};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::{Period, Timestamp};
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::contract::terms::Contract;
use reckoner_shard::machine::state::Blobs as _;
use reckoner_shard::placement::{ShardMap, slot_of};
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;

use super::command::{DocumentRow, JobRow, StepKind, StepRow, StepState};
use crate::api::status::Trouble;
use crate::context::Context;
use crate::data::{directory, reach};
use crate::store::content::Hash;

/// The kind of a document that moves an account.
pub const ACCOUNT_MOVE: &str = "AccountMove";

/// Documents of one job: each is a few steps in the meta group's state.
const DOCUMENTS_MAX: usize = 1_000;

/// Bytes of one canonical document: it travels in one entry, and two entries fit a message between peers.
pub const DOCUMENT_BYTES_MAX: usize = 7 << 20;

/// Problems that are told at once; more would hide the first.
const PROBLEMS_MAX: usize = 20;

/// A document as its own type.
pub enum Content {
    Catalogue(CatalogueDocument),
    Hierarchy(HierarchyDocument),
    Contract(ContractDocument),
    Way(WayDocument),
}

/// A document that was read.
pub struct Parsed {
    /// Its place in the request.
    pub place: usize,
    /// What the caller calls it.
    pub source: String,
    pub content: Content,
    /// Canonical JSON, the same bytes for the same content.
    pub bytes: Bytes,
    pub hash: Hash,
}

impl Parsed {
    fn kind(&self) -> &'static str {
        match self.content {
            Content::Catalogue(_) => "Catalogue",
            Content::Hierarchy(_) => "Hierarchy",
            Content::Contract(_) => "Contract",
            Content::Way(_) => ACCOUNT_MOVE,
        }
    }

    /// What a person calls it.
    pub fn name(&self) -> String {
        match &self.content {
            Content::Catalogue(document) => format!("catalogue {}", document.name),
            Content::Hierarchy(document) => format!("hierarchy {}", document.root),
            Content::Contract(document) => format!("contract of {}", document.root),
            Content::Way(way) => format!("account {} from {} to {}", way.account, way.from, way.to),
        }
    }

    /// Catalogues first, then hierarchies, then contracts: each may name what comes before it.
    fn rank(&self) -> usize {
        match self.content {
            Content::Catalogue(_) => 0,
            Content::Hierarchy(_) => 1,
            Content::Contract(_) => 2,
            Content::Way(_) => 3,
        }
    }
}

/// Reads one canonical document of a stated kind.
pub fn content_of(kind: &str, json: &[u8]) -> Result<Content, String> {
    let words = |error: serde_json::Error| error.to_string();
    match kind {
        "Catalogue" => serde_json::from_slice(json).map(Content::Catalogue).map_err(words),
        "Hierarchy" => serde_json::from_slice(json).map(Content::Hierarchy).map_err(words),
        "Contract" => serde_json::from_slice(json).map(Content::Contract).map_err(words),
        ACCOUNT_MOVE => serde_json::from_slice(json).map(Content::Way).map_err(words),
        other => Err(format!("kind '{other}' is none of Catalogue, Hierarchy, Contract, {ACCOUNT_MOVE}")),
    }
}

/// Reads the documents of a request and sorts them into the order in which they are applied.
pub fn parse(documents: Vec<proto::Document>) -> Result<Vec<Parsed>, Refusal> {
    if documents.is_empty() || documents.len() > DOCUMENTS_MAX {
        let detail = format!("{} documents in one job; send 1 to {DOCUMENTS_MAX}", documents.len());
        return Err(Refusal::new(Reason::LimitReached, detail));
    }
    let mut parsed = Vec::with_capacity(documents.len());
    for (place, document) in documents.into_iter().enumerate() {
        let source = if document.source.is_empty() { format!("document {place}") } else { document.source };
        let invalid = |why: String| Refusal::new(Reason::InvalidDocument, format!("{source}: {why}"));
        let content = content_of(&document.kind, &document.json).map_err(invalid)?;
        let canonical = match &content {
            Content::Catalogue(document) => serde_json::to_vec(document),
            Content::Hierarchy(document) => serde_json::to_vec(document),
            Content::Contract(document) => serde_json::to_vec(document),
            Content::Way(way) => serde_json::to_vec(way),
        };
        let bytes = Bytes::from(canonical.map_err(|error| invalid(error.to_string()))?);
        if bytes.len() > DOCUMENT_BYTES_MAX {
            let detail = format!("{source}: {} bytes, at most {DOCUMENT_BYTES_MAX} are taken; split it", bytes.len());
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let hash = *blake3::hash(&bytes).as_bytes();
        parsed.push(Parsed { place, source, content, bytes, hash });
    }
    parsed.sort_by_key(|document| (document.rank(), document.place));
    Ok(parsed)
}

/// Checks every document by itself and against the others and what is known. Nothing is applied where one is wrong.
pub async fn check(context: &Arc<Context>, documents: &[Parsed]) -> Result<(), Trouble> {
    let mut found = Vec::new();
    let mut catalogues: BTreeMap<String, Arc<Catalogue>> = BTreeMap::new();
    let mut hierarchies: BTreeMap<String, String> = BTreeMap::new();
    let mut claimed = BTreeMap::new();
    for document in documents {
        let problems = match &document.content {
            Content::Catalogue(catalogue) => check_catalogue(context, catalogue, &mut catalogues).await?,
            Content::Hierarchy(hierarchy) => {
                hierarchies.insert(hierarchy.root.to_string(), hierarchy.catalogue.to_string());
                let mut problems = hierarchy.check();
                problems.extend(check_members(context, hierarchy, &mut claimed).await?);
                if known(context, &mut catalogues, hierarchy.catalogue.as_str()).await?.is_none() {
                    problems.push(unknown(
                        "catalogue",
                        format!("catalogue '{}' is not known", hierarchy.catalogue),
                        "apply it before, or in the same job",
                    ));
                }
                problems
            }
            Content::Contract(contract) => check_contract(context, contract, &hierarchies, &mut catalogues).await?,
            Content::Way(way) => check_way(context, way).await?,
        };
        let errors = problems.into_iter().filter(|problem| problem.severity == Severity::Error);
        found.extend(errors.map(|problem| format!("{}: {problem}", document.source)));
    }
    if found.is_empty() {
        return Ok(());
    }
    let more = found.len().saturating_sub(PROBLEMS_MAX);
    found.truncate(PROBLEMS_MAX);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    Err(Refusal::new(Reason::InvalidDocument, found.join("\n")).into())
}

fn unknown(field: &str, message: String, help: &str) -> Problem {
    Problem {
        path: vec![PathPart::Key(field.to_owned())],
        message,
        help: Some(help.to_owned()),
        severity: Severity::Error,
    }
}

/// The newest version of a catalogue: from this job, else from the meta group.
async fn known(
    context: &Arc<Context>,
    catalogues: &mut BTreeMap<String, Arc<Catalogue>>,
    name: &str,
) -> Result<Option<Arc<Catalogue>>, Trouble> {
    if let Some(catalogue) = catalogues.get(name) {
        return Ok(Some(catalogue.clone()));
    }
    let state = context.meta.state();
    let Some(row) = state.catalogue(name) else { return Ok(None) };
    let hash: Hash = row.hash.as_ref().try_into().map_err(|_| Trouble::unavailable("a catalogue's hash is damaged"))?;
    reach::catalogue(context, &hash).await.map_err(|why| Trouble::unavailable(format!("catalogue {name}: {why}")))?;
    let compiled = context.catalogues.catalogue(&hash);
    if let Some(compiled) = &compiled {
        catalogues.insert(name.to_owned(), compiled.clone());
    }
    Ok(compiled)
}

async fn check_catalogue(
    context: &Arc<Context>,
    document: &CatalogueDocument,
    catalogues: &mut BTreeMap<String, Arc<Catalogue>>,
) -> Result<Vec<Problem>, Trouble> {
    let compiled = match Catalogue::compile(document) {
        Ok(compiled) => compiled,
        Err(problems) => return Ok(problems),
    };
    let before = known(context, catalogues, document.name.as_str()).await?;
    let problems = before.map(|before| before.check_successor(document)).unwrap_or_default();
    catalogues.insert(document.name.to_string(), Arc::new(compiled));
    Ok(problems)
}

/// Accounts that belong to another hierarchy at a time at which this one names them: of this job, or by the directory as
/// this node knows it. The directory's own slots decide in the end; here the answer comes before anything is applied.
async fn check_members(
    context: &Arc<Context>,
    hierarchy: &HierarchyDocument,
    claimed: &mut BTreeMap<String, Vec<Membership>>,
) -> Result<Vec<Problem>, Trouble> {
    let mut problems = Vec::new();
    let members = members(hierarchy);
    let ids =
        members.keys().map(|account| AccountId::new(account).map_err(|error| Trouble::invalid(error.to_string())));
    let ids: Vec<AccountId> = ids.collect::<Result<_, _>>()?;
    let known = directory::memberships(context, &ids, false).await?;
    for ((account, periods), known) in members.into_iter().zip(known) {
        let of_job = claimed.entry(account.clone()).or_default();
        let other = known.iter().chain(of_job.iter()).find(|membership| {
            membership.root != hierarchy.root && periods.iter().any(|period| period.overlaps(&membership.period))
        });
        if let Some(other) = other {
            problems.push(unknown(
                "accounts",
                format!("account '{account}' belongs to '{}' at a time at which this hierarchy names it", other.root),
                "end its membership there first, or give from and until",
            ));
        }
        of_job.extend(periods.into_iter().map(|period| Membership { root: hierarchy.root.clone(), period }));
    }
    Ok(problems)
}

/// A hierarchy as its document tells it.
fn tree_of(json: &[u8]) -> Result<Hierarchy, Trouble> {
    let document: HierarchyDocument = serde_json::from_slice(json)
        .map_err(|error| Trouble::unavailable(format!("a hierarchy's document cannot be read: {error}")))?;
    Ok(Hierarchy::create(&document))
}

async fn check_contract(
    context: &Arc<Context>,
    contract: &ContractDocument,
    hierarchies: &BTreeMap<String, String>,
    catalogues: &mut BTreeMap<String, Arc<Catalogue>>,
) -> Result<Vec<Problem>, Trouble> {
    let root = contract.root.as_str();
    let mut problems = Vec::new();
    let catalogue = match hierarchies.get(root) {
        Some(catalogue) => Some(catalogue.clone()),
        None => {
            // From whichever node has it.
            let known = match context.client.documents(&contract.root, None).await {
                Ok(known) => Some(known),
                Err(Error::Refused { code, .. }) if code == Reason::UnknownRoot.code() => None,
                Err(error) => return Err(Trouble::unavailable(error.to_string())),
            };
            let tree = known.map(|known| tree_of(&known.hierarchy)).transpose()?;
            tree.map(|hierarchy| {
                problems = contract.check_accounts(|account| hierarchy.account(account).is_some());
                problems.extend(contract.check_groups(|group| hierarchy.groups().contains(group)));
                hierarchy.catalogue.to_string()
            })
        }
    };
    let Some(catalogue) = catalogue else {
        let message = format!("there is no hierarchy of root '{root}'");
        return Ok(vec![unknown("root", message, "apply it before, or in the same job")]);
    };
    let compiled = known(context, catalogues, &catalogue).await?;
    if let Err(own) = Contract::compile(contract, compiled.as_deref()) {
        problems.extend(own);
    }
    Ok(problems)
}

/// Whether the directory has the account where the way begins. Dates and what they would leave behind are for the roots'
/// shards to say.
async fn check_way(context: &Arc<Context>, way: &WayDocument) -> Result<Vec<Problem>, Trouble> {
    let known = directory::memberships(context, std::slice::from_ref(&way.account), true).await?;
    let owner = known.iter().flatten().find(|own| own.period.contains(way.at)).map(|own| &own.root);
    let message = match owner {
        Some(root) if *root == way.from && way.from != way.to => return Ok(Vec::new()),
        Some(root) => format!("account '{}' belongs to '{root}' at {}, not to '{}'", way.account, way.at, way.from),
        None => format!("account '{}' belongs to no hierarchy at {}", way.account, way.at),
    };
    let help = format!(
        "see 'reckoner accounts show {}'; move it from where it is, at a date at which it is there",
        way.account
    );
    Ok(vec![unknown("from", message, &help)])
}

/// The steps of a job, in their order, under the shard map of now.
pub fn plan(id: &str, documents: &[Parsed], map: &ShardMap) -> JobRow {
    let rows = documents.iter().map(|document| DocumentRow {
        kind: document.kind().to_owned(),
        hash: Bytes::copy_from_slice(&document.hash),
        place: document.place as u32,
    });
    let mut steps = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let name = document.name();
        let mut step = |kind: StepKind, verb: &str, shard: Option<ShardId>| {
            steps.push(StepRow {
                kind: kind as i32,
                name: format!("{verb} {name}"),
                shard: shard.map(|shard| shard.0),
                document: index as u32,
                state: StepState::Waiting as i32,
                ..StepRow::default()
            });
        };
        step(StepKind::Stage, "stage", None);
        match &document.content {
            Content::Catalogue(_) => {
                step(StepKind::Register, "register", None);
                map.shards().into_iter().for_each(|shard| step(StepKind::Activate, "activate", Some(shard)));
            }
            Content::Hierarchy(hierarchy) => {
                step(StepKind::Hierarchy, "put", Some(map.shard_of(slot_of(hierarchy.root.as_str()))));
                let shards: BTreeSet<ShardId> =
                    members(hierarchy).into_keys().map(|account| map.shard_of(slot_of(&account))).collect();
                shards.into_iter().for_each(|shard| step(StepKind::Directory, "list accounts of", Some(shard)));
            }
            Content::Contract(contract) => {
                step(StepKind::Contract, "put", Some(map.shard_of(slot_of(contract.root.as_str()))));
            }
            Content::Way(way) => {
                step(StepKind::MoveAccount, "move", Some(map.shard_of(slot_of(way.from.as_str()))));
            }
        }
    }
    // Kind by kind, so that steps of a kind can go together: everything is on disk before anything is put.
    steps.sort_by_key(|step| step.kind);
    JobRow { id: id.to_owned(), documents: rows.collect(), steps }
}

/// Every account of a hierarchy with its periods of membership: root and payers always belong to it.
pub fn members(hierarchy: &HierarchyDocument) -> BTreeMap<String, Vec<Period>> {
    let always = Period { from: Timestamp(i64::MIN), until: Timestamp(i64::MAX) };
    let mut members: BTreeMap<String, Vec<Period>> = BTreeMap::new();
    for account in &hierarchy.accounts {
        members.entry(account.id.to_string()).or_default().push(account.period());
    }
    for account in hierarchy.payers().iter().chain([&hierarchy.root]) {
        members.entry(account.to_string()).or_insert_with(|| vec![always]);
    }
    members
}
