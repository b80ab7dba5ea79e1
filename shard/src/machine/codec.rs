//! Entries and outcomes to bytes and back. An entry has a small fixed header; behind it lie a batch's bytes as they came
//! from the client, or commands as a protobuf message. Bytes that this code did not write are refused, never guessed at.
//!
//! ```text
//! entry   = 1 (u8, format), kind (u8: 1 usage, 2 commands), stamp (i64), generation (u32), body; little endian
//! outcome = 1 (u8, format), Outcome (protobuf)
//! ```

use prost::Message;

use super::command::{
    AccountWay, BatchVerdict, BilledRoot, CatalogueVersion, Claimed, Command, CommandOutcome, Done, FileProgress,
    MoveStep, Outcome, Seal, SegmentVerdict, Verdict, VerdictRange,
};
use super::wire::{self, command::Kind, command_outcome::Kind as OutcomeKind};
use super::wire_moves;
use crate::base::hash::Hash;
use crate::base::id::{AccountId, CatalogueName, Currency, GroupName, ProducerId, ShardId, Slot};
use crate::base::money::Money;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Period, Timestamp};
use crate::billing::cycle::{BillHash, IssuedBill, Posting};
use crate::billing::kind::{Cause, Refund};
use crate::placement::SlotRange;

/// First byte of an entry and of an outcome.
pub const FORMAT: u8 = 1;
const USAGE: u8 = 1;
const COMMANDS: u8 = 2;
const HEADER_BYTES: usize = 14;

/// An entry, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// `batch` is read when it is applied.
    Usage {
        stamp: Timestamp,
        generation: u32,
        batch: &'a [u8],
    },
    Commands {
        stamp: Timestamp,
        generation: u32,
        commands: Vec<Command>,
    },
}

impl Entry<'_> {
    /// The leader's time.
    pub fn stamp(&self) -> Timestamp {
        match self {
            Entry::Usage { stamp, .. } | Entry::Commands { stamp, .. } => *stamp,
        }
    }
}

/// An entry of usage. `generation` is drawn by the leader, not 0, and used where the entry makes a slot's table.
pub fn encode_usage_entry(stamp: Timestamp, generation: u32, batch: &[u8]) -> Vec<u8> {
    let mut bytes = header(USAGE, stamp, generation, batch.len());
    bytes.extend_from_slice(batch);
    bytes
}

/// An entry of commands. `generation` as for usage.
pub fn encode_commands(stamp: Timestamp, generation: u32, commands: &[Command]) -> Vec<u8> {
    let message = wire::Commands { commands: commands.iter().map(to_wire).collect() };
    let mut bytes = header(COMMANDS, stamp, generation, message.encoded_len());
    message.encode(&mut bytes).expect("a vector takes any number of bytes");
    bytes
}

fn header(kind: u8, stamp: Timestamp, generation: u32, body: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body);
    bytes.extend_from_slice(&[FORMAT, kind]);
    bytes.extend_from_slice(&stamp.0.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes
}

/// Reads an entry; the error says what is wrong with its bytes.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry<'_>, String> {
    let Some((head, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("it has {} bytes, fewer than its header", bytes.len()));
    };
    if head[0] != FORMAT {
        return Err(format!("its format is {}, this code reads {FORMAT}", head[0]));
    }
    let stamp = Timestamp(i64::from_le_bytes(head[2..10].try_into().map_err(|_| "its stamp is cut")?));
    let generation = u32::from_le_bytes(head[10..14].try_into().map_err(|_| "its generation is cut")?);
    match head[1] {
        USAGE => Ok(Entry::Usage { stamp, generation, batch: body }),
        COMMANDS => {
            let message = wire::Commands::decode(body).map_err(|error| error.to_string())?;
            let commands = message.commands.into_iter().map(from_wire).collect::<Result<_, _>>()?;
            Ok(Entry::Commands { stamp, generation, commands })
        }
        kind => Err(format!("its kind is {kind}, which this code does not know")),
    }
}

/// The steps of an account's way by their number on the wire.
const STEPS: [MoveStep; 5] = [MoveStep::End, MoveStep::Begin, MoveStep::Learn, MoveStep::Settle, MoveStep::Cancel];

/// One command as bytes, for calls between nodes.
pub fn encode_command(command: &Command) -> Vec<u8> {
    to_wire(command).encode_to_vec()
}

/// The inverse of [`encode_command`]; the error says what is wrong with the bytes.
pub fn decode_command(bytes: &[u8]) -> Result<Command, String> {
    from_wire(wire::Command::decode(bytes).map_err(|error| error.to_string())?)
}

fn to_wire(command: &Command) -> wire::Command {
    let document =
        |document: &Vec<u8>, job: &String| wire::PutDocument { document: document.clone(), job: job.clone() };
    let kind = match command {
        Command::Genesis { shard, slots, epoch, ids_bytes_max } => Kind::Genesis(wire::Genesis {
            shard: shard.0,
            slots: slots.iter().map(range_to_wire).collect(),
            epoch: *epoch,
            ids_bytes_max: *ids_bytes_max,
        }),
        Command::OpenProducer { slot, producer, epoch, file } => Kind::OpenProducer(wire::OpenProducer {
            slot: slot.0.into(),
            producer: producer.to_string(),
            epoch: *epoch,
            file: file.as_ref().map(file_to_wire),
        }),
        Command::PutHierarchy { document: bytes, job } => Kind::PutHierarchy(document(bytes, job)),
        Command::PutDirectory { account, root, periods } => Kind::PutDirectory(wire::PutDirectory {
            account: account.to_string(),
            root: root.to_string(),
            periods: periods.iter().map(period_to_wire).collect(),
        }),
        Command::PutContract { document: bytes, job } => Kind::PutContract(document(bytes, job)),
        Command::ActivateCatalogue { name, version, hash, effective } => {
            let version = CatalogueVersion { version: *version, hash: *hash, effective: *effective };
            Kind::ActivateCatalogue(version_to_wire(name, &version))
        }
        Command::Cut { root, cycle, manual } => {
            Kind::Cut(wire::Cut { root: root.to_string(), cycle: cycle.ordinal(), manual: *manual })
        }
        Command::Claim { root, cycle, cause } => Kind::Claim(wire::ClaimOf {
            root: root.to_string(),
            cycle: cycle.ordinal(),
            manual: false,
            cause: Some(cause_to_wire(cause)),
        }),
        Command::Billed { slot, roots } => {
            Kind::Billed(wire::Billed { slot: slot.0.into(), roots: roots.iter().map(billed_to_wire).collect() })
        }
        Command::Issue { root, cycle } => {
            Kind::Issue(wire::RootCycle { root: root.to_string(), cycle: cycle.ordinal() })
        }
        Command::Archived { root, cycle, hash } => {
            Kind::Archived(wire::Archived { root: root.to_string(), cycle: cycle.ordinal(), hash: hash.to_vec() })
        }
        Command::FreezeSlots { id, slots } => {
            Kind::FreezeSlots(wire_moves::Freeze { id: *id, slots: Some(range_to_wire(slots)) })
        }
        Command::StageSlots { id, slots, at, chunk } => Kind::StageSlots(wire_moves::Stage {
            id: *id,
            slots: Some(range_to_wire(slots)),
            at: *at,
            chunk: chunk.clone(),
        }),
        Command::SealSlots { id, slots, seal } => Kind::SealSlots(wire_moves::SealSlots {
            id: *id,
            slots: Some(range_to_wire(slots)),
            seal: Some(seal_to_wire(seal)),
        }),
        Command::SettleSlots { id, slots, epoch } => Kind::SettleSlots(wire_moves::Settle {
            id: *id,
            slots: Some(range_to_wire(slots)),
            epoch: epoch.unwrap_or(0),
        }),
        Command::MoveAccount { step, way } => Kind::MoveAccount(way_to_wire(*step, way)),
        Command::Tick => Kind::Tick(wire::Empty {}),
        Command::Digest => Kind::Digest(wire::Empty {}),
        Command::Raise { version } => Kind::Raise(*version),
    };
    wire::Command { kind: Some(kind) }
}

fn from_wire(command: wire::Command) -> Result<Command, String> {
    Ok(match command.kind.ok_or("a command has no kind that this code knows")? {
        Kind::Genesis(genesis) => Command::Genesis {
            shard: ShardId(genesis.shard),
            slots: genesis.slots.iter().map(|range| range_from_wire(Some(range))).collect::<Result<_, _>>()?,
            epoch: genesis.epoch,
            ids_bytes_max: genesis.ids_bytes_max,
        },
        Kind::OpenProducer(open) => Command::OpenProducer {
            slot: slot(open.slot)?,
            producer: ProducerId::new(&open.producer).map_err(text)?,
            epoch: open.epoch,
            file: open.file.as_ref().map(file_from_wire).transpose()?,
        },
        Kind::PutHierarchy(put) => Command::PutHierarchy { document: put.document, job: put.job },
        Kind::PutDirectory(put) => Command::PutDirectory {
            account: account(&put.account)?,
            root: account(&put.root)?,
            periods: put.periods.iter().map(period_from_wire).collect(),
        },
        Kind::PutContract(put) => Command::PutContract { document: put.document, job: put.job },
        Kind::ActivateCatalogue(activate) => {
            let (name, CatalogueVersion { version, hash, effective }) = version_from_wire(&activate)?;
            Command::ActivateCatalogue { name, version, hash, effective }
        }
        Kind::Cut(cut) => Command::Cut { root: account(&cut.root)?, cycle: cycle(cut.cycle)?, manual: cut.manual },
        Kind::Claim(claim) => {
            let before = if claim.manual { Cause::Asked } else { Cause::Late };
            let cause = claim.cause.as_ref().map_or(Ok(before), cause_from_wire)?;
            Command::Claim { root: account(&claim.root)?, cycle: cycle(claim.cycle)?, cause }
        }
        Kind::Billed(billed) => Command::Billed {
            slot: slot(billed.slot)?,
            roots: billed.roots.iter().map(billed_from_wire).collect::<Result<_, _>>()?,
        },
        Kind::Issue(issue) => Command::Issue { root: account(&issue.root)?, cycle: cycle(issue.cycle)? },
        Kind::Archived(archived) => Command::Archived {
            root: account(&archived.root)?,
            cycle: cycle(archived.cycle)?,
            hash: hash(&archived.hash)?,
        },
        Kind::FreezeSlots(freeze) => {
            Command::FreezeSlots { id: freeze.id, slots: range_from_wire(freeze.slots.as_ref())? }
        }
        Kind::StageSlots(stage) => Command::StageSlots {
            id: stage.id,
            slots: range_from_wire(stage.slots.as_ref())?,
            at: stage.at,
            chunk: stage.chunk,
        },
        Kind::SealSlots(seal) => Command::SealSlots {
            id: seal.id,
            slots: range_from_wire(seal.slots.as_ref())?,
            seal: seal_from_wire(seal.seal.as_ref().ok_or("a seal is empty")?)?,
        },
        Kind::SettleSlots(settle) => Command::SettleSlots {
            id: settle.id,
            slots: range_from_wire(settle.slots.as_ref())?,
            epoch: Some(settle.epoch).filter(|epoch| *epoch > 0),
        },
        Kind::MoveAccount(own) => {
            let (step, way) = way_from_wire(own)?;
            Command::MoveAccount { step, way }
        }
        Kind::Tick(_) => Command::Tick,
        Kind::Digest(_) => Command::Digest,
        Kind::Raise(version) => Command::Raise { version },
    })
}

fn way_to_wire(step: MoveStep, way: &AccountWay) -> wire_moves::MoveAccount {
    wire_moves::MoveAccount {
        step: STEPS.iter().position(|known| *known == step).unwrap_or_default() as u32,
        account: way.account.to_string(),
        from: way.from.to_string(),
        to: way.to.to_string(),
        at: way.at.0,
        payer: way.payer.as_ref().map(ToString::to_string),
        group: way.group.as_ref().map(ToString::to_string),
        job: way.job.clone(),
    }
}

fn way_from_wire(own: wire_moves::MoveAccount) -> Result<(MoveStep, AccountWay), String> {
    let step = STEPS.get(own.step as usize).ok_or_else(|| format!("step {} of a way is unknown", own.step))?;
    let way = AccountWay {
        account: account(&own.account)?,
        from: account(&own.from)?,
        to: account(&own.to)?,
        at: Timestamp(own.at),
        payer: own.payer.as_deref().map(account).transpose()?,
        group: own.group.as_deref().map(GroupName::new).transpose().map_err(text)?,
        job: own.job,
    };
    Ok((*step, way))
}

pub(super) fn range_to_wire(range: &SlotRange) -> wire::SlotRange {
    wire::SlotRange { first: range.first.into(), last: range.last.into() }
}

pub(super) fn range_from_wire(range: Option<&wire::SlotRange>) -> Result<SlotRange, String> {
    let range = range.ok_or("a range of slots is missing")?;
    Ok(SlotRange { first: slot(range.first)?.0, last: slot(range.last)?.0 })
}

pub(super) fn version_to_wire(name: &CatalogueName, version: &CatalogueVersion) -> wire::ActivateCatalogue {
    wire::ActivateCatalogue {
        name: name.to_string(),
        version: version.version,
        hash: version.hash.to_vec(),
        effective: version.effective.ordinal(),
    }
}

pub(super) fn version_from_wire(
    version: &wire::ActivateCatalogue,
) -> Result<(CatalogueName, CatalogueVersion), String> {
    let (number, hash, effective) = (version.version, hash(&version.hash)?, cycle(version.effective)?);
    let name = CatalogueName::new(&version.name).map_err(text)?;
    Ok((name, CatalogueVersion { version: number, hash, effective }))
}

pub(super) fn seal_to_wire(seal: &Seal) -> wire_moves::Seal {
    let versions = seal
        .catalogues
        .iter()
        .flat_map(|(name, versions)| versions.iter().map(move |version| version_to_wire(name, version)));
    wire_moves::Seal {
        hash: seal.hash.to_vec(),
        stamp: seal.stamp.0,
        oldest_id_hour: seal.oldest_id_hour,
        catalogues: versions.collect(),
    }
}

pub(super) fn seal_from_wire(seal: &wire_moves::Seal) -> Result<Seal, String> {
    let mut catalogues: Vec<(CatalogueName, Vec<CatalogueVersion>)> = Vec::new();
    for version in &seal.catalogues {
        let (name, version) = version_from_wire(version)?;
        match catalogues.last_mut() {
            Some((last, versions)) if *last == name => versions.push(version),
            _ => catalogues.push((name, vec![version])),
        }
    }
    let (stamp, oldest_id_hour) = (Timestamp(seal.stamp), seal.oldest_id_hour);
    Ok(Seal { hash: hash(&seal.hash)?, stamp, oldest_id_hour, catalogues })
}

/// The outcome of an entry as bytes: a batch that was accepted wholly takes a few.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let kind = match outcome {
        Outcome::Usage(verdict) => wire::outcome::Kind::Usage(wire::BatchVerdict {
            refused: verdict.refused.as_ref().map(refusal_to_wire),
            slot_epoch: verdict.slot_epoch,
            segments: verdict.segments.iter().map(segment_to_wire).collect(),
        }),
        Outcome::Commands(outcomes) => wire::outcome::Kind::Commands(wire::CommandOutcomes {
            outcomes: outcomes.iter().map(outcome_to_wire).collect(),
        }),
    };
    let message = wire::Outcome { kind: Some(kind) };
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(FORMAT);
    message.encode(&mut bytes).expect("a vector takes any number of bytes");
    bytes
}

/// The inverse of [`encode_outcome`]; the error says what is wrong with the bytes.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, String> {
    let Some((&FORMAT, body)) = bytes.split_first() else {
        return Err(format!("an outcome of {} bytes does not begin with format {FORMAT}", bytes.len()));
    };
    let message = wire::Outcome::decode(body).map_err(|error| error.to_string())?;
    Ok(match message.kind.ok_or("an outcome has no kind that this code knows")? {
        wire::outcome::Kind::Usage(verdict) => Outcome::Usage(BatchVerdict {
            refused: verdict.refused.map(refusal_from_wire).transpose()?,
            slot_epoch: verdict.slot_epoch,
            segments: verdict.segments.into_iter().map(segment_from_wire).collect::<Result<_, _>>()?,
        }),
        wire::outcome::Kind::Commands(outcomes) => {
            Outcome::Commands(outcomes.outcomes.into_iter().map(outcome_from_wire).collect::<Result<_, _>>()?)
        }
    })
}

fn outcome_to_wire(outcome: &CommandOutcome) -> wire::CommandOutcome {
    let kind = match outcome {
        CommandOutcome::Refused(refusal) => OutcomeKind::Refused(refusal_to_wire(refusal)),
        CommandOutcome::Done(Done::Unchanged) => OutcomeKind::Unchanged(wire::Empty {}),
        CommandOutcome::Done(Done::Changed) => OutcomeKind::Changed(wire::Empty {}),
        CommandOutcome::Done(Done::Producer { epoch, file }) => {
            OutcomeKind::Producer(wire::ProducerOpened { epoch: *epoch, file: file.as_ref().map(file_to_wire) })
        }
        CommandOutcome::Done(Done::Cut { index, at, ended_grace }) => {
            OutcomeKind::Cut(wire::CutDone { index: *index, at: at.0, ended_grace: *ended_grace })
        }
        CommandOutcome::Done(Done::Issued(bills)) => {
            OutcomeKind::Issued(wire::Issued { bills: bills.iter().map(issued_to_wire).collect() })
        }
    };
    wire::CommandOutcome { kind: Some(kind) }
}

fn outcome_from_wire(outcome: wire::CommandOutcome) -> Result<CommandOutcome, String> {
    Ok(CommandOutcome::Done(match outcome.kind.ok_or("a command's outcome has no kind that this code knows")? {
        OutcomeKind::Refused(refusal) => return Ok(CommandOutcome::Refused(refusal_from_wire(refusal)?)),
        OutcomeKind::Unchanged(_) => Done::Unchanged,
        OutcomeKind::Changed(_) => Done::Changed,
        OutcomeKind::Producer(opened) => {
            Done::Producer { epoch: opened.epoch, file: opened.file.as_ref().map(file_from_wire).transpose()? }
        }
        OutcomeKind::Cut(cut) => Done::Cut { index: cut.index, at: Timestamp(cut.at), ended_grace: cut.ended_grace },
        OutcomeKind::Issued(issued) => {
            Done::Issued(issued.bills.iter().map(issued_from_wire).collect::<Result<_, _>>()?)
        }
    }))
}

fn segment_to_wire(verdict: &SegmentVerdict) -> wire::SegmentVerdict {
    let mut refusals: Vec<&Refusal> = Vec::new();
    let ranges = verdict
        .ranges
        .iter()
        .map(|range| wire::VerdictRange {
            count: range.count,
            verdict: match &range.verdict {
                Verdict::Accepted { late } => u32::from(*late),
                Verdict::Duplicate => 2,
                Verdict::Refused(refusal) => {
                    // Refusals differ rarely within a segment, and the latest is the likeliest to come again.
                    let known = refusals.iter().rev().take(16).position(|known| *known == refusal);
                    let place = known.map(|back| refusals.len() - 1 - back).unwrap_or_else(|| {
                        refusals.push(refusal);
                        refusals.len() - 1
                    });
                    place as u32 + 3
                }
            },
        })
        .collect();
    let mut next = 0;
    let series = verdict.series.iter().map(|number| {
        let step = i64::from(*number) - next;
        next = i64::from(*number) + 1;
        step
    });
    wire::SegmentVerdict {
        at: verdict.at,
        slot: verdict.slot.0.into(),
        slot_epoch: verdict.slot_epoch,
        generation: verdict.generation,
        series: series.collect(),
        whole: verdict.whole.as_ref().map(refusal_to_wire),
        ranges,
        refusals: refusals.into_iter().map(refusal_to_wire).collect(),
    }
}

fn segment_from_wire(verdict: wire::SegmentVerdict) -> Result<SegmentVerdict, String> {
    let refusals: Vec<Refusal> = verdict.refusals.into_iter().map(refusal_from_wire).collect::<Result<_, _>>()?;
    let mut first = 0u32;
    let mut ranges = Vec::with_capacity(verdict.ranges.len());
    for range in &verdict.ranges {
        let verdict = match range.verdict {
            0 => Verdict::Accepted { late: false },
            1 => Verdict::Accepted { late: true },
            2 => Verdict::Duplicate,
            place => Verdict::Refused(refusals.get(place as usize - 3).ok_or("a verdict names no refusal")?.clone()),
        };
        ranges.push(VerdictRange { first, count: range.count, verdict });
        first = first.checked_add(range.count).ok_or("a verdict is of too many records")?;
    }
    let mut next = 0i64;
    let mut series = Vec::with_capacity(verdict.series.len());
    for step in &verdict.series {
        let number = next.checked_add(*step).and_then(|number| u32::try_from(number).ok());
        let number = number.ok_or("a series number is out of range")?;
        series.push(number);
        next = i64::from(number) + 1;
    }
    Ok(SegmentVerdict {
        at: verdict.at,
        slot: slot(verdict.slot)?,
        slot_epoch: verdict.slot_epoch,
        generation: verdict.generation,
        series,
        whole: verdict.whole.map(refusal_from_wire).transpose()?,
        ranges,
    })
}

pub(super) fn refusal_to_wire(refusal: &Refusal) -> wire::Refusal {
    wire::Refusal { reason: refusal.reason.number().into(), detail: refusal.detail.clone() }
}

pub(super) fn refusal_from_wire(refusal: wire::Refusal) -> Result<Refusal, String> {
    let reason = u8::try_from(refusal.reason).ok().and_then(Reason::from_number);
    Ok(Refusal { reason: reason.ok_or("a refusal has no reason that this code knows")?, detail: refusal.detail })
}

pub(super) fn file_to_wire(file: &FileProgress) -> wire::FileProgress {
    wire::FileProgress { lines: file.lines, digest: file.digest.to_vec() }
}

pub(super) fn file_from_wire(file: &wire::FileProgress) -> Result<FileProgress, String> {
    Ok(FileProgress { lines: file.lines, digest: hash(&file.digest)? })
}

pub(super) fn period_to_wire(period: &Period) -> wire::Period {
    wire::Period { from: period.from.0, until: period.until.0 }
}

pub(super) fn period_from_wire(period: &wire::Period) -> Period {
    Period { from: Timestamp(period.from), until: Timestamp(period.until) }
}

pub(super) fn posting_to_wire(posting: &Posting) -> wire::Posting {
    wire::Posting { balance: posting.balance.clone(), amount: money_to_wire(posting.amount) }
}

pub(super) fn posting_from_wire(posting: &wire::Posting) -> Result<Posting, String> {
    Ok(Posting { balance: posting.balance.clone(), amount: money_from_wire(&posting.amount)? })
}

pub(super) fn bill_to_wire(bill: &BillHash) -> wire::Bill {
    wire::Bill {
        payer: bill.payer.to_string(),
        currency: bill.currency.to_string(),
        body_hash: bill.body_hash.to_vec(),
        ..wire::Bill::default()
    }
}

pub(super) fn bill_from_wire(bill: &wire::Bill) -> Result<BillHash, String> {
    let currency = Currency::new(&bill.currency).map_err(text)?;
    Ok(BillHash { payer: account(&bill.payer)?, currency, body_hash: hash(&bill.body_hash)? })
}

pub(super) fn issued_to_wire(bill: &IssuedBill) -> wire::Bill {
    wire::Bill {
        payer: bill.payer.to_string(),
        currency: bill.currency.to_string(),
        body_hash: bill.body_hash.to_vec(),
        number: bill.number,
        issued_at: bill.issued_at.0,
        previous: bill.previous.to_vec(),
        hash: bill.hash.to_vec(),
    }
}

pub(super) fn issued_from_wire(bill: &wire::Bill) -> Result<IssuedBill, String> {
    let BillHash { payer, currency, body_hash } = bill_from_wire(bill)?;
    Ok(IssuedBill {
        payer,
        currency,
        body_hash,
        number: bill.number,
        issued_at: Timestamp(bill.issued_at),
        previous: hash(&bill.previous)?,
        hash: hash(&bill.hash)?,
    })
}

fn billed_to_wire(billed: &BilledRoot) -> wire::BilledRoot {
    wire::BilledRoot {
        root: billed.root.to_string(),
        cycle: billed.cycle.ordinal(),
        bills: billed.bills.iter().map(bill_to_wire).collect(),
        postings: billed.postings.iter().map(posting_to_wire).collect(),
        claim: billed.claim.as_ref().map_or(0, |claim| claim.index),
        archive: billed.claim.as_ref().and_then(|claim| claim.archive).map_or(Vec::new(), |hash| hash.to_vec()),
    }
}

fn billed_from_wire(billed: &wire::BilledRoot) -> Result<BilledRoot, String> {
    Ok(BilledRoot {
        root: account(&billed.root)?,
        cycle: cycle(billed.cycle)?,
        bills: billed.bills.iter().map(bill_from_wire).collect::<Result<_, _>>()?,
        postings: billed.postings.iter().map(posting_from_wire).collect::<Result<_, _>>()?,
        claim: match billed.claim {
            0 => None,
            index => Some(Claimed { index, archive: some_hash(&billed.archive)? }),
        },
    })
}

pub(super) fn cause_to_wire(cause: &Cause) -> wire::Cause {
    let kind = |kind| wire::Cause { kind, ..wire::Cause::default() };
    match cause {
        Cause::Asked => kind(1),
        Cause::Late => kind(2),
        Cause::Day(day) => wire::Cause { day: (*day).into(), ..kind(3) },
        Cause::Spend(amount) => wire::Cause { amount: money_to_wire(*amount), ..kind(4) },
        Cause::Purchases => kind(5),
        Cause::Shortfall => kind(6),
        Cause::Refund(refund) => wire::Cause {
            amount: money_to_wire(refund.amount),
            payer: refund.payer.to_string(),
            number: refund.number,
            reason: refund.reason.clone(),
            reference: refund.reference.clone(),
            ..kind(7)
        },
    }
}

pub(super) fn cause_from_wire(cause: &wire::Cause) -> Result<Cause, String> {
    Ok(match cause.kind {
        1 => Cause::Asked,
        2 => Cause::Late,
        3 => Cause::Day(u8::try_from(cause.day).map_err(text)?),
        4 => Cause::Spend(money_from_wire(&cause.amount)?),
        5 => Cause::Purchases,
        6 => Cause::Shortfall,
        7 => Cause::Refund(Refund {
            payer: account(&cause.payer)?,
            number: cause.number,
            amount: money_from_wire(&cause.amount)?,
            reason: cause.reason.clone(),
            reference: cause.reference.clone(),
        }),
        kind => return Err(format!("cause {kind} is unknown")),
    })
}

pub(super) fn money_to_wire(amount: Money) -> Vec<u8> {
    amount.0.to_le_bytes().to_vec()
}

pub(super) fn money_from_wire(bytes: &[u8]) -> Result<Money, String> {
    let amount = bytes.try_into().map_err(|_| format!("an amount has {} bytes, not 16", bytes.len()))?;
    Ok(Money(i128::from_le_bytes(amount)))
}

/// Empty bytes are none.
pub(super) fn some_hash(bytes: &[u8]) -> Result<Option<Hash>, String> {
    Some(bytes).filter(|bytes| !bytes.is_empty()).map(hash).transpose()
}

pub(super) fn hash(bytes: &[u8]) -> Result<Hash, String> {
    bytes.try_into().map_err(|_| format!("a hash has {} bytes, not 32", bytes.len()))
}

pub(super) fn cycle(ordinal: u32) -> Result<CycleId, String> {
    CycleId::from_ordinal(ordinal).ok_or_else(|| format!("cycle {ordinal} is out of range"))
}

pub(super) fn account(name: &str) -> Result<AccountId, String> {
    AccountId::new(name).map_err(text)
}

pub(super) fn slot(number: u32) -> Result<Slot, String> {
    u16::try_from(number).map(Slot).map_err(|_| format!("slot {number} is out of range"))
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
