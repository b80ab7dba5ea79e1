//! A run as people and scripts read it: a table, or one JSON object a run with stable names.

use comfy_table::{Table, presets};
use serde::Serialize;

/// One run of the ingest scenario. Times are wall time unless said; CPU is user and system together.
#[derive(Clone, Debug, Serialize)]
pub struct IngestRun {
    pub scenario: String,
    /// Nodes in the server process; three means three full replicas.
    pub nodes: u32,
    /// Records acknowledged.
    pub records: u64,
    pub seconds: f64,
    pub records_per_second: f64,
    /// From sending a batch to its verdict.
    pub batch_p50_ms: f64,
    pub batch_p99_ms: f64,
    /// CPU seconds of the server process, all replicas, for a million records.
    pub server_cpu_seconds_per_million: f64,
    /// CPU seconds of the pushing client for a million records.
    pub client_cpu_seconds_per_million: f64,
    /// Share of the machine's CPU time that neither server nor client used; a run with more than a tenth is void.
    pub foreign_cpu_share: f64,
    /// Peak resident memory of the server process.
    pub peak_rss_bytes: u64,
    /// Whether every acknowledged record was found counted exactly once afterwards.
    pub counted_once: bool,
    pub counters: u32,
    pub producers: u32,
    pub batch_records: u32,
    pub machine: String,
    pub commit: String,
}

/// One hierarchy of the read scenario.
#[derive(Clone, Debug, Serialize)]
pub struct ReadRun {
    pub scenario: String,
    pub nodes: u32,
    /// Linked accounts of the hierarchy.
    pub accounts: u32,
    pub clauses: u32,
    /// Lines of the bill.
    pub lines: u32,
    /// Of the bill's canonical form.
    pub body_bytes: u64,
    /// Calls that were measured.
    pub estimates: u64,
    /// From the call to the whole bill in the client.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Of the server process, all replicas.
    pub server_cpu_ms_per_estimate: f64,
    /// Share of the machine's CPU time that neither server nor client used; a run with more than a tenth is void.
    pub foreign_cpu_share: f64,
    pub machine: String,
    pub commit: String,
}

/// One run of the failover scenario.
#[derive(Clone, Debug, Serialize)]
pub struct FailoverRun {
    pub scenario: String,
    /// Processes, each with a replica of everything.
    pub nodes: u32,
    /// Leaders that were killed.
    pub kills: u32,
    /// From the kill to the first verdict for a record pushed afterwards.
    pub kill_p50_ms: f64,
    pub kill_p99_ms: f64,
    pub kill_max_ms: f64,
    /// Leaders that were stopped by a signal, which hand over first.
    pub stops: u32,
    pub stop_p50_ms: f64,
    pub stop_max_ms: f64,
    /// Records pushed meanwhile.
    pub records: u64,
    /// Whether each of them has a verdict and was found counted exactly once.
    pub counted_once: bool,
    /// Share of the machine's CPU time that was used at all.
    pub machine_busy_share: f64,
    pub machine: String,
    pub commit: String,
}

/// What the rejoin scenario measured.
#[derive(Clone, Debug, Serialize)]
pub struct RejoinRun {
    pub scenario: String,
    /// Counters of the node that was killed, each with a record.
    pub restart_counters: u32,
    /// From the start of its process to an answer of every shard, counters read back.
    pub restart_ms: f64,
    /// Counters of the cluster that got a new node.
    pub join_counters: u32,
    /// Whether the new node competed with the others for the processor, or took what they left.
    pub compete: bool,
    /// Bytes on the new node's disk in the end.
    pub join_bytes: u64,
    /// From the start of its process to every replica in its place.
    pub join_ms: f64,
    /// Of small batches with all nodes there, and while the new one caught up.
    pub before_p99_ms: f64,
    pub meanwhile_p99_ms: f64,
    /// Share of the machine's CPU time that was used at all.
    pub machine_busy_share: f64,
    pub machine: String,
    pub commit: String,
}

/// One run of the reshard scenario. Waits of records run from the push to the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct ReshardRun {
    pub scenario: String,
    pub counters: u32,
    /// From 8 to so many, and back.
    pub shards: u32,
    /// Pushed and found counted.
    pub records: u64,
    /// Before slots moved.
    pub before_p99_ms: f64,
    /// From the wish to every slot and replica in its place.
    pub grow_ms: f64,
    pub grow_p99_ms: f64,
    pub grow_max_ms: f64,
    pub shrink_ms: f64,
    pub shrink_p99_ms: f64,
    pub shrink_max_ms: f64,
    /// Share of the machine's CPU time that was used at all.
    pub machine_busy_share: f64,
    pub machine: String,
    pub commit: String,
}

/// One run of the overload scenario.
#[derive(Clone, Debug, Serialize)]
pub struct OverloadRun {
    pub scenario: String,
    pub nodes: u32,
    /// At the peak; the crowd is ten times as many.
    pub producers: u32,
    pub peak_records_per_second: f64,
    pub crowd_records_per_second: f64,
    /// Cores that server and clients used: they share the machine.
    pub peak_server_cores: f64,
    pub peak_client_cores: f64,
    pub crowd_server_cores: f64,
    pub crowd_client_cores: f64,
    /// From pushing a single record of a quiet hierarchy to its verdict.
    pub quiet_peak_p99_ms: f64,
    pub quiet_crowd_p99_ms: f64,
    /// From the crowd's last verdict to the first record of the quiet hierarchy that takes no longer than 20 ms.
    pub calm_ms: f64,
    /// Resident memory of the server process, at most, by the end of each phase.
    pub peak_rss_bytes: u64,
    pub crowd_rss_bytes: u64,
    pub counted_once: bool,
    pub machine: String,
    pub commit: String,
}

/// Prints a run of the overload scenario on standard output.
pub fn overload_table(run: &OverloadRun) {
    let mut table = Table::new();
    let header =
        ["producers", "records/s", "of the peak", "server cores", "client cores", "quiet p99 ms", "server MiB"];
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    let mut row = |producers: u32, rate: f64, cores: [f64; 2], quiet: f64, rss: u64| {
        table.add_row([
            producers.to_string(),
            format!("{rate:.0}"),
            format!("{:.0} %", rate / run.peak_records_per_second * 100.0),
            format!("{:.2}", cores[0]),
            format!("{:.2}", cores[1]),
            format!("{quiet:.1}"),
            (rss >> 20).to_string(),
        ]);
    };
    let (peak, crowd) = (run.peak_records_per_second, run.crowd_records_per_second);
    let cores = [run.peak_server_cores, run.peak_client_cores];
    row(run.producers, peak, cores, run.quiet_peak_p99_ms, run.peak_rss_bytes);
    let cores = [run.crowd_server_cores, run.crowd_client_cores];
    row(run.producers * 10, crowd, cores, run.quiet_crowd_p99_ms, run.crowd_rss_bytes);
    println!("{table}");
    let once = if run.counted_once { "each counted once" } else { "NOT each counted once" };
    println!("calm after {:.0} ms · {once} · {} · commit {}", run.calm_ms, run.machine, run.commit);
}

/// Prints a run of the rejoin scenario on standard output.
pub fn rejoin_table(run: &RejoinRun) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["node", "counters", "MiB", "s", "p99 ms"]);
    let seconds = |ms: f64| format!("{:.1}", ms / 1e3);
    let p99 = format!("{:.1}, before {:.1}", run.meanwhile_p99_ms, run.before_p99_ms);
    let bytes = (run.join_bytes >> 20).to_string();
    table.add_row(["comes back", &run.restart_counters.to_string(), "", &seconds(run.restart_ms), ""]);
    let new = if run.compete { "is new, competes" } else { "is new" };
    table.add_row([new, &run.join_counters.to_string(), &bytes, &seconds(run.join_ms), &p99]);
    println!("{table}");
    println!("machine {:.0} % busy · {} · commit {}", run.machine_busy_share * 100.0, run.machine, run.commit);
}

/// Prints a run of the reshard scenario on standard output.
pub fn reshard_table(run: &ReshardRun) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["shards", "s", "wait p99 ms", "wait max ms"]);
    let ms = |value: f64| format!("{value:.1}");
    let seconds = |value: f64| format!("{:.1}", value / 1e3);
    table.add_row(["8", "", &ms(run.before_p99_ms), ""]);
    let grown = format!("8 to {}", run.shards);
    table.add_row([&grown, &seconds(run.grow_ms), &ms(run.grow_p99_ms), &ms(run.grow_max_ms)]);
    let shrunk = format!("{} to 8", run.shards);
    table.add_row([&shrunk, &seconds(run.shrink_ms), &ms(run.shrink_p99_ms), &ms(run.shrink_max_ms)]);
    println!("{table}");
    let busy = run.machine_busy_share * 100.0;
    println!(
        "{} counters, {} records, each counted once · machine {busy:.0} % busy · {} · commit {}",
        run.counters, run.records, run.machine, run.commit
    );
}

/// Prints a run of the failover scenario on standard output.
pub fn failover_table(run: &FailoverRun) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["leader", "turns", "p50 ms", "p99 ms", "max ms"]);
    let ms = |value: f64| format!("{value:.0}");
    table.add_row(["killed", &run.kills.to_string(), &ms(run.kill_p50_ms), &ms(run.kill_p99_ms), &ms(run.kill_max_ms)]);
    table.add_row(["stopped", &run.stops.to_string(), &ms(run.stop_p50_ms), "", &ms(run.stop_max_ms)]);
    println!("{table}");
    let once = if run.counted_once { "each counted once" } else { "NOT each counted once" };
    let busy = run.machine_busy_share * 100.0;
    println!("{} records, {once} · machine {busy:.0} % busy · {} · commit {}", run.records, run.machine, run.commit);
}

/// Prints runs of the read scenario as a table on standard output.
pub fn read_table(runs: &[ReadRun]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "nodes",
        "accounts",
        "clauses",
        "lines",
        "KiB",
        "estimates",
        "p50 ms",
        "p99 ms",
        "max ms",
        "server CPU ms",
        "foreign CPU",
    ]);
    for run in runs {
        table.add_row([
            run.nodes.to_string(),
            run.accounts.to_string(),
            run.clauses.to_string(),
            run.lines.to_string(),
            (run.body_bytes >> 10).to_string(),
            run.estimates.to_string(),
            format!("{:.2}", run.p50_ms),
            format!("{:.2}", run.p99_ms),
            format!("{:.2}", run.max_ms),
            format!("{:.2}", run.server_cpu_ms_per_estimate),
            format!("{:.0} %", run.foreign_cpu_share * 100.0),
        ]);
    }
    println!("{table}");
    if let Some(run) = runs.first() {
        println!("{} · commit {}", run.machine, run.commit);
    }
}

/// Prints runs of the ingest scenario as a table on standard output.
pub fn table(runs: &[IngestRun]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "nodes",
        "records",
        "seconds",
        "records/s",
        "p50 ms",
        "p99 ms",
        "server CPU s/M",
        "client CPU s/M",
        "foreign CPU",
        "peak MiB",
        "counted once",
    ]);
    for run in runs {
        table.add_row([
            run.nodes.to_string(),
            run.records.to_string(),
            format!("{:.1}", run.seconds),
            format!("{:.0}", run.records_per_second),
            format!("{:.2}", run.batch_p50_ms),
            format!("{:.2}", run.batch_p99_ms),
            format!("{:.3}", run.server_cpu_seconds_per_million),
            format!("{:.3}", run.client_cpu_seconds_per_million),
            format!("{:.0} %", run.foreign_cpu_share * 100.0),
            (run.peak_rss_bytes >> 20).to_string(),
            if run.counted_once { "yes".to_owned() } else { "NO".to_owned() },
        ]);
    }
    println!("{table}");
    if let Some(run) = runs.first() {
        println!(
            "{} · commit {} · {} counters, batches of {}",
            run.machine, run.commit, run.counters, run.batch_records
        );
    }
}

/// The commit that was built, or "unknown" outside a checkout.
pub fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output
        .ok()
        .filter(|o| o.status.success())
        .map_or_else(|| "unknown".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
