//! `accounts list`, `accounts show`; `accounts move` is in `accounts_move.rs`.

use clap::{Args, Subcommand};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::time::Timestamp;
use serde::Serialize;

use super::output::Out;
use super::{Exit, Globals, accounts_move};
use crate::error::Error;
use crate::proto;

/// Rows of one answer.
const PAGE: u32 = 5_000;

/// `accounts ...`
#[derive(Subcommand, Clone, Debug)]
pub enum AccountsCommand {
    /// List the hierarchies, or the accounts of one
    List(ListArguments),
    /// Show one account: its hierarchies over time, its payer, the cycles
    Show(ShowArguments),
    /// Move an account to another hierarchy, from a date on
    Move(accounts_move::MoveArguments),
}

/// Arguments of `accounts list`.
#[derive(Args, Clone, Debug)]
pub struct ListArguments {
    /// Root of a hierarchy: list its accounts
    #[arg(long, value_name = "ACCOUNT")]
    pub root: Option<AccountId>,
}

/// Arguments of `accounts show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArguments {
    /// The account
    pub account: AccountId,
}

/// Runs `accounts ...`.
pub async fn run(command: AccountsCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match command {
        AccountsCommand::List(arguments) => list(&arguments, globals, out).await,
        AccountsCommand::Show(arguments) => show(&arguments, globals, out).await,
        AccountsCommand::Move(arguments) => accounts_move::run(&arguments, globals, out).await,
    }
}

#[derive(Serialize)]
struct HierarchyRow {
    root: String,
    catalogue: String,
    currency: String,
    payers: u32,
    accounts: u64,
    slot: u32,
    shard: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<String>,
    cycles: Vec<CycleRow>,
}

#[derive(Serialize)]
struct CycleRow {
    cycle: String,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_until: Option<String>,
}

#[derive(Serialize)]
struct AccountRow {
    account: String,
    root: String,
    payer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    hierarchies: Vec<HierarchyRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<AccountRow>,
}

fn hierarchy_row(hierarchy: &proto::Hierarchy) -> HierarchyRow {
    let cycles = hierarchy.cycles.iter().map(|cycle| CycleRow {
        cycle: cycle.cycle.clone(),
        state: cycle.state.clone(),
        grace_until: cycle.grace_until_ns.map(instant),
    });
    HierarchyRow {
        root: hierarchy.root.clone(),
        catalogue: hierarchy.catalogue.clone(),
        currency: hierarchy.currency.clone(),
        payers: hierarchy.payers,
        accounts: hierarchy.accounts,
        slot: hierarchy.slot,
        shard: hierarchy.shard,
        contract: hierarchy.contract.as_ref().map(|contract| format!("version {}", contract.version)),
        cycles: cycles.collect(),
    }
}

fn account_row(root: &str, account: &proto::Account) -> AccountRow {
    AccountRow {
        account: account.id.clone(),
        root: root.to_owned(),
        payer: account.payer.clone(),
        group: account.group.clone(),
        from: account.from_ns.map(instant),
        until: account.until_ns.map(instant),
    }
}

fn instant(ns: i64) -> String {
    Timestamp(ns).to_string()
}

async fn list(arguments: &ListArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let root = arguments.root.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut listed = Listed { hierarchies: Vec::new(), accounts: Vec::new() };
    let mut request =
        proto::ListAccountsRequest { root: root.clone(), page_size: PAGE, page_token: String::new(), freshness: None };
    loop {
        let reply = client.list_accounts(request.clone()).await?;
        // With a root named, each page repeats the one hierarchy.
        if root.is_empty() || listed.hierarchies.is_empty() {
            listed.hierarchies.extend(reply.hierarchies.iter().map(hierarchy_row));
        }
        listed.accounts.extend(reply.accounts.iter().map(|account| account_row(&root, account)));
        if reply.next_page_token.is_empty() {
            break;
        }
        request.page_token = reply.next_page_token;
    }
    if out.is_json() {
        out.json(&listed);
        return Ok(Exit::Ok);
    }
    if root.is_empty() {
        if listed.hierarchies.is_empty() {
            out.say("there is no hierarchy yet");
            out.next("reckoner apply -f catalogue.yaml hierarchy.yaml");
            return Ok(Exit::Ok);
        }
        let first = listed.hierarchies[0].root.clone();
        show_hierarchies(listed.hierarchies, out);
        out.next(&format!("reckoner accounts list --root {first}"));
    } else {
        show_accounts(listed.accounts, out);
        out.next(&format!("reckoner usage get --root {root}"));
    }
    Ok(Exit::Ok)
}

fn show_hierarchies(hierarchies: Vec<HierarchyRow>, out: &Out) {
    let rows = hierarchies.into_iter().map(|row| {
        let cycles: Vec<String> = row.cycles.iter().map(|cycle| format!("{} {}", cycle.cycle, cycle.state)).collect();
        vec![
            row.root,
            row.catalogue,
            row.currency,
            row.payers.to_string(),
            row.accounts.to_string(),
            row.shard.to_string(),
            row.contract.unwrap_or_default(),
            cycles.join(", "),
        ]
    });
    let header = ["root", "catalogue", "currency", "payers", "accounts", "shard", "contract", "cycles"];
    out.table(&header, &[3, 4, 5], rows.collect());
}

fn show_accounts(accounts: Vec<AccountRow>, out: &Out) {
    let rows = accounts.into_iter().map(|row| {
        let open = "-".to_owned();
        vec![
            row.account,
            row.root,
            row.payer,
            row.group,
            row.from.unwrap_or_else(|| open.clone()),
            row.until.unwrap_or(open),
        ]
    });
    out.table(&["account", "root", "payer", "group", "from", "until"], &[], rows.collect());
}

async fn show(arguments: &ShowArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let reply = client.show_account(&arguments.account).await?;
    let mut listed = Listed { hierarchies: Vec::new(), accounts: Vec::new() };
    for membership in &reply.memberships {
        let Some(hierarchy) = &membership.hierarchy else { continue };
        if !listed.hierarchies.iter().any(|row| row.root == hierarchy.root) {
            listed.hierarchies.push(hierarchy_row(hierarchy));
        }
        if let Some(account) = &membership.account {
            listed.accounts.push(account_row(&hierarchy.root, account));
        }
    }
    if out.is_json() {
        out.json(&listed);
        return Ok(Exit::Ok);
    }
    let root = listed.hierarchies.first().map(|row| row.root.clone());
    show_accounts(listed.accounts, out);
    out.line("");
    show_hierarchies(listed.hierarchies, out);
    if let Some(root) = root {
        out.next(&format!("reckoner usage get --root {root} --account {}", arguments.account));
    }
    Ok(Exit::Ok)
}
