//! Time as the domain sees it: UTC instants, calendar months as cycles, half-open periods. Nobody here asks a clock.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::BadId;

/// An instant in UTC: nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds in an hour.
pub const HOUR: i64 = 3_600 * SECOND;
/// Nanoseconds in a day.
pub const DAY: i64 = 24 * HOUR;

impl Timestamp {
    /// Parses RFC 3339 with a zone, at most nanoseconds: `2024-09-18T22:00:00Z`.
    pub fn parse(value: &str) -> Result<Self, BadId> {
        let bad = || BadId::BadForm { kind: "time", value: value.to_owned(), example: "2024-09-18T22:00:00Z" };
        let time: jiff::Timestamp = value.parse().map_err(|_| bad())?;
        Ok(Self(i64::try_from(time.as_nanosecond()).map_err(|_| bad())?))
    }

    /// The first instant of a day, UTC.
    pub fn of_date(date: Date) -> Result<Self, BadId> {
        let bad = || BadId::BadForm { kind: "date", value: date.to_string(), example: "2024-09-18" };
        let zoned = date.to_zoned(TimeZone::UTC).map_err(|_| bad())?;
        Ok(Self(i64::try_from(zoned.timestamp().as_nanosecond()).map_err(|_| bad())?))
    }

    fn civil(self) -> jiff::civil::DateTime {
        let time =
            jiff::Timestamp::from_nanosecond(i128::from(self.0)).expect("every i64 of nanoseconds is a civil time");
        time.to_zoned(TimeZone::UTC).datetime()
    }

    /// The UTC day that holds this instant.
    pub fn date(self) -> Date {
        self.civil().date()
    }

    /// The calendar month, UTC, that holds this instant.
    pub fn cycle(self) -> CycleId {
        let date = self.date();
        CycleId { year: date.year(), month: date.month() as u8 }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0)).map_err(|_| fmt::Error)?;
        write!(f, "{time}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads an instant or a day (its first instant): `2024-09-18` or `2024-09-18T22:00:00Z`.
impl FromStr for Timestamp {
    type Err = BadId;
    fn from_str(value: &str) -> Result<Self, BadId> {
        match value.parse::<Date>() {
            Ok(date) if value.len() == 10 => Self::of_date(date),
            _ => Self::parse(value),
        }
    }
}

/// A billing period of a hierarchy: a calendar month, UTC (BILLING.md section 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CycleId {
    pub year: i16,
    pub month: u8,
}

impl CycleId {
    /// First instant of the cycle.
    pub fn start(self) -> Timestamp {
        let date = Date::new(self.year, self.month as i8, 1).expect("a cycle is a month of the calendar");
        Timestamp::of_date(date).expect("cycles lie within the range of timestamps")
    }

    /// First instant after the cycle.
    pub fn end(self) -> Timestamp {
        self.next().start()
    }

    pub fn period(self) -> Period {
        Period { from: self.start(), until: self.end() }
    }

    pub fn next(self) -> CycleId {
        match self.month {
            12 => CycleId { year: self.year + 1, month: 1 },
            month => CycleId { year: self.year, month: month + 1 },
        }
    }

    pub fn previous(self) -> CycleId {
        match self.month {
            1 => CycleId { year: self.year - 1, month: 12 },
            month => CycleId { year: self.year, month: month - 1 },
        }
    }

    /// Months since year 0: dense, ordered, for durable bytes.
    pub fn ordinal(self) -> u32 {
        self.year as u32 * 12 + u32::from(self.month) - 1
    }

    /// The inverse of [`CycleId::ordinal`]; `None` outside 1970 to 2200.
    pub fn from_ordinal(ordinal: u32) -> Option<CycleId> {
        let year = i16::try_from(ordinal / 12).ok()?;
        (1970..=2200).contains(&year).then_some(CycleId { year, month: (ordinal % 12) as u8 + 1 })
    }
}

impl fmt::Display for CycleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl fmt::Debug for CycleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CycleId {
    type Err = BadId;
    fn from_str(value: &str) -> Result<Self, BadId> {
        let bad = || BadId::BadForm { kind: "cycle", value: value.to_owned(), example: "2024-09" };
        let (year, month) = value.split_once('-').ok_or_else(bad)?;
        if year.len() != 4 || month.len() != 2 || !value.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return Err(bad());
        }
        let (year, month): (i16, u8) = (year.parse().map_err(|_| bad())?, month.parse().map_err(|_| bad())?);
        // Nanoseconds in 64 bits end in 2262; a meter that reports outside this range has a broken clock.
        if !(1970..=2200).contains(&year) || !(1..=12).contains(&month) {
            return Err(bad());
        }
        Ok(CycleId { year, month })
    }
}

/// `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Period {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    pub fn overlaps(&self, other: &Period) -> bool {
        self.from < other.until && other.from < self.until
    }
}

macro_rules! as_text {
    ($name:ident, $kind:literal, $schema:tt) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $kind.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = String::deserialize(deserializer)?;
                value.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
// A date alone is its first instant.
as_text!(Timestamp, "time", {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}"});
as_text!(CycleId, "cycle", {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_calendar_months() {
        fn check(cycle: &str, start: &str, hours: i64) {
            let cycle: CycleId = cycle.parse().unwrap();
            assert_eq!(cycle.start().to_string(), start);
            assert_eq!((cycle.end().0 - cycle.start().0) / HOUR, hours, "{cycle}");
            assert_eq!(CycleId::from_ordinal(cycle.ordinal()), Some(cycle));
            assert_eq!(cycle.next().previous(), cycle);
            assert_eq!(cycle.start().cycle(), cycle);
            assert_eq!(Timestamp(cycle.end().0 - 1).cycle(), cycle);
        }
        check("2024-09", "2024-09-01T00:00:00Z", 720);
        check("2024-02", "2024-02-01T00:00:00Z", 696);
        check("2023-02", "2023-02-01T00:00:00Z", 672);
        check("2024-12", "2024-12-01T00:00:00Z", 744);
    }

    #[test]
    fn bad_times_and_cycles_are_refused() {
        for bad in ["2024-9", "2024-13", "24-09", "2024-00", "2024/09", "1969-12", "2024-09-01", "+024-09"] {
            assert!(bad.parse::<CycleId>().is_err(), "{bad}");
        }
        for bad in ["2024-09-31", "yesterday", "2024-09-18T22:00:00", "2024-09-18 22:00", "9999-01-01T00:00:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        assert_eq!("2023-11-16T18:17:03.9799600Z".parse::<Timestamp>().unwrap().0 % SECOND, 979_960_000);
        assert_eq!("2024-09-18".parse::<Timestamp>().unwrap(), "2024-09-18T00:00:00Z".parse().unwrap());
    }
}
