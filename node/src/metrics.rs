//! Every metric's name, unit and help text, and their page in Prometheus' text form. Names are stable; no label comes from a
//! customer. Nothing is kept beside what the node knows anyway: a page is computed when it is asked for.

use std::sync::atomic::Ordering;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use reckoner_raft::group::{Role, Status};
use reckoner_shard::base::id::ShardId;

use crate::context::Context;
use crate::timekeeping;

const READY: &str = "reckoner_ready";
const BUILD: &str = "reckoner_build_info";
const BATCHES: &str = "reckoner_usage_batches_total";
const RECORDS: &str = "reckoner_usage_records_total";
const FULL: &str = "reckoner_usage_batches_without_room_total";
const IN_FLIGHT: &str = "reckoner_usage_records_in_flight";
const MEMORY_SHORT: &str = "reckoner_memory_short";
const EPOCH: &str = "reckoner_map_epoch";
const NODES: &str = "reckoner_nodes";
const MOVING: &str = "reckoner_shards_moving";
const STOPPED: &str = "reckoner_group_stopped";
const LEADS: &str = "reckoner_group_leads";
const LEADERLESS: &str = "reckoner_group_leaderless";
const TERM: &str = "reckoner_group_term";
const COMMITTED: &str = "reckoner_group_committed_index";
const APPLIED: &str = "reckoner_group_applied_index";
const LOG: &str = "reckoner_group_log_entries";
const VOTERS: &str = "reckoner_group_voters";
const LEARNERS: &str = "reckoner_group_learners";
const CHECKED: &str = "reckoner_check_index";
const UNEQUAL: &str = "reckoner_check_unequal";
const DIFFERENCES: &str = "reckoner_check_differences_total";
const MENDED: &str = "reckoner_bills_mended_total";
const REBUILDING: &str = "reckoner_replicas_rebuilding";
const CLOCK_OFF: &str = "reckoner_clock_off_seconds";
const CLOCKS_TRUSTED: &str = "reckoner_clocks_trusted";
const BEHIND: &str = "reckoner_group_follower_entries_behind";

/// The page.
pub fn page(context: &Context) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        describe();
        node(context);
        let process = metrics_process::Collector::default();
        process.describe();
        process.collect();
        for found in context.host.groups() {
            group(&found.status());
        }
    });
    handle.render()
}

fn describe() {
    describe_gauge!(READY, "1 while the node has all it should have and every group has a leader");
    describe_gauge!(BUILD, "1, with the version of the program");
    describe_counter!(BATCHES, "batches answered with verdicts since the node started");
    describe_counter!(RECORDS, "records in those batches, whatever their verdicts");
    describe_counter!(FULL, "batches refused since there was no room for them");
    describe_gauge!(IN_FLIGHT, "records taken and not answered yet");
    describe_gauge!(MEMORY_SHORT, "1 while usage is refused because the process has more memory than it may");
    describe_gauge!(EPOCH, "epoch of the map of slots, replicas and nodes");
    describe_gauge!(NODES, "nodes of the cluster");
    describe_gauge!(MOVING, "shards whose replicas are on their way");
    describe_gauge!(STOPPED, "1 where this node's replica of the group stopped; shard 0 is the meta group");
    describe_gauge!(LEADS, "1 where this node leads the group");
    describe_gauge!(LEADERLESS, "1 where this node knows of nobody who leads the group");
    describe_gauge!(TERM, "Raft term");
    describe_gauge!(COMMITTED, "highest index known to be on a majority");
    describe_gauge!(APPLIED, "highest index applied here");
    describe_gauge!(LOG, Unit::Count, "entries kept in the log here");
    describe_gauge!(VOTERS, "members with a vote");
    describe_gauge!(LEARNERS, "members without a vote");
    describe_gauge!(CHECKED, "the entry at which this node last compared its replica with the others");
    describe_gauge!(UNEQUAL, "1 where that found replicas that differ");
    describe_counter!(
        DIFFERENCES,
        "checks that found this node's replica different from the others since the node started"
    );
    describe_counter!(MENDED, "bills and archives that were damaged or missing on this node's disk since it started");
    describe_gauge!(REBUILDING, "replicas of this node whose state is being rebuilt from peers");
    describe_gauge!(
        CLOCK_OFF,
        Unit::Seconds,
        "how far a node's clock is ahead of the median, where that is more than 5 s"
    );
    describe_gauge!(CLOCKS_TRUSTED, "1 while a majority of clocks agrees what time it is, which closing a cycle needs");
    describe_gauge!(BEHIND, "on the leader: entries that a member's log is behind, by its node");
}

fn node(context: &Context) {
    let state = context.meta.state();
    let is_ready = context.missing().is_none() && !context.stopping.is_cancelled();
    gauge!(READY).set(number(is_ready));
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    counter!(BATCHES).absolute(context.counts.batches.load(Ordering::Relaxed));
    counter!(RECORDS).absolute(context.counts.records.load(Ordering::Relaxed));
    counter!(FULL).absolute(context.counts.full.load(Ordering::Relaxed));
    if let Some(reading) = timekeeping::read(context, &timekeeping::voters(context)) {
        gauge!(CLOCKS_TRUSTED).set(number(reading.is_trusted));
        for (node, ahead) in reading.off {
            gauge!(CLOCK_OFF, "node" => node.to_string()).set(ahead as f64 / 1e9);
        }
    }
    counter!(DIFFERENCES).absolute(context.counts.differences.load(Ordering::Relaxed));
    counter!(MENDED).absolute(context.counts.mended.load(Ordering::Relaxed));
    gauge!(REBUILDING).set(context.rebuilds.running().len() as f64);
    for row in state.replicas() {
        if let Some(check) = context.checks.last(ShardId(row.shard)) {
            let shard = [("shard", row.shard.to_string())];
            gauge!(CHECKED, &shard).set(check.index as f64);
            gauge!(UNEQUAL, &shard).set(number(!check.differ.is_empty()));
        }
    }
    gauge!(IN_FLIGHT).set(f64::from(context.admission.records()));
    gauge!(MEMORY_SHORT).set(number(context.admission.memory_is_short()));
    gauge!(EPOCH).set(state.epoch() as f64);
    gauge!(NODES).set(state.nodes().count() as f64);
    let moving = state.replicas().iter().filter(|row| !row.held.is_empty() && !row.is_settled());
    gauge!(MOVING).set(moving.count() as f64);
}

fn group(status: &Status) {
    let shard = [("shard", status.group.0.to_string())];
    gauge!(STOPPED, &shard).set(number(status.role == Role::Stopped));
    gauge!(LEADS, &shard).set(number(status.role == Role::Leader));
    gauge!(LEADERLESS, &shard).set(number(status.leader.is_none()));
    gauge!(TERM, &shard).set(status.term as f64);
    gauge!(COMMITTED, &shard).set(status.committed.unwrap_or(0) as f64);
    gauge!(APPLIED, &shard).set(status.applied.map_or(0, |position| position.index) as f64);
    let last = status.last_log.unwrap_or(0);
    gauge!(LOG, &shard).set(last.saturating_sub(status.purged.unwrap_or(0)) as f64);
    gauge!(VOTERS, &shard).set(status.voters.len() as f64);
    gauge!(LEARNERS, &shard).set(status.learners.len() as f64);
    for (member, matched) in status.matched.iter().filter(|_| status.role == Role::Leader) {
        let labels = [("shard", status.group.0.to_string()), ("node", member.0.to_string())];
        gauge!(BEHIND, &labels).set(last.saturating_sub(matched.unwrap_or(0)) as f64);
    }
}

fn number(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}
