//! Telling products apart that share a service and a usage type: by operation and region as the list gives them, and
//! where that is not enough, by the fewest attributes in which all of those in question differ.

use std::collections::BTreeSet;

use reckoner_shard::base::id::check_name;
use reckoner_shard::pricing::limits::ATTRIBUTES_MAX;

use super::item::Item;

/// How the items of one usage type are told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Apart {
    /// Attributes that usage has to name, sorted.
    pub attributes: Vec<String>,
    /// Places of the items that are told apart by them.
    pub by_attributes: BTreeSet<usize>,
    /// Pairs that stay the same whatever is looked at.
    pub clashes: Vec<(usize, usize)>,
}

/// Tells items of one service and usage type apart.
pub fn tell_apart(items: &[&Item]) -> Apart {
    let mut pairs = Vec::new();
    for (second, item) in items.iter().enumerate() {
        for (first, other) in items[..second].iter().enumerate() {
            if meet(&item.operation, &other.operation) && meet(&item.region, &other.region) {
                pairs.push((first, second));
            }
        }
    }
    let involved: BTreeSet<usize> = pairs.iter().flat_map(|(first, second)| [*first, *second]).collect();
    let names = names(items, &involved);
    let differ = |name: &str, (first, second): (usize, usize)| {
        items[first].attributes.get(name) != items[second].attributes.get(name)
    };
    let mut attributes: Vec<String> = Vec::new();
    while !pairs.is_empty() && attributes.len() < ATTRIBUTES_MAX {
        // The first of those that leave the fewest: names are sorted, so the choice is the same every time.
        let left = |name: &&&str| pairs.iter().filter(|pair| !differ(name, **pair)).count();
        let Some(best) = names.iter().min_by_key(left).filter(|name| left(name) < pairs.len()) else { break };
        attributes.push((*best).to_owned());
        pairs.retain(|pair| !differ(best, *pair));
    }
    attributes.sort();
    let by_attributes = if attributes.is_empty() { BTreeSet::new() } else { involved };
    Apart { attributes, by_attributes, clashes: pairs }
}

/// Whether one record can match both; `None` matches any.
fn meet(one: &Option<String>, other: &Option<String>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Attributes that every item in question has with a value that a SKU can ask for.
fn names<'a>(items: &[&'a Item], involved: &BTreeSet<usize>) -> Vec<&'a str> {
    let usable = |value: &str| check_name("attribute", value).is_ok() && !value.contains('*');
    let mut names: Option<BTreeSet<&str>> = None;
    for place in involved {
        let own: BTreeSet<&str> = items[*place]
            .attributes
            .iter()
            .filter(|(name, value)| check_name("attribute", name).is_ok() && usable(value))
            .map(|(name, _)| name.as_str())
            .collect();
        names = Some(match names {
            None => own,
            Some(before) => before.intersection(&own).copied().collect(),
        });
    }
    names.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::import::item::Spot;

    /// An item of words `operation region name=value...`; `*` is any.
    fn item(text: &str) -> Item {
        let mut words = text.split_whitespace();
        let mut any = || words.next().filter(|word| *word != "*").map(str::to_owned);
        let (operation, region) = (any(), any());
        let attributes = words.map(|word| word.split_once('=').unwrap());
        Item {
            spot: Spot::new("f", "p"),
            sku: text.to_owned(),
            name: None,
            service: "s".to_owned(),
            usage_type: "u".to_owned(),
            operation,
            region,
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            unit: "x".to_owned(),
            tiers: Vec::new(),
        }
    }

    #[test]
    fn the_fewest_words_tell_apart() {
        fn check(items: &[&str], attributes: &[&str], clashes: usize) {
            let items: Vec<Item> = items.iter().map(|text| item(text)).collect();
            let found = tell_apart(&items.iter().collect::<Vec<_>>());
            assert_eq!(
                (found.attributes.iter().map(String::as_str).collect::<Vec<_>>(), found.clashes.len()),
                (attributes.to_vec(), clashes)
            );
        }
        check(&["Run *"], &[], 0);
        check(&["Run east", "Run west"], &[], 0);
        check(&["Run east", "Stop east"], &[], 0);
        check(&["Run east", "* east"], &[], 1);
        check(&["* * os=linux", "Run east os=windows"], &["os"], 0);
        check(&["* * a=1 b=1", "* * a=1 b=2", "* * a=2 b=3"], &["b"], 0);
        check(&["* * a=1 b=1", "* * a=1 b=2", "* * a=2 b=1", "* * a=2 b=2"], &["a", "b"], 0);
        // An attribute that one of them lacks cannot be asked for.
        check(&["* * a=1", "* * b=2"], &[], 1);
        check(&["* * a=1", "* * a="], &[], 1);
        check(&["* * a=1", "* * a=1*"], &[], 1);
        // The third is told apart by its region and takes no part.
        check(&["* east os=linux", "* east os=windows", "* west"], &["os"], 0);
        check(&["* * a=1", "* * a=1", "* * a=2"], &["a"], 1);
    }
}
