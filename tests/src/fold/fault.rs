//! A fault that can be planted, and the small changes of documents that make one.

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
                if change(&mut wrong) { Some(Shown::of_engine(&wrong.engine().ok()?)) } else { None }
            },
        }
    };
}

pub(super) use mutated;

/// Changes every entry of a list of the catalogue; true where one changed.
pub(super) fn each(case: &mut Case, list: &str, change: impl FnMut(&mut Value) -> bool) -> bool {
    let entries = case.catalogue[list].as_array_mut().into_iter().flatten();
    entries.map(change).fold(false, |any, changed| any | changed)
}

/// Takes a field out; true where it was there.
pub(super) fn remove(value: &mut Value, field: &str) -> bool {
    value.as_object_mut().and_then(|own| own.remove(field)).is_some()
}
