//! YAML as a tree whose nodes remember where they stand and how their scalars were written, so that every later problem
//! has a place and every decimal its exact digits. Turning a tree into types is `typed`'s matter.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use reckoner_shard::base::problem::PathPart;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{Location, Spanned};

use super::finding::{Finding, Source};

/// A node of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Bytes in the source's text; empty or short for blocks, whose end the parser does not tell.
    pub span: Range<usize>,
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar without quotes, exactly as it is written.
    Plain(String),
    /// A quoted or block scalar, decoded.
    Quoted(String),
    List(Vec<Node>),
    /// In the order written; keys are unique.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Plain(text) | Kind::Quoted(text) => Some(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The place of the deepest node on a path: of the value, or of the key where the value has no width.
    pub fn place(&self, path: &[PathPart]) -> Range<usize> {
        let (mut node, mut place) = (self, self.start());
        for part in path {
            match (part, &node.kind) {
                (PathPart::Key(key), Kind::Map(_)) => {
                    let Some((name, value)) = node.entry(key) else { return place };
                    node = value;
                    place = if value.text().is_some() { value.span.clone() } else { name.span.clone() };
                }
                (PathPart::Index(index), Kind::List(items)) => {
                    let Some(item) = items.get(*index) else { return place };
                    node = item;
                    place = item.start();
                }
                _ => return place,
            }
        }
        place
    }

    /// Where a node begins to be visible: a map at its first key, a list at its first item.
    pub fn start(&self) -> Range<usize> {
        match &self.kind {
            Kind::Map(entries) => entries.first().map_or_else(|| self.span.clone(), |(key, _)| key.span.clone()),
            Kind::List(items) if self.span.is_empty() => items.first().map_or_else(|| self.span.clone(), Node::start),
            Kind::List(_) | Kind::Null | Kind::Plain(_) | Kind::Quoted(_) => self.span.clone(),
        }
    }

    fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(name, _)| name.text() == Some(key))
    }
}

/// Reads all documents of a file; empty ones are left out.
pub fn parse(source: &Arc<Source>) -> Result<Vec<Node>, Finding> {
    let options = serde_saphyr::options! { non_finite_float_policy: NonFiniteFloatPolicy::AsString, };
    let text = source.text.as_str();
    let spanned: Vec<Raw> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let span = error.location().map(|location| bytes(text, &location));
        let message = error.without_snippet().to_string();
        // The place is shown by the caret; the parser repeats it at the end of its sentence.
        let message = match message.rfind(" at line ") {
            Some(at) => message[..at].to_owned(),
            None => message,
        };
        let message = message.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
        Finding::error(source, span, message)
    })?;
    Ok(spanned.into_iter().map(|raw| raw.node(text)).filter(|node| node.kind != Kind::Null).collect())
}

/// Byte range of a location; the parser always counts characters, and bytes only sometimes.
fn bytes(text: &str, location: &Location) -> Range<usize> {
    let span = location.span();
    if let (Some(offset), Some(len)) = (span.byte_offset(), span.byte_len()) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let end = start.saturating_add(usize::try_from(len).unwrap_or(0)).min(text.len());
        return start..end;
    }
    let offset = usize::try_from(span.offset()).unwrap_or(usize::MAX);
    let start = text.char_indices().nth(offset).map_or(text.len(), |(at, _)| at);
    let end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
    start..end
}

/// What the parser hands over: a shape with its location.
struct Raw(Spanned<Shape>);

enum Shape {
    Null,
    /// A scalar that the parser read as a number or boolean: only the source has its digits.
    Typed,
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl Raw {
    fn node(self, text: &str) -> Node {
        let span = bytes(text, &self.0.defined);
        let written = text.get(span.clone()).unwrap_or_default();
        let kind = match self.0.value {
            Shape::Null => Kind::Null,
            Shape::Typed => Kind::Plain(written.to_owned()),
            // The parser spells 1e999 as .inf; what was written is what is meant.
            Shape::Text(value) if matches!(value.as_str(), ".inf" | "-.inf" | ".nan") && !quoted(written) => {
                Kind::Plain(written.to_owned())
            }
            Shape::Text(value) if value == written => Kind::Plain(value),
            Shape::Text(value) => Kind::Quoted(value),
            Shape::List(items) => Kind::List(items.into_iter().map(|item| item.node(text)).collect()),
            Shape::Map(entries) => {
                Kind::Map(entries.into_iter().map(|(key, value)| (key.node(text), value.node(text))).collect())
            }
        };
        Node { span, kind }
    }
}

fn quoted(written: &str) -> bool {
    written.starts_with(['"', '\''])
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { name: "t.yaml".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn scalars_keep_what_was_written() {
        fn check(value: &str, expected: Kind) {
            let nodes = parse(&source(&format!("ü: {value}\n"))).unwrap();
            assert_eq!(nodes[0].get("ü").unwrap().kind, expected, "{value}");
        }
        let plain = |text: &str| Kind::Plain(text.to_owned());
        check("0.10", plain("0.10"));
        check("-007", plain("-007"));
        check("0x1F", plain("0x1F"));
        check("1e999", plain("1e999"));
        check(".nan", plain(".nan"));
        check("no", plain("no"));
        check("12345678901234567890.12345678901234567890", plain("12345678901234567890.12345678901234567890"));
        check("\"0.10\"", Kind::Quoted("0.10".to_owned()));
        check("'.inf'", Kind::Quoted(".inf".to_owned()));
        check("~", Kind::Null);
        check("", Kind::Null);
    }

    #[test]
    fn broken_files_say_where() {
        fn check(text: &str, place: Option<(usize, usize)>, part: &str) {
            let finding = parse(&source(text)).unwrap_err();
            assert_eq!(finding.place(), place, "{text:?}: {finding}");
            assert!(finding.message.contains(part) && !finding.message.contains(" at line "), "{finding}");
        }
        check("ü: [1,\nb: 2", Some((1, 4)), "bracket");
        check("a: 1\na: 2", Some((2, 1)), "duplicate");
        check("a: \"x", Some((1, 4)), "quote");
    }

    #[test]
    fn a_path_leads_to_a_place() {
        let text = "skus:\n  - id: a\n    price: p\n  - id: b\n    price: q\n";
        let nodes = parse(&source(text)).unwrap();
        let check = |path: &[PathPart], expected: &str| {
            let place = nodes[0].place(path);
            assert_eq!(&text[place.clone()], expected, "{path:?} at {place:?}");
        };
        let (skus, price) = (PathPart::Key("skus".into()), PathPart::Key("price".into()));
        check(&[skus.clone(), PathPart::Index(1), price], "q");
        check(&[skus.clone(), PathPart::Index(1), PathPart::Key("absent".into())], "id");
        check(&[skus], "skus");
        check(&[], "skus");
    }

    #[test]
    fn several_documents_are_read_and_empty_ones_left_out() {
        assert_eq!(parse(&source("---\n---\na: 1\n---\nb: 2\n")).unwrap().len(), 2);
        assert_eq!(parse(&source("# nothing\n")).unwrap().len(), 0);
    }
}
