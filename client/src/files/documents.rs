//! Catalogues, hierarchies and contracts from YAML files: which files, which kind, and all that is wrong with them. What
//! a document means is the domain's matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::base::id::{AccountId, CatalogueName};
use reckoner_shard::base::problem::Problem;
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;

use super::finding::{Finding, Source};
use super::tree::{Node, parse};
use super::typed::read;
use super::zones::list_zones;
use crate::error::Error;
use crate::proto;

/// A file larger than this is not read: it would be no document that a person wrote, nor one that a command can carry.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One document of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Catalogue(Box<CatalogueDocument>),
    Hierarchy(Box<HierarchyDocument>),
    Contract(Box<ContractDocument>),
}

impl Document {
    /// The word in the field `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Document::Catalogue(_) => "Catalogue",
            Document::Hierarchy(_) => "Hierarchy",
            Document::Contract(_) => "Contract",
        }
    }

    /// What it is about: the catalogue's name, the hierarchy's or contract's root.
    pub fn name(&self) -> &str {
        match self {
            Document::Catalogue(document) => document.name.as_str(),
            Document::Hierarchy(document) => document.root.as_str(),
            Document::Contract(document) => document.root.as_str(),
        }
    }

    /// The canonical bytes that hashes are taken of.
    pub fn canonical(&self) -> Vec<u8> {
        match self {
            Document::Catalogue(document) => document.canonical(),
            Document::Hierarchy(document) => document.canonical(),
            Document::Contract(document) => document.canonical(),
        }
    }

    /// As the contract carries it.
    pub fn wire(&self, source: &str) -> proto::Document {
        proto::Document { kind: self.kind().to_owned(), json: self.canonical().into(), source: source.to_owned() }
    }
}

/// A document with the place it was read from.
#[derive(Clone, Debug)]
pub struct Placed {
    pub document: Document,
    pub source: Arc<Source>,
    node: Node,
}

impl Placed {
    /// A problem of the domain at its place in the file.
    pub fn finding(&self, problem: &Problem) -> Finding {
        Finding::of_problem(&self.source, Some(self.node.place(&problem.path)), problem)
    }
}

/// The files that paths name: a directory stands for all `*.yaml` and `*.yml` directly in it, by name.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Error::invalid(format!("{} cannot be read: {error}; check the path", path.display()))
    };
    let mut files = Vec::new();
    for path in paths {
        if !fs::metadata(path).map_err(|error| unreadable(path, error))?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| unreadable(path, error))? {
            let file = entry.map_err(|error| unreadable(path, error))?.path();
            if file.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") && file.is_file() {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(Error::invalid(format!(
                "{} holds no *.yaml file; name files or another folder",
                path.display()
            )));
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Reads a file.
pub fn load(path: &Path) -> Result<Arc<Source>, Error> {
    let name = path.display().to_string();
    let failed = |why: String| Error::invalid(format!("{name} cannot be read: {why}"));
    let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(format!("it has {size} bytes, at most {FILE_BYTES_MAX} are taken; split it")));
    }
    let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        failed(format!("line {line} is not UTF-8; save the file as UTF-8"))
    })?;
    Ok(Arc::new(Source { name, text }))
}

/// Reads all documents of a file; what cannot be read is among the findings.
pub fn read_source(source: &Arc<Source>) -> (Vec<Placed>, Vec<Finding>) {
    let nodes = match parse(source) {
        Ok(nodes) => nodes,
        Err(finding) => return (Vec::new(), vec![finding]),
    };
    if nodes.is_empty() {
        let finding = Finding::error(source, None, "the file has no document");
        return (Vec::new(), vec![finding.with_help("begin one with 'kind: Catalogue', 'Hierarchy' or 'Contract'")]);
    }
    let (mut placed, mut findings) = (Vec::new(), Vec::new());
    for node in nodes {
        match read_node(source, &node) {
            Ok(document) => placed.push(Placed { document, source: source.clone(), node }),
            Err(finding) => findings.push(finding),
        }
    }
    (placed, findings)
}

fn read_node(source: &Arc<Source>, node: &Node) -> Result<Document, Finding> {
    match node.get("kind").and_then(Node::text) {
        Some("Catalogue") => read(source, node).map(|mut document| {
            list_zones(&mut document);
            Document::Catalogue(Box::new(document))
        }),
        Some("Hierarchy") => read(source, node).map(|document| Document::Hierarchy(Box::new(document))),
        Some("Contract") => read(source, node).map(|document| Document::Contract(Box::new(document))),
        Some(other) => {
            let span = node.get("kind").map(|kind| kind.span.clone());
            Err(Finding::error(source, span, format!("kind '{other}' is not known"))
                .with_help("write Catalogue, Hierarchy or Contract"))
        }
        None => Err(Finding::error(source, Some(node.start()), "the document does not say its kind")
            .with_help("add 'kind: Catalogue', 'kind: Hierarchy' or 'kind: Contract'")),
    }
}

/// Reads files and checks what was read: each document by itself, and a contract against the catalogue of its hierarchy
/// where both are among the files.
pub fn read_files(files: &[PathBuf]) -> Result<(Vec<Placed>, Vec<Finding>), Error> {
    let (mut placed, mut findings) = (Vec::new(), Vec::new());
    for file in files {
        let (documents, wrong) = read_source(&load(file)?);
        placed.extend(documents);
        findings.extend(wrong);
    }
    findings.extend(check(&placed));
    Ok((placed, findings))
}

/// All that is wrong or doubtful with documents that were read.
pub fn check(documents: &[Placed]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut catalogues: BTreeMap<&CatalogueName, Catalogue> = BTreeMap::new();
    let mut hierarchies: BTreeMap<&str, &HierarchyDocument> = BTreeMap::new();
    for placed in documents {
        match &placed.document {
            Document::Catalogue(document) => {
                findings.extend(document.check().iter().map(|problem| placed.finding(problem)));
                if let Ok(catalogue) = Catalogue::compile(document) {
                    let newer =
                        catalogues.get(&document.name).is_none_or(|known| known.effective <= catalogue.effective);
                    if newer {
                        catalogues.insert(&document.name, catalogue);
                    }
                }
            }
            Document::Hierarchy(document) => {
                findings.extend(document.check().iter().map(|problem| placed.finding(problem)));
                hierarchies.insert(document.root.as_str(), document);
            }
            Document::Contract(_) => {}
        }
    }
    for placed in documents {
        if let Document::Hierarchy(document) = &placed.document {
            let catalogue = catalogues.get(&document.catalogue);
            let problem = catalogue.and_then(|catalogue| document.check_currency(catalogue.currency));
            findings.extend(problem.iter().map(|problem| placed.finding(problem)));
        }
        if let Document::Contract(document) = &placed.document {
            let hierarchy = hierarchies.get(document.root.as_str());
            let catalogue = hierarchy.and_then(|hierarchy| catalogues.get(&hierarchy.catalogue));
            let mut problems = document.check(catalogue);
            if let Some(hierarchy) = hierarchy {
                let named: BTreeSet<AccountId> = hierarchy.accounts.iter().map(|account| account.id.clone()).collect();
                let payers = hierarchy.payers();
                let known = |id: &AccountId| *id == hierarchy.root || payers.contains(id) || named.contains(id);
                problems.extend(document.check_accounts(known));
                problems.extend(document.check_groups(|group| hierarchy.groups.contains(group)));
            }
            findings.extend(problems.iter().map(|problem| placed.finding(problem)));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { name: "d.yaml".to_owned(), text: text.to_owned() })
    }

    const CATALOGUE: &str = "\
kind: Catalogue
name: demo
currency: USD
effective: 2024-09
meters:
  - id: storage
    service: s3
    usage_type: storage
skus:
  - id: s3-storage
    match: {service: s3, usage_type: storage}
    unit: GB
    rate: 0.10
";

    #[test]
    fn several_kinds_are_read_from_one_file() {
        let text = format!(
            "{CATALOGUE}---\nkind: Hierarchy\nroot: acme\ncatalogue: demo\ncycles: {{first: 2024-09, close: manual}}\n---\n\
             kind: Contract\nroot: acme\neffective: 2024-09\nclauses: []\n"
        );
        let (documents, findings) = read_source(&source(&text));
        let named: Vec<(&str, &str)> = documents.iter().map(|d| (d.document.kind(), d.document.name())).collect();
        assert_eq!(named, [("Catalogue", "demo"), ("Hierarchy", "acme"), ("Contract", "acme")], "{findings:?}");
        let errors: Vec<String> = check(&documents).iter().filter(|f| f.is_error()).map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new());
        let Document::Catalogue(catalogue) = &documents[0].document else { panic!("no catalogue") };
        assert_eq!(catalogue.skus[0].rate.as_deref(), Some("0.10"), "the digits as they were written");
    }

    #[test]
    fn a_problem_of_the_domain_stands_at_its_place() {
        let text = CATALOGUE.replace("usage_type: storage}", "usage_type: storage, region: [x]}");
        let (_, findings) = read_source(&source(&text));
        assert_eq!(findings[0].place(), Some((11, 55)), "{}", findings[0]);
        let text = CATALOGUE.replace("rate: 0.10", "rate: 0.1O");
        let (documents, _) = read_source(&source(&text));
        let findings = check(&documents);
        assert_eq!(findings[0].place(), Some((13, 11)), "{}", findings[0].plain());
    }

    #[test]
    fn a_file_without_a_kind_says_what_to_write() {
        fn check(text: &str, part: &str) {
            let (_, findings) = read_source(&source(text));
            assert!(findings[0].to_string().contains(part), "{text:?}: {}", findings[0]);
        }
        check("", "no document");
        check("name: x", "does not say its kind");
        check("kind: Catalog", "kind 'Catalog' is not known");
        check("- 1", "does not say its kind");
    }

    #[test]
    fn a_directory_stands_for_its_yaml_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.txt"] {
            fs::write(folder.path().join(name), "kind: Catalogue\n").unwrap();
        }
        let files = expand(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.yml", "b.yaml"]);
        assert!(expand(&[folder.path().join("absent.yaml")]).is_err());
        let empty = tempfile::tempdir().unwrap();
        assert!(expand(&[empty.path().to_owned()]).unwrap_err().to_string().contains("no *.yaml"));
    }
}
