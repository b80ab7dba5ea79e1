//! Each paid slice at the customer's own rate, where that is not dearer (or may be); never more off than is left.

use serde_json::Value;

use crate::model::draft::Draft;
use crate::model::exact::{rounded, whole};
use crate::model::rounding::SCALE;
use crate::model::series::number;

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    for item in draft.chosen(clause, None) {
        for slice in draft.slices_of(item) {
            let private = rounded(&(&draft.lines[slice].quantity * number(&clause["rate"], "0")), SCALE);
            let off = draft.left_of(slice) - private;
            let may = off > whole(0) || clause["may_raise"] == true;
            let off = if may { draft.line_of(off).min(draft.net(item)) } else { whole(0) };
            draft.add(clause, item, Some(slice), -off);
        }
    }
}
