//! Identifiers: a newtype each, checked when parsed, so that two plain strings or integers never stand side by side.
//! What an id points at lives elsewhere.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name in bytes that any id may have: it bounds what one series or one account costs in memory.
pub const NAME_BYTES_MAX: usize = 128;

/// Why a string is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    #[error("{kind} is empty; give it a name of 1 to 128 bytes")]
    Empty { kind: &'static str },
    #[error("{kind} has {bytes} bytes, at most 128 are kept; shorten it")]
    TooLong { kind: &'static str, bytes: usize },
    #[error("{kind} '{value}' has a control character or a space at its ends; remove it")]
    BadCharacter { kind: &'static str, value: String },
    #[error("'{value}' is not a {kind}; write it like {example}")]
    BadForm { kind: &'static str, value: String, example: &'static str },
}

/// Checks what every name must satisfy: 1 to 128 bytes, no control characters, no space at either end.
pub fn check_name(kind: &'static str, value: &str) -> Result<(), BadId> {
    if value.is_empty() {
        return Err(BadId::Empty { kind });
    }
    if value.len() > NAME_BYTES_MAX {
        return Err(BadId::TooLong { kind, bytes: value.len() });
    }
    if value.chars().any(char::is_control) || value.trim() != value {
        return Err(BadId::BadCharacter { kind, value: value.escape_debug().to_string() });
    }
    Ok(())
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name of 1 to 128 bytes without control characters.
            pub fn new(value: &str) -> Result<Self, BadId> {
                check_name($kind, value)?;
                Ok(Self(value.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(value: &str) -> Result<Self, BadId> {
                Self::new(value)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = String::deserialize(deserializer)?;
                Self::new(&value).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $kind.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": 1, "maxLength": NAME_BYTES_MAX})
            }
        }
    };
}

name_id!(
    /// An account: root, payer or linked.
    AccountId,
    "account"
);
name_id!(
    /// A billing group inside a hierarchy.
    GroupName,
    "group"
);
name_id!(
    /// What is priced.
    SkuId,
    "sku"
);
name_id!(
    /// What is measured.
    MeterId,
    "meter"
);
name_id!(
    /// A rule of a contract.
    ClauseId,
    "clause"
);
name_id!(
    /// A price ladder or pool inside a catalogue.
    PriceId,
    "price"
);
name_id!(
    /// A catalogue: one name, many versions.
    CatalogueName,
    "catalogue"
);
name_id!(
    /// Who pushes usage.
    ProducerId,
    "producer"
);

/// A shard: one Raft group. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One of the 4,096 slots that hierarchies hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u16);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// ISO 4217 code of a currency, upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Parses a code that ISO 4217 knows; anything else is refused.
    pub fn new(code: &str) -> Result<Self, BadId> {
        let bad = || BadId::BadForm { kind: "currency", value: code.to_owned(), example: "USD" };
        iso_currency::Currency::from_code(code).ok_or_else(bad)?;
        Ok(Self(code.as_bytes().try_into().map_err(|_| bad())?))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three ASCII letters")
    }

    /// Decimals of the minor unit (ISO 4217: USD 2, JPY 0, KWD 3).
    pub fn minor_unit(&self) -> u32 {
        iso_currency::Currency::from_code(self.as_str()).and_then(|c| c.exponent()).map_or(2, u32::from)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Currency {
    type Err = BadId;
    fn from_str(value: &str) -> Result<Self, BadId> {
        Self::new(value)
    }
}

impl JsonSchema for Currency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "currency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Z]{3}$"})
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = String::deserialize(deserializer)?;
        Self::new(&value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        fn check(value: &str, good: bool) {
            assert_eq!(AccountId::new(value).is_ok(), good, "{value:?}");
        }
        check("a", true);
        check("123456789012", true);
        check("Zenith Eclipse", true);
        check("", false);
        check(" a", false);
        check("a\n", false);
        check("a\u{7}b", false);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
    }

    #[test]
    fn currencies_know_their_minor_unit() {
        fn check(code: &str, unit: u32) {
            assert_eq!(Currency::new(code).unwrap().minor_unit(), unit, "{code}");
        }
        check("USD", 2);
        check("JPY", 0);
        check("KWD", 3);
        assert!(Currency::new("usd").is_err());
        assert!(Currency::new("ZZZ").is_err());
    }
}
