//! Patterns with `*` over names, and whether several of them can match one name. Used by meters, SKUs, pools and
//! contract scopes alike. What is selected lives with those.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::id::{BadId, check_name};

/// A name, or a name with `*` standing for any run of characters (also none). There is no escape: a name that itself
/// holds `*` is matched by a pattern like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    Any,
    Exact(Arc<str>),
    /// The text holds at least one `*` and something else.
    Glob(Arc<str>),
}

impl Pattern {
    /// Parses 1 to 128 bytes without control characters.
    pub fn new(kind: &'static str, text: &str) -> Result<Pattern, BadId> {
        check_name(kind, text)?;
        Ok(match text {
            _ if text.bytes().all(|byte| byte == b'*') => Pattern::Any,
            _ if text.contains('*') => Pattern::Glob(text.into()),
            _ => Pattern::Exact(text.into()),
        })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Pattern::Any => "*",
            Pattern::Exact(text) | Pattern::Glob(text) => text,
        }
    }

    /// The one name that it matches, if there is only one.
    pub fn exact(&self) -> Option<&Arc<str>> {
        match self {
            Pattern::Exact(text) => Some(text),
            _ => None,
        }
    }

    pub fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(text) => **text == *name,
            Pattern::Glob(text) => glob_matches(text, name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The first piece is a prefix, the last a suffix, and those between follow each other: taking each at its earliest
/// place never loses a match.
fn glob_matches(pattern: &str, name: &str) -> bool {
    let (first, rest) = pattern.split_once('*').expect("a glob holds a star");
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(inner) = name.strip_prefix(first).and_then(|name| name.strip_suffix(last)) else { return false };
    let mut left = inner;
    for piece in middle.split('*') {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    true
}

/// True where one name exists that all patterns match. Exact for any number of patterns: pairs that overlap do not
/// prove that three do.
pub fn can_match_together(patterns: &[&Pattern]) -> bool {
    if let Some(exact) = patterns.iter().find_map(|pattern| pattern.exact()) {
        return patterns.iter().all(|pattern| pattern.matches(exact));
    }
    let globs: Vec<Vec<char>> = patterns
        .iter()
        .filter_map(|pattern| match pattern {
            Pattern::Glob(text) => Some(text.chars().collect()),
            _ => None,
        })
        .collect();
    if globs.len() < 2 {
        return true;
    }
    // A walk over the product of the patterns' positions. Characters that no pattern spells behave alike, so one that
    // occurs nowhere stands for all of them; it is needed only where every pattern is in a star, and then ends soon.
    let letters: BTreeSet<char> = globs.iter().flatten().copied().filter(|letter| *letter != '*').collect();
    let mut seen = BTreeSet::new();
    let mut open = vec![vec![0usize; globs.len()]];
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        if state.iter().zip(&globs).all(|(at, glob)| glob[*at..].iter().all(|letter| *letter == '*')) {
            return true;
        }
        // Leaving a star without reading.
        for (place, glob) in globs.iter().enumerate() {
            if glob.get(state[place]) == Some(&'*') {
                let mut next = state.clone();
                next[place] += 1;
                open.push(next);
            }
        }
        for letter in &letters {
            let next: Option<Vec<usize>> = state
                .iter()
                .zip(&globs)
                .map(|(at, glob)| match glob.get(*at) {
                    Some('*') => Some(*at),
                    Some(own) if own == letter => Some(*at + 1),
                    _ => None,
                })
                .collect();
            open.extend(next);
        }
    }
    false
}

/// One pattern or a list of them, as people write it: `service: AmazonS3` or `service: [AmazonS3, AmazonEC2]`.
/// Several match where one of them does; none at all matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatternTexts(pub Vec<String>);

impl PatternTexts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl JsonSchema for PatternTexts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "patterns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

impl Serialize for PatternTexts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PatternTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = PatternTexts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name in quotes or a list of names; * stands for any run of characters")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PatternTexts, E> {
                Ok(PatternTexts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PatternTexts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    texts.push(text);
                }
                Ok(PatternTexts(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new("pattern", text).unwrap()
    }

    #[test]
    fn stars_stand_for_any_run() {
        fn check(text: &str, name: &str, expected: bool) {
            assert_eq!(pattern(text).matches(name), expected, "{text} on {name}");
        }
        check("*", "", true);
        check("**", "x", true);
        check("BoxUsage:*", "BoxUsage:m5.large", true);
        check("BoxUsage:*", "USE2-BoxUsage:m5.large", false);
        check("*DataTransfer-Out-Bytes", "USE2-DataTransfer-Out-Bytes", true);
        check("*DataTransfer-Out-Bytes", "DataTransfer-Out-Bytes", true);
        check("*-Requests-*", "EU-Requests-Tier1", true);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("a*b*a", "aba", true);
        check("a*b*b*a", "aba", false);
        check("a*b*b*a", "abba", true);
        check("us-east-1", "us-east-1", true);
        check("us-east-1", "us-east-2", false);
    }

    #[test]
    fn overlap_is_computed_not_guessed() {
        fn check(texts: &[&str], expected: bool) {
            let patterns: Vec<Pattern> = texts.iter().map(|text| pattern(text)).collect();
            assert_eq!(can_match_together(&patterns.iter().collect::<Vec<_>>()), expected, "{texts:?}");
        }
        check(&["a*", "*b"], true);
        check(&["a*", "b*"], false);
        check(&["*a", "*b"], false);
        check(&["a*b", "a*c"], false);
        check(&["*x*", "*y*"], true);
        check(&["us-*", "us-east-1"], true);
        check(&["us-*", "eu-west-1"], false);
        check(&["*", "anything"], true);
        check(&["a*", "a"], true);
        check(&["ab*", "a*bc", "*d*"], true);
        // Each pair overlaps, the three do not: the first two force the whole name to be ab or longer with b last.
        check(&["a*b", "ab*"], true);
        check(&["a*", "*b", "*c"], false);
    }

    #[test]
    fn a_list_or_one_name() {
        let one: PatternTexts = serde_json::from_str("\"AmazonS3\"").unwrap();
        let two: PatternTexts = serde_json::from_str("[\"AmazonS3\",\"AmazonEC2\"]").unwrap();
        assert_eq!((one.0.len(), two.0.len()), (1, 2));
        assert!(serde_json::from_str::<PatternTexts>("12").is_err());
    }
}
