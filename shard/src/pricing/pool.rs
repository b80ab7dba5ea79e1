//! Which counters climb one ladder together: the keys that split a pool, and free pools (BILLING.md decision 4).
//! The ladder's arithmetic lives in `rate.rs`, the division among accounts in `billing/attribute.rs`.

use std::fmt;
use std::sync::Arc;

use super::document::Attribution;
use crate::base::id::{PriceId, check_name};
use crate::base::money::Quantity;
use crate::base::problem::{Place, Problems};

/// One thing that separates pools of the same price from each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SplitKey {
    Root,
    Payer,
    Group,
    Account,
    Region,
    Service,
    Sku,
    Attribute(Arc<str>),
}

impl SplitKey {
    fn parse(text: &str) -> Option<SplitKey> {
        Some(match text {
            "root" => SplitKey::Root,
            "payer" => SplitKey::Payer,
            "group" => SplitKey::Group,
            "account" => SplitKey::Account,
            "region" => SplitKey::Region,
            "service" => SplitKey::Service,
            "sku" => SplitKey::Sku,
            _ => {
                let name = text.strip_prefix("attribute:")?;
                check_name("attribute", name).ok()?;
                SplitKey::Attribute(name.into())
            }
        })
    }
}

impl fmt::Display for SplitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SplitKey::Root => "root",
            SplitKey::Payer => "payer",
            SplitKey::Group => "group",
            SplitKey::Account => "account",
            SplitKey::Region => "region",
            SplitKey::Service => "service",
            SplitKey::Sku => "sku",
            SplitKey::Attribute(name) => return write!(f, "attribute:{name}"),
        })
    }
}

/// The keys of a pool, sorted, each once. One of account, group, payer and root is always among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBy(pub Vec<SplitKey>);

impl SplitBy {
    /// A price that names no pool: per payer and SKU, all accounts together.
    pub fn payer_and_sku() -> SplitBy {
        SplitBy(vec![SplitKey::Payer, SplitKey::Sku])
    }

    /// Reads the field `split_by`; problems are reported at `place`.
    pub fn compile(texts: &[String], place: &Place, problems: &mut Problems) -> SplitBy {
        let mut keys = Vec::with_capacity(texts.len() + 1);
        for (index, text) in texts.iter().enumerate() {
            match SplitKey::parse(text) {
                Some(key) if keys.contains(&key) => {
                    problems.error(&place.index(index), format!("split_by names {text} twice"), "name it once");
                }
                Some(key) => keys.push(key),
                None => problems.error(
                    &place.index(index),
                    format!("unknown pool key '{text}'"),
                    "use account, group, payer, root, region, service, sku or attribute:<name>",
                ),
            }
        }
        let owner =
            |key: &SplitKey| matches!(key, SplitKey::Root | SplitKey::Payer | SplitKey::Group | SplitKey::Account);
        if !keys.iter().any(owner) {
            keys.push(SplitKey::Payer);
        }
        keys.sort();
        SplitBy(keys)
    }

    /// True where each SKU has pools of its own.
    pub fn by_sku(&self) -> bool {
        self.0.contains(&SplitKey::Sku)
    }

    /// True where a pool may span several payers of a hierarchy.
    pub fn crosses_payers(&self) -> bool {
        !self.0.iter().any(|key| matches!(key, SplitKey::Payer | SplitKey::Group | SplitKey::Account))
    }
}

/// Units of several SKUs that are free before their ladders begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreePool {
    pub id: PriceId,
    pub name: Option<Arc<str>>,
    /// Free units a cycle in each pool.
    pub units: Quantity,
    pub split_by: SplitBy,
    pub share: Attribution,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_always_has_an_owner() {
        fn check(texts: &[&str], expected: &str, errors: usize) {
            let mut problems = Problems::default();
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let split = SplitBy::compile(&texts, &Place::top(), &mut problems);
            let keys: Vec<String> = split.0.iter().map(SplitKey::to_string).collect();
            assert_eq!((keys.join(" ").as_str(), problems.into_vec().len()), (expected, errors));
        }
        check(&[], "payer", 0);
        check(&["region"], "payer region", 0);
        check(&["region", "root"], "root region", 0);
        check(&["sku", "account"], "account sku", 0);
        check(&["attribute:class"], "payer attribute:class", 0);
        check(&["attribute:", "colour"], "payer", 2);
        check(&["region", "region"], "payer region", 1);
    }
}
