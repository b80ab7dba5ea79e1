//! Bills in the words that engine and reference model share: every line as (payer, series, SKU, origin, quantity,
//! amount), every exact total and payable, what was not charged and why.

use std::collections::BTreeMap;

use reckoner_shard::base::id::AccountId;
use reckoner_shard::billing::bill::{BillBody, Line as EngineLine, Source, postings};
use reckoner_shard::pricing::order::Stage;
use reckoner_shard::usage::series::SeriesKey;

use crate::model::bill::Bills;
use crate::model::currency::Exchange;
use crate::model::exact::{Exact, exact, text, whole};
use crate::model::line::Line;
use crate::model::series::Series;

/// What differs, where it does, of purchases.
const BOUGHT: &str = "what was bought by payer";

/// Bills to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Sorted.
    pub lines: Vec<Row>,
    /// Exact total and payable by payer.
    pub payers: BTreeMap<String, (Exact, Exact)>,
    /// Of bills in another currency, by payer: which, at which rate since when, by which clause.
    pub exchanges: BTreeMap<String, (String, Exact, i64, String)>,
    /// What is used of lasting balances.
    pub postings: BTreeMap<String, Exact>,
    /// Sorted: series, reason, what was counted.
    pub unpriced: Vec<(Series, String, Exact)>,
    /// Bills of groups that are priced by themselves.
    pub pro_forma: BTreeMap<String, Shown>,
    /// Exact total and payable by payer of what was bought by some instant, billed at once.
    pub bought: BTreeMap<String, (Exact, Exact)>,
    /// The same of the close, where shortfalls have bills of their own.
    pub closing: BTreeMap<String, (Exact, Exact)>,
}

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub payer: String,
    pub series: Series,
    pub sku: String,
    pub origin: String,
    pub quantity: Exact,
    pub amount: Exact,
}

/// A series as the engine names it.
pub fn key_of(series: &Series) -> SeriesKey {
    let account = AccountId::new(&series.account).expect("drawn names are good");
    let Series { service, usage_type, operation, region, attributes, .. } = series;
    SeriesKey::new(account, service, usage_type, operation, region, attributes.clone())
}

/// A series as the model names it.
pub fn series_of(key: &SeriesKey) -> Series {
    Series {
        account: key.account.to_string(),
        service: key.service.clone(),
        usage_type: key.usage_type.clone(),
        operation: key.operation.clone(),
        region: key.region.clone(),
        attributes: key.attributes.clone(),
    }
}

/// What made a line, in the model's words.
fn origin_of(bill: &BillBody, line: &EngineLine) -> String {
    match &line.source {
        Source::FreeUnits { .. } => "free".to_owned(),
        Source::FreePool { pool } => format!("pool:{pool}"),
        Source::Price { tier, .. } => tier.index.to_string(),
        Source::PricePart { part, .. } => part.name().to_owned(),
        Source::Fee { subscription, .. } => format!("fee:{subscription}"),
        // Of one slice.
        Source::Clause { clause, .. } => match (line.stage, line.from.as_slice()) {
            (Stage::PrivateRates | Stage::UsageWaiver, [slice]) => {
                let of = bill.line(*slice).map_or(String::new(), |slice| origin_of(bill, slice));
                format!("clause:{clause} of {of}")
            }
            _ => format!("clause:{clause}"),
        },
        Source::Rounding => "rounding".to_owned(),
        Source::Refund { .. } => "refund".to_owned(),
    }
}

impl Shown {
    /// The engine's bills.
    pub fn of_engine(bills: &[BillBody]) -> Shown {
        let mut shown = Shown::default();
        for bill in bills {
            let both = (exact(&bill.total.to_string()), exact(&bill.payable.to_string()));
            let twice = shown.payers.insert(bill.payer.to_string(), both);
            assert!(twice.is_none(), "two bills of {}", bill.payer);
            if let Some(own) = &bill.exchange {
                let own = (own.to.to_string(), exact(&own.rate.to_string()), own.since.0, own.clause.to_string());
                shown.exchanges.insert(bill.payer.to_string(), own);
            }
            for (line, item) in bill.lines.iter().filter_map(|line| bill.item(line).map(|item| (line, item))) {
                // A clause's quantity is that of the slice it changes; the model leaves it out.
                let is_clause = matches!(line.source, Source::Clause { .. });
                let quantity = line.quantity.filter(|_| !is_clause).map_or("0".to_owned(), |own| own.to_string());
                shown.lines.push(Row {
                    payer: bill.payer.to_string(),
                    series: series_of(&item.series),
                    sku: item.sku.to_string(),
                    origin: origin_of(bill, line),
                    quantity: exact(&quantity),
                    amount: exact(&line.amount.to_string()),
                });
            }
            for item in &bill.unpriced {
                let counted = exact(&item.counted.to_string());
                shown.unpriced.push((series_of(&item.series), item.reason.name().to_owned(), counted));
            }
        }
        let posted = postings(bills);
        shown.postings = posted.iter().map(|own| (own.balance.clone(), exact(&own.amount.to_string()))).collect();
        shown.sorted()
    }

    /// The model's bills.
    pub fn of_model(bills: &Bills) -> Shown {
        let row = |line: &Line| {
            let Line { payer, series, sku, mut origin, of, quantity, amount, .. } = line.clone();
            if let Some(slice) = of {
                origin = format!("{origin} of {}", bills.lines[slice].origin);
            }
            Row { payer, series, sku, origin, quantity, amount }
        };
        let unpriced =
            bills.unpriced.iter().map(|(series, why, value)| (series.clone(), (*why).to_owned(), value.clone()));
        let lines = bills.lines.iter().map(row).collect();
        let (payers, postings) = (bills.payers.clone(), bills.postings.clone());
        let exchange = |(payer, own): (&String, &Exchange)| {
            let Exchange { clause, to, rate, since, .. } = own.clone();
            (payer.clone(), (to, rate, since, clause))
        };
        let exchanges = bills.exchanges.iter().map(exchange).collect();
        let unpriced = unpriced.collect();
        Shown { lines, payers, exchanges, postings, unpriced, ..Shown::default() }.sorted()
    }

    /// Two bills as one; totals are the caller's to add.
    pub fn joined(mut self, other: Shown) -> Shown {
        self.lines.extend(other.lines);
        self.unpriced.extend(other.unpriced);
        for (payer, sums) in other.payers {
            self.payers.entry(payer).or_insert(sums);
        }
        self.sorted()
    }

    /// Sorted; what is the same but for quantity and amount is added up: the slices of several hours, say.
    fn sorted(mut self) -> Shown {
        let mut sums: BTreeMap<(String, Series, String, String), (Exact, Exact)> = BTreeMap::new();
        for Row { payer, series, sku, origin, quantity, amount } in self.lines.drain(..) {
            let sum = sums.entry((payer, series, sku, origin)).or_insert_with(|| (exact("0"), exact("0")));
            sum.0 += quantity;
            sum.1 += amount;
        }
        let row =
            |((payer, series, sku, origin), (quantity, amount))| Row { payer, series, sku, origin, quantity, amount };
        self.lines = sums.into_iter().map(row).collect();
        // A share that rounds to nothing may be shown or left out.
        let nothing = exact("0");
        self.lines.retain(|row| row.quantity != nothing || row.amount != nothing);
        self.unpriced.sort();
        self
    }

    /// The first difference to what is wanted, in words.
    pub fn difference(&self, wanted: &Shown) -> Option<String> {
        let unlike = self.lines.iter().zip(&wanted.lines).find(|(found, wanted)| found != wanted);
        if let Some((found, wanted)) = unlike {
            return Some(format!("the first line that differs:\n  engine {found}\n  model  {wanted}"));
        }
        let (found, expected) = (self.lines.len(), wanted.lines.len());
        if found != expected {
            let more = if found > expected { &self.lines[expected] } else { &wanted.lines[found] };
            return Some(format!("engine has {found} lines, model {expected}; one more is\n  {more}"));
        }
        let both = |(total, payable): &(Exact, Exact)| format!("total {} payable {}", text(total), text(payable));
        let kinds = [
            ("payer", &self.payers, &wanted.payers),
            (BOUGHT, &self.bought, &wanted.bought),
            ("the close of payer", &self.closing, &wanted.closing),
        ];
        for (what, found, wanted) in kinds {
            for payer in found.keys().chain(wanted.keys()) {
                // Who bought nothing has no bill of it.
                let is_bill = |of: &&(Exact, Exact)| what != BOUGHT || of.0 != whole(0) || of.1 != whole(0);
                let (own, other) = (found.get(payer).filter(is_bill), wanted.get(payer).filter(is_bill));
                if own != other {
                    let show = |of: Option<&(Exact, Exact)>| of.map_or("has no bill".to_owned(), both);
                    return Some(format!("{what} {payer}:\n  engine {}\n  model  {}", show(own), show(other)));
                }
            }
        }
        if self.exchanges != wanted.exchanges {
            return Some(format!("currencies:\n  engine {:?}\n  model  {:?}", self.exchanges, wanted.exchanges));
        }
        if self.postings != wanted.postings {
            let show = |of: &BTreeMap<String, Exact>| {
                let one = |(name, used): (&String, &Exact)| format!("{name} {}", text(used));
                of.iter().map(one).collect::<Vec<_>>()
            };
            let (found, wanted) = (show(&self.postings), show(&wanted.postings));
            return Some(format!("balances:\n  engine {found:?}\n  model  {wanted:?}"));
        }
        if self.unpriced != wanted.unpriced {
            return Some(format!("unpriced usage:\n  engine {:?}\n  model  {:?}", self.unpriced, wanted.unpriced));
        }
        let nothing = Shown::default();
        let groups = self.pro_forma.keys().chain(wanted.pro_forma.keys());
        groups.into_iter().find_map(|group| {
            let of = |shown: &Shown| shown.pro_forma.get(group).unwrap_or(&nothing).clone();
            of(self).difference(&of(wanted)).map(|why| format!("pro forma group {group}, {why}"))
        })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { payer, series, sku, origin, quantity, amount } = self;
        let Series { account, service, usage_type, operation, region, attributes } = series;
        write!(f, "{payer} {account} {service}/{usage_type}/{operation}/{region} {attributes:?} {sku} {origin}: ")?;
        write!(f, "{} for {}", text(quantity), text(amount))
    }
}

/// Panics at the first difference, with both sides.
pub fn compare(found: &[BillBody], expected: &Bills) {
    if let Some(why) = Shown::of_engine(found).difference(&Shown::of_model(expected)) {
        panic!("{why}");
    }
}
