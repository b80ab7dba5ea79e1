//! A cycle in one file: its bills, and everything that they follow from, so that anyone can compute them again without a
//! server. The computing is the domain's own fold; fetching what goes into the file is the client's matter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::account::tree::Hierarchy;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::{Money, print_scaled};
use reckoner_shard::base::problem::Problem;
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::billing::bill::{BillBody, FIRST_MACHINE, Refunded, Source};
use reckoner_shard::billing::codec;
use reckoner_shard::billing::kind::{Kind, Refund};
use reckoner_shard::billing::refund::refund;
use reckoner_shard::billing::view::BillView;
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::contract::terms::Contract;
use reckoner_shard::machine::archive::read_archive;
use reckoner_shard::machine::query::{FoldContract, FoldCounter, FoldSource};
use reckoner_shard::machine::state::{CatalogueVersion, MACHINE_VERSION};
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::CatalogueDocument;
use serde::{Deserialize, Serialize};

use super::compare::{Change, changes};
use crate::error::Error;
use crate::proto;

/// First field of the file.
pub const FORMAT: u32 = 1;

/// Bills of a hierarchy's cycle with all that they are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    pub format: u32,
    pub root: AccountId,
    pub cycle: CycleId,
    /// Set where the file holds the bills of this payer alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<AccountId>,
    pub bills: Vec<BundledBill>,
    /// Payers and groups as of the cycle.
    pub hierarchy: HierarchyDocument,
    /// The version that prices the cycle.
    pub catalogue: CatalogueDocument,
    /// The version that governs the cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractDocument>,
    /// What was used of the contract's lasting balances before the cycle.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub balances: BTreeMap<String, Money>,
    /// What bills of later cycles drew of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drawn_later: BTreeMap<String, Money>,
    /// What all payers used, for their usage may climb the same ladders; to be read by people.
    pub counters: Vec<BundledCounter>,
    /// The same as the cluster archives it, in hexadecimal digits; this is what is folded.
    pub archive: String,
}

/// A bill as it was issued, or as it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledBill {
    /// Empty before it is issued.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub number: String,
    /// issued or estimate.
    pub status: String,
    /// anniversary, interim, correction, purchase, shortfall or refund; before it is issued empty, or shortfall.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// BLAKE3 of the body, in hexadecimal digits.
    pub body_hash: String,
    /// The canonical body, in hexadecimal digits.
    pub body: String,
}

/// What one series counted in one bucket, on time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledCounter {
    pub account: AccountId,
    pub service: String,
    pub usage_type: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    pub meter: String,
    /// Day or hour of the cycle, from 0, as the meter counts; absent for the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u16>,
    /// Decimal: the sum, whatever else the meter keeps.
    pub quantity: String,
    pub records: u64,
}

/// How a bill compares with what its inputs make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub payer: AccountId,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub number: String,
    pub equal: bool,
    /// From the bill to what was computed again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// The documents of a fold.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'a> {
    pub hierarchy: &'a HierarchyDocument,
    pub catalogue: &'a CatalogueDocument,
    pub contract: Option<&'a ContractDocument>,
}

impl BundledBill {
    pub fn new(bill: &proto::Bill, body: &BillBody) -> BundledBill {
        let bytes = codec::encode(body);
        let (number, status, kind) = (bill.number.clone(), bill.status.clone(), bill.kind.clone());
        BundledBill { number, status, kind, body_hash: hex(&codec::body_hash(&bytes)), body: hex(&bytes) }
    }

    /// The body; an error where the bytes have another hash than is stated.
    pub fn body(&self) -> Result<BillBody, Error> {
        let failed = |why: String| Error::invalid(format!("bill '{}': {why}; export it again", self.number));
        let bytes = unhex(&self.body).ok_or_else(|| failed("its body is not hexadecimal".to_owned()))?;
        if hex(&codec::body_hash(&bytes)) != self.body_hash {
            return Err(failed("its body has another hash than it states".to_owned()));
        }
        codec::decode(&bytes).map_err(|error| failed(error.to_string()))
    }
}

impl Bundle {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Bundle, Error> {
        let failed = |why: String| Error::invalid(format!("{}: {why}; give a file of 'bills export'", path.display()));
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let bundle: Bundle = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        if bundle.format != FORMAT {
            return Err(failed(format!("its format is {}, this program reads {FORMAT}", bundle.format)));
        }
        Ok(bundle)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a bundle of strings and numbers is always JSON")
    }

    /// Its own documents.
    pub fn documents(&self) -> Documents<'_> {
        Documents { hierarchy: &self.hierarchy, catalogue: &self.catalogue, contract: self.contract.as_ref() }
    }

    /// The bills that the counters make at once under given documents, by payer.
    pub fn fold(&self, documents: Documents<'_>) -> Result<Vec<BillBody>, Error> {
        self.bills(documents, &[], Kind::Correction, Timestamp(i64::MAX))
    }

    /// The bills that the counters make beside earlier ones of the cycle.
    fn bills(
        &self,
        documents: Documents<'_>,
        earlier: &[BillBody],
        kind: Kind,
        until: Timestamp,
    ) -> Result<Vec<BillBody>, Error> {
        let catalogue = Catalogue::compile(documents.catalogue).map_err(|problems| said("catalogue", &problems))?;
        // A clause may name what a later catalogue has dropped; it then finds nothing, as in the cluster.
        let contract = documents.contract.map(|document| {
            Contract::compile(document, Some(&catalogue)).or_else(|_| Contract::compile(document, None))
        });
        let contract = contract.transpose().map_err(|problems| said("contract", &problems))?;
        let problems = documents.hierarchy.check();
        if problems.iter().any(Problem::is_error) {
            return Err(said("hierarchy", &problems));
        }
        let counters = self.unpack(&catalogue)?;
        let contract =
            contract.map(|contract| FoldContract { version: 0, hash: contract.hash, contract: Arc::new(contract) });
        let source = FoldSource {
            hierarchy: Arc::new(Hierarchy::create(documents.hierarchy)),
            cycle: self.cycle,
            machine: self.machine()?,
            version: CatalogueVersion { version: 0, hash: catalogue.hash, effective: catalogue.effective },
            catalogue: Arc::new(catalogue),
            contract,
            counters,
            balances: self.balances.clone(),
            drawn_later: self.drawn_later.clone(),
            earlier: Vec::new(),
            kind,
            until,
            least: None,
            claim: None,
        };
        source.bills(earlier).map_err(|error| Error::invalid(error.to_string()))
    }

    /// The version of the machine that its bills name.
    fn machine(&self) -> Result<u32, Error> {
        let bodies = self.bills.iter().map(BundledBill::body).collect::<Result<Vec<_>, _>>()?;
        let machine = bodies.iter().map(|body| body.machine).max().unwrap_or(FIRST_MACHINE);
        if machine > MACHINE_VERSION {
            return Err(Error::invalid(format!(
                "a bill was made by version {machine} of the machine, this program knows up to {MACHINE_VERSION}; use a \
                 newer one"
            )));
        }
        Ok(machine)
    }

    /// The counters as a fold takes them.
    fn unpack(&self, catalogue: &Catalogue) -> Result<Vec<FoldCounter>, Error> {
        let failed = |why: String| Error::invalid(format!("the counters cannot be read: {why}"));
        let bytes =
            unhex(&self.archive).ok_or_else(|| failed("they are not hexadecimal; export them again".to_owned()))?;
        let counters = read_archive(&bytes, catalogue).map_err(failed)?;
        for counter in &counters {
            let meter = catalogue.meter(counter.meter);
            if counter.value.abs() > meter.ceiling {
                let most = print_scaled(meter.ceiling, meter.scale);
                return Err(failed(format!("a counter of meter {} is above {most}, the most at its prices", meter.id)));
            }
        }
        Ok(counters)
    }

    /// The counters for people, from the archive.
    pub fn readable(&self) -> Result<Vec<BundledCounter>, Error> {
        let catalogue = Catalogue::compile(&self.catalogue).map_err(|problems| said("catalogue", &problems))?;
        let counters = self.unpack(&catalogue)?;
        Ok(counters.iter().map(|counter| BundledCounter::new(counter, &catalogue)).collect())
    }

    /// Computes the bills again and compares. Where a payer has several of the cycle, the last is the difference of what
    /// the counters make to those before it, which it names by their hashes: if it is equal, all of them together are.
    /// A refund is computed from the bill that it names and the refunds before it. Bills that should be there and are not,
    /// or the other way round, differ; before the close not every payer needs to have one.
    pub fn verify(&self) -> Result<Vec<Verdict>, Error> {
        if self.readable()? != self.counters {
            return Err(Error::invalid(
                "the counters that can be read are not those of the archive; export them again",
            ));
        }
        let bodies = self.bills.iter().map(BundledBill::body).collect::<Result<Vec<_>, _>>()?;
        let is_refund = |place: usize| bodies[place].refund.is_some();
        let bills: Vec<usize> = (0..bodies.len()).filter(|place| !is_refund(*place)).collect();
        let last: BTreeMap<&AccountId, usize> = bills.iter().map(|place| (&bodies[*place].payer, *place)).collect();
        let is_last = |place: usize| last[&bodies[place].payer] == place;
        let earlier: Vec<BillBody> =
            bills.iter().filter(|place| !is_last(**place)).map(|place| bodies[*place].clone()).collect();
        let mut made = self.made(&bodies, &last, &earlier)?;
        let mut equals: BTreeMap<&AccountId, bool> = BTreeMap::new();
        let mut verdicts = Vec::with_capacity(self.bills.len());
        // The last of each payer first: it decides about those before it.
        for (place, (bill, body)) in self.bills.iter().zip(&bodies).enumerate().rev() {
            let (payer, number) = (body.payer.clone(), bill.number.clone());
            if let Some(equal) = equals.get(&body.payer).filter(|_| !is_refund(place)) {
                verdicts.push(Verdict { payer, number, equal: *equal, changes: Vec::new() });
                continue;
            }
            let again = match &body.refund {
                Some(refunded) => refunded_again(body, refunded, &bodies[..place]),
                None => made.remove(&body.payer),
            };
            let before = serde_json::to_value(BillView::new(body)).expect("a bill is always JSON");
            let after = again.as_ref().map(|body| serde_json::to_value(BillView::new(body)).expect("as before"));
            // The bytes decide; the fields say where they differ.
            let equal = again.as_ref().is_some_and(|again| codec::encode(again) == codec::encode(body));
            let changes = if equal { Vec::new() } else { changes(&before, &after.unwrap_or_default()) };
            if !is_refund(place) {
                equals.insert(&body.payer, equal);
            }
            verdicts.push(Verdict { payer, number, equal, changes });
        }
        verdicts.reverse();
        verdicts.extend(made.into_values().map(|body| Verdict {
            payer: body.payer.clone(),
            number: String::new(),
            equal: false,
            changes: changes(&serde_json::Value::Null, &serde_json::to_value(BillView::new(&body)).expect("as before")),
        }));
        Ok(verdicts)
    }
}

impl Bundle {
    /// What the counters make in place of the last bill of each payer, and of payers without one that should have it.
    fn made(
        &self,
        bodies: &[BillBody],
        last: &BTreeMap<&AccountId, usize>,
        earlier: &[BillBody],
    ) -> Result<BTreeMap<AccountId, BillBody>, Error> {
        let kind_of = |place: usize| Kind::named(&self.bills[place].kind).unwrap_or(Kind::Anniversary);
        // What was bought later than the last line of a bill of purchases is not on it.
        let until = |place: usize| match kind_of(place) {
            Kind::Purchase => bought_until(&bodies[place]),
            _ => Timestamp(i64::MAX),
        };
        let mut wanted: BTreeSet<(Kind, Timestamp)> =
            last.values().map(|place| (kind_of(*place), until(*place))).collect();
        if last.is_empty() {
            wanted.insert((Kind::Anniversary, Timestamp(i64::MAX)));
        }
        let is_of_all = !wanted.iter().all(|(kind, _)| kind.is_early());
        let mut made: BTreeMap<AccountId, BillBody> = BTreeMap::new();
        for (kind, until_then) in wanted {
            for body in self.bills(self.documents(), earlier, kind, until_then)? {
                let is_wanted = match last.get(&body.payer) {
                    Some(place) => (kind_of(*place), until(*place)) == (kind, until_then),
                    None => is_of_all && !kind.is_early(),
                };
                if is_wanted && self.payer.as_ref().is_none_or(|payer| *payer == body.payer) {
                    made.insert(body.payer.clone(), body);
                }
            }
        }
        Ok(made)
    }
}

/// When the last of a bill's purchases begins.
fn bought_until(body: &BillBody) -> Timestamp {
    let begins = body.lines.iter().filter_map(|line| match &line.source {
        Source::Fee { part, .. } => Some(part.from),
        _ => None,
    });
    begins.max().unwrap_or(Timestamp(i64::MIN))
}

/// A refund, made again of the bill that it names and what came before it.
fn refunded_again(body: &BillBody, refunded: &Refunded, before: &[BillBody]) -> Option<BillBody> {
    let billed = before.iter().find(|own| codec::body_hash(&codec::encode(own)) == refunded.body)?;
    let asked = Refund {
        payer: body.payer.clone(),
        number: refunded.number,
        amount: refunded.asked,
        reason: refunded.reason.to_string(),
        reference: refunded.reference.to_string(),
    };
    let earlier: Vec<BillBody> = before.iter().filter(|own| own.refund.is_some()).cloned().collect();
    refund(billed, &earlier, &asked)
}

impl BundledCounter {
    fn new(counter: &FoldCounter, catalogue: &Catalogue) -> BundledCounter {
        let (series, meter) = (&counter.series, catalogue.meter(counter.meter));
        BundledCounter {
            account: series.account.clone(),
            service: series.service.clone(),
            usage_type: series.usage_type.clone(),
            operation: series.operation.clone(),
            region: series.region.clone(),
            attributes: series.attributes.iter().cloned().collect(),
            meter: meter.id.to_string(),
            bucket: counter.bucket,
            quantity: print_scaled(counter.value, meter.scale),
            records: counter.records,
        }
    }
}

fn said(what: &str, problems: &[Problem]) -> Error {
    let first = problems.iter().find(|problem| problem.is_error()).map_or_else(String::new, Problem::to_string);
    Error::invalid(format!("the {what} has problems: {first}"))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hexadecimal digits as bytes.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
