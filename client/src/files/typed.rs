//! From tree to types, by serde: a decimal field gets the digits exactly as they were written, with or without quotes;
//! an error stands at the key or value that caused it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::finding::{Finding, Source};
use super::tree::{Kind, Node};

/// Reads a document as a `T`.
///
/// Behind serde's buffer (tagged enums) a whole number may be meant as a number or as a decimal's text, and nothing tells
/// which. It is read as a number first; where that fails, all whole numbers are read as text; where that fails too, the
/// first error says which one to quote.
pub fn read<T: DeserializeOwned>(source: &Arc<Source>, node: &Node) -> Result<T, Finding> {
    T::deserialize(Reader { node, whole: Whole::Number }).or_else(|error| {
        let text = error.message.starts_with("invalid type: integer `").then_some(Reader { node, whole: Whole::Text });
        text.and_then(|reader| T::deserialize(reader).ok()).ok_or_else(|| error.finding(source, node))
    })
}

/// What a whole number without quotes becomes where the type does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Number,
    Text,
}

/// A serde error with its place.
#[derive(Debug)]
struct ReadError {
    message: String,
    span: Option<Range<usize>>,
}

impl ReadError {
    /// The innermost place wins.
    fn at(mut self, span: &Range<usize>) -> ReadError {
        self.span.get_or_insert_with(|| span.clone());
        self
    }

    fn finding(self, source: &Arc<Source>, node: &Node) -> Finding {
        let span = self.span.unwrap_or_else(|| node.start());
        let mut quoted = self.message.split('`').skip(1).step_by(2);
        if self.message.starts_with("unknown field") || self.message.starts_with("unknown variant") {
            let word = quoted.next().unwrap_or_default().to_owned();
            let known: Vec<String> = quoted.map(str::to_owned).collect();
            // An enum that serde buffers loses the place: the word itself is still in the tree.
            let span = if text_at(source, &span) == word { span } else { find(node, &word).unwrap_or(span) };
            let message = self.message.replace('`', "'");
            let finding = Finding::error(source, Some(span), message);
            return match nearest(&word, &known) {
                Some(near) => finding.with_help(format!("did you mean '{near}'?")),
                None => finding,
            };
        }
        let integer = self.message.strip_prefix("invalid type: integer `").and_then(|rest| rest.split_once('`'));
        if let Some((digits, _)) = integer.filter(|(_, rest)| rest.contains("string")) {
            let span = find(node, digits).unwrap_or(span);
            let finding = Finding::error(source, Some(span), format!("{digits} must be written as a string here"));
            return finding.with_help(format!("quote it: '{digits}'"));
        }
        Finding::error(source, Some(span), self.message.replace('`', "'"))
    }
}

fn text_at<'s>(source: &'s Source, span: &Range<usize>) -> &'s str {
    source.text.get(span.clone()).unwrap_or_default()
}

/// The first place below `node` where `word` is written as a key or a plain scalar.
fn find(node: &Node, word: &str) -> Option<Range<usize>> {
    match &node.kind {
        Kind::Plain(text) => (text == word).then(|| node.span.clone()),
        Kind::Null | Kind::Quoted(_) => None,
        Kind::List(items) => items.iter().find_map(|item| find(item, word)),
        Kind::Map(entries) => entries
            .iter()
            .find_map(|(key, value)| if key.text() == Some(word) { Some(key.span.clone()) } else { find(value, word) }),
    }
}

/// The known word that is at most two typing errors away.
fn nearest<'w>(word: &str, known: &'w [String]) -> Option<&'w str> {
    let distance = |other: &str| {
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (line, letter) in word.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = line + 1;
            for (column, known) in other.iter().enumerate() {
                let change = diagonal + usize::from(letter != *known);
                diagonal = row[column + 1];
                row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
            }
        }
        row[other.len()]
    };
    let best = known.iter().map(|name| (distance(name), name.as_str())).min()?;
    (best.0 <= 2 && best.0 < word.chars().count()).then_some(best.1)
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ReadError { message: message.to_string(), span: None }
    }
}

#[derive(Clone, Copy)]
struct Reader<'n> {
    node: &'n Node,
    whole: Whole,
}

impl<'n> Reader<'n> {
    fn wrong<'de, V: Visitor<'de>>(self, visitor: &V) -> ReadError {
        let unexpected = match &self.node.kind {
            Kind::Null => Unexpected::Other("nothing"),
            Kind::Plain(text) | Kind::Quoted(text) => Unexpected::Str(text),
            Kind::List(_) => Unexpected::Other("a list"),
            Kind::Map(_) => Unexpected::Other("a map"),
        };
        de::Error::invalid_type(unexpected, visitor)
    }

    fn placed<T>(self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.map_err(|error| error.at(&self.node.start()))
    }

    fn string<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.placed(match self.node.text() {
            Some(text) => visitor.visit_str(text),
            None => Err(self.wrong(&visitor)),
        })
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let result = match &self.node.kind {
            Kind::Plain(text) => match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(self.wrong(&visitor)),
            },
            _ => Err(self.wrong(&visitor)),
        };
        self.placed(result)
    }
}

macro_rules! by {
    ($method:ident: $($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.$method(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    /// What serde asks for when it buffers, as it does for tagged enums. Whole numbers become integers; a number with a
    /// point stays text, so that a decimal behind the buffer still gets its exact digits.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Null => self.placed(visitor.visit_unit()),
            Kind::Quoted(text) => self.placed(visitor.visit_str(text)),
            Kind::Plain(text) => {
                let plain = text.strip_prefix('-').unwrap_or(text);
                let whole = !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit());
                // 007 is a name; 7 is a number.
                let whole = whole && self.whole == Whole::Number && (plain == "0" || !plain.starts_with('0'));
                match text.as_str() {
                    "true" => self.placed(visitor.visit_bool(true)),
                    "false" => self.placed(visitor.visit_bool(false)),
                    _ if whole && text.parse::<i64>().is_ok() => self.integer(visitor),
                    _ => self.placed(visitor.visit_str(text)),
                }
            }
            Kind::List(items) => self.placed(visitor.visit_seq(Items { items: items.iter(), whole: self.whole })),
            Kind::Map(entries) => {
                self.placed(visitor.visit_map(Entries { entries: entries.iter(), value: None, whole: self.whole }))
            }
        }
    }

    by!(string: deserialize_str deserialize_string deserialize_char deserialize_identifier);
    by!(integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128);
    by!(integer: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Plain(text) if text == "true" || text == "false" => self.placed(visitor.visit_bool(text == "true")),
            _ => self.placed(Err(self.wrong(&visitor))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Null => self.placed(visitor.visit_none()),
            _ => self.placed(visitor.visit_some(self)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        self.placed(visitor.visit_newtype_struct(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Plain(text) | Kind::Quoted(text) => {
                let text: StrDeserializer<'_, ReadError> = text.as_str().into_deserializer();
                self.placed(visitor.visit_enum(text))
            }
            Kind::Map(entries) if entries.len() == 1 => {
                self.placed(visitor.visit_enum(Variant { key: &entries[0].0, value: &entries[0].1, whole: self.whole }))
            }
            _ => self.placed(Err(self.wrong(&visitor))),
        }
    }

    forward_to_deserialize_any! {
        f32 f64 bytes byte_buf unit unit_struct seq tuple tuple_struct map struct ignored_any
    }
}

struct Items<'n> {
    items: std::slice::Iter<'n, Node>,
    whole: Whole,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { node, whole: self.whole }).map(Some).map_err(|error| error.at(&node.start()))
    }
}

struct Entries<'n> {
    entries: std::slice::Iter<'n, (Node, Node)>,
    value: Option<(&'n Node, &'n Node)>,
    whole: Whole,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(Reader { node: key, whole: self.whole }).map(Some).map_err(|error| error.at(&key.span))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, value) =
            self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        let place = if value.text().is_some() { &value.span } else { &key.span };
        seed.deserialize(Reader { node: value, whole: self.whole }).map_err(|error| error.at(place))
    }
}

struct Variant<'n> {
    key: &'n Node,
    value: &'n Node,
    whole: Whole,
}

impl<'de, 'n> EnumAccess<'de> for Variant<'n> {
    type Error = ReadError;
    type Variant = Reader<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Reader<'n>), ReadError> {
        let name =
            seed.deserialize(Reader { node: self.key, whole: self.whole }).map_err(|error| error.at(&self.key.span))?;
        Ok((name, Reader { node: self.value, whole: self.whole }))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.node.kind {
            Kind::Null => Ok(()),
            _ => Err(ReadError { message: "takes no value".to_owned(), span: Some(self.node.start()) }),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use reckoner_shard::base::money::Rate;
    use serde::Deserialize;

    use super::*;
    use crate::files::tree::parse;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Price {
        id: String,
        #[serde(default)]
        rate: Option<Rate>,
        #[serde(default)]
        blocks: Option<u32>,
        #[serde(default)]
        clauses: Vec<Clause>,
        #[serde(default)]
        model: Model,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Model {
        #[default]
        PerUnit,
        Volume,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
    enum Clause {
        Percent { share: Rate },
        Credit { amount: Rate, priority: u32 },
    }

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { name: "p.yaml".to_owned(), text: text.to_owned() })
    }

    fn price(text: &str) -> Result<Price, Finding> {
        let source = source(text);
        read(&source, &parse(&source).unwrap()[0])
    }

    #[test]
    fn decimals_are_exact_with_and_without_quotes() {
        fn check(rate: &str, expected: &str) {
            let read = price(&format!("id: a\nrate: {rate}\n")).unwrap();
            assert_eq!(read.rate.unwrap().to_string(), expected);
        }
        check("0.10", "0.1");
        check("'0.10'", "0.1");
        check("0.000000000000000001", "0.000000000000000001");
        check("1234567890.123456789012345678", "1234567890.123456789012345678");
        check("7", "7");
        let clauses = "id: a\nclauses:\n  - mechanism: percent\n    share: 0.000000000000000001\n";
        let expected = Clause::Percent { share: "0.000000000000000001".parse().unwrap() };
        assert_eq!(price(clauses).unwrap().clauses, [expected], "also behind serde's buffer");
        let clauses = "id: a\nclauses:\n  - mechanism: percent\n    share: 1\n";
        assert_eq!(price(clauses).unwrap().clauses, [Clause::Percent { share: Rate::ONE }]);
    }

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        fn check(text: &str, expected: &str) {
            let finding = price(text).unwrap_err();
            assert_eq!(finding.plain(), expected, "{text}");
        }
        check(
            "id: a\nrats: 1\n",
            "error: unknown field 'rats', expected one of 'id', 'rate', 'blocks', 'clauses', 'model'\n --> p.yaml:2:1\n  |\n\
             2 | rats: 1\n  | ^^^^\n = help: did you mean 'rate'?\n",
        );
        check(
            "id: a\nrate: 1e3\n",
            "error: '1e3' is not a decimal number; write it like 12.5, without exponent or separators\n --> p.yaml:2:7\n  |\n\
             2 | rate: 1e3\n  |       ^^^\n",
        );
        check(
            "id: a\nblocks: 1.5\n",
            "error: invalid type: string \"1.5\", expected u32\n --> p.yaml:2:9\n  |\n2 | blocks: 1.5\n  |         ^^^\n",
        );
        check("rate: 1\n", "error: missing field 'id'\n --> p.yaml:1:1\n  |\n1 | rate: 1\n  | ^^^^\n");
        check(
            "id: a\nmodel: volum\n",
            "error: unknown variant 'volum', expected 'per_unit' or 'volume'\n --> p.yaml:2:8\n  |\n\
             2 | model: volum\n  |        ^^^^^\n = help: did you mean 'volume'?\n",
        );
        check(
            "id: a\nclauses:\n  - mechanism: percent\n    shade: 0.1\n",
            "error: unknown field 'shade', expected 'share'\n --> p.yaml:4:5\n  |\n\
             4 |     shade: 0.1\n  |     ^^^^^\n = help: did you mean 'share'?\n",
        );
        check(
            "id: a\nclauses:\n  - mechanism: credit\n    priority: 2\n    amount: 50\n",
            "error: 50 must be written as a string here\n --> p.yaml:5:13\n  |\n\
             5 |     amount: 50\n  |             ^^\n = help: quote it: '50'\n",
        );
        check(
            "id: [a]\n",
            "error: invalid type: a list, expected a string\n --> p.yaml:1:5\n  |\n1 | id: [a]\n  |     ^\n",
        );
    }
}
