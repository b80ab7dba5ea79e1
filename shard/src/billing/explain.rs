//! Why a line is what it is: the chain from the line back to the counters, as steps that a program can show and
//! sentences that a person in finance can read. Everything comes from the body alone.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::bill::{BillBody, Line, LineKind, PricePart, SharedPool, Source, Tier};
use super::view::LineView;
use crate::base::money::{Money, Rate, print_scaled};
use crate::base::time::{DAY, Period};
use crate::contract::year::Climbed;
use crate::pricing::order::Stage;

/// A line and where it came from.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub line: LineView,
    /// From the line back to what was counted; each line once.
    pub steps: Vec<Step>,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The line that it speaks of; absent for what was counted, and for what is to be known of the whole bill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// How many links lie between it and the line explained.
    pub depth: u32,
    /// One sentence.
    pub text: String,
}

/// The sentences, indented by depth.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{:width$}{}", "", step.text, width = 2 * step.depth as usize)?;
        }
        Ok(())
    }
}

/// Explains one line; `None` where the bill has no such line.
pub fn explain(body: &BillBody, id: u32) -> Option<Explanation> {
    let line = body.line(id)?;
    let mut chain = Chain { body, steps: Vec::new(), told: BTreeSet::new(), counted: BTreeSet::new() };
    chain.tell(line, 0);
    chain.tell_whole();
    Some(Explanation { line: LineView::new(body, line), steps: chain.steps })
}

struct Chain<'a> {
    body: &'a BillBody,
    steps: Vec<Step>,
    told: BTreeSet<u32>,
    counted: BTreeSet<u32>,
}

impl Chain<'_> {
    fn tell(&mut self, line: &Line, depth: u32) {
        if !self.told.insert(line.id) {
            return;
        }
        self.say(Some(line.id), depth, sentence(self.body, line));
        let body = self.body;
        if let Some(pool) = body.pool(line) {
            self.say(Some(line.id), depth + 1, pool_sentence(body, pool, line));
        }
        if line.from.is_empty() && line.kind() != LineKind::Fee {
            self.tell_counted(line, depth + 1);
        }
        for from in &line.from {
            if let Some(from) = body.line(*from) {
                self.tell(from, depth + 1);
            }
        }
    }

    /// What was measured, once a series.
    fn tell_counted(&mut self, line: &Line, depth: u32) {
        let (Some(index), Some(item)) = (line.item, self.body.item(line)) else { return };
        let Some(meter) = &item.meter else { return };
        if !self.counted.insert(index) {
            return;
        }
        let used = &item.series.dimensions;
        let mut place = format!("{} {}", used.service, used.usage_type);
        for (word, value) in [("operation", &used.operation), ("region", &used.region)] {
            if !value.is_empty() {
                place += &format!(", {word} {value}");
            }
        }
        for (name, value) in &used.attributes {
            place += &format!(", {name} {value}");
        }
        let records = match item.counted.records {
            1 => "1 record".to_owned(),
            count => format!("{count} records"),
        };
        let text = format!(
            "account {} used {place}: meter {} counted {} in {records}, which is {} {}",
            item.series.account, meter, item.counted, item.quantity, item.unit
        );
        self.say(None, depth, text);
    }

    /// What a reader has to know of the whole bill: who owes it, how it is paid in another currency.
    fn tell_whole(&mut self) {
        let body = self.body;
        if let Some(group) = &body.pro_forma {
            self.say(None, 0, format!("the bill is a pro forma one of billing group {group}, which nobody owes"));
        }
        let Some(exchange) = &body.exchange else { return };
        let text = format!(
            "the bill's exact total {} {} is payable as {} {}: one {} is {} {} since {} by clause {} ({})",
            exchange.from,
            body.total,
            body.currency,
            body.payable,
            exchange.from,
            exchange.rate,
            exchange.to,
            exchange.since.date(),
            exchange.clause,
            contract_of(body)
        );
        self.say(None, 0, text);
    }

    fn say(&mut self, line: Option<u32>, depth: u32, text: String) {
        self.steps.push(Step { line, depth, text });
    }
}

fn sentence(body: &BillBody, line: &Line) -> String {
    let (currency, amount) = (body.priced_in(), line.amount);
    let item = body.item(line);
    let unit = item.map_or("", |item| &*item.unit);
    let sku = item.map_or("", |item| item.sku.as_str());
    let quantity = line.quantity.unwrap_or_default();
    let rate = line.rate.unwrap_or_default();
    let catalogue = format!("catalogue {} from {}", body.catalogue.name, body.catalogue.effective);
    let start = format!("line {}: {currency} {amount}", line.id);
    match &line.source {
        Source::FreeUnits { price } => {
            format!("{start}: {quantity} {unit} of {sku} are free units of price {price} ({catalogue})")
        }
        Source::FreePool { pool } => {
            format!("{start}: {quantity} {unit} of {sku} are free from pool {pool} ({catalogue})")
        }
        Source::Price { price, tier, package } => {
            let range = range(tier, "tier");
            let each = match package {
                Some(size) => format!("at {rate} per started package of {size} {unit}"),
                None => format!("at {rate} each"),
            };
            format!("{start} for {quantity} {unit} of {sku} {each}, price {price}{range} ({catalogue})")
        }
        Source::PricePart { price, part } => match part {
            PricePart::PerRecord => {
                let records = item.map_or(0, |item| item.counted.records);
                format!("{start} for {records} records of {sku} at {rate} each, price {price} ({catalogue})")
            }
            PricePart::Minimum { least } => {
                format!(
                    "{start} of what {sku} was short of the minimum {currency} {least} of price {price} ({catalogue})"
                )
            }
            PricePart::Maximum { most } => {
                format!("{start} of what {sku} was beyond the maximum {currency} {most} of price {price} ({catalogue})")
            }
        },
        Source::Fee { fee, subscription, of, part } => {
            let days = |period: &Period| (period.until.0 - period.from.0) / DAY;
            let span = match (of == part, of.from == of.until) {
                (true, true) => format!("once, on {}", of.from.date()),
                (true, false) => format!("from {} to {}", of.from.date(), of.until.date()),
                _ => format!(
                    "from {} to {}, {} of the {} days of its period",
                    part.from,
                    part.until,
                    days(part),
                    days(of)
                ),
            };
            let what = if amount < Money::ZERO { "takes back" } else { "charges" };
            let contract = contract_of(body);
            format!(
                "{start}: subscription {subscription} {what} {quantity} {unit} of fee {fee} at {rate} {span} ({contract}, {catalogue})"
            )
        }
        Source::Clause { clause, text, .. } => {
            let contract = contract_of(body);
            let what = if text.as_ref() == clause.as_str() { String::new() } else { format!(" \"{text}\"") };
            format!("{start}: clause {clause}{what} {} ({contract})", clause_sentence(body, line))
        }
        Source::Rounding => format!(
            "{start}: rounds the exact total {currency} {} to the payable {currency} {}",
            body.total, body.payable
        ),
        Source::Refund { number } => match &body.refund {
            Some(refund) => format!(
                "{start}: pays back of bill {number}, as {currency} {} were asked for: {} (refund {}); {currency} {} of the bill are \
                 not paid back",
                refund.asked, refund.reason, refund.reference, refund.left
            ),
            None => format!("{start}: pays back of bill {number}"),
        },
    }
}

fn contract_of(body: &BillBody) -> String {
    match &body.contract {
        Some(contract) => format!("contract of {} from {}", body.root, contract.effective),
        None => format!("contract of {}", body.root),
    }
}

/// What a clause does, from its verb on.
fn clause_sentence(body: &BillBody, line: &Line) -> String {
    let Source::Clause { base, tier, drawn, .. } = &line.source else { return String::new() };
    let (currency, item) = (body.priced_in(), body.item(line));
    let unit = item.map_or("", |item| &*item.unit);
    let sku = item.map_or("", |item| item.sku.as_str());
    let is_flat = line.amount == *base;
    let base = format!("{currency} {base}");
    let share = line.rate.map(percent).unwrap_or_default();
    let verb = if line.amount > Money::ZERO { "adds" } else { "takes off" };
    let tier = tier.as_ref();
    match (line.stage, line.quantity) {
        (Stage::UsageWaiver, Some(quantity)) => {
            format!("waives {share} percent of {quantity} {unit} of {sku} that would cost {base}")
        }
        (Stage::Fees, Some(quantity)) => {
            format!("charges {quantity} at {} each", line.rate.unwrap_or_default())
        }
        (_, Some(quantity)) => {
            let (rate, range) =
                (line.rate.unwrap_or_default(), tier.map(|tier| range(tier, "tier")).unwrap_or_default());
            let before = year_sentence(body, line);
            format!("{verb} {quantity} {unit} of {sku} at {rate} each{range} in place of {base}{before}")
        }
        (Stage::Volume, None) => {
            let range = tier.map(|tier| range(tier, "band")).unwrap_or_default();
            let before = year_sentence(body, line);
            format!("takes off {share} percent of {base} left of {sku} by the lines below{range}{before}")
        }
        (Stage::CreditsBefore | Stage::CreditsAfter, None) => {
            format!("settles it from the credit's balance; {base} was left of {sku} by the lines below")
        }
        (Stage::Prepayment, None) if *drawn => {
            format!("draws it from what was paid in advance for {base} of {sku}")
        }
        (Stage::Prepayment, None) => {
            format!("takes off {share} percent of {base} of {sku} that is settled from what was paid in advance")
        }
        (Stage::Fees, None) if line.from.is_empty() => match (line.rate, tier) {
            (Some(_), tier) => {
                let range = tier.map(|tier| range(tier, "tier")).unwrap_or_default();
                format!("charges {share} percent of {base} of spend{range}")
            }
            (None, _) if is_flat => "is a flat line".to_owned(),
            (None, _) => format!("fills the fee on {base} of spend up to its minimum"),
        },
        (Stage::Limits, None) if line.amount > Money::ZERO => {
            format!("fills {base} up to the minimum of its scope")
        }
        (Stage::Limits, None) => {
            format!("takes off what lies above the maximum of its scope; {base} was left of {sku} by the lines below")
        }
        (Stage::Shortfall, None) => {
            format!("charges what is missing of the year's commitment, of which {base} was met")
        }
        (Stage::Tax, None) => {
            let service = item.map_or("", |item| item.series.service.as_str());
            format!("charges {share} percent tax on {base} of {service}")
        }
        (_, None) if line.rate.is_none() => {
            format!("{verb} a part of a fixed amount; {base} was left of {sku} by the lines below")
        }
        (_, None) => {
            let share = percent(line.rate.map_or(Rate::ZERO, |rate| Rate(rate.0.abs())));
            format!("{verb} {share} percent of {base} left of {sku} by the lines below")
        }
    }
}

/// Where a ladder over a contract year began in this cycle; nothing of another ladder.
fn year_sentence(body: &BillBody, line: &Line) -> String {
    let Source::Clause { clause, .. } = &line.source else { return String::new() };
    let year = body.balances.iter().find_map(|balance| {
        let mut parts = balance.name.strip_prefix(clause.as_str())?.strip_prefix('/')?.split('/');
        let (begins, of) = (parts.next()?, parts.next()?);
        let unit = if of == Climbed::Spend.name() { body.currency.as_str() } else { of };
        let is_ladder = [Climbed::Spend.name(), Climbed::Units.name()].contains(&of);
        is_ladder.then(|| format!("; the contract year from {begins} had {} {unit} before this cycle", balance.before))
    });
    year.unwrap_or_default()
}

/// A tier or band in words; nothing where there is only one.
fn range(tier: &Tier, word: &str) -> String {
    match (tier.begin.is_zero(), tier.end) {
        (true, None) if tier.index == 1 => String::new(),
        (true, None) => format!(", {word} {}", tier.index),
        (_, None) => format!(", {word} {} above {}", tier.index, tier.begin),
        (_, Some(end)) => format!(", {word} {} above {} up to {end}", tier.index, tier.begin),
    }
}

fn pool_sentence(body: &BillBody, pool: &SharedPool, line: &Line) -> String {
    let keys: Vec<String> = pool
        .keys
        .iter()
        .map(|(key, value)| if value.is_empty() { format!("no {key}") } else { format!("{key} {value}") })
        .collect();
    let unit = body.item(line).map_or("", |item| &*item.unit);
    let mut text = format!(
        "it is a share of pool {} ({}), to which all members brought {} {unit}",
        pool.id,
        keys.join(", "),
        pool.quantity
    );
    if let Source::Price { tier, .. } = &line.source
        && let Some(slice) = pool.slices.iter().find(|slice| slice.tier == *tier && Some(slice.rate) == line.rate)
    {
        let (currency, amount): (_, Money) = (body.priced_in(), slice.amount);
        text += &format!("; tier {} holds {} of them for {currency} {amount}", tier.index, slice.quantity);
    }
    text
}

/// A share of one as percent.
fn percent(rate: Rate) -> String {
    print_scaled(rate.0, crate::base::money::RATE_SCALE - 2)
}
