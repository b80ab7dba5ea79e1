//! Ladders of contracts: which part of a whole lies in which step.

use serde_json::Value;

use crate::model::exact::{Exact, exact, whole};
use crate::model::series::{list, number, text};

/// The parts of `measure` by step: all of it in the one that it reaches, or each step its part. Nothing has no parts.
pub fn cut(measure: &Exact, steps: &[Value], climb: &str, bound: &str) -> Vec<(Exact, usize)> {
    let mut parts = Vec::new();
    let mut begin = whole(0);
    for (at, step) in steps.iter().enumerate().take_while(|_| *measure > whole(0)) {
        let end = step["up_to"].as_str().map(exact);
        let inside = end.as_ref().is_none_or(|end| if bound == "lower" { measure < end } else { measure <= end });
        match climb {
            "volume" if inside => return vec![(measure.clone(), at)],
            "volume" => {}
            _ => parts.push((end.clone().unwrap_or_else(|| measure.clone()).min(measure.clone()) - &begin, at)),
        }
        if inside {
            break;
        }
        begin = end.expect("only the last step has no end");
    }
    parts
}

/// The parts of `measure` and their percentages.
pub fn shares(measure: &Exact, clause: &Value, climb: &str, bound: &str) -> Vec<(Exact, Exact)> {
    let bands = match [list(clause, "bands"), list(clause, "tiers")].concat() {
        none if none.is_empty() => vec![serde_json::json!({ "percent": text(&clause["percent"], "0") })],
        bands => bands,
    };
    let cut = cut(measure, &bands, climb, bound).into_iter();
    cut.map(|(part, at)| (part, number(&bands[at]["percent"], "0"))).collect()
}
