//! `accounts move`: an account goes from one hierarchy to another at a date.

use std::time::Duration;

use clap::{ArgGroup, Args};
use reckoner_shard::account::transfer::WayDocument;
use reckoner_shard::base::id::{AccountId, GroupName};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::placement::slot_of;
use serde::Serialize;

use super::documents::wait;
use super::output::Out;
use super::{Exit, Globals};
use crate::error::Error;
use crate::proto;

/// Arguments of `accounts move`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("wish").required(true))]
pub struct MoveArguments {
    /// The account; neither a root nor a payer
    pub account: AccountId,
    /// Root of the hierarchy that it goes to
    #[arg(long, value_name = "ROOT")]
    pub to: AccountId,
    /// Usage from this instant on is the new hierarchy's: 2026-12-01, or 2026-12-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub at: Timestamp,
    /// Who pays for it there; the root, or the first payer, where it is left out
    #[arg(long, value_name = "ACCOUNT")]
    pub payer: Option<AccountId>,
    /// Billing group there
    #[arg(long, value_name = "GROUP")]
    pub group: Option<GroupName>,
    /// Show what would move and change nothing; exit code 2 where something would
    #[arg(long, group = "wish")]
    pub plan: bool,
    /// Move it and wait until it is done
    #[arg(long, group = "wish")]
    pub apply: bool,
}

/// What `accounts move -o json` prints.
#[derive(Serialize)]
struct Moved {
    account: String,
    from: String,
    to: String,
    at: String,
    from_shard: u32,
    to_shard: u32,
    applied: bool,
}

/// Runs `accounts move`.
pub async fn run(arguments: &MoveArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let (account, to, at) = (&arguments.account, &arguments.to, arguments.at);
    let known = client.resolve(vec![account.to_string()], true).await?;
    let memberships = known.accounts.first().map_or(&[][..], |known| known.memberships.as_slice());
    let holds = |own: &&proto::Membership| own.from_ns <= at.0 && own.until_ns.is_none_or(|until| at.0 < until);
    let Some(from) = memberships.iter().find(holds).map(|own| own.root.clone()) else {
        let message =
            format!("account '{account}' belongs to no hierarchy at {at}; see 'reckoner accounts show {account}'");
        return Err(Error::invalid(message));
    };
    let shards = (client.shard_of(slot_of(&from)).await?.0, client.shard_of(slot_of(to.as_str())).await?.0);
    let mut moved = Moved {
        account: account.to_string(),
        from: from.clone(),
        to: to.to_string(),
        at: at.to_string(),
        from_shard: shards.0,
        to_shard: shards.1,
        applied: false,
    };
    let changes = from != to.as_str();
    if !changes || arguments.plan {
        show(&moved, changes, out);
        return Ok(if changes { Exit::Differences } else { Exit::Ok });
    }
    let from = AccountId::new(&from).map_err(|error| Error::invalid(error.to_string()))?;
    let way = WayDocument {
        account: account.clone(),
        from,
        to: to.clone(),
        at,
        payer: arguments.payer.clone(),
        group: arguments.group.clone(),
    };
    let json = serde_json::to_vec(&way).map_err(|error| Error::invalid(error.to_string()))?;
    let source = format!("move of {account}");
    let document = proto::Document { kind: "AccountMove".to_owned(), json: json.into(), source };
    let job = client.apply(&uuid::Uuid::now_v7().to_string(), vec![document]).await?.job;
    let reply = wait(&client, &job, Duration::from_secs(globals.timeout)).await?;
    let refusal = reply.steps.iter().find_map(|step| step.refusal.as_ref());
    if let Some(refusal) = refusal {
        return Err(Error::Refused { code: refusal.reason.clone(), detail: refusal.detail.clone() });
    }
    moved.applied = reply.state == "done";
    show(&moved, true, out);
    if !moved.applied {
        out.say(&format!("job {job} goes on by itself; usage of '{account}' from {at} on waits until it has ended"));
        return Ok(Exit::Unavailable);
    }
    Ok(Exit::Ok)
}

fn show(moved: &Moved, changes: bool, out: &Out) {
    if out.is_json() {
        return out.json(moved);
    }
    let row = vec![
        moved.account.clone(),
        moved.from.clone(),
        moved.from_shard.to_string(),
        moved.to.clone(),
        moved.to_shard.to_string(),
        moved.at.clone(),
    ];
    out.table(&["account", "from", "shard", "to", "shard", "at"], &[2, 4], vec![row]);
    if !changes {
        return out.say("it is there already; nothing to change");
    }
    if !moved.applied {
        out.say("nothing was changed; --apply does it, unless usage from then on is counted where it is");
        return;
    }
    out.say(&format!("usage from {} on is billed by '{}'", moved.at, moved.to));
    out.next(&format!("reckoner accounts show {}", moved.account));
}
