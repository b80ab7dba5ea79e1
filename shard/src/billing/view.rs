//! A bill's body as people and programs outside read it: one serializable tree with stable field names, decimals as
//! strings, nothing to look up. The command line's JSON is this.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bill::{BalanceChange, BillBody, Counted, Line, PricePart, SharedPool, Source, Tier, Unpriced};
use super::blend::{Subtotals, Sums};
use crate::base::id::{AccountId, ClauseId, Currency, GroupName, MeterId, PriceId, SkuId};
use crate::base::money::{Money, Quantity, Rate};
use crate::base::time::{CycleId, Timestamp};
use crate::pricing::order::Stage;
use crate::usage::series::Dimensions;

/// A bill.
#[derive(Clone, Debug, Serialize)]
pub struct BillView {
    pub root: AccountId,
    /// On a pro forma bill who stands for the payer.
    pub payer: AccountId,
    /// The billing group of a pro forma bill, which nobody owes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pro_forma: Option<GroupName>,
    /// ISO 4217: what the payable is in.
    pub currency: Currency,
    /// Set where lines and total are in another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeView>,
    /// `2024-09`.
    pub cycle: CycleId,
    pub catalogue: VersionView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<VersionView>,
    /// The order used.
    pub stages: Vec<Stage>,
    /// Set where this is the difference to earlier bills of the cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<DifferenceView>,
    /// Set where this pays back of another bill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund: Option<RefundView>,
    pub lines: Vec<LineView>,
    /// Counted, but without a charge.
    pub unpriced: Vec<UnpricedView>,
    /// What it takes from lasting balances.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub balances: Vec<BalanceView>,
    pub subtotals: SubtotalsView,
    /// Exact sum of all lines but the rounding line.
    pub total: Money,
    /// What is to be paid, in the bill's currency.
    pub payable: Money,
}

/// How the exact total became the payable.
#[derive(Clone, Debug, Serialize)]
pub struct ExchangeView {
    pub clause: ClauseId,
    /// ISO 4217: the currency of lines and total.
    pub from: Currency,
    /// What one unit of it is in the bill's currency.
    pub rate: Rate,
    /// Since when the rate is in force.
    pub since: Timestamp,
    /// The exact total in the bill's currency, to 12 decimals.
    pub total: Money,
}

/// Which version of a document applied.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// Absent for a contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First cycle of the version.
    pub effective: CycleId,
    /// blake3 of the document, in hex.
    pub hash: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct DifferenceView {
    pub interim: bool,
    /// Body hashes of the earlier bills, in hex.
    pub earlier: Vec<String>,
}

/// What is paid back of which bill.
#[derive(Clone, Debug, Serialize)]
pub struct RefundView {
    /// The payer's bill, counted from 1.
    pub number: u64,
    /// Hash of its body, in hex.
    pub body: String,
    /// What was asked for.
    pub asked: Money,
    /// What of the bill's payable no refund has paid back yet.
    pub left: Money,
    pub reason: String,
    pub reference: String,
}

/// A line, with all that it points to.
#[derive(Clone, Debug, Serialize)]
pub struct LineView {
    /// From 1.
    pub id: u32,
    /// `usage`, `discount`, `surcharge`, `credit`, `prepaid`, `fee`, `true_up`, `shortfall`, `tax`, `rounding`, `refund`.
    pub kind: &'static str,
    pub stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<SkuId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<MeterId>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub used: Option<UsedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Quantity>,
    /// Of the quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Price per unit (per package where there is one), or a percentage's share of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    pub amount: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierView>,
    pub made_by: MadeBy,
    /// The shared ladder or free pool that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolView>,
    /// Ids of the lines that it was derived from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<u32>,
}

/// What a series is of.
#[derive(Clone, Debug, Serialize)]
pub struct UsedView {
    pub service: String,
    pub usage_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// A tier holds the units above `begin` up to `end`.
#[derive(Clone, Debug, Serialize)]
pub struct TierView {
    /// From 1.
    pub index: u32,
    pub begin: Quantity,
    /// Absent: without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Quantity>,
}

/// What made a line.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MadeBy {
    FreeUnits {
        price: PriceId,
    },
    FreePool {
        pool: PriceId,
    },
    Price {
        price: PriceId,
        /// Units in a package.
        #[serde(skip_serializing_if = "Option::is_none")]
        package: Option<Quantity>,
    },
    /// For each record of the series.
    PerRecord {
        price: PriceId,
    },
    /// What the pool's charge was short of `least`.
    Minimum {
        price: PriceId,
        least: Money,
    },
    /// What the pool's charge was beyond `most`.
    Maximum {
        price: PriceId,
        most: Money,
    },
    /// A fee's period, and the part of it that is charged or taken back.
    Fee {
        fee: SkuId,
        subscription: ClauseId,
        period_from: Timestamp,
        period_to: Timestamp,
        from: Timestamp,
        to: Timestamp,
    },
    Clause {
        clause: ClauseId,
        text: String,
        /// The amount that it was applied to.
        base: Money,
        /// Taken from the clause's balance.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        drawn: bool,
    },
    Rounding,
    /// Of the payer's bill of that number.
    Refund {
        number: u64,
    },
}

#[derive(Clone, Debug, Serialize)]
pub struct PoolView {
    /// The price or the free pool.
    pub id: PriceId,
    /// What sets it apart from others of the same id.
    pub keys: BTreeMap<String, String>,
    /// What all its members brought.
    pub quantity: Quantity,
}

/// A lasting balance, which counts what was used so far.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceView {
    pub name: String,
    /// When the cycle began.
    pub before: Money,
    /// By this bill.
    pub change: Money,
}

#[derive(Clone, Debug, Serialize)]
pub struct UnpricedView {
    pub account: AccountId,
    pub meter: MeterId,
    #[serde(flatten)]
    pub used: UsedView,
    /// In the meter's unit.
    pub quantity: String,
    pub records: u64,
    /// `no_sku`, `below_zero`, `too_much`.
    pub reason: &'static str,
}

/// Sums of the lines; each list sums to the exact total.
#[derive(Clone, Debug, Serialize)]
pub struct SubtotalsView {
    pub accounts: BTreeMap<AccountId, SumsView>,
    pub services: BTreeMap<String, SumsView>,
    pub skus: BTreeMap<SkuId, SkuView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SumsView {
    pub usage: Money,
    pub discounts: Money,
    /// Fees, true-ups, shortfalls and taxes.
    pub charges: Money,
    pub net: Money,
}

#[derive(Clone, Debug, Serialize)]
pub struct SkuView {
    pub quantity: Quantity,
    pub unit: String,
    #[serde(flatten)]
    pub sums: SumsView,
    /// The family's usage amount over its quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blended_rate: Option<Money>,
    pub accounts: BTreeMap<AccountId, ShareView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ShareView {
    pub quantity: Quantity,
    #[serde(flatten)]
    pub sums: SumsView,
    /// The account's part of the family's usage amount, by quantity.
    pub blended: Money,
}

impl BillView {
    pub fn new(body: &BillBody) -> BillView {
        BillView {
            root: body.root.clone(),
            payer: body.payer.clone(),
            pro_forma: body.pro_forma.clone(),
            currency: body.currency,
            exchange: body.exchange.as_ref().map(|own| ExchangeView {
                clause: own.clause.clone(),
                from: own.from,
                rate: own.rate,
                since: own.since,
                total: own.converted(body.total).unwrap_or(body.payable),
            }),
            cycle: body.cycle,
            catalogue: VersionView {
                name: Some(body.catalogue.name.to_string()),
                effective: body.catalogue.effective,
                hash: hex(&body.catalogue.hash),
            },
            contract: body.contract.as_ref().map(|contract| VersionView {
                name: None,
                effective: contract.effective,
                hash: hex(&contract.hash),
            }),
            stages: body.stages.clone(),
            difference: body.difference.as_ref().map(|difference| DifferenceView {
                interim: difference.interim,
                earlier: difference.earlier.iter().map(hex).collect(),
            }),
            refund: body.refund.as_ref().map(|refund| RefundView {
                number: refund.number,
                body: hex(&refund.body),
                asked: refund.asked,
                left: refund.left,
                reason: refund.reason.to_string(),
                reference: refund.reference.to_string(),
            }),
            lines: body.lines.iter().map(|line| LineView::new(body, line)).collect(),
            unpriced: body.unpriced.iter().map(UnpricedView::new).collect(),
            balances: body.balances.iter().map(BalanceView::new).collect(),
            subtotals: SubtotalsView::new(&body.subtotals()),
            total: body.total,
            payable: body.payable,
        }
    }
}

impl LineView {
    /// One line of a body.
    pub fn new(body: &BillBody, line: &Line) -> LineView {
        let item = body.item(line);
        let (tier, made_by) = match &line.source {
            Source::FreeUnits { price } => (None, MadeBy::FreeUnits { price: price.clone() }),
            Source::FreePool { pool } => (None, MadeBy::FreePool { pool: pool.clone() }),
            Source::Price { price, tier, package } => {
                (Some(TierView::new(tier)), MadeBy::Price { price: price.clone(), package: *package })
            }
            Source::PricePart { price, part } => {
                let price = price.clone();
                let made_by = match *part {
                    PricePart::PerRecord => MadeBy::PerRecord { price },
                    PricePart::Minimum { least } => MadeBy::Minimum { price, least },
                    PricePart::Maximum { most } => MadeBy::Maximum { price, most },
                };
                (None, made_by)
            }
            Source::Fee { fee, subscription, of, part } => {
                let made_by = MadeBy::Fee {
                    fee: fee.clone(),
                    subscription: subscription.clone(),
                    period_from: of.from,
                    period_to: of.until,
                    from: part.from,
                    to: part.until,
                };
                (None, made_by)
            }
            Source::Clause { clause, text, base, tier, drawn } => {
                let made_by =
                    MadeBy::Clause { clause: clause.clone(), text: text.to_string(), base: *base, drawn: *drawn };
                (tier.as_ref().map(TierView::new), made_by)
            }
            Source::Rounding => (None, MadeBy::Rounding),
            Source::Refund { number } => (None, MadeBy::Refund { number: *number }),
        };
        LineView {
            id: line.id,
            kind: line.kind().name(),
            stage: line.stage,
            account: item.map(|item| item.series.account.clone()),
            sku: item.map(|item| item.sku.clone()),
            meter: item.and_then(|item| item.meter.clone()),
            used: item.map(|item| UsedView::new(&item.series.dimensions)),
            quantity: line.quantity,
            unit: line.quantity.and(item).map(|item| item.unit.to_string()).filter(|unit| !unit.is_empty()),
            rate: line.rate,
            amount: line.amount,
            tier,
            made_by,
            pool: body.pool(line).map(PoolView::new),
            from: line.from.clone(),
        }
    }
}

impl UsedView {
    fn new(dimensions: &Dimensions) -> UsedView {
        UsedView {
            service: dimensions.service.clone(),
            usage_type: dimensions.usage_type.clone(),
            operation: dimensions.operation.clone(),
            region: dimensions.region.clone(),
            attributes: dimensions.attributes.iter().cloned().collect(),
        }
    }
}

impl TierView {
    fn new(tier: &Tier) -> TierView {
        TierView { index: tier.index, begin: tier.begin, end: tier.end }
    }
}

impl PoolView {
    fn new(pool: &SharedPool) -> PoolView {
        let keys = pool.keys.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        PoolView { id: pool.id.clone(), keys, quantity: pool.quantity }
    }
}

impl BalanceView {
    fn new(balance: &BalanceChange) -> BalanceView {
        BalanceView { name: balance.name.to_string(), before: balance.before, change: balance.change }
    }
}

impl UnpricedView {
    fn new(unpriced: &Unpriced) -> UnpricedView {
        let counted: Counted = unpriced.counted;
        UnpricedView {
            account: unpriced.series.account.clone(),
            meter: unpriced.meter.clone(),
            used: UsedView::new(&unpriced.series.dimensions),
            quantity: counted.to_string(),
            records: counted.records,
            reason: unpriced.reason.name(),
        }
    }
}

impl SumsView {
    fn new(sums: &Sums) -> SumsView {
        SumsView { usage: sums.usage, discounts: sums.discounts, charges: sums.charges, net: sums.net }
    }
}

impl SubtotalsView {
    fn new(subtotals: &Subtotals) -> SubtotalsView {
        let skus = subtotals.skus.iter().map(|(id, sku)| {
            let accounts = sku.accounts.iter().map(|(account, share)| {
                let sums = SumsView::new(&share.sums);
                (account.clone(), ShareView { quantity: share.quantity, sums, blended: share.blended })
            });
            let view = SkuView {
                quantity: sku.quantity,
                unit: sku.unit.clone(),
                sums: SumsView::new(&sku.sums),
                blended_rate: sku.blended_rate,
                accounts: accounts.collect(),
            };
            (id.clone(), view)
        });
        SubtotalsView {
            accounts: subtotals.accounts.iter().map(|(id, sums)| (id.clone(), SumsView::new(sums))).collect(),
            services: subtotals.services.iter().map(|(id, sums)| (id.clone(), SumsView::new(sums))).collect(),
            skus: skus.collect(),
        }
    }
}

/// A hash as people compare it.
pub fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}
