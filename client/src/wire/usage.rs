//! Rows of usage and their verdicts.

use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::record::UsageRecord;

use super::refusals::refusal;
use crate::proto;

/// A record as a row of strings; `sequence` is 0 for a producer by id.
pub fn row(record: &UsageRecord, sequence: u64) -> proto::UsageRow {
    proto::UsageRow {
        id: record.id.clone(),
        sequence,
        account: record.account.to_string(),
        service: record.service.clone(),
        usage_type: record.usage_type.clone(),
        operation: record.operation.clone(),
        region: record.region.clone(),
        quantity: record.quantity.to_string(),
        start_ns: record.start.0,
        end_ns: record.end.map(|end| end.0),
        attributes: attributes(record.attributes.iter()),
        amount: record.amount.map(|amount| amount.to_string()),
        corrects: record.corrects.clone(),
    }
}

/// A row of strings as a record; refused where a name or number is none.
pub fn record(row: &proto::UsageRow) -> Result<UsageRecord, Refusal> {
    let invalid = |what: &str, why: String| Refusal::new(Reason::InvalidValue, format!("{what}: {why}"));
    let mut attributes = std::collections::BTreeMap::new();
    for attribute in &row.attributes {
        if attributes.insert(attribute.name.clone(), attribute.value.clone()).is_some() {
            return Err(invalid("attributes", format!("'{}' is given twice; give it once", attribute.name)));
        }
    }
    let record = UsageRecord {
        id: row.id.clone(),
        account: AccountId::new(&row.account).map_err(|bad| invalid("account", bad.to_string()))?,
        service: row.service.clone(),
        usage_type: row.usage_type.clone(),
        operation: row.operation.clone(),
        region: row.region.clone(),
        quantity: row.quantity.parse().map_err(|bad| invalid("quantity", format!("{bad}")))?,
        start: Timestamp(row.start_ns),
        end: row.end_ns.map(Timestamp),
        attributes,
        amount: row
            .amount
            .as_ref()
            .map(|amount| amount.parse().map_err(|bad| invalid("amount", format!("{bad}"))))
            .transpose()?,
        corrects: row.corrects.clone(),
    };
    record.check()?;
    Ok(record)
}

/// Name and value pairs as the contract carries them.
pub fn attributes<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<proto::Attribute> {
    pairs.map(|(name, value)| proto::Attribute { name: name.clone(), value: value.clone() }).collect()
}

/// Verdicts of rows in order, neighbours with the same verdict together.
#[derive(Debug, Default)]
pub struct RowVerdicts {
    rows: Vec<proto::RowVerdict>,
    next: u32,
}

impl RowVerdicts {
    /// The verdict of the next row.
    pub fn push(&mut self, verdict: &Verdict) {
        let (kind, why) = match verdict {
            Verdict::Accepted { late: false } => (proto::VerdictKind::Accepted, None),
            Verdict::Accepted { late: true } => (proto::VerdictKind::Late, None),
            Verdict::Duplicate => (proto::VerdictKind::Duplicate, None),
            Verdict::Refused(why) if why.reason.heals() => (proto::VerdictKind::Retry, Some(refusal(why))),
            Verdict::Refused(why) => (proto::VerdictKind::Refused, Some(refusal(why))),
        };
        let first = self.next;
        self.next += 1;
        if let Some(last) = self.rows.last_mut()
            && last.kind == i32::from(kind)
            && last.refusal == why
        {
            last.count += 1;
            return;
        }
        self.rows.push(proto::RowVerdict { first, count: 1, kind: kind.into(), refusal: why });
    }

    /// All of them.
    pub fn finish(self) -> Vec<proto::RowVerdict> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> UsageRecord {
        serde_json::from_str(
            r#"{"id":"r-1","account":"a","service":"s","usage_type":"u","region":"eu","quantity":"1.50",
                "start":"2024-09-18T22:00:00Z","end":"2024-09-18T23:00:00Z","attributes":{"k":"v"},"amount":"0.10",
                "corrects":"r-0"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_row_reads_as_it_was_written() {
        let record = example();
        assert_eq!(super::record(&row(&record, 7)).unwrap(), record);
        assert_eq!(row(&record, 7).sequence, 7);
    }

    #[test]
    fn bad_rows_are_refused() {
        fn check(change: impl Fn(&mut proto::UsageRow), part: &str) {
            let mut row = row(&example(), 0);
            change(&mut row);
            let refusal = record(&row).unwrap_err();
            assert!(refusal.reason == Reason::InvalidValue && refusal.detail.contains(part), "{refusal}");
        }
        check(|row| row.account.clear(), "account");
        check(|row| row.quantity = "1e3".into(), "quantity");
        check(|row| row.amount = Some("x".into()), "amount");
        check(|row| row.service.clear(), "service");
        check(|row| row.attributes.push(row.attributes[0].clone()), "given twice");
        check(|row| row.end_ns = Some(0), "before start");
    }

    #[test]
    fn neighbours_share_a_verdict() {
        let mut verdicts = RowVerdicts::default();
        let refused = |reason| Verdict::Refused(Refusal::new(reason, "why"));
        verdicts.push(&Verdict::Accepted { late: false });
        verdicts.push(&Verdict::Accepted { late: false });
        verdicts.push(&refused(Reason::UnknownMeter));
        verdicts.push(&refused(Reason::Moving));
        verdicts.push(&Verdict::Duplicate);
        let seen: Vec<(u32, u32, i32)> = verdicts.finish().iter().map(|v| (v.first, v.count, v.kind)).collect();
        assert_eq!(seen, [(0, 2, 1), (2, 1, 4), (3, 1, 5), (4, 1, 3)]);
    }
}
