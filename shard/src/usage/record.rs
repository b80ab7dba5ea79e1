//! A usage record in its row form, as files and rows on the wire carry it, and its checks. The packed form lives in
//! [`super::segment`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::series::SeriesKey;
use crate::base::id::{AccountId, NAME_BYTES_MAX, check_name};
use crate::base::money::{Money, Quantity, SCALE};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::Timestamp;
use crate::base::wide::power_of_ten;

/// Attributes of one record: as many billing dimensions as peers keep; each multiplies the series.
pub const ATTRIBUTES_MAX: usize = 16;

/// What one account used of one thing, at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRecord {
    /// Names the record for its producer; empty where the producer numbers its records.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub account: AccountId,
    pub service: String,
    pub usage_type: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// In the meter's unit; below zero only with `corrects`, or where it changes a level.
    pub quantity: Quantity,
    /// Decides the cycle.
    pub start: Timestamp,
    /// Not before `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// An amount of money that the record carries, for meters that keep amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// The record that this one corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrects: Option<String>,
}

impl UsageRecord {
    /// What can be said without a catalogue: names, attributes, order of times. What sign a quantity may have is its
    /// meter's to say.
    pub fn check(&self) -> Result<(), Refusal> {
        let invalid = |detail: String| Err(Refusal::new(Reason::InvalidValue, detail));
        if self.id.len() > NAME_BYTES_MAX {
            return invalid(format!("id has {} bytes, at most {NAME_BYTES_MAX} are kept; shorten it", self.id.len()));
        }
        if self.corrects.as_ref().is_some_and(|id| id.is_empty() || id.len() > NAME_BYTES_MAX) {
            return invalid(format!("corrects must name a record in 1 to {NAME_BYTES_MAX} bytes"));
        }
        let attributes: Vec<(&str, &str)> = self.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        check_dimensions(&self.service, &self.usage_type, &self.operation, &self.region, &attributes)?;
        check_times(self.start, self.end)
    }

    /// The series that it counts in.
    pub fn series(&self) -> SeriesKey {
        let attributes = self.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let (service, usage_type) = (self.service.clone(), self.usage_type.clone());
        SeriesKey::new(
            self.account.clone(),
            service,
            usage_type,
            self.operation.clone(),
            self.region.clone(),
            attributes,
        )
    }

    /// The quantity as an integer at a meter's scale (0 to 12 decimals); QUANTITY_TOO_FINE where digits would be lost.
    pub fn scaled(&self, scale: u32) -> Result<i128, Refusal> {
        scaled(self.quantity, scale)
    }
}

/// A quantity as an integer at a meter's scale; QUANTITY_TOO_FINE where digits would be lost.
pub fn scaled(quantity: Quantity, scale: u32) -> Result<i128, Refusal> {
    let step = power_of_ten(SCALE.saturating_sub(scale));
    if quantity.0 % step != 0 {
        let detail = format!("quantity {quantity} has more decimals than the {scale} that its meter keeps; round it");
        return Err(Refusal::new(Reason::QuantityTooFine, detail));
    }
    Ok(quantity.0 / step)
}

/// Names of a series: service and usage type are needed, operation and region may be empty, attributes are few.
pub fn check_dimensions(
    service: &str,
    usage_type: &str,
    operation: &str,
    region: &str,
    attributes: &[(&str, &str)],
) -> Result<(), Refusal> {
    let named =
        |kind, value: &str| check_name(kind, value).map_err(|bad| Refusal::new(Reason::InvalidValue, bad.to_string()));
    named("service", service)?;
    named("usage type", usage_type)?;
    for (kind, value) in [("operation", operation), ("region", region)] {
        if !value.is_empty() {
            named(kind, value)?;
        }
    }
    if attributes.len() > ATTRIBUTES_MAX {
        let detail = format!("{} attributes, at most {ATTRIBUTES_MAX} are kept; leave some out", attributes.len());
        return Err(Refusal::new(Reason::InvalidValue, detail));
    }
    for (key, value) in attributes {
        named("attribute", key)?;
        if !value.is_empty() {
            named("attribute value", value)?;
        }
    }
    Ok(())
}

/// A record may not end before it starts.
pub fn check_times(start: Timestamp, end: Option<Timestamp>) -> Result<(), Refusal> {
    match end {
        Some(end) if end < start => {
            let detail = format!("end {end} is before start {start}; swap them");
            Err(Refusal::new(Reason::InvalidValue, detail))
        }
        _ => Ok(()),
    }
}

/// Only a correction takes back.
pub fn check_sign(quantity: i128, corrects: bool) -> Result<(), Refusal> {
    if quantity < 0 && !corrects {
        let detail = "quantity is below zero and the record corrects none; name the record that it corrects";
        return Err(Refusal::new(Reason::NegativeQuantity, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> UsageRecord {
        let text = format!(
            r#"{{"id":"r-1","account":"a","service":"s3","usage_type":"storage","start":"2024-09-18T22:00:00Z"{rest}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn rows_are_checked() {
        fn check(rest: &str, expected: Result<(), Reason>) {
            assert_eq!(read(rest).check().map_err(|refusal| refusal.reason), expected, "{rest}");
        }
        check(r#","quantity":"1.5""#, Ok(()));
        check(r#","quantity":"-1.5""#, Ok(()));
        check(r#","quantity":"-1.5","corrects":"r-0""#, Ok(()));
        check(r#","quantity":"1","corrects":"""#, Err(Reason::InvalidValue));
        check(r#","quantity":"1","end":"2024-09-18T22:00:00Z""#, Ok(()));
        check(r#","quantity":"1","end":"2024-09-18T21:59:59Z""#, Err(Reason::InvalidValue));
        check(r#","quantity":"1","region":" eu""#, Err(Reason::InvalidValue));
        let many: Vec<String> = (0..17).map(|n| format!(r#""k{n}":"v""#)).collect();
        check(&format!(r#","quantity":"1","attributes":{{{}}}"#, many.join(",")), Err(Reason::InvalidValue));
        check(&format!(r#","quantity":"1","attributes":{{{}}}"#, many[1..].join(",")), Ok(()));
    }

    #[test]
    fn quantities_become_integers_exactly_or_not_at_all() {
        fn check(quantity: &str, scale: u32, expected: Result<i128, Reason>) {
            let result = scaled(quantity.parse().unwrap(), scale).map_err(|refusal| refusal.reason);
            assert_eq!(result, expected, "{quantity} at {scale}");
        }
        check("1.5", 1, Ok(15));
        check("1.5", 12, Ok(1_500_000_000_000));
        check("1.5", 0, Err(Reason::QuantityTooFine));
        check("-2", 0, Ok(-2));
    }

    #[test]
    fn a_row_reads_as_it_prints() {
        let row = read(
            r#","quantity":"1.5","end":"2024-09-18T23:00:00Z","attributes":{"k":"v"},"amount":"2","corrects":"r-0""#,
        );
        assert_eq!(serde_json::from_str::<UsageRecord>(&serde_json::to_string(&row).unwrap()).unwrap(), row);
        assert!(
            serde_json::from_str::<UsageRecord>(
                r#"{"account":"a","service":"s","usage_type":"u","quantity":1,"start":"2024-09-18"}"#
            )
            .is_err()
        );
    }
}
