//! What both readers need of JSON: objects in the order written, entries that are only counted, numbers with the digits
//! that stand in the file.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::item::LIST_BYTES_MAX;
use crate::error::Error;

/// Largest exponent of a number, either way: amounts and quantities have at most 18 decimals and 17 digits before them.
const EXPONENT_MAX: u32 = 40;

/// An object in the order written; a key may stand in it twice, and the reader of the list says so.
#[derive(Debug)]
pub struct Pairs<T>(pub Vec<(String, T)>);

impl<T> Default for Pairs<T> {
    fn default() -> Pairs<T> {
        Pairs(Vec::new())
    }
}

impl<T> Pairs<T> {
    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Pairs<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Pairs(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// How many entries an object has; they are read over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count(pub usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads a file as it comes from disk, so that what is not wanted never takes memory.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let name = path.display();
    let failed = |why: String| Error::invalid(format!("{name} cannot be read: {why}"));
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let size = file.metadata().map_err(|error| failed(error.to_string()))?.len();
    if size >= LIST_BYTES_MAX {
        return Err(failed(format!("it has {size} bytes, less than {LIST_BYTES_MAX} are taken; split it by region")));
    }
    serde_json::from_reader(BufReader::with_capacity(1 << 16, file)).map_err(|error| {
        let what = error.to_string();
        let what = what.rfind(" at line ").map_or(what.as_str(), |at| &what[..at]).replace('`', "'");
        Error::invalid(format!("{name}:{}:{}: {what}", error.line(), error.column()))
    })
}

/// A number as a decimal without exponent, from how it stands in the file, with or without quotes. What is no number
/// comes back as it is, and whoever reads the decimal refuses it.
pub fn decimal(written: &str) -> String {
    let text = written.trim().trim_matches('"');
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return text.to_owned() };
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok();
    let exponent = exponent.filter(|exponent| exponent.unsigned_abs() <= EXPONENT_MAX);
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let good = !whole.is_empty() && whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit());
    let (Some(exponent), true) = (exponent, good) else { return text.to_owned() };
    let digits = format!("{whole}{part}");
    let point = whole.len() as i32 + exponent;
    let length = digits.len() as i32;
    if point <= 0 {
        format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point >= length {
        format!("{sign}{digits}{}", "0".repeat((point - length) as usize))
    } else {
        let (whole, part) = digits.split_at(point as usize);
        format!("{sign}{whole}.{part}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        fn check(written: &str, expected: &str) {
            assert_eq!(decimal(written), expected, "{written}");
        }
        check("0.3097", "0.3097");
        check("\"0.0230000000\"", "0.0230000000");
        check("1e-05", "0.00001");
        check("1.5E-3", "0.0015");
        check("12.34e1", "123.4");
        check("12.34e+3", "12340");
        check("-2e-1", "-0.2");
        check("999999999999999", "999999999999999");
        // Nothing that a decimal's parser would take for a number.
        check("1e99", "1e99");
        check("e5", "e5");
        check("Inf", "Inf");
    }

    #[test]
    fn objects_keep_order_and_repeats() {
        let pairs: Pairs<u32> = serde_json::from_str(r#"{"b":1,"a":2,"b":3}"#).unwrap();
        assert_eq!(pairs.0, [("b".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 3)]);
        assert_eq!(pairs.get("b"), Some(&1));
        let count: Count = serde_json::from_str(r#"{"b":{"x":[1]},"a":2}"#).unwrap();
        assert_eq!(count.0, 2);
    }
}
