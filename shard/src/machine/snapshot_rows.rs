//! The rows of a snapshot: series, lots, kept entries, meters, producers and hierarchies <-> their messages.

use std::collections::VecDeque;
use std::sync::Arc;

use super::codec::{
    account, cycle, hash, money_from_wire, money_to_wire, period_from_wire, period_to_wire, refusal_from_wire,
    refusal_to_wire, text,
};
use super::snapshot_cycles::{cycles_from_wire, cycles_to_wire};
use super::state::{ContractVersion, MeterRow, RootRow, Unasked};
use super::wire_state;
use crate::account::document::{Close, Grace, Interim};
use crate::account::tree::{AccountParts, Hierarchy, Parts, TermParts};
use crate::base::id::{CatalogueName, Currency, GroupName, MeterId};
use crate::pricing::document::{Aggregation, Bucket, LevelDocument, LevelRecords, LevelWeigh};
use crate::usage::counter::SideLot;
use crate::usage::kept::{Kept, KeptKey};
use crate::usage::repeats::{Mark, Seen};
use crate::usage::series::{Dimensions, NONE};

pub(super) fn dimensions_to_wire(dimensions: &Dimensions) -> wire_state::Dimensions {
    wire_state::Dimensions {
        service: dimensions.service.clone(),
        usage_type: dimensions.usage_type.clone(),
        operation: dimensions.operation.clone(),
        region: dimensions.region.clone(),
        attributes: dimensions.attributes.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect(),
    }
}

pub(super) fn dimensions_from_wire(dimensions: &wire_state::Dimensions) -> Dimensions {
    Dimensions {
        service: dimensions.service.clone(),
        usage_type: dimensions.usage_type.clone(),
        operation: dimensions.operation.clone(),
        region: dimensions.region.clone(),
        attributes: dimensions.attributes.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
    }
}

pub(super) fn lot_to_wire(bucket: Option<u16>, lot: &SideLot) -> wire_state::Lot {
    let value = ((lot.value << 1) ^ (lot.value >> 127)) as u128;
    wire_state::Lot {
        bucket: bucket.map_or(0, |bucket| u32::from(bucket) + 1),
        low: value as u64,
        high: (value >> 64) as u64,
        records: lot.records,
        number: 0,
        cycle: 0,
    }
}

pub(super) fn lot_from_wire(lot: &wire_state::Lot) -> Result<(Option<u16>, SideLot), String> {
    let bucket = match lot.bucket {
        0 => None,
        bucket => Some(u16::try_from(bucket - 1).map_err(|_| "a bucket is out of range")?),
    };
    let value = crate::usage::segment::signed(u128::from(lot.low) | u128::from(lot.high) << 64);
    Ok((bucket, SideLot { value, records: lot.records }))
}

pub(super) fn kept_to_wire(key: &KeptKey, kept: &Kept) -> wire_state::Kept {
    let wide = |value: i128| ((value << 1) ^ (value >> 127)) as u128;
    let (at, value) = (wide(key.at), wide(kept.value));
    wire_state::Kept {
        number: key.number,
        cycle: key.cycle,
        at_low: at as u64,
        at_high: (at >> 64) as u64,
        value_low: value as u64,
        value_high: (value >> 64) as u64,
        end: kept.end,
        id: kept.id.to_vec(),
        more: kept
            .more
            .iter()
            .map(|(id, value)| {
                let value = wide(*value);
                let (value_low, value_high) = (value as u64, (value >> 64) as u64);
                wire_state::Kept { value_low, value_high, id: id.to_vec(), ..wire_state::Kept::default() }
            })
            .collect(),
    }
}

pub(super) fn kept_from_wire(kept: &wire_state::Kept) -> (KeptKey, Kept) {
    let wide = |low: u64, high: u64| crate::usage::segment::signed(u128::from(low) | u128::from(high) << 64);
    let key = KeptKey { number: kept.number, cycle: kept.cycle, at: wide(kept.at_low, kept.at_high) };
    let value = wide(kept.value_low, kept.value_high);
    let more = kept.more.iter().map(|more| (more.id.as_slice().into(), wide(more.value_low, more.value_high)));
    (key, Kept { value, end: kept.end, id: kept.id.as_slice().into(), more: more.collect() })
}

pub(super) fn meter_to_wire(meter: &MeterRow) -> wire_state::Meter {
    wire_state::Meter {
        catalogue: meter.catalogue.into(),
        id: meter.id.to_string(),
        scale: meter.scale,
        bucket: match meter.bucket {
            Bucket::Month => 0,
            Bucket::Day => 1,
            Bucket::Hour => 2,
            Bucket::FiveMinutes => 3,
        },
        aggregation: match meter.aggregation {
            Aggregation::Sum => 0,
            Aggregation::Count => 1,
            Aggregation::Maximum => 2,
            Aggregation::Latest => 3,
            Aggregation::Unique => 4,
            Aggregation::Level => 5,
            Aggregation::Percentile95 => 6,
        },
        since: meter.since,
        ceiling: meter.ceiling.to_le_bytes().to_vec(),
        level: u32::from(meter.level.records == LevelRecords::Change)
            | u32::from(meter.level.weigh == LevelWeigh::Day) << 1
            | u32::from(meter.level.carry) << 2,
        records: u32::from(meter.of_amount) | u32::from(meter.keeps_records) << 1 | u32::from(meter.spreads) << 2,
    }
}

pub(super) fn meter_from_wire(meter: &wire_state::Meter) -> Result<MeterRow, String> {
    let ceiling = meter.ceiling.as_slice().try_into().map_err(|_| "a ceiling has not 16 bytes")?;
    Ok(MeterRow {
        catalogue: meter.catalogue as u16,
        id: MeterId::new(&meter.id).map_err(text)?,
        scale: Some(meter.scale).filter(|scale| *scale <= crate::base::money::SCALE).ok_or("a scale is above 12")?,
        bucket: match meter.bucket {
            0 => Bucket::Month,
            1 => Bucket::Day,
            2 => Bucket::Hour,
            3 => Bucket::FiveMinutes,
            bucket => return Err(format!("bucket {bucket} is unknown")),
        },
        aggregation: match meter.aggregation {
            0 => Aggregation::Sum,
            1 => Aggregation::Count,
            2 => Aggregation::Maximum,
            3 => Aggregation::Latest,
            4 => Aggregation::Unique,
            5 => Aggregation::Level,
            6 => Aggregation::Percentile95,
            aggregation => return Err(format!("aggregation {aggregation} is unknown")),
        },
        level: LevelDocument {
            records: if meter.level & 1 != 0 { LevelRecords::Change } else { LevelRecords::Level },
            weigh: if meter.level & 2 != 0 { LevelWeigh::Day } else { LevelWeigh::Time },
            carry: meter.level & 4 != 0,
        },
        of_amount: meter.records & 1 != 0,
        keeps_records: meter.records & 2 != 0,
        spreads: meter.records & 4 != 0,
        since: meter.since,
        ceiling: i128::from_le_bytes(ceiling),
    })
}

pub(super) fn producer_to_wire(name: &str, seen: &Seen) -> wire_state::Producer {
    let (by_id, mark) = match seen {
        Seen::ById => (true, Mark::default()),
        Seen::Sequenced(mark) => (false, mark.clone()),
    };
    wire_state::Producer {
        name: name.to_owned(),
        by_id,
        epoch: mark.epoch,
        last: mark.last,
        refused: mark.refusals.iter().map(|(number, _)| *number).collect(),
        refusals: mark.refusals.iter().map(|(_, refusal)| refusal_to_wire(refusal)).collect(),
    }
}

pub(super) fn producer_from_wire(producer: &wire_state::Producer) -> Result<Seen, String> {
    if producer.by_id {
        return Ok(Seen::ById);
    }
    let refusals = producer.refusals.iter().cloned().map(refusal_from_wire);
    let refusals: Vec<_> = refusals.collect::<Result<_, _>>()?;
    let refusals: VecDeque<_> = producer.refused.iter().copied().zip(refusals).collect();
    Ok(Seen::Sequenced(Mark { epoch: producer.epoch, last: producer.last, refusals: Arc::new(refusals) }))
}

pub(super) fn root_to_wire(row: &RootRow) -> wire_state::Root {
    wire_state::Root {
        hierarchy: Some(hierarchy_to_wire(row.hierarchy.parts())),
        document: row.document.to_vec(),
        catalogue: row.catalogue.into(),
        contracts: row
            .contracts
            .iter()
            .map(|contract| wire_state::Contract {
                version: contract.version,
                hash: contract.hash.to_vec(),
                effective: contract.effective.ordinal(),
                until: contract.until.map(|until| until.ordinal()),
                document: contract.document.to_vec(),
                unasked: u32::from(contract.unasked.purchases) | u32::from(contract.unasked.shortfalls) << 1,
            })
            .collect(),
        cycles: Some(cycles_to_wire(&row.cycles)),
        jobs: row.jobs.iter().map(|job| job.to_vec()).collect(),
    }
}

pub(super) fn root_from_wire(root: &wire_state::Root) -> Result<RootRow, String> {
    let hierarchy = hierarchy_from_wire(root.hierarchy.as_ref().ok_or("a root has no hierarchy")?)?;
    let contract = |contract: &wire_state::Contract| {
        Ok::<_, String>(ContractVersion {
            version: contract.version,
            hash: hash(&contract.hash)?,
            effective: cycle(contract.effective)?,
            until: contract.until.map(cycle).transpose()?,
            document: contract.document.as_slice().into(),
            unasked: Unasked { purchases: contract.unasked & 1 != 0, shortfalls: contract.unasked & 2 != 0 },
        })
    };
    let jobs = root.jobs.iter().map(|job| job.as_slice().try_into().map_err(|_| "a job has not 16 bytes"));
    Ok(RootRow {
        hierarchy: Arc::new(hierarchy),
        document: hash(&root.document)?,
        catalogue: root.catalogue as u16,
        contracts: Arc::new(root.contracts.iter().map(contract).collect::<Result<_, _>>()?),
        cycles: Arc::new(cycles_from_wire(root.cycles.as_ref().ok_or("a root has no cycles")?)?),
        jobs: Arc::new(jobs.collect::<Result<_, _>>()?),
        series: 0,
        newest: NONE,
    })
}

pub(super) fn hierarchy_to_wire(parts: Parts) -> wire_state::Hierarchy {
    let terms = |terms: &[TermParts]| {
        let term = |term: &TermParts| {
            [term.since.ordinal(), term.payer.into(), term.group.map_or(0, |group| u32::from(group) + 1)]
        };
        terms.iter().flat_map(term).collect()
    };
    wire_state::Hierarchy {
        root: parts.root.to_string(),
        catalogue: parts.catalogue.to_string(),
        currency: parts.currency.map_or(String::new(), |currency| currency.to_string()),
        first: parts.first.ordinal(),
        manual: parts.close == Close::Manual,
        grace_hours: parts.grace.hours,
        payers: parts.payers.iter().map(ToString::to_string).collect(),
        groups: parts.groups.iter().map(ToString::to_string).collect(),
        interim_days: parts.interim.days.iter().map(|day| u32::from(*day)).collect(),
        interim_spend: parts.interim.spend.map_or(Vec::new(), money_to_wire),
        accounts: parts
            .accounts
            .iter()
            .map(|account| wire_state::Account {
                id: account.id.to_string(),
                bounded: account.periods.is_some(),
                periods: account.periods.iter().flatten().map(period_to_wire).collect(),
                terms: terms(&account.terms),
            })
            .collect(),
    }
}

pub(super) fn hierarchy_from_wire(hierarchy: &wire_state::Hierarchy) -> Result<Hierarchy, String> {
    let term = |term: &[u32]| {
        let group = term[2].checked_sub(1).map(u16::try_from).transpose().map_err(text)?;
        Ok::<_, String>(TermParts { since: cycle(term[0])?, payer: u16::try_from(term[1]).map_err(text)?, group })
    };
    let member = |member: &wire_state::Account| {
        Ok::<_, String>(AccountParts {
            id: account(&member.id)?,
            periods: member.bounded.then(|| member.periods.iter().map(period_from_wire).collect()),
            terms: member.terms.chunks_exact(3).map(term).collect::<Result<_, _>>()?,
        })
    };
    let currency = Some(hierarchy.currency.as_str()).filter(|code| !code.is_empty());
    let groups = hierarchy.groups.iter().map(|group| GroupName::new(group).map_err(text));
    let parts = Parts {
        root: account(&hierarchy.root)?,
        catalogue: CatalogueName::new(&hierarchy.catalogue).map_err(text)?,
        currency: currency.map(Currency::new).transpose().map_err(text)?,
        first: cycle(hierarchy.first)?,
        close: if hierarchy.manual { Close::Manual } else { Close::Automatic },
        grace: Grace { hours: hierarchy.grace_hours },
        interim: Interim {
            days: hierarchy
                .interim_days
                .iter()
                .map(|day| u8::try_from(*day).map_err(text))
                .collect::<Result<_, _>>()?,
            spend: Some(&hierarchy.interim_spend)
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| money_from_wire(bytes))
                .transpose()?,
        },
        payers: hierarchy.payers.iter().map(|payer| account(payer)).collect::<Result<_, _>>()?,
        groups: groups.collect::<Result<_, _>>()?,
        accounts: hierarchy.accounts.iter().map(member).collect::<Result<_, _>>()?,
    };
    Hierarchy::from_parts(parts).ok_or_else(|| "a hierarchy's accounts do not fit its payers and groups".to_owned())
}
