//! Named hours of the week as people write them. Reading them is up to `hours.rs`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;

/// Hours of the week: those of `at`, or all but those of `except`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoursDocument {
    /// In whose time: one of the catalogue's `zones`, or an offset of whole hours, `+01:00`, the same all year; default `Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<WeekSpanDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<WeekSpanDocument>,
}

/// What the clocks of a place are set to, summer time and all. Where a file names an IANA zone in `hours`, `Europe/Berlin`,
/// and does not list it here, whoever reads the file writes it down from a table of zones: what is stored and priced by
/// holds its own rules, and no bill depends on which table a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneDocument {
    pub id: String,
    /// Oldest first, the first not after the catalogue's first cycle begins; the last holds on.
    pub offsets: Vec<ZoneOffsetDocument>,
}

/// What clocks show from an instant on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneOffsetDocument {
    /// A whole hour: `2026-03-29T01:00:00Z`.
    pub from: Timestamp,
    /// Whole hours to the east of UTC: `+02:00`.
    pub offset: String,
}

/// The same hours of some weekdays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeekSpanDocument {
    /// Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
    /// First hour, 0 to 23; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u8>,
    /// First hour that is no longer meant, up to 24; default 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}
