//! What a planted fault is: the wrong bills of a case, mostly those of documents that mean something slightly else than what
//! the model reads; and the few ways to change documents. The faults are in `planted.rs` and `planted_charges.rs`.

use serde_json::Value;

use super::case::Case;
use crate::compare::Shown;

/// A bug put in on purpose.
pub struct Fault {
    pub name: &'static str,
    /// The wrong bills of a case; `None` where the fault can change nothing in it.
    pub plant: fn(&Case) -> Option<Shown>,
}

/// A fault that is a change of the documents or the usage; false where there is nothing to change.
macro_rules! mutated {
    ($name:literal, $change:expr) => {
        Fault {
            name: $name,
            plant: |case| {
                let mut wrong = case.clone();
                let change: fn(&mut Case) -> bool = $change;
                if change(&mut wrong) { wrong.shown().ok() } else { None }
            },
        }
    };
}

pub(super) use mutated;

/// Changes every entry of a list of the catalogue; true where one changed.
pub fn each(case: &mut Case, list: &str, change: impl FnMut(&mut Value) -> bool) -> bool {
    let entries = case.catalogue[list].as_array_mut().into_iter().flatten();
    entries.map(change).fold(false, |any, changed| any | changed)
}

/// Changes the contract's clauses; true where there are any.
pub fn clauses(case: &mut Case, change: fn(&mut Vec<Value>)) -> bool {
    let own = case.contract.as_mut().and_then(|contract| contract["clauses"].as_array_mut());
    own.map(change).is_some()
}

/// Changes every clause of a mechanism; true where one changed.
pub fn mechanism(case: &mut Case, mechanism: &str, change: impl FnMut(&mut Value) -> bool) -> bool {
    let own = case.contract.as_mut().and_then(|contract| contract["clauses"].as_array_mut());
    let own = own.into_iter().flatten().filter(|clause| clause["mechanism"] == mechanism);
    own.map(change).fold(false, |any, changed| any | changed)
}

/// Removes a field; true where there was one.
pub fn remove(value: &mut Value, field: &str) -> bool {
    value.as_object_mut().and_then(|own| own.remove(field)).is_some()
}
