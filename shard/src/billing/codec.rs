//! A bill's body as canonical bytes, and their hash. Equal bodies have equal bytes; names, dimensions and sources are
//! written once. Reading checks everything, so that a decoded body keeps its promises.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use prost::Message;

use super::bill::{
    BalanceChange, BillBody, CatalogueVersion, ContractVersion, Counted, Difference, FIRST_MACHINE, Item, Line,
    PoolSlice, PricePart, Refunded, SharedPool, Source, Tier, Unpriced, UnpricedReason,
};
use super::wire;
use crate::base::id::{AccountId, BadId, CatalogueName, ClauseId, Currency, GroupName, MeterId, PriceId, SkuId};
use crate::base::money::{Money, Quantity, Rate};
use crate::base::time::{CycleId, Period, Timestamp};
use crate::contract::currency::Exchange;
use crate::pricing::order::Stage;
use crate::pricing::pool::SplitKey;
use crate::usage::series::{Dimensions, SeriesKey};

/// Number of the form below; a later one reads this one too.
pub const BODY_FORMAT: u32 = 1;

/// Why bytes are not a bill's body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("the bytes are not a bill body: {0}")]
    Malformed(String),
    #[error("the bill body has format {0}, this version reads 1; use a newer one")]
    UnknownFormat(u32),
}

/// The canonical bytes of a body.
pub fn encode(body: &BillBody) -> Vec<u8> {
    Writer::default().body(body).encode_to_vec()
}

/// Reads what [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<BillBody, CodecError> {
    let wire = wire::Body::decode(bytes).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if wire.format != BODY_FORMAT {
        return Err(CodecError::UnknownFormat(wire.format));
    }
    Reader { wire: &wire }.body()
}

/// blake3 of a body's canonical bytes.
pub fn body_hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

fn wide(value: i128) -> wire::Wide {
    let zigzag = ((value << 1) ^ (value >> 127)) as u128;
    wire::Wide { low: zigzag as u64, high: (zigzag >> 64) as u64 }
}

fn narrow(wide: &wire::Wide) -> i128 {
    let zigzag = u128::from(wide.high) << 64 | u128::from(wide.low);
    (zigzag >> 1) as i128 ^ -((zigzag & 1) as i128)
}

/// The numbers are those of BILLING.md section 2; what it has no number for comes from 15 on.
fn stage_number(stage: Stage) -> u32 {
    match stage {
        Stage::Usage => 3,
        Stage::PrivateRates => 4,
        Stage::UsageWaiver => 5,
        Stage::AttributePercent => 6,
        Stage::ServicePercent => 7,
        Stage::Volume => 8,
        Stage::CreditsBefore => 9,
        Stage::CrossServicePercent => 10,
        Stage::Prepayment => 11,
        Stage::Fees => 12,
        Stage::CreditsAfter => 13,
        Stage::Tax => 14,
        Stage::Rounding => 15,
        Stage::Limits => 16,
        Stage::Shortfall => 17,
    }
}

fn stage_of(number: u32) -> Option<Stage> {
    crate::pricing::order::DEFAULT_ORDER.into_iter().find(|stage| stage_number(*stage) == number)
}

/// Values to their numbers: looked up, never iterated, so its order cannot reach the bytes.
type Places<K> = HashMap<K, u32, FixedState>;

/// Gives each distinct value a number, in order of first use.
#[derive(Default)]
struct Writer<'a> {
    strings: Vec<String>,
    string_places: Places<&'a str>,
    dimensions: Vec<wire::Dimensions>,
    dimension_places: Places<&'a Dimensions>,
    sources: Vec<wire::Source>,
    source_places: Places<(SourceKey<'a>, Option<Rate>)>,
}

/// A source without what differs from line to line.
#[derive(PartialEq, Eq, Hash)]
enum SourceKey<'a> {
    Whole(&'a Source),
    Clause(&'a ClauseId, &'a str, Option<Tier>, bool),
}

impl<'a> Writer<'a> {
    fn string(&mut self, text: &'a str) -> u32 {
        let next = self.strings.len() as u32;
        *self.string_places.entry(text).or_insert_with(|| {
            self.strings.push(text.to_owned());
            next
        })
    }

    fn body(mut self, body: &'a BillBody) -> wire::Body {
        let contract = body.contract.as_ref().map(|contract| wire::Version {
            name: 0,
            effective: contract.effective.ordinal(),
            hash: contract.hash.to_vec(),
        });
        let difference = body.difference.as_ref().map(|difference| wire::Difference {
            interim: difference.interim,
            earlier: difference.earlier.iter().map(|hash| hash.to_vec()).collect(),
        });
        let mut wire = wire::Body {
            format: BODY_FORMAT,
            strings: Vec::new(),
            root: self.string(body.root.as_str()),
            payer: self.string(body.payer.as_str()),
            currency: self.string(body.currency.as_str()),
            cycle: body.cycle.ordinal(),
            catalogue: wire::Version {
                name: self.string(body.catalogue.name.as_str()),
                effective: body.catalogue.effective.ordinal(),
                hash: body.catalogue.hash.to_vec(),
            },
            contract,
            stages: body.stages.iter().map(|stage| stage_number(*stage)).collect(),
            difference,
            dimensions: Vec::new(),
            items: body.items.iter().map(|item| self.item(item)).collect(),
            pools: body.pools.iter().map(|pool| self.pool(pool)).collect(),
            sources: Vec::new(),
            lines: body.lines.iter().map(|line| self.line(line)).collect(),
            unpriced: body.unpriced.iter().map(|unpriced| self.unpriced(unpriced)).collect(),
            balances: body.balances.iter().map(|balance| self.balance(balance)).collect(),
            total: wide(body.total.0),
            payable: wide(body.payable.0),
            exchange: body.exchange.as_ref().map(|exchange| wire::Exchange {
                clause: self.string(exchange.clause.as_str()),
                from: self.string(exchange.from.as_str()),
                rate: wide(exchange.rate.0),
                since: exchange.since.0,
                decimals: exchange.decimals,
            }),
            pro_forma: body.pro_forma.as_ref().map(|group| self.string(group.as_str())),
            machine: if body.machine == FIRST_MACHINE { 0 } else { body.machine },
            refund: body.refund.as_ref().map(|refund| wire::Refund {
                number: refund.number,
                body: refund.body.to_vec(),
                asked: wide(refund.asked.0),
                left: wide(refund.left.0),
                reason: self.string(&refund.reason),
                reference: self.string(&refund.reference),
            }),
        };
        (wire.strings, wire.dimensions, wire.sources) = (self.strings, self.dimensions, self.sources);
        wire
    }

    fn dimensions(&mut self, dimensions: &'a Dimensions) -> u32 {
        if let Some(place) = self.dimension_places.get(dimensions) {
            return *place;
        }
        let mut attributes = Vec::with_capacity(2 * dimensions.attributes.len());
        for (name, value) in &dimensions.attributes {
            attributes.push(self.string(name));
            attributes.push(self.string(value));
        }
        let wire = wire::Dimensions {
            service: self.string(&dimensions.service),
            usage_type: self.string(&dimensions.usage_type),
            operation: self.string(&dimensions.operation),
            region: self.string(&dimensions.region),
            attributes,
        };
        let place = self.dimensions.len() as u32;
        self.dimensions.push(wire);
        self.dimension_places.insert(dimensions, place);
        place
    }

    fn item(&mut self, item: &'a Item) -> wire::Item {
        wire::Item {
            account: self.string(item.series.account.as_str()),
            dimensions: self.dimensions(&item.series.dimensions),
            meter: item.meter.as_ref().map(|meter| self.string(meter.as_str())),
            sku: self.string(item.sku.as_str()),
            unit: self.string(&item.unit),
            counted: counted(&item.counted),
            quantity: wide(item.quantity.0),
        }
    }

    fn pool(&mut self, pool: &'a SharedPool) -> wire::Pool {
        let mut keys = Vec::with_capacity(2 * pool.keys.len());
        for (key, value) in &pool.keys {
            keys.push(self.key(key));
            keys.push(self.string(value));
        }
        let slices = pool.slices.iter().map(|slice| wire::Slice {
            tier: tier(&slice.tier),
            quantity: wide(slice.quantity.0),
            rate: wide(slice.rate.0),
            amount: wide(slice.amount.0),
        });
        wire::Pool {
            id: self.string(pool.id.as_str()),
            keys,
            quantity: wide(pool.quantity.0),
            slices: slices.collect(),
        }
    }

    /// A pool key by its word; an attribute's by its name, marked by a number beyond all strings.
    fn key(&mut self, key: &'a SplitKey) -> u32 {
        match key {
            SplitKey::Attribute(name) => ATTRIBUTE_KEY + self.string(name),
            SplitKey::Root => 0,
            SplitKey::Payer => 1,
            SplitKey::Group => 2,
            SplitKey::Account => 3,
            SplitKey::Region => 4,
            SplitKey::Service => 5,
            SplitKey::Sku => 6,
        }
    }

    fn source(&mut self, source: &'a Source, rate: Option<Rate>) -> u32 {
        let key = match source {
            Source::Clause { clause, text, tier, drawn, .. } => SourceKey::Clause(clause, text, *tier, *drawn),
            whole => SourceKey::Whole(whole),
        };
        let key = (key, rate);
        if let Some(place) = self.source_places.get(&key) {
            return *place;
        }
        let mut wire = wire::Source { rate: rate.map(|rate| wide(rate.0)), ..Default::default() };
        match source {
            Source::FreeUnits { price } => (wire.kind, wire.id) = (1, self.string(price.as_str())),
            Source::FreePool { pool } => (wire.kind, wire.id) = (2, self.string(pool.as_str())),
            Source::Price { price, tier: own, package } => {
                (wire.kind, wire.id) = (3, self.string(price.as_str()));
                wire.tier = Some(tier(own));
                wire.package = package.map(|size| wide(size.0));
            }
            Source::PricePart { price, part } => {
                wire.id = self.string(price.as_str());
                (wire.kind, wire.limit) = match part {
                    PricePart::PerRecord => (20, None),
                    PricePart::Minimum { least } => (21, Some(wide(least.0))),
                    PricePart::Maximum { most } => (22, Some(wide(most.0))),
                };
            }
            Source::Fee { fee, subscription, of, part } => {
                (wire.kind, wire.id) = (23, self.string(fee.as_str()));
                wire.text = self.string(subscription.as_str());
                wire.times = vec![of.from.0, of.until.0, part.from.0, part.until.0];
            }
            Source::Clause { clause, text, tier: own, drawn, .. } => {
                (wire.kind, wire.id) = (4, self.string(clause.as_str()));
                wire.text = self.string(text);
                wire.tier = own.as_ref().map(tier);
                wire.drawn = *drawn;
            }
            Source::Rounding => wire.kind = 5,
            Source::Refund { number } => (wire.kind, wire.number) = (24, *number),
        }
        let place = self.sources.len() as u32;
        self.sources.push(wire);
        self.source_places.insert(key, place);
        place
    }

    fn line(&mut self, line: &'a Line) -> wire::Line {
        let base = match &line.source {
            Source::Clause { base, .. } => Some(wide(base.0)),
            _ => None,
        };
        wire::Line {
            stage: stage_number(line.stage),
            item: line.item,
            source: self.source(&line.source, line.rate),
            base,
            quantity: line.quantity.map(|quantity| wide(quantity.0)),
            amount: wide(line.amount.0),
            pool: line.pool,
            from: line.from.clone(),
        }
    }

    fn balance(&mut self, balance: &'a BalanceChange) -> wire::Balance {
        wire::Balance {
            name: self.string(&balance.name),
            before: wide(balance.before.0),
            change: wide(balance.change.0),
        }
    }

    fn unpriced(&mut self, unpriced: &'a Unpriced) -> wire::Unpriced {
        wire::Unpriced {
            account: self.string(unpriced.series.account.as_str()),
            dimensions: self.dimensions(&unpriced.series.dimensions),
            meter: self.string(unpriced.meter.as_str()),
            counted: counted(&unpriced.counted),
            reason: match unpriced.reason {
                UnpricedReason::NoSku => 1,
                UnpricedReason::BelowZero => 2,
                UnpricedReason::TooMuch => 20,
            },
        }
    }
}

/// Pool keys from here on are attributes: the string's number plus this.
const ATTRIBUTE_KEY: u32 = 16;

fn tier(tier: &Tier) -> wire::Tier {
    wire::Tier { index: tier.index, begin: wide(tier.begin.0), end: tier.end.map(|end| wide(end.0)) }
}

fn counted(counted: &Counted) -> wire::Counted {
    wire::Counted { value: wide(counted.value), scale: counted.scale, records: counted.records }
}

struct Reader<'a> {
    wire: &'a wire::Body,
}

fn malformed(what: &str) -> CodecError {
    CodecError::Malformed(what.to_owned())
}

impl Reader<'_> {
    fn string(&self, place: u32) -> Result<&str, CodecError> {
        let text = self.wire.strings.get(place as usize);
        text.map(String::as_str).ok_or_else(|| malformed("a name is missing"))
    }

    fn id<T>(&self, place: u32, read: impl Fn(&str) -> Result<T, BadId>) -> Result<T, CodecError> {
        read(self.string(place)?).map_err(|error| CodecError::Malformed(error.to_string()))
    }

    fn body(&self) -> Result<BillBody, CodecError> {
        let wire = self.wire;
        let dimensions = wire.dimensions.iter().map(|own| self.dimensions(own)).collect::<Result<Vec<_>, _>>()?;
        let items = wire.items.iter().map(|item| self.item(item, &dimensions)).collect::<Result<Vec<_>, _>>()?;
        let pools = wire.pools.iter().map(|pool| self.pool(pool)).collect::<Result<Vec<_>, _>>()?;
        let mut lines = Vec::with_capacity(wire.lines.len());
        for (index, line) in wire.lines.iter().enumerate() {
            lines.push(self.line(line, index as u32 + 1)?);
        }
        let unpriced = wire.unpriced.iter().map(|own| self.unpriced(own, &dimensions)).collect::<Result<_, _>>()?;
        let balances = wire.balances.iter().map(|own| self.balance(own)).collect::<Result<_, _>>()?;
        let contract = match &wire.contract {
            Some(version) => Some(ContractVersion { effective: cycle(version.effective)?, hash: hash(&version.hash)? }),
            None => None,
        };
        let difference = match &wire.difference {
            Some(own) => Some(Difference {
                interim: own.interim,
                earlier: own.earlier.iter().map(|bytes| hash(bytes)).collect::<Result<_, _>>()?,
            }),
            None => None,
        };
        let refund = match &wire.refund {
            Some(own) => Some(Refunded {
                number: own.number,
                body: hash(&own.body)?,
                asked: Money(narrow(&own.asked)),
                left: Money(narrow(&own.left)),
                reason: self.string(own.reason)?.into(),
                reference: self.string(own.reference)?.into(),
            }),
            None => None,
        };
        let currency = self.id(wire.currency, Currency::new)?;
        let exchange = match &wire.exchange {
            Some(own) => Some(Exchange {
                clause: self.id(own.clause, ClauseId::new)?,
                from: self.id(own.from, Currency::new)?,
                to: currency,
                rate: Rate(narrow(&own.rate)),
                since: Timestamp(own.since),
                decimals: own.decimals,
            }),
            None => None,
        };
        Ok(BillBody {
            root: self.id(wire.root, AccountId::new)?,
            payer: self.id(wire.payer, AccountId::new)?,
            pro_forma: wire.pro_forma.map(|group| self.id(group, GroupName::new)).transpose()?,
            currency,
            exchange,
            cycle: cycle(wire.cycle)?,
            catalogue: CatalogueVersion {
                name: self.id(wire.catalogue.name, CatalogueName::new)?,
                effective: cycle(wire.catalogue.effective)?,
                hash: hash(&wire.catalogue.hash)?,
            },
            contract,
            machine: wire.machine.max(FIRST_MACHINE),
            stages: wire.stages.iter().map(|number| stage(*number)).collect::<Result<_, _>>()?,
            difference,
            refund,
            items,
            pools,
            lines,
            unpriced,
            balances,
            total: Money(narrow(&wire.total)),
            payable: Money(narrow(&wire.payable)),
        })
    }

    fn dimensions(&self, wire: &wire::Dimensions) -> Result<Arc<Dimensions>, CodecError> {
        let pairs = wire.attributes.chunks(2).map(|pair| match pair {
            [name, value] => Ok((self.string(*name)?.to_owned(), self.string(*value)?.to_owned())),
            _ => Err(malformed("an attribute has no value")),
        });
        Ok(Arc::new(Dimensions {
            service: self.string(wire.service)?.to_owned(),
            usage_type: self.string(wire.usage_type)?.to_owned(),
            operation: self.string(wire.operation)?.to_owned(),
            region: self.string(wire.region)?.to_owned(),
            attributes: pairs.collect::<Result<_, _>>()?,
        }))
    }

    fn series(&self, account: u32, place: u32, all: &[Arc<Dimensions>]) -> Result<SeriesKey, CodecError> {
        let dimensions = all.get(place as usize).ok_or_else(|| malformed("dimensions are missing"))?.clone();
        Ok(SeriesKey { account: self.id(account, AccountId::new)?, dimensions })
    }

    fn item(&self, wire: &wire::Item, dimensions: &[Arc<Dimensions>]) -> Result<Item, CodecError> {
        Ok(Item {
            series: self.series(wire.account, wire.dimensions, dimensions)?,
            meter: wire.meter.map(|meter| self.id(meter, MeterId::new)).transpose()?,
            sku: self.id(wire.sku, SkuId::new)?,
            unit: self.string(wire.unit)?.into(),
            counted: read_counted(&wire.counted)?,
            quantity: Quantity(narrow(&wire.quantity)),
        })
    }

    fn pool(&self, wire: &wire::Pool) -> Result<SharedPool, CodecError> {
        let keys = wire.keys.chunks(2).map(|pair| match pair {
            [key, value] => Ok((self.key(*key)?, self.string(*value)?.to_owned())),
            _ => Err(malformed("a pool key has no value")),
        });
        let slices = wire.slices.iter().map(|slice| PoolSlice {
            tier: read_tier(&slice.tier),
            quantity: Quantity(narrow(&slice.quantity)),
            rate: Rate(narrow(&slice.rate)),
            amount: Money(narrow(&slice.amount)),
        });
        Ok(SharedPool {
            id: self.id(wire.id, PriceId::new)?,
            keys: keys.collect::<Result<_, _>>()?,
            quantity: Quantity(narrow(&wire.quantity)),
            slices: slices.collect(),
        })
    }

    fn key(&self, number: u32) -> Result<SplitKey, CodecError> {
        Ok(match number {
            0 => SplitKey::Root,
            1 => SplitKey::Payer,
            2 => SplitKey::Group,
            3 => SplitKey::Account,
            4 => SplitKey::Region,
            5 => SplitKey::Service,
            6 => SplitKey::Sku,
            number if number >= ATTRIBUTE_KEY => SplitKey::Attribute(self.string(number - ATTRIBUTE_KEY)?.into()),
            _ => return Err(malformed("an unknown pool key")),
        })
    }

    fn line(&self, wire: &wire::Line, id: u32) -> Result<Line, CodecError> {
        let own = self.wire.sources.get(wire.source as usize).ok_or_else(|| malformed("a source is missing"))?;
        let source = match own.kind {
            1 => Source::FreeUnits { price: self.id(own.id, PriceId::new)? },
            2 => Source::FreePool { pool: self.id(own.id, PriceId::new)? },
            3 => Source::Price {
                price: self.id(own.id, PriceId::new)?,
                tier: read_tier(own.tier.as_ref().ok_or_else(|| malformed("a price has no tier"))?),
                package: own.package.as_ref().map(|size| Quantity(narrow(size))),
            },
            4 => Source::Clause {
                clause: self.id(own.id, ClauseId::new)?,
                text: self.string(own.text)?.into(),
                base: Money(narrow(wire.base.as_ref().ok_or_else(|| malformed("a clause has no base"))?)),
                tier: own.tier.as_ref().map(read_tier),
                drawn: own.drawn,
            },
            5 => Source::Rounding,
            24 => Source::Refund { number: own.number },
            23 => {
                let [from, until, part_from, part_until] = own.times[..] else {
                    return Err(malformed("a fee has no times"));
                };
                let period = |from, until| Period { from: Timestamp(from), until: Timestamp(until) };
                let (of, part) = (period(from, until), period(part_from, part_until));
                let subscription = self.id(own.text, ClauseId::new)?;
                Source::Fee { fee: self.id(own.id, SkuId::new)?, subscription, of, part }
            }
            20..=22 => {
                let limit = || own.limit.as_ref().map(|limit| Money(narrow(limit)));
                let limit = || limit().ok_or_else(|| malformed("a minimum or maximum has no amount"));
                let part = match own.kind {
                    20 => PricePart::PerRecord,
                    21 => PricePart::Minimum { least: limit()? },
                    _ => PricePart::Maximum { most: limit()? },
                };
                Source::PricePart { price: self.id(own.id, PriceId::new)?, part }
            }
            _ => return Err(malformed("an unknown source")),
        };
        let inside = |place: Option<u32>, count: usize| place.is_none_or(|place| (place as usize) < count);
        let good = inside(wire.item, self.wire.items.len())
            && inside(wire.pool, self.wire.pools.len())
            && wire.from.iter().all(|from| (1..id).contains(from))
            && (wire.item.is_some() || matches!(source, Source::Rounding | Source::Refund { .. }));
        if !good {
            return Err(malformed("a line points to what is not there"));
        }
        Ok(Line {
            id,
            stage: stage(wire.stage)?,
            item: wire.item,
            source,
            quantity: wire.quantity.as_ref().map(|quantity| Quantity(narrow(quantity))),
            rate: own.rate.as_ref().map(|rate| Rate(narrow(rate))),
            amount: Money(narrow(&wire.amount)),
            pool: wire.pool,
            from: wire.from.clone(),
        })
    }

    fn balance(&self, wire: &wire::Balance) -> Result<BalanceChange, CodecError> {
        Ok(BalanceChange {
            name: self.string(wire.name)?.into(),
            before: Money(narrow(&wire.before)),
            change: Money(narrow(&wire.change)),
        })
    }

    fn unpriced(&self, wire: &wire::Unpriced, dimensions: &[Arc<Dimensions>]) -> Result<Unpriced, CodecError> {
        Ok(Unpriced {
            series: self.series(wire.account, wire.dimensions, dimensions)?,
            meter: self.id(wire.meter, MeterId::new)?,
            counted: read_counted(&wire.counted)?,
            reason: match wire.reason {
                1 => UnpricedReason::NoSku,
                2 => UnpricedReason::BelowZero,
                20 => UnpricedReason::TooMuch,
                _ => return Err(malformed("an unknown reason")),
            },
        })
    }
}

fn read_tier(tier: &wire::Tier) -> Tier {
    let end = tier.end.as_ref().map(|end| Quantity(narrow(end)));
    Tier { index: tier.index, begin: Quantity(narrow(&tier.begin)), end }
}

fn read_counted(counted: &wire::Counted) -> Result<Counted, CodecError> {
    if counted.scale > crate::base::money::SCALE {
        return Err(malformed("a counter has more than 12 decimals"));
    }
    Ok(Counted { value: narrow(&counted.value), scale: counted.scale, records: counted.records })
}

fn cycle(ordinal: u32) -> Result<CycleId, CodecError> {
    CycleId::from_ordinal(ordinal).ok_or_else(|| malformed("a cycle is out of range"))
}

fn hash(bytes: &[u8]) -> Result<[u8; 32], CodecError> {
    bytes.try_into().map_err(|_| malformed("a hash does not have 32 bytes"))
}

fn stage(number: u32) -> Result<Stage, CodecError> {
    stage_of(number).ok_or_else(|| malformed("an unknown stage"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_size_and_sign_come_back() {
        for value in [0, 1, -1, 63, -64, i128::from(u64::MAX), -i128::from(u64::MAX) - 1, i128::MAX, i128::MIN] {
            assert_eq!(narrow(&wide(value)), value);
        }
    }

    #[test]
    fn stages_have_numbers_of_their_own() {
        for stage in crate::pricing::order::DEFAULT_ORDER {
            assert_eq!(stage_of(stage_number(stage)), Some(stage));
        }
        assert_eq!(stage_of(0), None);
    }
}
