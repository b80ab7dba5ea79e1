//! Rows to bills, bills in several steps, and what can be read from a bill: bytes, JSON, explanations.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::base::money::{Money, checked_sum};
use crate::billing::bill::{Line, Source};
use crate::billing::codec::{CodecError, decode, encode};
use crate::billing::difference::difference;
use crate::billing::explain::explain;
use crate::billing::view::BillView;

struct Documents {
    catalogue: CatalogueDocument,
    contract: ContractDocument,
    hierarchy: HierarchyDocument,
}

/// Two services, a shared ladder by region, a free pool, a private rate, percentages; several payers.
fn documents(at: &str) -> Documents {
    let catalogue = json!({
        "kind": "Catalogue", "name": "public", "currency": "USD", "effective": "2024-09", "rounding": {"at": at},
        "meters": [
            {"id": "storage", "service": "s3", "usage_type": "bytes", "scale": 3, "attributes": ["class"]},
            {"id": "box", "service": "ec2", "usage_type": "box", "bucket": "day"},
            {"id": "calls", "service": "s3", "usage_type": "calls", "aggregation": "count"},
        ],
        "skus": [
            {"id": "storage", "match": {"usage_type": "bytes"}, "unit": "GB-Mo", "price": "storage",
             "convert": {"divide": "3", "by_hours_of_cycle": true}},
            {"id": "box", "match": {"usage_type": "box"}, "unit": "Hrs", "price": "box"},
            {"id": "calls", "match": {"usage_type": "calls"}, "unit": "calls", "rate": "0.0000004"},
        ],
        "prices": [
            {"id": "storage", "model": "graduated", "pool": {"split_by": ["root", "region"]}, "tiers": [
                {"up_to": "5", "rate": "0.7", "flat": "1.5"}, {"up_to": "20", "rate": "0.33"}, {"rate": "0.1"}]},
            {"id": "box", "model": "volume", "attribution": "sequence", "free_units": "3", "tiers": [
                {"up_to": "50", "rate": "0.096"}, {"rate": "0.0912345"}]},
        ],
        "pools": [{"id": "free", "units": "2.5", "skus": ["storage"]}],
    });
    let contract = json!({"kind": "Contract", "root": "root", "effective": "2024-09", "clauses": [
        {"id": "flat", "mechanism": "private_rate", "scope": {"sku": "storage", "attributes": {"class": "cold*"}},
         "rate": "0.3"},
        {"id": "abd", "mechanism": "percent", "kind": "attribute", "scope": {"region": "eu"}, "percent": "7.5"},
        {"id": "edp", "mechanism": "percent", "kind": "cross_service", "percent": "11", "text": "Enterprise",
         "trigger": {"scope": {"service": "ec2"}, "spend": "1"}},
    ]});
    let hierarchy = json!({"kind": "Hierarchy", "root": "root", "catalogue": "public", "payers": ["root", "p"],
        "accounts": [{"id": "a"}, {"id": "b", "until": "2024-09-20"}, {"id": "c", "payer": "p"}],
        "cycles": {"first": "2024-09"}});
    Documents {
        catalogue: serde_json::from_value(catalogue).unwrap(),
        contract: serde_json::from_value(contract).unwrap(),
        hierarchy: serde_json::from_value(hierarchy).unwrap(),
    }
}

impl Documents {
    fn simulation<'a>(&'a self, records: &'a [UsageRecord], billed: &'a [BillBody]) -> Simulation<'a> {
        Simulation {
            catalogue: &self.catalogue,
            contract: Some(&self.contract),
            hierarchy: &self.hierarchy,
            records,
            cycle: "2024-09".parse().unwrap(),
            billed,
            interim: true,
        }
    }

    fn bodies(&self, records: &[UsageRecord], billed: &[BillBody]) -> Vec<BillBody> {
        let simulated = simulate(&self.simulation(records, billed)).unwrap();
        assert_eq!(simulated.refused, []);
        simulated.bodies
    }
}

fn record(id: &str, account: &str, usage_type: &str, region: &str, quantity: &str, day: u32) -> UsageRecord {
    let service = if usage_type == "box" { "ec2" } else { "s3" };
    serde_json::from_value(json!({"id": id, "account": account, "service": service, "usage_type": usage_type,
        "region": region, "quantity": quantity, "start": format!("2024-09-{day:02}T12:00:00Z")}))
    .unwrap()
}

fn with(mut record: UsageRecord, change: impl FnOnce(&mut UsageRecord)) -> UsageRecord {
    change(&mut record);
    record
}

fn cold(record: UsageRecord) -> UsageRecord {
    with(record, |record| drop(record.attributes.insert("class".into(), "cold-1".into())))
}

/// Usage of every kind: 3 * 720 of the meter are one GB-Mo.
fn usage() -> Vec<UsageRecord> {
    vec![
        record("1", "a", "bytes", "eu", "21600", 1),
        cold(record("2", "a", "bytes", "eu", "12000.123", 2)),
        record("3", "b", "bytes", "us", "4000", 3),
        record("4", "c", "bytes", "eu", "8000", 4),
        record("5", "a", "box", "eu", "40", 5),
        record("6", "b", "box", "eu", "30.5", 4),
        record("7", "c", "box", "us", "12", 9),
        record("8", "root", "calls", "us", "1", 9),
        record("9", "root", "calls", "us", "1", 9),
    ]
}

#[test]
fn rows_are_counted_once_or_refused_with_a_reason() {
    let documents = documents("total");
    let mut records = usage();
    records.extend([
        usage()[0].clone(),
        with(usage()[0].clone(), |record| record.quantity = "1".parse().unwrap()),
        record("n1", "a", "disks", "eu", "1", 1),
        record("n2", "a", "bytes", "eu", "0.0001", 1),
        record("n3", "nobody", "bytes", "eu", "1", 1),
        record("n4", "b", "bytes", "eu", "1", 21),
        record("n5", "a", "bytes", "eu", "-1", 1),
        with(record("n7", "a", "box", "eu", "1", 1), |record| drop(record.attributes.insert("os".into(), "x".into()))),
        with(record("other", "a", "bytes", "eu", "1", 1), |record| record.start = "2024-10-01".parse().unwrap()),
    ]);
    let simulated = simulate(&documents.simulation(&records, &[])).unwrap();
    assert_eq!((simulated.counted, simulated.duplicates, simulated.elsewhere), (9, 1, 1));
    let reasons: Vec<String> =
        simulated.refused.iter().map(|(index, refusal)| format!("{index} {}", refusal.reason.code())).collect();
    let expected = [
        "10 ID_REUSED",
        "11 UNKNOWN_METER",
        "12 QUANTITY_TOO_FINE",
        "13 UNKNOWN_ACCOUNT",
        "14 UNKNOWN_ACCOUNT",
        "15 NEGATIVE_QUANTITY",
        "16 UNKNOWN_ATTRIBUTE",
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn a_counter_never_passes_its_ceiling() {
    let mut documents = documents("total");
    documents.catalogue.skus[2].rate = Some("1000000000".to_owned());
    documents.catalogue.meters[2].aggregation = Aggregation::Sum;
    // 10^15 currency units at 10^9 each leave room for 10^6 calls.
    let full = [record("1", "a", "calls", "us", "999999", 1), record("2", "a", "calls", "us", "2", 1)];
    let simulated = simulate(&documents.simulation(&full, &[])).unwrap();
    assert_eq!(simulated.refused[0].1.reason, Reason::QuantityTooLarge);
    assert_eq!((simulated.counted, simulated.bodies[0].total.to_string()), (1, "999999000000000".to_owned()));
}

#[test]
fn bodies_come_back_from_their_bytes() {
    for at in ["total", "line"] {
        for body in documents(at).bodies(&usage(), &[]) {
            let bytes = encode(&body);
            let read = decode(&bytes).unwrap();
            assert_eq!(read, body);
            assert_eq!(encode(&read), bytes);
            // No prefix of the bytes is another good body, and nothing panics.
            for end in 0..bytes.len() {
                assert!(decode(&bytes[..end]).map_or(true, |short| short != body), "{end}");
            }
        }
    }
    assert!(matches!(decode(&[8, 2]), Err(CodecError::UnknownFormat(2)) | Err(CodecError::Malformed(_))));
}

#[test]
fn a_bill_in_steps_sums_to_the_bill_at_once() {
    for at in ["total", "line"] {
        let documents = documents(at);
        let all = usage();
        let first = documents.bodies(&all[..4], &[]);
        let second = documents.bodies(&all[..7], &first);
        let both: Vec<BillBody> = first.iter().chain(&second).cloned().collect();
        let third = documents.bodies(&all, &both);
        let once = documents.bodies(&all, &[]);
        for body in &once {
            let steps: Vec<&BillBody> = both.iter().chain(&third).filter(|step| step.payer == body.payer).collect();
            assert_eq!(checked_sum(steps.iter().map(|step| step.payable)).unwrap(), body.payable, "{at}");
            assert_eq!(checked_sum(steps.iter().map(|step| step.total)).unwrap(), body.total, "{at}");
        }
        let again = documents.bodies(&all, &both.iter().chain(&third).cloned().collect::<Vec<_>>());
        assert!(again.iter().all(|body| body.lines.is_empty() && body.payable == Money::ZERO));
        assert!(again[0].difference.as_ref().is_some_and(|difference| difference.interim));
        for body in second.iter().chain(&third) {
            assert_eq!(decode(&encode(body)).unwrap(), *body);
        }
    }
}

/// The same, payer `p` in yen.
fn in_yen(rate: &str) -> Documents {
    let mut documents = documents("total");
    let clause = json!({"id": "yen", "mechanism": "currency", "payer": "p", "from": "USD", "to": "JPY",
        "rates": [{"effective": "2024-09-01", "rate": rate}]});
    documents.contract.clauses.push(serde_json::from_value(clause).unwrap());
    documents
}

#[test]
fn a_cycle_has_the_currency_and_rate_of_its_first_bill() {
    let all = usage();
    let first = in_yen("149.5").bodies(&all[..4], &[]);
    assert_eq!(first[0].currency.as_str(), "JPY");
    // The rate was corrected after the first bill, then the clause was dropped: neither changes the cycle.
    let second = in_yen("151").bodies(&all[..7], &first);
    let both: Vec<BillBody> = first.iter().chain(&second).cloned().collect();
    let third = documents("total").bodies(&all, &both);
    for once in in_yen("149.5").bodies(&all, &[]) {
        let steps: Vec<&BillBody> = both.iter().chain(&third).filter(|step| step.payer == once.payer).collect();
        assert!(steps.iter().all(|step| (step.currency, &step.exchange) == (once.currency, &once.exchange)));
        assert_eq!(checked_sum(steps.iter().map(|step| step.payable)).unwrap(), once.payable);
        assert_eq!(checked_sum(steps.iter().map(|step| step.total)).unwrap(), once.total);
        let lines = checked_sum(once.lines.iter().map(|line| line.amount)).unwrap();
        assert_eq!(lines, if once.exchange.is_some() { once.total } else { once.payable });
        assert_eq!(decode(&encode(&once)).unwrap(), once);
    }
    assert!(matches!(
        difference(&in_yen("151").bodies(&all, &[])[0], &first[..1], true),
        Err(FoldError::OtherCurrency { .. })
    ));
}

#[test]
fn a_bill_in_another_currency_says_how() {
    let bodies = in_yen("149.5").bodies(&[record("7", "c", "box", "us", "12", 9)], &[]);
    // (12 - 3 free) x 0.096 = 0.864, which does not reach the trigger's 1; x 149.5 = 129.168.
    let (body, view) = (&bodies[0], serde_json::to_value(BillView::new(&bodies[0])).unwrap());
    assert_eq!((body.total.to_string(), body.payable.to_string()), ("0.864".to_owned(), "129".to_owned()));
    let expected =
        json!({"clause": "yen", "from": "USD", "rate": "149.5", "since": "2024-09-01T00:00:00Z", "total": "129.168"});
    assert_eq!((&view["currency"], &view["exchange"]), (&json!("JPY"), &expected));
    let text = explain(body, 2).unwrap().to_string();
    assert!(text.contains("line 2: USD 0.864 for 9 Hrs"), "{text}");
    assert!(text.contains(
        "the bill's exact total USD 0.864 is payable as JPY 129: one USD is 149.5 JPY since 2024-09-01 by clause yen (contract of root from 2024-09)"
    ), "{text}");
}

#[test]
fn what_is_taken_back_altogether_is_billed_back() {
    let documents = documents("total");
    let mut all = vec![record("5", "a", "box", "eu", "40", 5)];
    let first = documents.bodies(&all, &[]);
    assert!(first[0].payable > Money::ZERO);
    all.push(with(record("6", "a", "box", "eu", "-40", 5), |record| record.corrects = Some("5".to_owned())));
    assert!(documents.bodies(&all, &[]).is_empty(), "nothing is left to bill");
    let second = documents.bodies(&all, &first);
    assert_eq!(second.len(), 1);
    assert_eq!(checked_sum([first[0].payable, second[0].payable]), Some(Money::ZERO));
    assert_eq!(checked_sum([first[0].total, second[0].total]), Some(Money::ZERO));
    // And by the one after, nothing more.
    let both: Vec<BillBody> = first.iter().chain(&second).cloned().collect();
    assert_eq!(documents.bodies(&all, &both)[0].payable, Money::ZERO);
}

#[test]
fn a_line_is_explained_down_to_the_counter() {
    let bodies = documents("total").bodies(&usage(), &[]);
    let body = &bodies[1];
    let of_clause = |wanted: &str| {
        let is = |line: &&Line| matches!(&line.source, Source::Clause { clause, .. } if clause.as_str() == wanted);
        body.lines.iter().find(is).unwrap().id
    };
    let text = explain(body, of_clause("edp")).unwrap().to_string();
    let expected = [
        "clause edp \"Enterprise\" takes off 11 percent of USD",
        "(contract of root from 2024-09)",
        "clause abd takes off 7.5 percent",
        "Hrs of box at 0.0912345 each, price box, tier 2 above 50 (catalogue public from 2024-09)",
        "it is a share of pool box (payer root, sku box), to which all members brought 70.5 Hrs; tier 2 holds 67.5 of them",
        "account a used ec2 box, region eu: meter box counted 40 in 1 record, which is 40 Hrs",
    ];
    for part in expected {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let text = explain(body, of_clause("flat")).unwrap().to_string();
    assert!(text.contains("each in place of USD"), "{text}");
    let last = body.lines.last().unwrap();
    assert!(explain(body, last.id).unwrap().to_string().contains("rounds the exact total USD"));
    assert!(explain(body, last.id + 1).is_none());
    for line in &body.lines {
        assert!(!explain(body, line.id).unwrap().steps.is_empty());
    }
}

#[test]
fn the_view_is_json_with_decimals_as_strings() {
    let bodies = documents("total").bodies(&usage(), &[]);
    let view: Value = serde_json::to_value(BillView::new(&bodies[0])).unwrap();
    assert_eq!((&view["payer"], &view["cycle"], &view["currency"]), (&json!("p"), &json!("2024-09"), &json!("USD")));
    // 12 - 3 free hours of payer p at 0.096 = 0.864.
    let line = view["lines"].as_array().unwrap().iter().find(|line| line["sku"] == "box" && line["tier"]["index"] == 1);
    let expected = json!({"id": 2, "kind": "usage", "stage": "usage", "account": "c", "sku": "box", "meter": "box",
        "service": "ec2", "usage_type": "box", "region": "us", "quantity": "9", "unit": "Hrs", "rate": "0.096",
        "amount": "0.864", "tier": {"index": 1, "begin": "0", "end": "50"},
        "made_by": {"kind": "price", "price": "box"}});
    assert_eq!(line, Some(&expected));
    assert_eq!(view["subtotals"]["skus"]["box"]["blended_rate"], json!("0.072"));
    fn no_numbers(value: &Value, key: &str) {
        match value {
            Value::Number(_) => assert!(["id", "from", "index", "records"].contains(&key), "{key}: {value}"),
            Value::Array(list) => list.iter().for_each(|value| no_numbers(value, key)),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| no_numbers(value, key)),
            _ => {}
        }
    }
    no_numbers(&view, "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_steps_sum_to_the_whole(
        rows in prop::collection::vec((0usize..4, 0usize..3, prop::bool::ANY, 1u64..10_000_000, 1u32..19), 1..25),
        cuts in prop::collection::vec(0usize..25, 0..4), by_line: bool,
    ) {
        let documents = documents(if by_line { "line" } else { "total" });
        let records: Vec<UsageRecord> = rows.into_iter().enumerate().map(|(n, (account, kind, eu, quantity, day))| {
            let region = if eu { "eu" } else { "us" };
            let quantity = format!("{}.{:03}", quantity / 1000, quantity % 1000);
            record(&n.to_string(), ["a", "b", "c", "root"][account], ["bytes", "box", "calls"][kind], region, &quantity, day)
        }).collect();
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut % (records.len() + 1)).collect();
        ends.push(records.len());
        ends.sort();
        let mut billed: Vec<BillBody> = Vec::new();
        for end in ends {
            let bodies = documents.bodies(&records[..end], &billed);
            billed.extend(bodies);
        }
        for body in documents.bodies(&records, &[]) {
            let steps = billed.iter().filter(|step| step.payer == body.payer);
            let lines: i128 = steps.clone().flat_map(|step| &step.lines).map(|line| line.amount.0).sum();
            prop_assert_eq!(lines, body.payable.0);
            prop_assert_eq!(steps.map(|step| step.payable.0).sum::<i128>(), body.payable.0);
            prop_assert_eq!(decode(&encode(&body)).unwrap(), body);
        }
    }
}
