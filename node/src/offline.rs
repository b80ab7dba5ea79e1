//! `reckoner node ...`: work on the data directory of a node that does not run. Arguments in, table or JSON out; what is done
//! lives in [`crate::restore`] and [`crate::recover`].

use std::path::{Path, PathBuf};

use clap::Subcommand;
use reckoner_client::backup::check::Backup;
use reckoner_client::cli::output::Out;
use reckoner_client::cli::{Exit, Globals};

use crate::config::LISTEN;
use crate::recover::{self, Report};
use crate::restore::restore;

/// `node ...`
#[derive(Subcommand, Clone, Debug)]
pub enum NodeCommand {
    /// Make a new cluster of a backup: fill the directory of its first node, which is then started as ever
    Restore {
        /// Directory of a backup, as 'cluster backup' wrote it
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Directory of the new node: absent or empty
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Address that other nodes and clients will be told; it is corrected when the node starts alone under another
        #[arg(long, default_value = LISTEN, value_name = "ADDR")]
        advertise: String,
    },
    /// Go on with this node alone after the majority was lost for good: tells what it holds and what could be lost, exit 2
    Recover {
        /// Directory of a node that does not run
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Do it: this node becomes the only voter of every group, under a new identity of the cluster
        #[arg(long, requires = "accept_loss")]
        apply: bool,
        /// With --apply: what only the lost nodes had may be lost, also where it was acknowledged
        #[arg(long)]
        accept_loss: bool,
    },
}

/// Runs `node ...`.
pub fn run(command: NodeCommand, globals: &Globals) -> Exit {
    let out = Out::new(globals.output);
    let result = match command {
        NodeCommand::Restore { from, data_dir, advertise } => restore_into(&from, &data_dir, &advertise, &out),
        NodeCommand::Recover { data_dir, apply: false, .. } => tell(&data_dir, &out),
        NodeCommand::Recover { data_dir, apply: true, .. } => go_on(&data_dir, &out),
    };
    result.unwrap_or_else(|error| {
        out.error(&error);
        Exit::Failed
    })
}

fn restore_into(from: &Path, data_dir: &Path, address: &str, out: &Out) -> anyhow::Result<Exit> {
    let bytes = Backup::open(from).map(|backup| backup.manifest.bytes()).unwrap_or_default();
    let bar = out.progress(bytes, "bytes");
    let restored = restore(from, data_dir, address, &mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    if out.is_json() {
        out.json(&restored);
    } else {
        out.say(&format!(
            "cluster {} is made of a backup of {}: {} hierarchies in {} shards, {} bills and archives; node {} is its first",
            restored.cluster, restored.from, restored.hierarchies, restored.shards, restored.contents, restored.node
        ));
        out.next(&format!("reckoner serve --data-dir {} --listen {address}", data_dir.display()));
    }
    Ok(Exit::Ok)
}

fn tell(data_dir: &Path, out: &Out) -> anyhow::Result<Exit> {
    let report = recover::examine(data_dir)?;
    if out.is_json() {
        out.json(&report);
    } else {
        show(&report, out);
    }
    if !report.changes {
        out.say("this node is the only voter of every group already; start it");
        return Ok(Exit::Ok);
    }
    out.say("nothing was changed; --apply --accept-loss does it");
    Ok(Exit::Differences)
}

fn show(report: &Report, out: &Out) {
    let rows = report.groups.iter().map(|group| {
        let name = if group.shard == 0 { "meta".to_owned() } else { group.shard.to_string() };
        let voters: Vec<String> = group.voters.iter().map(u64::to_string).collect();
        let committed = group.committed_index.map_or_else(|| "-".to_owned(), |index| index.to_string());
        let (term, index) = (group.last_term.to_string(), group.last_index.to_string());
        vec![name, term, index, committed, group.uncertain.to_string(), voters.join(" ")]
    });
    let header = ["group", "last term", "last index", "committed", "uncertain", "voters"];
    out.table(&header, &[1, 2, 3, 4], rows.collect());
    out.say(&format!("node {} of cluster {}, with nodes {:?} beside it", report.node, report.cluster, report.others));
    out.say(
        "choose the surviving node with the highest (last term, last index) in every group; what other nodes acknowledged \
         behind that is lost, and uncertain entries count from then on",
    );
    for group in report.groups.iter().filter(|group| !group.votes) {
        out.warn(&format!("the replica of group {} has no vote here: it may be far behind", group.shard));
    }
    for damaged in report.groups.iter().flat_map(|group| &group.damaged) {
        out.warn(damaged);
    }
    if !report.missing.is_empty() {
        out.warn(&format!("no replica of shards {:?} is here: this node cannot go on alone", report.missing));
    }
}

fn go_on(data_dir: &Path, out: &Out) -> anyhow::Result<Exit> {
    let recovered = recover::recover(data_dir)?;
    if out.is_json() {
        out.json(&recovered);
    } else {
        out.say(&format!(
            "node {} is the only one of cluster {} now, which was {}; nodes {:?} are struck off, and have to join anew on \
             empty directories",
            recovered.node, recovered.cluster, recovered.from, recovered.lost
        ));
        out.next(&format!("reckoner serve --data-dir {}", data_dir.display()));
    }
    Ok(Exit::Ok)
}
