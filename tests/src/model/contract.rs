//! The contract's stages in their order, and in each its clauses (section 2, decisions 12 and 13). What a clause does
//! lives in `clauses/`, a mechanism a file.

use serde_json::Value;

use super::clauses::{percent, private_rate};
use super::draft::Draft;
use super::series::{list, names, text};

/// The usual order of what contracts add to.
const STAGES: &[&str] = &["private_rates", "attribute_percent", "service_percent", "cross_service_percent"];

/// The stage that a clause belongs to.
fn stage_of(clause: &Value) -> String {
    match text(&clause["mechanism"], "") {
        "private_rate" => "private_rates".to_owned(),
        _ => format!("{}_percent", text(&clause["kind"], "cross_service")),
    }
}

/// Applies all clauses that are in force, stage by stage, in file order.
pub fn apply(draft: &mut Draft<'_>) {
    let (contract, cycle) = (draft.contract, draft.cycle);
    let in_force = |own: &Value| text(&own["effective"], "") <= cycle && cycle < text(&own["until"], "9999-12");
    if !in_force(contract) {
        return;
    }
    let stated = [contract, draft.catalogue].into_iter().find(|document| !document["stages"].is_null());
    for stage in stated.map_or(STAGES.to_vec(), |document| names(&document["stages"])) {
        for clause in list(contract, "clauses").iter().filter(|clause| stage_of(clause) == stage && in_force(clause)) {
            match text(&clause["mechanism"], "") {
                "private_rate" => private_rate::apply(draft, clause),
                "percent" => percent::apply(draft, clause),
                other => panic!("the model knows no {other}"),
            }
        }
    }
}
