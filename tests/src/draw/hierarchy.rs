//! Random hierarchies.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::words::{GROUPS, chance, one};

/// A hierarchy of 1 to 3 payers and up to 6 linked accounts; some are members for a part of the time only.
pub fn hierarchy(rng: &mut SmallRng, root: &str, first: &str) -> Value {
    let payers: Vec<String> = match rng.random_range(0..3) {
        0 => vec![root.to_owned()],
        1 => vec![root.to_owned(), format!("{root}-pay")],
        _ => vec![format!("{root}-pay"), format!("{root}-pay2")],
    };
    let mut accounts: Vec<Value> = (0..rng.random_range(0..=6))
        .map(|index| {
            let mut account = json!({ "id": format!("{root}-{index}") });
            if chance(rng, 60) {
                account["payer"] = json!(one(rng, &payers));
            }
            if chance(rng, 50) {
                account["group"] = json!(*one(rng, GROUPS));
            }
            if chance(rng, 20) {
                account["from"] = json!(format!("{first}-05"));
            }
            if chance(rng, 20) {
                account["until"] = json!(format!("{first}-25T12:00:00Z"));
            }
            account
        })
        .collect();
    if chance(rng, 15) {
        // Root and payers may have rows too.
        accounts.push(json!({ "id": one(rng, &payers), "group": *one(rng, GROUPS) }));
    }
    json!({
        "kind": "Hierarchy", "root": root, "catalogue": "random", "payers": payers, "groups": GROUPS, "accounts": accounts,
        "cycles": { "first": first, "close": "manual", "grace": "2d" },
    })
}
