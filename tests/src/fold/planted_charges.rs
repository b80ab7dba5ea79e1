//! Faults of what is charged beside usage, as those of `planted.rs`: fees and subscriptions, ladders over contract years,
//! percentages of a stage, waivers by hour, currencies, groups priced by themselves.

use reckoner_shard::base::money::Money;
use reckoner_shard::billing::bill::Source;
use serde_json::{Value, json};

use super::case::Case;
use super::fault::{Fault, clauses, each, mechanism, mutated, remove};
use crate::compare::Shown;
use crate::draw::fees::day;
use crate::model::calendar::{DAY, cycle_name, months, start_of, time_of};
use crate::model::exact::{exact, whole};
use crate::model::pool_year::is_yearly;
use crate::model::series;

/// Every fault of charges beside usage.
pub const FAULTS: &[Fault] = &[
    mutated!("a fee's end day counted", |case| each_fee(case, |fee, own| {
        let by_days = fee["period"] != "once" && series::text(&fee["prorate"], "days") == "days";
        let to = own["to"].as_str().filter(|_| by_days).map(time_of);
        to.map(|to| own["to"] = json!(day(to + DAY))).is_some()
    })),
    mutated!("a fee's first day not counted", |case| each_fee(case, |fee, own| {
        let by_days = fee["period"] != "once" && series::text(&fee["prorate"], "days") == "days";
        let (from, to) = (time_of(series::text(&own["from"], "")) + DAY, own["to"].as_str().map(time_of));
        own["from"] = json!(day(from));
        by_days && to.is_none_or(|to| from < to)
    })),
    mutated!("limits of prices in full, however long", |case| each(case, "prices", |price| {
        remove(price, "prorate_limits")
    })),
    mutated!("limits of prices by days, not by time", |case| each(case, "prices", |price| {
        let by_time = price["prorate_limits"] == "time";
        if by_time {
            price["prorate_limits"] = json!("days");
        }
        by_time
    })),
    mutated!("limits by the first subscription alone", |case| {
        let prices = series::list(&case.catalogue, "prices").iter();
        let prorated: Vec<Value> = prices.filter(|own| own["prorate_limits"].is_string()).cloned().collect();
        let skus: Vec<Value> = series::list(&case.catalogue, "skus")
            .iter()
            .filter(|sku| prorated.iter().any(|price| price["id"] == sku["price"]))
            .map(|sku| sku["id"].clone())
            .collect();
        subscriptions(case, |all| {
            let (mut known, before) = (Vec::new(), all.len());
            all.retain(|own| {
                let who = (own["sku"].clone(), own["account"].clone(), own["payer"].clone(), own["group"].clone());
                let again = skus.contains(&own["sku"]) && known.contains(&who);
                known.push(who);
                !again
            });
            all.len() < before
        })
    }),
    mutated!("limits of clauses in full, however long", |case| each_clause(case, |clause| {
        let limit = ["minimum", "maximum", "percent_fee"].contains(&series::text(&clause["mechanism"], ""));
        limit && clause["prorate"].is_string() && {
            ["prorate", "from", "to"].into_iter().fold(false, |any, field| remove(clause, field) | any)
        }
    })),
    mutated!("limits of clauses by days, not by time", |case| each_clause(case, |clause| {
        let by_time = clause["prorate"] == "time";
        if by_time {
            clause["prorate"] = json!("days");
        }
        by_time
    })),
    mutated!("a one-time fee prorated", |case| each(case, "fees", |fee| {
        let once = fee["period"] == "once";
        if once {
            (fee["period"], fee["in"]) = (json!("month"), json!("advance"));
        }
        once
    })),
    Fault { name: "what is unused of a fee not taken back", plant: not_taken_back },
    mutated!("a quantity that changes: what follows forgotten", |case| subscriptions(case, |all| {
        let ends: Vec<(Value, Value)> = all.iter().map(|own| (own["fee"].clone(), own["to"].clone())).collect();
        let follows = |own: &Value| ends.contains(&(own["fee"].clone(), own["from"].clone()));
        let before = all.len();
        all.retain(|own| !follows(own));
        all.len() < before
    })),
    mutated!("fees in advance billed in arrears", |case| each(case, "fees", |fee| remove(fee, "in"))),
    mutated!("every broken period has thirty days", |case| each(case, "fees", |fee| {
        let by_days = fee["period"] != "once" && series::text(&fee["prorate"], "days") == "days";
        fee["days"] = json!(30);
        by_days
    })),
    mutated!("a period's own days, whatever is stated", |case| each(case, "fees", |fee| remove(fee, "days"))),
    mutated!("fees by exact time prorated by days", |case| each(case, "fees", |fee| {
        let by_time = fee["prorate"] == "time";
        by_time && remove(fee, "prorate")
    })),
    mutated!("fees never prorated", |case| each(case, "fees", |fee| {
        fee["prorate"] = json!("none");
        remove(fee, "days");
        fee["period"] != "once"
    })),
    mutated!("fees for one, whatever the quantity", |case| each_subscription(case, |own| remove(own, "quantity"))),
    mutated!("a group's subscription on its payer", |case| each_subscription(case, |own| remove(own, "group"))),
    mutated!("nothing due without usage", |case| subscriptions(case, |all| {
        let before = all.len();
        all.retain(|own| own["sku"].is_null());
        all.len() < before
    })),
    mutated!("due without usage after the end", |case| each_subscription(case, |own| {
        own["sku"].is_string() && remove(own, "to")
    })),
    mutated!("percentages of a stage one after the other", |case| clauses(case, |clauses| {
        clauses.iter_mut().for_each(|clause| {
            remove(clause, "base");
        });
    })),
    mutated!("a year cut short committed in full", |case| mechanism(case, "commitment", |clause| {
        let short = clause["prorate"] == true;
        clause["prorate"] = json!(false);
        short
    })),
    mutated!("a year cut short never billed", |case| {
        let end = cycle_name(case.cycle + 1);
        mechanism(case, "commitment", |clause| clause["until"] == end.as_str() && remove(clause, "until"))
    }),
    mutated!("an hour's entitlement used in other hours", |case| mechanism(case, "waiver", |clause| {
        remove(clause, "period")
    })),
    mutated!("a year's tiers begin anew each cycle", |case| yearly(case, |clause| {
        remove(clause, "period") | remove(clause, "starts")
    })),
    mutated!("contract years begin in January", |case| {
        let first = cycle_name(case.cycle - case.cycle % 12 - 240);
        yearly(case, |clause| {
            let own = clause["starts"].is_string();
            clause["starts"] = json!(first);
            own
        })
    }),
    mutated!("the year before goes on", |case| {
        let years: Vec<(String, Value)> =
            yearly_clauses(case).map(|own| (own["id"].to_string(), own.clone())).collect();
        let own = |name: &str| years.iter().any(|(id, _)| name.split('/').next() == Some(id.trim_matches('"')));
        let names: Vec<String> = case.balances.keys().filter(|name| own(name)).cloned().collect();
        for name in &names {
            let (id, rest) = name.split_once('/').expect("a clause and its year");
            let (begins, whose) = rest.split_once('/').expect("a year and what climbs");
            let next = cycle_name(months(begins) + 12);
            let used = case.balances[name].clone();
            *case.balances.entry(format!("{id}/{next}/{whose}")).or_insert_with(|| whole(0)) += used;
        }
        !names.is_empty()
    }),
    mutated!("a pool's year begins anew each cycle", |case| each(case, "prices", |price| {
        is_yearly(price)
            && price["minimum"].is_null()
            && price["pool"].as_object_mut().is_some_and(|pool| pool.remove("period").is_some())
    })),
    mutated!("years of pools begin in January", |case| {
        let yearly = series::list(&case.catalogue, "prices").iter().any(is_yearly);
        let first = cycle_name(case.cycle - case.cycle % 12 - 240);
        let own = case.contract.as_mut().filter(|own| yearly && own["starts"].is_string());
        own.map(|own| own["starts"] = json!(first)).is_some()
    }),
    mutated!("a year's free units given each cycle", |case| climbed(case, "free")),
    mutated!("what a year was charged forgotten", |case| climbed(case, "charge")),
    mutated!("a year's minimum due in each cycle", |case| {
        let yearly = series::list(&case.catalogue, "prices").iter().any(is_yearly);
        let end = cycle_name(case.cycle + 1);
        let goes_on = |own: &&mut Value| own["until"].is_null() && own["effective"] != end.as_str();
        // Now the contract's last.
        let own = case.contract.as_mut().filter(|own| yearly && goes_on(own));
        own.filter(|own| series::text(&own["effective"], "") < end.as_str())
            .map(|own| own["until"] = json!(end))
            .is_some()
    }),
    mutated!("a year's minimum never due", |case| each(case, "prices", |price| {
        is_yearly(price) && remove(price, "minimum")
    })),
    mutated!("what is bought a day later billed at once", |case| {
        case.bought_until += DAY;
        case.has_purchases()
    }),
    mutated!("what is bought billed with the cycle", |case| {
        each_subscription(case, |own| remove(own, "at_once"));
        case.has_purchases()
    }),
    mutated!("a prepayment bought again and again", |case| {
        let before = case.balances.len();
        case.balances.retain(|name, _| !name.ends_with("/bought"));
        case.balances.len() < before
    }),
    mutated!("a prepayment never charged", |case| mechanism(case, "prepayment", |clause| {
        remove(clause, "payer");
        remove(clause, "purchase")
    })),
    mutated!("prepayments bought by the root's payer", |case| mechanism(case, "prepayment", |clause| {
        remove(clause, "payer")
    })),
    mutated!("shortfalls on the bill of the close", |case| mechanism(case, "commitment", |clause| {
        remove(clause, "own_bill")
    })),
    Fault { name: "converted line by line", plant: by_line },
    mutated!("the rate of the next month", |case| {
        let until = start_of(case.cycle + 1) + DAY;
        rate_until(case, until)
    }),
    mutated!("the rate of the cycle's first day", |case| {
        let until = start_of(case.cycle) + 1;
        rate_until(case, until)
    }),
    mutated!("rates cut to twelve decimals", |case| currencies(case, |clause| {
        let mut cut = false;
        for rate in clause["rates"].as_array_mut().into_iter().flatten() {
            let own = series::text(&rate["rate"], "").to_owned();
            let end = own.find('.').map_or(own.len(), |point| (point + 13).min(own.len()));
            cut |= end < own.len();
            rate["rate"] = json!(own[..end]);
        }
        cut
    })),
    mutated!("the price list's minor unit", |case| {
        let decimals = match series::text(&case.catalogue["currency"], "") {
            "JPY" => 0,
            "KWD" => 3,
            _ => 2,
        };
        currencies(case, |clause| {
            clause["decimals"] = json!(decimals);
            true
        })
    }),
    mutated!("a payer's own currency forgotten", |case| {
        let contract = case.contract.as_mut().and_then(|contract| contract["clauses"].as_array_mut());
        contract.is_some_and(|clauses| {
            let before = clauses.len();
            clauses.retain(|clause| clause["mechanism"] != "currency" || clause["payer"].is_null());
            clauses.len() < before
        })
    }),
    Fault { name: "groups as of the cycle's first day", plant: |case| without_amendment(case, true) },
    Fault { name: "groups as of the next cycle", plant: |case| without_amendment(case, false) },
    Fault { name: "a group's ladders shared with the family", plant: all_in_one_group },
    mutated!("the widest rule of a group wins", |case| each_group(case, |own| {
        let rules = own["rules"].as_array_mut().expect("a list");
        let narrow = rules.iter().position(|rule| rule["scope"]["sku"].is_string());
        narrow.filter(|_| rules.len() > 1).map(|narrow| rules.remove(narrow)).is_some()
    })),
    mutated!("a markup taken for a discount", |case| each_group(case, |own| {
        let mut any = false;
        for rule in own["rules"].as_array_mut().into_iter().flatten() {
            let small = rule["markup"].as_str().is_some_and(|markup| exact(markup) <= whole(100));
            if small {
                rule["discount"] = rule["markup"].clone();
                any |= remove(rule, "markup");
            }
        }
        any
    })),
    mutated!("a group's lines forgotten", |case| each_group(case, |own| remove(own, "lines"))),
];

/// Changes the list of subscriptions.
fn subscriptions(case: &mut Case, change: impl Fn(&mut Vec<Value>) -> bool) -> bool {
    let own = case.contract.as_mut().and_then(|contract| contract["subscriptions"].as_array_mut());
    own.is_some_and(change)
}

fn each_clause(case: &mut Case, change: impl Fn(&mut Value) -> bool) -> bool {
    let own = case.contract.as_mut().and_then(|contract| contract["clauses"].as_array_mut());
    own.into_iter().flatten().map(change).fold(false, |any, changed| any | changed)
}

fn each_subscription(case: &mut Case, change: fn(&mut Value) -> bool) -> bool {
    let own = case.contract.as_mut().and_then(|contract| contract["subscriptions"].as_array_mut());
    own.into_iter().flatten().map(change).fold(false, |any, changed| any | changed)
}

/// Changes every subscription to a fee, seeing the fee.
fn each_fee(case: &mut Case, change: fn(&Value, &mut Value) -> bool) -> bool {
    let fees = series::list(&case.catalogue, "fees");
    let own = case.contract.as_mut().and_then(|contract| contract["subscriptions"].as_array_mut());
    let own = own.into_iter().flatten().filter_map(|own| {
        let fee = fees.iter().find(|fee| fee["id"] == own["fee"])?;
        Some(change(fee, own))
    });
    own.fold(false, |any, changed| any | changed)
}

fn not_taken_back(case: &Case) -> Option<Shown> {
    let mut bills = case.engine().ok()?;
    for bill in &mut bills {
        bill.lines.retain(|line| !matches!(line.source, Source::Fee { .. }) || line.amount >= Money::ZERO);
    }
    case.shown_with(&bills).ok()
}

/// What earlier cycles brought to pools of a year, forgotten.
fn climbed(case: &mut Case, of: &str) -> bool {
    let before = case.balances.len();
    case.balances.retain(|name, _| !name.starts_with("pool/") || name.split('/').nth(3) != Some(of));
    case.balances.len() < before
}

fn yearly_clauses(case: &Case) -> impl Iterator<Item = &Value> {
    let all = case.contract.as_ref().map_or(&[][..], |contract| series::list(contract, "clauses"));
    all.iter().filter(|clause| clause["period"] == "contract_year")
}

/// Changes every clause whose ladder goes on over a contract year.
fn yearly(case: &mut Case, change: impl Fn(&mut Value) -> bool) -> bool {
    each_clause(case, |clause| clause["period"] == "contract_year" && change(clause))
}

fn currencies(case: &mut Case, change: impl Fn(&mut Value) -> bool) -> bool {
    mechanism(case, "currency", change)
}

/// The latest rate that begins before an instant, whatever the cycle.
fn rate_until(case: &mut Case, until: i64) -> bool {
    currencies(case, |clause| {
        let rates = series::list(clause, "rates").to_vec();
        let since = |rate: &Value| time_of(series::text(&rate["effective"], ""));
        let mut rate = rates.iter().rfind(|rate| since(rate) < until).unwrap_or(&rates[0]).clone();
        rate["effective"] = rates[0]["effective"].clone();
        clause["rates"] = json!([rate]);
        rates.len() > 1
    })
}

/// Every line converted and rounded by itself.
fn by_line(case: &Case) -> Option<Shown> {
    let (mut shown, exchanges) = (case.shown().ok()?, case.model().exchanges);
    for (payer, exchange) in &exchanges {
        let own = shown.lines.iter().filter(|row| row.payer == *payer);
        let payable = own.map(|row| exchange.payable(&case.catalogue, &row.amount)).sum();
        shown.payers.get_mut(payer)?.1 = payable;
    }
    (!exchanges.is_empty()).then_some(shown)
}

fn each_group(case: &mut Case, change: impl Fn(&mut Value) -> bool) -> bool {
    let own = case.contract.as_mut().and_then(|contract| contract["pro_forma"].as_array_mut());
    own.into_iter().flatten().map(change).fold(false, |any, changed| any | changed)
}

/// The pro forma bills of the hierarchy as it was first written, or as it will be from the next cycle on.
fn without_amendment(case: &Case, first: bool) -> Option<Shown> {
    let (document, since) = case.amended.clone()?;
    let mut wrong = case.clone();
    wrong.amended = if first { None } else { Some((document, case.cycle)) };
    let in_this = since == case.cycle;
    (in_this == first).then(|| Some(Shown { pro_forma: wrong.shown().ok()?.pro_forma, ..case.shown().ok()? }))?
}

/// The first group's bill as if it had all accounts.
fn all_in_one_group(case: &Case) -> Option<Shown> {
    let mut wrong = case.clone();
    let groups = series::list(case.contract.as_ref()?, "pro_forma");
    let group = groups.first()?["group"].clone();
    let amended = wrong.amended.as_mut().map(|(document, _)| document);
    for document in [Some(&mut wrong.hierarchy), amended].into_iter().flatten() {
        document["accounts"].as_array_mut()?.iter_mut().for_each(|account| account["group"] = group.clone());
    }
    let (mut shown, mut wrong) = (case.shown().ok()?, wrong.shown().ok()?);
    let own = wrong.pro_forma.remove(series::text(&group, ""))?;
    shown.pro_forma.insert(series::text(&group, "").to_owned(), own);
    Some(shown)
}
