//! A hierarchy's cycles <-> snapshot.

use super::codec::{
    account, bill_from_wire, bill_to_wire, cause_from_wire, cause_to_wire, cycle, hash, issued_from_wire,
    issued_to_wire, money_to_wire, posting_from_wire, posting_to_wire, some_hash, text,
};
use super::{wire, wire_state};
use crate::base::id::AccountId;
use crate::base::money::Money;
use crate::base::time::Timestamp;
use crate::billing::bill::FIRST_MACHINE;
use crate::billing::cycle::{Agenda, Chain, Claim, CutCycle, Cycles, Extra, Inputs, Late, Phase};

pub(super) fn cycles_to_wire(cycles: &Cycles) -> wire_state::Cycles {
    let cut = |cut: &CutCycle| {
        let (phase, bills, archive) = match &cut.phase {
            Phase::Closing => (0, Vec::new(), Vec::new()),
            Phase::Closed(bills) => (1, bills.iter().map(bill_to_wire).collect(), Vec::new()),
            Phase::Issued(bills) => (2, bills.iter().map(issued_to_wire).collect(), Vec::new()),
            Phase::Archived(bills, hash) => (3, bills.iter().map(issued_to_wire).collect(), hash.to_vec()),
        };
        wire_state::CutCycle {
            cycle: cut.cycle.ordinal(),
            index: cut.index,
            at: cut.at.0,
            ended_grace: cut.ended_grace,
            inputs: Some(inputs_to_wire(&cut.inputs)),
            postings: cut.postings.iter().map(posting_to_wire).collect(),
            phase,
            bills,
            archive,
        }
    };
    let chain = |(payer, chain): (&AccountId, &Chain)| wire::Bill {
        payer: payer.to_string(),
        number: chain.count,
        hash: chain.last.to_vec(),
        ..wire::Bill::default()
    };
    let balance =
        |(name, amount): (&String, &Money)| wire::Posting { balance: name.clone(), amount: money_to_wire(*amount) };
    wire_state::Cycles {
        first: cycles.first.ordinal(),
        open: cycles.open.ordinal(),
        cut: cycles.cut.iter().map(cut).collect(),
        chains: cycles.chains.iter().map(chain).collect(),
        balances: cycles.balances.iter().map(balance).collect(),
        claim: cycles.claim.as_ref().map(claim_to_wire),
        extras: cycles.extras.iter().map(extra_to_wire).collect(),
        late: cycles
            .late
            .iter()
            .map(|(cycle, late)| wire_state::LateUsage { cycle: cycle.ordinal(), records: late.records, due: late.due })
            .collect(),
        agenda: Some(wire_state::Agenda {
            day: cycles.agenda.day.into(),
            purchases_version: cycles.agenda.purchases.map(|(version, _)| version),
            purchases_day: cycles.agenda.purchases.map_or(0, |(_, day)| day),
            shortfall: cycles.agenda.shortfall.map(|cycle| cycle.ordinal()),
        }),
    }
}

fn inputs_to_wire(inputs: &Inputs) -> wire::Inputs {
    let contract = inputs.contract.as_ref();
    wire::Inputs {
        catalogue_version: inputs.catalogue_version,
        catalogue_hash: inputs.catalogue_hash.to_vec(),
        contract_version: contract.map_or(0, |(version, _)| *version),
        contract_hash: contract.map_or(Vec::new(), |(_, hash)| hash.to_vec()),
        // None was written before there was a second.
        machine: if inputs.machine == FIRST_MACHINE { 0 } else { inputs.machine },
    }
}

fn inputs_from_wire(inputs: Option<&wire::Inputs>) -> Result<Inputs, String> {
    let inputs = inputs.ok_or("a cycle has no versions that it is billed with")?;
    let contract = match inputs.contract_version {
        0 => None,
        version => Some((version, hash(&inputs.contract_hash)?)),
    };
    let (catalogue_version, catalogue_hash) = (inputs.catalogue_version, hash(&inputs.catalogue_hash)?);
    let machine = inputs.machine.max(FIRST_MACHINE);
    Ok(Inputs { catalogue_version, catalogue_hash, contract, machine })
}

fn claim_to_wire(claim: &Claim) -> wire_state::Claim {
    wire_state::Claim {
        cycle: claim.cycle.ordinal(),
        index: claim.index,
        at: claim.at.0,
        interim: claim.interim,
        inputs: Some(inputs_to_wire(&claim.inputs)),
        cause: Some(cause_to_wire(&claim.cause)),
        ..wire_state::Claim::default()
    }
}

fn extra_to_wire(extra: &Extra) -> wire_state::Claim {
    wire_state::Claim {
        bills: extra.bills.iter().map(issued_to_wire).collect(),
        postings: extra.postings.iter().map(posting_to_wire).collect(),
        archive: extra.archive.map_or(Vec::new(), |hash| hash.to_vec()),
        ..claim_to_wire(&extra.claim)
    }
}

fn claim_from_wire(claim: &wire_state::Claim) -> Result<Claim, String> {
    Ok(Claim {
        cycle: cycle(claim.cycle)?,
        index: claim.index,
        at: Timestamp(claim.at),
        interim: claim.interim,
        cause: cause_from_wire(claim.cause.as_ref().ok_or("a claim has no cause")?)?,
        inputs: inputs_from_wire(claim.inputs.as_ref())?,
    })
}

fn extra_from_wire(extra: &wire_state::Claim) -> Result<Extra, String> {
    Ok(Extra {
        claim: claim_from_wire(extra)?,
        bills: extra.bills.iter().map(issued_from_wire).collect::<Result<_, _>>()?,
        postings: extra.postings.iter().map(posting_from_wire).collect::<Result<_, _>>()?,
        archive: some_hash(&extra.archive)?,
    })
}

pub(super) fn cycles_from_wire(cycles: &wire_state::Cycles) -> Result<Cycles, String> {
    let issued = |bills: &[wire::Bill]| bills.iter().map(issued_from_wire).collect::<Result<Vec<_>, _>>();
    let cut = |cut: &wire_state::CutCycle| {
        let phase = match cut.phase {
            0 => Phase::Closing,
            1 => Phase::Closed(cut.bills.iter().map(bill_from_wire).collect::<Result<_, _>>()?),
            2 => Phase::Issued(issued(&cut.bills)?),
            3 => Phase::Archived(issued(&cut.bills)?, hash(&cut.archive)?),
            phase => return Err(format!("phase {phase} is unknown")),
        };
        Ok::<_, String>(CutCycle {
            cycle: cycle(cut.cycle)?,
            index: cut.index,
            at: Timestamp(cut.at),
            ended_grace: cut.ended_grace,
            inputs: inputs_from_wire(cut.inputs.as_ref())?,
            postings: cut.postings.iter().map(posting_from_wire).collect::<Result<_, _>>()?,
            phase,
        })
    };
    let mut restored = Cycles::new(cycle(cycles.first)?);
    restored.open = cycle(cycles.open)?;
    restored.cut = cycles.cut.iter().map(cut).collect::<Result<_, _>>()?;
    for chain in &cycles.chains {
        restored.chains.insert(account(&chain.payer)?, Chain { count: chain.number, last: hash(&chain.hash)? });
    }
    for balance in &cycles.balances {
        let posting = posting_from_wire(balance)?;
        restored.balances.insert(posting.balance, posting.amount);
    }
    restored.claim = cycles.claim.as_ref().map(claim_from_wire).transpose()?;
    restored.extras = cycles.extras.iter().map(extra_from_wire).collect::<Result<_, _>>()?;
    for late in &cycles.late {
        restored.late.insert(cycle(late.cycle)?, Late { records: late.records, due: late.due });
    }
    if let Some(agenda) = &cycles.agenda {
        restored.agenda = Agenda {
            day: u8::try_from(agenda.day).map_err(text)?,
            purchases: agenda.purchases_version.map(|version| (version, agenda.purchases_day)),
            shortfall: agenda.shortfall.map(cycle).transpose()?,
        };
    }
    Ok(restored)
}
