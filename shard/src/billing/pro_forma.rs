//! Pro forma bills: a billing group's usage, climbed and priced by itself under terms of its own, beside the real bills and
//! never in their totals (BILLING.md section 2.10). It is the same fold, over a hierarchy that has only the group.

use super::bill::BillBody;
use super::fold::fold;
use super::input::{Counter, FoldError, FoldInput};
use crate::base::id::GroupName;
use crate::contract::pro_forma::ProForma;

/// The pro forma bills of all billing groups that the contract prices, in its order; a group without usage and lines has
/// none.
pub fn pro_forma(input: &FoldInput<'_>) -> Result<Vec<BillBody>, FoldError> {
    let contract = input.contract.filter(|contract| contract.is_in_force(input.cycle));
    let groups = contract.map_or(&[][..], |contract| &contract.pro_forma);
    let mut bodies = Vec::new();
    for own in groups {
        bodies.extend(of_group(input, own)?);
    }
    Ok(bodies)
}

/// The terms of one group; `None` where the contract in force does not price it.
pub fn terms_of<'a>(input: &FoldInput<'a>, group: &GroupName) -> Option<&'a ProForma> {
    let contract = input.contract.filter(|contract| contract.is_in_force(input.cycle))?;
    contract.pro_forma.iter().find(|own| own.group == *group)
}

/// One group's bill. Whoever is in the group when the cycle ends was in it for the whole cycle, which is what a hierarchy
/// says of a cycle anyway (BILLING.md decision 14).
pub fn of_group(input: &FoldInput<'_>, own: &ProForma) -> Result<Option<BillBody>, FoldError> {
    let hierarchy = input.hierarchy.of_group(&own.group, &own.account, input.cycle);
    let is_member = |counter: &&Counter<'_>| {
        let entry = input.hierarchy.account(&counter.series.account);
        entry.and_then(|entry| input.hierarchy.group_at(entry, input.cycle)) == Some(&own.group)
    };
    let input = FoldInput {
        hierarchy: &hierarchy,
        contract: Some(&own.terms),
        counters: input.counters.iter().filter(is_member).copied().collect(),
        balances: Default::default(),
        settled: Default::default(),
        drawn_later: Default::default(),
        ..*input
    };
    let body = fold(&input)?.pop();
    Ok(body.map(|body| BillBody { pro_forma: Some(own.group.clone()), ..body }))
}
