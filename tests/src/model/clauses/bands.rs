//! Ladders of contracts: which part of a whole lies in which step.

use serde_json::Value;

use crate::model::exact::{Exact, exact, whole};
use crate::model::series::{list, number, text};

/// The parts of `measure` by step, on a ladder that was climbed as far as `before`: all of it in the step that both
/// together reach, or each step its part. Nothing has no parts.
pub fn cut(before: &Exact, measure: &Exact, steps: &[Value], climb: &str, bound: &str) -> Vec<(Exact, usize)> {
    let mut parts = Vec::new();
    let (mut begin, until) = (before.clone(), before + measure);
    for (at, step) in steps.iter().enumerate().take_while(|_| *measure > whole(0)) {
        let end = step["up_to"].as_str().map(exact);
        let inside = end.as_ref().is_none_or(|end| if bound == "lower" { until < *end } else { until <= *end });
        match climb {
            "volume" if inside => return vec![(measure.clone(), at)],
            "volume" => {}
            _ => {
                let reach = end.clone().unwrap_or_else(|| until.clone()).min(until.clone()).max(begin.clone());
                parts.push((&reach - &begin, at));
                begin = reach;
            }
        }
        if inside {
            break;
        }
    }
    parts.retain(|(part, _)| *part > whole(0));
    parts
}

/// The parts of `measure` and their percentages.
pub fn shares(before: &Exact, measure: &Exact, clause: &Value, climb: &str, bound: &str) -> Vec<(Exact, Exact)> {
    let bands = match [list(clause, "bands"), list(clause, "tiers")].concat() {
        none if none.is_empty() => vec![serde_json::json!({ "percent": text(&clause["percent"], "0") })],
        bands => bands,
    };
    let cut = cut(before, measure, &bands, climb, bound).into_iter();
    cut.map(|(part, at)| (part, number(&bands[at]["percent"], "0"))).collect()
}
