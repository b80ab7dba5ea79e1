//! The contract's stages in their order, and in each its clauses (section 2, decisions 12 and 13). What a clause does
//! lives in `clauses/`, a mechanism a file.

use serde_json::Value;

use super::clauses::{
    commitment, credit, fees, fixed_discount, limits, percent, prepayment, private_rate, tax, tiered_rate, volume,
    waiver,
};
use super::draft::{Draft, in_force};
use super::series::{list, names, text};

/// The usual order of what contracts add to.
pub const STAGES: &[&str] = &[
    "private_rates",
    "usage_waiver",
    "attribute_percent",
    "service_percent",
    "volume",
    "credits_before",
    "cross_service_percent",
    "limits",
    "prepayment",
    "fees",
    "credits_after",
    "shortfall",
    "tax",
];

/// The stage that a clause belongs to; of a commitment that of its percentage.
fn stage_of(clause: &Value) -> String {
    match text(&clause["mechanism"], "") {
        "private_rate" => "private_rates".to_owned(),
        "waiver" => "usage_waiver".to_owned(),
        "percent" | "fixed_discount" => format!("{}_percent", text(&clause["kind"], "cross_service")),
        "commitment" => "cross_service_percent".to_owned(),
        "credit" => format!("credits_{}", text(&clause["stage"], "before")),
        "minimum" | "maximum" => "limits".to_owned(),
        "percent_fee" | "fee" | "custom_line" => "fees".to_owned(),
        other => other.to_owned(),
    }
}

/// The place within a stage: percentages before amounts, and lines by agreement after fees.
fn rank(clause: &Value) -> u8 {
    match text(&clause["mechanism"], "") {
        "fixed_discount" | "fee" => 1,
        "custom_line" => 2,
        _ => 0,
    }
}

/// Applies all clauses that are in force, stage by stage.
pub fn apply(draft: &mut Draft<'_>) {
    let (contract, cycle) = (draft.contract, draft.cycle);
    if !in_force(contract, cycle) {
        return;
    }
    let all: Vec<&Value> = list(contract, "clauses").iter().filter(|clause| in_force(clause, cycle)).collect();
    let commitments: Vec<&Value> = all.iter().filter(|clause| clause["mechanism"] == "commitment").copied().collect();
    let stated = [contract, draft.catalogue].into_iter().find(|document| !document["stages"].is_null());
    for stage in stated.map_or(STAGES.to_vec(), |document| names(&document["stages"])) {
        let mut clauses: Vec<&Value> = all.iter().filter(|clause| stage_of(clause) == stage).copied().collect();
        clauses.sort_by_key(|clause| rank(clause));
        if stage.starts_with("credits_") {
            clauses = credit::in_order(contract, clauses);
        }
        draft.began = (0..draft.items.len()).map(|item| draft.net(item)).collect();
        for clause in clauses {
            match text(&clause["mechanism"], "") {
                "private_rate" if clause["tiers"].is_array() => tiered_rate::apply(draft, clause),
                "private_rate" => private_rate::apply(draft, clause),
                "waiver" => waiver::apply(draft, clause),
                "percent" | "commitment" => percent::apply(draft, clause),
                "fixed_discount" => fixed_discount::apply(draft, clause),
                "volume" => volume::apply(draft, clause),
                "credit" => credit::apply(draft, clause),
                "minimum" => limits::minimum(draft, clause),
                "maximum" => limits::maximum(draft, clause),
                "prepayment" => prepayment::apply(draft, clause),
                "percent_fee" => fees::percent_fee(draft, clause),
                "fee" => fees::fee(draft, clause),
                "custom_line" => fees::custom_line(draft, clause),
                "tax" => tax::apply(draft, clause),
                other => panic!("the model knows no {other}"),
            }
        }
        match stage {
            "cross_service_percent" => commitments.iter().for_each(|clause| commitment::note(draft, clause)),
            "shortfall" => all.iter().for_each(|clause| match text(&clause["mechanism"], "") {
                "commitment" => commitment::shortfall(draft, clause),
                // Behind all that could settle it.
                "prepayment" if clause["purchase"] == true => prepayment::buy(draft, clause),
                _ => {}
            }),
            _ => {}
        }
    }
}
