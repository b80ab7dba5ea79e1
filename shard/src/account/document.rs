//! The hierarchy document as a person writes it, and its checks. How it becomes a tree, and what a second document may
//! change in one, lives in [`super::tree`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::id::{AccountId, BadId, CatalogueName, Currency, GroupName};
use crate::base::money::Money;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::time::{CycleId, DAY, HOUR, Period, Timestamp};

/// Accounts of one hierarchy: one lives in one slot of one shard, and its close is one unit of work.
pub const ACCOUNTS_PER_ROOT_MAX: usize = 4_000_000;
/// Payers of one hierarchy: each is a bill a cycle, and every account keeps its payer in 16 bits.
pub const PAYERS_PER_ROOT_MAX: usize = 10_000;
/// Groups of one hierarchy: every account keeps its group in 16 bits.
pub const GROUPS_PER_ROOT_MAX: usize = 10_000;
/// Periods of one account in one hierarchy: leaving and joining again is rare, and each is looked at for every record.
pub const PERIODS_PER_ACCOUNT_MAX: usize = 64;
/// Longest grace in hours, 90 days: the cycle after the next could not count meanwhile.
pub const GRACE_HOURS_MAX: u32 = 90 * 24;

/// Days of interim bills: on the first nothing was used yet, and every month has a 28th.
pub const INTERIM_DAYS: RangeInclusive<u8> = 2..=28;

/// The only value of `kind` in a hierarchy document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HierarchyKind {
    #[default]
    Hierarchy,
}

/// A hierarchy: accounts billed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HierarchyDocument {
    pub kind: HierarchyKind,
    /// The account that names the hierarchy; it never changes.
    pub root: AccountId,
    /// The catalogue that prices its usage; it never changes.
    pub catalogue: CatalogueName,
    /// The catalogue's currency, where it is stated to make sure. Bills in another are up to the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Accounts that receive bills; the root alone where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payers: Vec<AccountId>,
    /// Billing groups that accounts may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// Linked accounts. Root and payers are accounts too and need no row; several rows of one account are several
    /// periods of membership.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountDocument>,
    pub cycles: CyclesDocument,
}

/// One account, or one period of its membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountDocument {
    pub id: AccountId,
    /// Who pays; the root where it is left out and the root is a payer, else the first payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<AccountId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// First instant of membership; from the beginning where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// First instant after membership; without end where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Cycle from whose start a changed payer or group counts; the running cycle where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<CycleId>,
}

impl AccountDocument {
    /// The stated period of membership; unbounded where nothing is stated.
    pub fn period(&self) -> Period {
        Period { from: self.from.unwrap_or(Timestamp(i64::MIN)), until: self.until.unwrap_or(Timestamp(i64::MAX)) }
    }
}

/// When cycles begin and how they end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CyclesDocument {
    /// The hierarchy's first cycle; earlier usage is refused.
    pub first: CycleId,
    #[serde(default)]
    pub close: Close,
    #[serde(default)]
    pub grace: Grace,
    /// Interim bills by themselves.
    #[serde(default, skip_serializing_if = "Interim::is_none")]
    pub interim: Interim,
}

/// When interim bills are made unasked. One cycle has them at a time, the oldest that is not closed, until it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interim {
    /// Days of the month, from their beginning (UTC), ascending, 2 to 28.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<u8>,
    /// Decimal: as soon as so much of a payer is not billed yet, in the price list's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub spend: Option<Money>,
}

impl Interim {
    pub fn is_none(&self) -> bool {
        self.days.is_empty() && self.spend.is_none()
    }
}

/// What ends the grace of a cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Close {
    /// `bills close` and nothing else.
    Manual,
    /// The end of the grace.
    #[default]
    Automatic,
}

/// How long usage still counts after a cycle's end, in whole hours: `5d`, `36h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grace {
    pub hours: u32,
}

impl Grace {
    /// In nanoseconds.
    pub fn nanoseconds(self) -> i64 {
        i64::from(self.hours) * HOUR
    }
}

/// Five days: the field's usual time to settle late meters.
impl Default for Grace {
    fn default() -> Grace {
        Grace { hours: (5 * DAY / HOUR) as u32 }
    }
}

impl fmt::Display for Grace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hours % 24 {
            0 => write!(f, "{}d", self.hours / 24),
            _ => write!(f, "{}h", self.hours),
        }
    }
}

impl FromStr for Grace {
    type Err = BadId;
    fn from_str(value: &str) -> Result<Grace, BadId> {
        let bad = || BadId::BadForm { kind: "grace of at most 90 days", value: value.to_owned(), example: "5d or 36h" };
        let (digits, hours) = match (value.strip_suffix('d'), value.strip_suffix('h')) {
            (Some(digits), _) => (digits, 24),
            (None, Some(digits)) => (digits, 1),
            (None, None) => return Err(bad()),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let count: u32 = digits.parse().map_err(|_| bad())?;
        let hours = count.checked_mul(hours).filter(|hours| *hours <= GRACE_HOURS_MAX).ok_or_else(bad)?;
        Ok(Grace { hours })
    }
}

impl JsonSchema for Grace {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "grace".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+[dh]$"})
    }
}

impl Serialize for Grace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Grace, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl HierarchyDocument {
    /// The payers, the default filled in.
    pub fn payers(&self) -> Vec<AccountId> {
        if self.payers.is_empty() { vec![self.root.clone()] } else { self.payers.clone() }
    }

    /// The payer of accounts that name none: the root if it pays, else the first payer.
    pub fn default_payer(&self) -> AccountId {
        let payers = self.payers();
        if payers.contains(&self.root) { self.root.clone() } else { payers[0].clone() }
    }

    /// Canonical bytes, for entries and hashes.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of strings is always JSON")
    }

    /// Everything that is wrong with the document by itself; what depends on usage already counted is found when it is
    /// applied.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let top = Place::top();
        self.check_lists(&top, &mut problems);
        self.check_accounts(&top.key("accounts"), &mut problems);
        self.check_interim(&top.key("cycles").key("interim"), &mut problems);
        problems.into_vec()
    }

    /// A hierarchy is priced in its catalogue's currency; a stated other one has no rate.
    pub fn check_currency(&self, catalogue: Currency) -> Option<Problem> {
        let wanted = self.currency.filter(|wanted| *wanted != catalogue)?;
        let mut problems = Problems::default();
        problems.error(
            &Place::top().key("currency"),
            format!("catalogue '{}' is in {catalogue}, the hierarchy asks for {wanted} and has no rate", self.catalogue),
            format!("leave currency out; for bills in {wanted} give the contract a clause of mechanism currency with its rates"),
        );
        problems.into_vec().pop()
    }

    fn check_interim(&self, place: &Place, problems: &mut Problems) {
        let Interim { days, spend } = &self.cycles.interim;
        for (index, day) in days.iter().enumerate() {
            if !INTERIM_DAYS.contains(day) {
                let (first, last) = (INTERIM_DAYS.start(), INTERIM_DAYS.end());
                let message = format!("interim bills are made on days {first} to {last}, not on {day}");
                problems.error(
                    &place.key("days").index(index),
                    message,
                    "every month has days up to 28; on day 1 nothing is there",
                );
            }
        }
        if !days.is_sorted_by(|one, next| one < next) {
            problems.error(&place.key("days"), "days are not in order, once each", "sort them");
        }
        if let Some(spend) = spend.filter(|spend| *spend <= Money::ZERO) {
            let message = format!("interim bills of {spend} would never end");
            problems.error(&place.key("spend"), message, "give an amount above zero");
        }
    }

    fn check_lists(&self, top: &Place, problems: &mut Problems) {
        check_count(problems, &top.key("payers"), "payers", self.payers.len(), PAYERS_PER_ROOT_MAX);
        check_count(problems, &top.key("groups"), "groups", self.groups.len(), GROUPS_PER_ROOT_MAX);
        check_count(problems, &top.key("accounts"), "accounts", self.accounts.len(), ACCOUNTS_PER_ROOT_MAX);
        let mut payers = BTreeSet::new();
        for (index, payer) in self.payers.iter().enumerate() {
            if !payers.insert(payer) {
                problems.error(
                    &top.key("payers").index(index),
                    format!("payer '{payer}' is named twice"),
                    "remove one",
                );
            }
        }
        let mut groups = BTreeSet::new();
        for (index, group) in self.groups.iter().enumerate() {
            if !groups.insert(group) {
                problems.error(
                    &top.key("groups").index(index),
                    format!("group '{group}' is named twice"),
                    "remove one",
                );
            }
        }
    }

    fn check_accounts(&self, rows: &Place, problems: &mut Problems) {
        let payers: BTreeSet<AccountId> = self.payers().into_iter().collect();
        let groups: BTreeSet<&GroupName> = self.groups.iter().collect();
        let mut seen: BTreeMap<&AccountId, Vec<&AccountDocument>> = BTreeMap::new();
        for (index, account) in self.accounts.iter().enumerate() {
            let place = rows.index(index);
            if let Some(payer) = account.payer.as_ref().filter(|payer| !payers.contains(payer)) {
                let message = format!("payer '{payer}' of account '{}' is not a payer here", account.id);
                problems.error(&place.key("payer"), message, "add it to payers");
            }
            if payers.contains(&account.id) && account.payer.as_ref().is_some_and(|payer| *payer != account.id) {
                let message = format!("account '{}' is a payer and pays for itself", account.id);
                problems.error(&place.key("payer"), message, "leave payer out or remove it from payers");
            }
            if let Some(group) = account.group.as_ref().filter(|group| !groups.contains(group)) {
                let message = format!("group '{group}' of account '{}' is not declared", account.id);
                problems.error(&place.key("group"), message, "add it to groups");
            }
            let period = account.period();
            if period.from >= period.until {
                let message = format!("membership of account '{}' ends before it begins", account.id);
                problems.error(&place.key("until"), message, "make until later than from");
            }
            if account.since.is_some_and(|since| since < self.cycles.first) {
                let message = format!("cycle is before the hierarchy's first, {}", self.cycles.first);
                problems.error(&place.key("since"), message, "name that cycle or a later one");
            }
            let earlier = seen.entry(&account.id).or_default();
            if earlier.iter().any(|row| row.period().overlaps(&period)) {
                let message = format!("account '{}' has two rows whose times overlap", account.id);
                problems.error(&place, message, "remove one, or give from and until so that they follow each other");
            }
            if earlier.first().is_some_and(|row| (&row.payer, &row.group) != (&account.payer, &account.group)) {
                let message = format!("account '{}' has rows with different payers or groups", account.id);
                problems.error(
                    &place,
                    message,
                    "write the same in each; a change counts from a cycle's start, see since",
                );
            }
            earlier.push(account);
            if earlier.len() == PERIODS_PER_ACCOUNT_MAX + 1 {
                let message = format!("account '{}' has more than {PERIODS_PER_ACCOUNT_MAX} periods", account.id);
                problems.error(&place, message, "join periods");
            }
        }
    }
}

fn check_count(problems: &mut Problems, place: &Place, what: &str, count: usize, max: usize) {
    if count > max {
        problems.error(place, format!("{count} {what}, at most {max} fit a hierarchy"), "split the hierarchy");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<HierarchyDocument, String> {
        let text =
            format!(r#"{{"kind":"Hierarchy","root":"acme","catalogue":"aws","cycles":{{"first":"2024-09"}}{rest}}}"#);
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn documents_are_checked_with_the_place_of_each_problem() {
        fn check(rest: &str, expected: &[&str]) {
            let found: Vec<String> = read(rest).unwrap().check().iter().map(Problem::to_string).collect();
            let starts: Vec<&str> = found.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
            assert_eq!(starts, expected, "{found:?}");
        }
        check("", &[]);
        check(r#","accounts":[{"id":"a"},{"id":"b","from":"2024-09-10"}]"#, &[]);
        check(r#","payers":["acme","acme"]"#, &["payers[1]"]);
        check(r#","accounts":[{"id":"a","payer":"b"}]"#, &["accounts[0].payer"]);
        check(r#","payers":["b"],"accounts":[{"id":"b","payer":"acme"}]"#, &["accounts[0].payer", "accounts[0].payer"]);
        check(r#","accounts":[{"id":"a","group":"x"}]"#, &["accounts[0].group"]);
        check(r#","accounts":[{"id":"a","from":"2024-09-10","until":"2024-09-10"}]"#, &["accounts[0].until"]);
        check(r#","accounts":[{"id":"a"},{"id":"a","from":"2024-09-10"}]"#, &["accounts[1]"]);
        check(r#","accounts":[{"id":"a","until":"2024-09-10"},{"id":"a","from":"2024-09-10"}]"#, &[]);
        check(r#","accounts":[{"id":"a","since":"2024-08"}]"#, &["accounts[0].since"]);
    }

    #[test]
    fn interim_bills_have_days_that_every_month_has() {
        fn check(interim: &str, expected: &[&str]) {
            let text = format!(
                r#"{{"kind":"Hierarchy","root":"a","catalogue":"c","cycles":{{"first":"2024-09","interim":{interim}}}}}"#
            );
            let document: HierarchyDocument = serde_json::from_str(&text).unwrap();
            assert_eq!(document.canonical(), serde_json::to_vec(&document).unwrap());
            let found = document.check();
            let places: Vec<String> =
                found.iter().map(|problem| problem.to_string().split(": ").next().unwrap().to_owned()).collect();
            assert_eq!(places, expected, "{interim}");
        }
        check(r#"{"days":[10,20],"spend":"1000"}"#, &[]);
        check(r#"{"days":[2,28]}"#, &[]);
        check(r#"{"days":[1]}"#, &["cycles.interim.days[0]"]);
        check(r#"{"days":[10,29]}"#, &["cycles.interim.days[1]"]);
        check(r#"{"days":[20,10]}"#, &["cycles.interim.days"]);
        check(r#"{"days":[10,10]}"#, &["cycles.interim.days"]);
        check(r#"{"spend":"0"}"#, &["cycles.interim.spend"]);
    }

    #[test]
    fn unknown_fields_and_bad_values_are_refused() {
        assert!(read(r#","acounts":[]"#).unwrap_err().contains("unknown field"));
        assert!(read(r#","accounts":[{"id":"a","grp":"x"}]"#).is_err());
        assert!(read(r#","currency":"usd""#).is_err());
        let document = read(r#","accounts":[{"id":"a","from":"2024-09-10"}]"#).unwrap();
        assert_eq!(serde_json::from_slice::<HierarchyDocument>(&document.canonical()).unwrap(), document);
    }

    #[test]
    fn grace_is_days_or_hours() {
        fn check(value: &str, hours: Option<u32>, printed: &str) {
            let read = value.parse::<Grace>().ok();
            assert_eq!(read.map(|grace| grace.hours), hours, "{value}");
            assert_eq!(read.map_or(String::new(), |grace| grace.to_string()), printed);
        }
        check("5d", Some(120), "5d");
        check("36h", Some(36), "36h");
        check("48h", Some(48), "2d");
        check("0h", Some(0), "0d");
        for bad in ["5", "d", "-1d", "91d", "1w", "+5d", "99999999999d"] {
            check(bad, None, "");
        }
    }
}
