//! Each paid slice at the customer's own rate, where that is not dearer (or may be); never more off than is left.

use num_traits::Zero;
use serde_json::Value;

use super::percent::bases;
use crate::model::draft::Draft;
use crate::model::exact::{Exact, rounded, whole};
use crate::model::line::Line;
use crate::model::rounding::{SCALE, round_together};
use crate::model::series::{number, text};

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    for base in bases(draft, draft.chosen(clause, None)) {
        let mut made = Vec::new();
        for item in base {
            let mut left = draft.net(item);
            for slice in draft.lines_of(item).filter(|line| line.origin.parse::<u32>().is_ok()) {
                let earlier = draft.lines_of(item).filter(|line| line.of == slice.origin);
                let current = &slice.amount + earlier.map(|line| &line.amount).sum::<Exact>();
                let mut difference = rounded(&(&slice.quantity * number(&clause["rate"], "0")), SCALE) - current;
                if difference > whole(0) && clause["may_raise"] != true {
                    difference = whole(0);
                }
                let difference = difference.max(-left.clone());
                left += &difference;
                let (origin, of) = (format!("clause:{}", text(&clause["id"], "")), slice.origin.clone());
                made.push(Line { origin, of, quantity: whole(0), amount: difference, ..slice.clone() });
            }
        }
        round_together(draft.catalogue, &mut made);
        draft.lines.extend(made.into_iter().filter(|line| !line.amount.is_zero()));
    }
}
