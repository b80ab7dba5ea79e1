//! Each paid slice at the customer's own rate, where that is not dearer (or may be); never more off than is left.

use serde_json::Value;

use crate::model::draft::Draft;
use crate::model::exact::{Exact, rounded, whole};
use crate::model::rounding::SCALE;
use crate::model::series::number;

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    for item in draft.chosen(clause, None) {
        let slices: Vec<_> = draft.lines_of(item).filter(|line| line.origin.parse::<u32>().is_ok()).cloned().collect();
        for slice in slices {
            let earlier = draft.lines_of(item).filter(|line| line.of == slice.origin);
            let current = &slice.amount + earlier.map(|line| &line.amount).sum::<Exact>();
            let off = current - rounded(&(&slice.quantity * number(&clause["rate"], "0")), SCALE);
            let may = off > whole(0) || clause["may_raise"] == true;
            let off = if may { draft.line_of(off).min(draft.net(item)) } else { whole(0) };
            draft.add(clause, item, &slice.origin, -off);
        }
    }
}
