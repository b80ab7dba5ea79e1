//! One random case: catalogue, contract, hierarchy and counters from a seed, and its bills by the engine and by the
//! reference model.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::account::tree::{Counted, Hierarchy};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::parse_scaled;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::choose::purchases;
use reckoner_shard::billing::difference::{further, settled};
use reckoner_shard::billing::fold::fold;
use reckoner_shard::billing::input::{Counter as EngineCounter, FoldInput};
use reckoner_shard::billing::pro_forma::pro_forma;
use reckoner_shard::billing::simulate::Counting;
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::contract::terms::Contract;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::{Bucket, CatalogueDocument};
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::series::SeriesKey;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::compare::{Shown, key_of};
use crate::draw::terms::balances;
use crate::draw::words::{chance, one};
use crate::draw::{
    catalogue, contract, currency, fees, hierarchy, pro_forma as groups, records, refine, spread, usage, zones,
};
use crate::model::bill::{self, Bills, Whose};
use crate::model::calendar::{Cycle, cycle_name, hours_of, months, start_of};
use crate::model::exact::{self, Exact};
use crate::model::ledger::Root;
use crate::model::measure::HOUR;
use crate::model::pro_forma as beside;
use crate::model::purchase;
use crate::model::record::Record;
use crate::model::series::{Counter, Member, Series, list, text};
use crate::model::spread as cut;

/// Months of 30, 31 and 28 days, the last of a quarter and the first: 2026-09, 2026-10, 2027-02, in months since year 0.
const CYCLES: &[Cycle] = &[2026 * 12 + 8, 2026 * 12 + 9, 2027 * 12 + 1];
/// The last and the first of a year, and a leap month: 2026-12, 2027-01, 2028-02.
const RARE_CYCLES: &[Cycle] = &[2026 * 12 + 11, 2027 * 12, 2028 * 12 + 1];

/// Everything that a hierarchy's bills of one cycle follow from, as a user writes it.
#[derive(Clone, Debug)]
pub struct Case {
    pub cycle: Cycle,
    pub catalogue: Value,
    pub contract: Option<Value>,
    pub hierarchy: Value,
    pub counters: Vec<Counter>,
    /// Records of meters that make more of them than a sum, in the order in which they came.
    pub records: Vec<Record>,
    /// Records that are spread over their time, of series that have no counters here.
    pub spread: Vec<Record>,
    /// What was used of the contract's lasting balances before the cycle.
    pub balances: BTreeMap<String, Exact>,
    /// A later document of the hierarchy, and the cycle that its groups and payers count from.
    pub amended: Option<(Value, Cycle)>,
    /// What was bought by then is billed at once.
    pub bought_until: i64,
}

/// Which bills of a cycle are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// While the cycle counts.
    Interim,
    /// Of what was bought.
    Purchases,
    /// Of the close, without shortfalls that are bills of their own.
    Close,
    /// All that there is.
    Whole,
}

impl Case {
    /// The case of a seed.
    pub fn draw(seed: u64) -> Case {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut more = SmallRng::seed_from_u64(!seed);
        let usual = *one(&mut rng, CYCLES);
        let cycle = if chance(&mut more, 20) { *one(&mut more, RARE_CYCLES) } else { usual };
        let catalogue = catalogue::wide(&mut rng, &cycle_name(cycle));
        let hierarchy = hierarchy::hierarchy(&mut rng, "root", &cycle_name(cycle));
        let agreed = chance(&mut rng, 80);
        // Most contracts govern the cycle; some begin after it or end before it.
        let effective = cycle + 1 - *one(&mut rng, &[0, 1, 1, 1, 1, 1, 1, 2, 3]);
        let contract = agreed.then(|| contract::deal(&mut rng, &hierarchy, effective, &catalogue));
        let counters = usage::counters(&mut rng, &catalogue, &hierarchy, cycle);
        let records = records::records(&mut rng, &catalogue, &hierarchy, cycle);
        let balances = balances(&mut rng, contract.as_ref(), &hierarchy, cycle);
        let (spread, amended, bought_until) = (Vec::new(), None, start_of(cycle));
        let mut case =
            Case { cycle, catalogue, contract, hierarchy, counters, records, spread, balances, amended, bought_until };
        case.add(&mut more);
        case
    }

    /// What is drawn from a sequence of its own, so that all else of a seed stays as it is.
    fn add(&mut self, rng: &mut SmallRng) {
        if chance(rng, 35) {
            self.catalogue["fees"] = fees::fees(rng);
        }
        let counters = std::mem::take(&mut self.counters);
        self.counters = zones::zones(rng, &mut self.catalogue, self.cycle, counters);
        refine::pool_years(rng, &mut self.catalogue);
        refine::prorate_limits(rng, &mut self.catalogue);
        if let Some(contract) = self.contract.as_mut().filter(|_| chance(rng, 60)) {
            contract["subscriptions"] = fees::subscriptions(rng, &self.catalogue, &self.hierarchy, self.cycle);
        }
        if chance(rng, 25) {
            self.counters = usage::plain(rng, std::mem::take(&mut self.counters));
        }
        if let Some(contract) = &mut self.contract {
            let effective = months(text(&contract["effective"], ""));
            refine::of_stage(rng, contract);
            refine::ends(rng, contract, self.cycle);
            refine::starts(rng, contract, self.cycle);
            refine::prorate_clauses(rng, contract, self.cycle);
            refine::hourly(rng, contract, &mut self.catalogue);
            refine::years(rng, contract, &self.hierarchy, self.cycle, &mut self.balances);
            if chance(rng, 30) {
                let own = currency::clauses(rng, contract, &self.catalogue, &self.hierarchy, self.cycle);
                contract["clauses"].as_array_mut().expect("a list").extend(own);
            }
            if chance(rng, 25) {
                contract["pro_forma"] = groups::groups(rng, &self.hierarchy, &self.catalogue, effective);
            }
        }
        refine::climbed(
            rng,
            &self.catalogue,
            (self.contract.as_ref(), &self.hierarchy),
            self.cycle,
            &mut self.balances,
        );
        spread::meters(rng, &mut self.catalogue, 12);
        self.spread = spread::records(rng, &self.catalogue, &self.hierarchy, self.cycle, &mut self.counters);
        if let Some(contract) = &mut self.contract {
            refine::purchases(rng, contract, &self.catalogue, &self.hierarchy, &mut self.balances);
            let hours = *one(rng, &[0, 24, 240, hours_of(self.cycle) - 1]) + rng.random_range(0..240);
            self.bought_until += hours * HOUR;
        }
        if chance(rng, 25) {
            self.amended = Some(groups::amended(rng, &self.hierarchy, self.cycle));
        }
    }

    /// The engine's bills; the error says which document it refused.
    pub fn engine(&self) -> Result<Vec<BillBody>, String> {
        self.folded(|input| fold(input).map_err(|error| error.to_string()))
    }

    /// What the engine bills after earlier bills of the cycle.
    pub fn engine_after(&self, earlier: &[BillBody], step: Step) -> Result<Vec<BillBody>, String> {
        self.folded(|input| {
            let settled = settled(earlier, input.cycle);
            let (interim, own_shortfalls) = match step {
                Step::Interim | Step::Purchases => (true, false),
                Step::Close => (false, false),
                Step::Whole => (false, true),
            };
            let input = FoldInput { settled, interim, own_shortfalls, ..input.clone() };
            let bodies = fold(&input).and_then(|bodies| further(&input, bodies, earlier));
            let bodies = match step {
                Step::Purchases => bodies.and_then(|bodies| purchases(&input, bodies, Timestamp(self.bought_until))),
                _ => bodies,
            };
            let mut bodies = bodies.map_err(|error| error.to_string())?;
            bodies.retain(|body| body.difference.is_none() || !body.lines.is_empty());
            Ok(bodies)
        })
    }

    /// Whether anything may be bought at once.
    pub fn has_purchases(&self) -> bool {
        self.contract.as_ref().is_some_and(|contract| {
            list(contract, "subscriptions").iter().any(|own| own["at_once"] == true)
                || list(contract, "clauses").iter().any(|own| own["purchase"] == true)
        })
    }

    /// The engine's bills of groups that are priced by themselves.
    pub fn engine_pro_forma(&self) -> Result<Vec<BillBody>, String> {
        if self.contract.as_ref().is_none_or(|contract| list(contract, "pro_forma").is_empty()) {
            return Ok(Vec::new());
        }
        self.folded(|input| pro_forma(input).map_err(|error| error.to_string()))
    }

    /// All that the engine makes of the case.
    pub fn shown(&self) -> Result<Shown, String> {
        self.shown_with(&self.engine()?)
    }

    /// Some bills, and those of groups that are priced by themselves.
    pub fn shown_with(&self, bills: &[BillBody]) -> Result<Shown, String> {
        let mut shown = Shown::of_engine(bills);
        for body in self.engine_pro_forma()? {
            let group = body.pro_forma.clone().expect("a pro forma bill names its group").to_string();
            shown.pro_forma.insert(group, Shown::of_engine(&[body]));
        }
        if self.has_purchases() {
            shown.bought = Shown::of_engine(&self.engine_after(&[], Step::Purchases)?).payers;
        }
        if self.contract.as_ref().is_some_and(|contract| purchase::at_close(contract).is_some()) {
            shown.closing = Shown::of_engine(&self.engine_after(&[], Step::Close)?).payers;
        }
        Ok(shown)
    }

    fn folded<R>(&self, make: impl FnOnce(&FoldInput<'_>) -> Result<R, String>) -> Result<R, String> {
        let catalogue = Catalogue::compile(&document::<CatalogueDocument>(&self.catalogue)?);
        let catalogue = catalogue.map_err(|problems| format!("{problems:#?}\n{:#}", self.catalogue))?;
        let tree = document::<HierarchyDocument>(&self.hierarchy)?;
        if tree.check().iter().any(|problem| problem.is_error()) {
            return Err(format!("{:#?}\n{:#}", tree.check(), self.hierarchy));
        }
        let mut hierarchy = Hierarchy::create(&tree);
        if let Some((amended, running)) = &self.amended {
            let (amended, running) = (document::<HierarchyDocument>(amended)?, cycle_name(*running));
            let (open, running) = (tree.cycles.first, running.parse().expect("a cycle"));
            let next = hierarchy.amend(&amended, &Counted { open, running, free_from: &|_| None });
            hierarchy = next.map_err(|refusal| format!("{refusal:?}"))?;
        }
        let contract = match &self.contract {
            Some(value) => {
                let contract = Contract::compile(&document::<ContractDocument>(value)?, Some(&catalogue));
                Some(contract.map_err(|problems| format!("{problems:#?}\n{value:#}"))?)
            }
            None => None,
        };
        let rows: Vec<UsageRecord> = self.records.iter().chain(&self.spread).map(row_of).collect();
        let mut counting =
            Counting::new(&catalogue, hierarchy.clone(), cycle_name(self.cycle).parse().expect("a cycle"));
        for row in &rows {
            counting.count(row).map_err(|refusal| format!("{row:?}: {refusal}"))?;
        }
        let kept = counting.kept();
        let keys: Vec<SeriesKey> = self.counters.iter().map(|counter| key_of(&counter.series)).collect();
        let mut counters: Vec<EngineCounter<'_>> = counting.counters(&kept).collect();
        for (counter, series) in self.counters.iter().zip(&keys) {
            let key = &series.dimensions;
            let meter = catalogue.meter_of(&key.service, &key.usage_type, &key.operation, &key.region, &key.attributes);
            let meter = meter.map_err(|error| format!("{series:?}: {error}"))?;
            let (bucket, scale) = (catalogue.meter(meter).bucket, catalogue.meter(meter).scale);
            let bucket = match bucket {
                Bucket::Month => None,
                Bucket::Day => Some((counter.bucket / 24) as u16),
                Bucket::Hour | Bucket::FiveMinutes => Some(counter.bucket as u16),
            };
            let value = parse_scaled(&exact::text(&counter.value), scale).map_err(|error| error.to_string())?;
            let records = counter.records;
            counters.push(EngineCounter { series, meter, bucket, value, records, kept: &[] });
        }
        let cycle = cycle_name(self.cycle).parse().expect("a cycle");
        let (contract, hierarchy, catalogue) = (contract.as_ref(), &hierarchy, &catalogue);
        let balance = |(name, used): (&String, &Exact)| (name.clone(), exact::text(used).parse().expect("12 decimals"));
        let (balances, drawn_later) = (self.balances.iter().map(balance).collect(), BTreeMap::new());
        let (settled, interim) = (BTreeMap::new(), false);
        let input = FoldInput {
            hierarchy,
            cycle,
            catalogue,
            contract,
            counters,
            balances,
            drawn_later,
            interim,
            own_shortfalls: true,
            settled,
        };
        make(&input)
    }

    /// The reference model's bills.
    pub fn model(&self) -> Bills {
        self.modelled(self.contract.as_ref())
    }

    /// The same under another contract.
    pub fn modelled(&self, contract: Option<&Value>) -> Bills {
        let counters = self.counted();
        let (cycle, usage) = (cycle_name(self.cycle), (&*counters, &*self.records));
        let (root, member) = (self.root(), self.member());
        let (root, payers) = (text(&root.hierarchy["root"], ""), root.payers());
        let whose = Whose { first: self.cycle, root, payers: &payers, member: &member };
        bill::fold(&self.catalogue, contract, &cycle, usage, &self.balances, &whose)
    }

    /// All that the reference model makes of the case.
    pub fn wanted(&self) -> Shown {
        let mut shown = Shown::of_model(&self.model());
        if let Some(contract) = self.contract.as_ref().filter(|own| !list(own, "pro_forma").is_empty()) {
            let counters = self.counted();
            let (cycle, usage) = (cycle_name(self.cycle), (&*counters, &*self.records));
            let bills = beside::pro_forma(&self.catalogue, contract, &cycle, usage, &self.member());
            shown.pro_forma = bills.iter().map(|(group, bills)| (group.clone(), Shown::of_model(bills))).collect();
        }
        if self.has_purchases() {
            let (cycle, contract) = (cycle_name(self.cycle), self.contract.as_ref());
            let (balances, member) = (&self.balances, self.member());
            shown.bought = purchase::purchases(&self.catalogue, contract, &cycle, balances, &member, self.bought_until);
        }
        if let Some(contract) = self.contract.as_ref().and_then(purchase::at_close) {
            shown.closing = self.modelled(Some(&contract)).payers;
        }
        shown
    }

    /// The counters, with what the spread records add to them.
    fn counted(&self) -> Vec<Counter> {
        let meter_of = |series: &Series| {
            let mut meters = list(&self.catalogue, "meters").iter();
            meters.find(|meter| meter["usage_type"] == series.usage_type.as_str()).cloned().unwrap_or_default()
        };
        let root = self.root();
        cut::counted(&self.counters, &self.spread, self.cycle, &meter_of, &|account| root.moves(account))
    }

    /// Who pays for an account and in which group it is: what counts when the cycle ends counts for all of it.
    fn member(&self) -> impl Fn(&str) -> Member {
        let root = self.root();
        move |account| root.member(account)
    }

    /// The hierarchy as it is when the cycle ends.
    fn root(&self) -> Root {
        let amended = self.amended.as_ref().filter(|(_, since)| *since <= self.cycle);
        let hierarchy = amended.map_or(&self.hierarchy, |(amended, _)| amended);
        Root::new(0, hierarchy.clone(), self.cycle, self.catalogue.clone())
    }

    /// The engine's bills beside the model's; the error is the first difference.
    pub fn check(&self) -> Result<Vec<BillBody>, String> {
        let bills = self.engine()?;
        match self.shown_with(&bills)?.difference(&self.wanted()) {
            Some(why) => Err(why),
            None => Ok(bills),
        }
    }
}

/// A record as its sender writes it.
fn row_of(record: &Record) -> UsageRecord {
    let Series { account, service, usage_type, operation, region, attributes } = record.series.clone();
    UsageRecord {
        id: record.id.clone(),
        account: AccountId::new(&account).expect("a good name"),
        service,
        usage_type,
        operation,
        region,
        quantity: exact::text(&record.quantity).parse().expect("a quantity"),
        start: Timestamp(record.start),
        end: Some(Timestamp(record.end)).filter(|_| record.end != record.start),
        attributes: attributes.into_iter().collect(),
        amount: record.amount.as_ref().map(|amount| exact::text(amount).parse().expect("an amount")),
        corrects: record.corrects.then(|| "another".to_owned()),
    }
}

fn document<D: DeserializeOwned>(value: &Value) -> Result<D, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{error}\n{value:#}"))
}
