//! The kinds of bills through the whole machine, by hand arithmetic: interim bills by date and threshold, purchases,
//! prepayments, shortfalls and refunds; what is due when, what comes once, and what all bills of a cycle come to.

use serde_json::json;

use super::books::{Books, money};
use super::command::{Command, Done};
use super::kit::{Kit, account, cycle, document, time};
use crate::base::money::Money;
use crate::base::refusal::Reason;
use crate::billing::kind::{Cause, Refund};
use crate::pricing::catalogue::Catalogue;

/// A hierarchy `acme` with interim bills; `a` and `b` pay for themselves.
fn interim(interim: &str) -> Books {
    let mut kit = Kit::new();
    let document = format!(
        r#"{{"kind":"Hierarchy","root":"acme","catalogue":"c","payers":["acme","a","b"],
        "cycles":{{"first":"2024-09","close":"manual","interim":{interim}}}}}"#
    );
    kit.ok(Command::PutHierarchy { document: document.into_bytes(), job: String::new() });
    Books::of(kit)
}

/// With fees, bytes at a cent.
fn with_fees() -> Books {
    let mut kit = Kit::acme();
    let mut document = document("2024-09", "0.01", &[]);
    document["fees"] = json!([
        {"id": "setup", "amount": "100", "period": "once"},
        {"id": "plan", "amount": "30", "period": "month", "in": "advance"},
    ]);
    let document = serde_json::from_value(document).unwrap();
    kit.activate(Catalogue::compile(&document).unwrap_or_else(|problems| panic!("{problems:#?}")), 2).unwrap();
    Books::of(kit)
}

fn refund_of(number: u64, amount: &str, reference: &str) -> Cause {
    Cause::Refund(Refund {
        payer: account("acme"),
        number,
        amount: amount.parse().unwrap(),
        reason: "a broken promise".to_owned(),
        reference: reference.to_owned(),
    })
}

fn claim(name: &str, cause: Cause) -> Command {
    Command::Claim { root: account("acme"), cycle: cycle(name), cause }
}

fn due(name: &str, cause: Cause) -> Option<(String, Cause)> {
    Some((name.to_owned(), cause))
}

#[test]
fn a_day_has_its_interim_bill_once() {
    let mut books = interim(r#"{"days":[11,20]}"#);
    assert_eq!(books.due("2024-09-10T23:59:59Z"), None);
    assert_eq!(books.kit.command(claim("2024-09", Cause::Day(11))), Err(Reason::CycleRunning), "it has not begun");
    books.push("2024-09", 150);
    books.kit.stamp = time("2024-09-11");
    assert_eq!(books.due("2024-09-11"), due("2024-09", Cause::Day(11)));
    let claimed = books.kit.ok(claim("2024-09", Cause::Day(11)));
    books.restart();
    // Another leader proposes it once more; meanwhile more is used, and bills by hand wait.
    assert_eq!(books.kit.ok(claim("2024-09", Cause::Day(11))), claimed);
    assert_eq!(books.kit.command(claim("2024-09", Cause::Asked)), Err(Reason::CloseOldestFirst));
    books.push("2024-09", 30);
    assert_eq!(books.bill("2024-09"), money(&["1.5"]));
    assert_eq!(books.kit.command(claim("2024-09", Cause::Day(11))), Err(Reason::CycleRunning));
    books.restart();
    assert_eq!(books.due("2024-09-19"), None);
    // A day that passed unseen is billed as soon as somebody looks.
    assert_eq!(books.due("2024-09-27"), due("2024-09", Cause::Day(20)));
    books.kit.stamp = time("2024-09-27");
    assert_eq!(books.claim_for("2024-09", Cause::Day(20)), money(&["0.3"]));
    assert_eq!(books.due("2024-09-30"), None);
    books.push("2024-09", 7);
    assert_eq!(books.close("2024-09"), money(&["0.07"]));
    // The next cycle has its own days. Both passed unseen: one bill. After its end the close bills everything.
    books.push("2024-10", 4);
    assert_eq!(books.due("2024-10-25"), due("2024-10", Cause::Day(20)));
    books.kit.stamp = time("2024-10-25");
    assert_eq!(books.claim_for("2024-10", Cause::Day(20)), money(&["0.04"]));
    assert_eq!((books.due("2024-10-25"), books.due("2024-11-01")), (None, None));
    let expected = [(1, "interim", "1.5"), (2, "interim", "0.3"), (3, "anniversary", "0.07")];
    assert_eq!(books.listed("2024-09"), expected.map(|(number, kind, payable)| (number, kind, payable.to_owned())));
}

#[test]
fn nothing_to_bill_on_a_day_is_no_bill_and_the_day_is_done() {
    let mut books = interim(r#"{"days":[5,11]}"#);
    books.kit.stamp = time("2024-09-11");
    assert_eq!(books.due("2024-09-11"), due("2024-09", Cause::Day(11)));
    assert_eq!(books.claim_for("2024-09", Cause::Day(11)), money(&[]));
    assert_eq!(books.due("2024-09-12"), None);
    assert_eq!(books.kit.command(claim("2024-09", Cause::Day(5))), Err(Reason::CycleRunning), "it went with the 11th");
}

#[test]
fn at_a_threshold_only_who_came_to_it_has_a_bill() {
    let mut books = interim(r#"{"spend":"5"}"#);
    let spend: Money = "5".parse().unwrap();
    let watched = |books: &mut Books, at: &str| {
        let thresholds = books.kit.state.view().thresholds(time(at));
        thresholds.iter().map(|own| (own.cycle.to_string(), own.spend)).collect::<Vec<_>>()
    };
    books.push_of("a", "2024-09", 499);
    books.push_of("b", "2024-09", 300);
    assert_eq!(watched(&mut books, "2024-09-30"), [("2024-09".to_owned(), spend)]);
    // Who proposed it was wrong: nobody came to 5.
    assert_eq!(books.claim_for("2024-09", Cause::Spend(spend)), money(&[]));
    books.push_of("a", "2024-09", 1);
    books.kit.ok(claim("2024-09", Cause::Spend(spend)));
    assert_eq!(watched(&mut books, "2024-09-30"), [], "not while bills are being made");
    books.restart();
    assert_eq!(books.bill("2024-09"), money(&["5"]));
    // It begins anew for `a`, and goes on for `b`.
    books.push_of("a", "2024-09", 499);
    books.push_of("b", "2024-09", 201);
    assert_eq!(books.claim_for("2024-09", Cause::Spend(spend)), money(&["5.01"]));
    assert_eq!(watched(&mut books, "2024-10-01"), [], "the close bills the rest");
    assert_eq!(books.close("2024-09"), money(&["4.99"]));
}

#[test]
fn purchases_are_bills_of_their_own_and_the_close_has_the_rest() {
    let mut books = with_fees();
    let clauses = r#"{"id":"loyal","mechanism":"percent","kind":"service","percent":"10","scope":{"service":"fees"}}"#;
    let bought = r#"{"id":"start","account":"a","fee":"setup","from":"2024-09-10","at_once":true},
        {"id":"monthly","account":"a","fee":"plan","from":"2024-09-01","at_once":true}"#;
    let later = r#"{"id":"more","account":"b","fee":"setup","from":"2024-09-20","at_once":true},
        {"id":"quiet","account":"b","fee":"setup","from":"2024-09-20"}"#;
    assert_eq!(books.due("2024-09-10"), None);
    books.push("2024-09", 200);
    books.contract(&format!(r#""clauses":[{clauses}],"subscriptions":[{bought}]"#));
    assert_eq!(books.due("2024-09-10"), due("2024-09", Cause::Purchases));
    // 100 + 30, before the discount.
    assert_eq!(books.claim_for("2024-09", Cause::Purchases), money(&["130"]));
    assert_eq!(books.due("2024-09-10T23:00:00Z"), None, "looked at once a day");
    books.contract(&format!(r#""clauses":[{clauses}],"subscriptions":[{bought},{later}]"#));
    assert_eq!(books.due("2024-09-10T23:00:00Z"), due("2024-09", Cause::Purchases), "or when the contract is new");
    assert_eq!(books.claim_for("2024-09", Cause::Purchases), money(&[]), "the 20th is not there yet");
    books.restart();
    assert_eq!(books.due("2024-09-10T23:00:00Z"), None);
    assert_eq!(books.due("2024-09-20"), due("2024-09", Cause::Purchases));
    books.kit.stamp = time("2024-09-20");
    assert_eq!(books.claim_for("2024-09", Cause::Purchases), money(&["100"]));
    // What is bought in October does not wait until September is closed.
    books.kit.stamp = time("2024-10-01");
    assert_eq!(books.due("2024-10-01"), due("2024-10", Cause::Purchases));
    assert_eq!(books.claim_for("2024-10", Cause::Purchases), money(&["30"]));
    // Usage 2, fees 100 + 30 + 100 + 100 = 330 less 10 percent = 297; billed are 230: 2 + 297 - 230.
    assert_eq!(books.close("2024-09"), money(&["69"]));
    books.restart();
    // October: 30 less 3, of which 30 are billed: a credit memo.
    assert_eq!(books.close("2024-10"), money(&["-3"]));
    let expected = [(1, "purchase", "130"), (2, "purchase", "100"), (4, "anniversary", "69")];
    assert_eq!(books.listed("2024-09"), expected.map(|(number, kind, payable)| (number, kind, payable.to_owned())));
}

#[test]
fn a_prepayment_is_bought_once_and_a_larger_one_for_the_rest() {
    let clause = |amount: &str| {
        format!(
            r#""clauses":[{{"id":"advance","mechanism":"prepayment","amount":"{amount}","percent":"10","purchase":true}}]"#
        )
    };
    let mut books = Books::new(None);
    books.contract(&clause("90"));
    assert_eq!(books.claim_for("2024-09", Cause::Purchases), money(&["90"]));
    // Usage of 50: 5 are the discount, 45 are drawn.
    books.push("2024-09", 5_000);
    assert_eq!(books.claim("2024-09"), money(&["0"]), "nothing is left to be paid");
    assert_eq!(books.close("2024-09"), money(&[]));
    let balances = |books: &mut Books| {
        let cycles = books.kit.state.view().cycles(&account("acme")).unwrap();
        ["advance", "advance/bought"].map(|name| cycles.balances.get(name).map(Money::to_string).unwrap_or_default())
    };
    assert_eq!(balances(&mut books), ["45", "90"]);
    // October of another version: 30 more are bought.
    let document = format!(r#"{{"kind":"Contract","root":"acme","effective":"2024-10",{}}}"#, clause("120"));
    books.kit.ok(Command::PutContract { document: document.into_bytes(), job: String::new() });
    assert_eq!(books.claim_for("2024-10", Cause::Purchases), money(&["30"]));
    books.push("2024-10", 10_000);
    // Of 100 the 75 that are left settle 75 / 0.9 = 83.333333333333.
    assert_eq!(books.close("2024-10"), money(&["16.67"]));
    assert_eq!(balances(&mut books), ["120", "120"]);
}

#[test]
fn what_a_year_is_short_of_is_a_bill_of_its_own() {
    let commitment = r#"{"id":"edp","mechanism":"commitment","years":["100"],"until":"2024-10","own_bill":true}"#;
    let mut books = Books::new(Some(commitment));
    books.push("2024-09", 4_000);
    assert_eq!(books.close("2024-09"), money(&["40"]));
    // Whatever else there is waits for it.
    assert_eq!(books.push("2024-09", 100), "1 late");
    assert_eq!(books.kit.command(claim("2024-09", Cause::Asked)), Err(Reason::CloseOldestFirst));
    books.restart();
    books.kit.stamp = time("2024-11-01");
    let cut = Command::Cut { root: account("acme"), cycle: cycle("2024-10"), manual: true };
    assert_eq!(books.kit.command(cut), Err(Reason::CloseOldestFirst));
    assert_eq!(books.due("2024-10-01"), due("2024-09", Cause::Shortfall));
    // 100 less 40; what came late is not in it.
    assert_eq!(books.claim_for("2024-09", Cause::Shortfall), money(&["60"]));
    assert_eq!(books.due("2024-10-01"), None);
    assert_eq!(books.kit.command(claim("2024-09", Cause::Shortfall)), Err(Reason::CycleClosed));
    // The correction adds 1 of usage, so that 1 less is missing.
    assert_eq!(books.claim("2024-09"), money(&["0"]), "more usage, less shortfall");
    // Nothing is committed any more: the next close is searched, and nothing is found.
    books.close("2024-10");
    books.restart();
    assert_eq!(books.due("2024-11-01"), due("2024-10", Cause::Shortfall));
    assert_eq!(books.claim_for("2024-10", Cause::Shortfall), money(&[]));
    assert_eq!(books.due("2024-11-01"), None);
}

#[test]
fn a_refund_is_cut_to_what_the_bill_leaves() {
    let mut books = Books::new(None);
    books.push("2024-09", 150);
    assert_eq!(books.claim("2024-09"), money(&["1.5"]));
    books.push("2024-09", 50);
    let first = books.kit.ok(claim("2024-09", refund_of(1, "1", "r1")));
    books.restart();
    assert_eq!(books.bill("2024-09"), money(&["-1"]));
    // The same again is the same; another under its name is none.
    assert_eq!(books.kit.ok(claim("2024-09", refund_of(1, "1", "r1"))), first);
    assert!(matches!(first, Done::Cut { .. }));
    assert_eq!(books.kit.command(claim("2024-09", refund_of(1, "0.2", "r1"))), Err(Reason::VersionConflict));
    assert_eq!(books.close("2024-09"), money(&["0.5"]), "refunds are no part of what the cycle's bills sum to");
    // 1.50 - 1 leaves 0.50, also after the close.
    assert_eq!(books.claim_for("2024-09", refund_of(1, "5", "r2")), money(&["-0.5"]));
    assert_eq!(books.claim_for("2024-09", refund_of(1, "5", "r3")), money(&[]));
    assert_eq!(books.claim_for("2024-09", refund_of(3, "0.5", "r1")), money(&["-0.5"]), "each bill has its own names");
    books.restart();
    let refused = |books: &mut Books, cause| books.kit.command(claim("2024-09", cause)).unwrap_err();
    assert_eq!(refused(&mut books, refund_of(2, "1", "r9")), Reason::NotFound, "a refund is not refunded");
    assert_eq!(refused(&mut books, refund_of(9, "1", "r9")), Reason::NotFound);
    for amount in ["0", "-1", "0.001"] {
        assert_eq!(refused(&mut books, refund_of(1, amount, "r9")), Reason::InvalidValue, "{amount}");
    }
    assert_eq!(refused(&mut books, refund_of(1, "1", "")), Reason::InvalidValue);
    let expected = [
        (1, "interim", "1.5"),
        (3, "anniversary", "0.5"),
        (2, "refund", "-1"),
        (4, "refund", "-0.5"),
        (5, "refund", "-0.5"),
    ];
    assert_eq!(books.listed("2024-09"), expected.map(|(number, kind, payable)| (number, kind, payable.to_owned())));
}
