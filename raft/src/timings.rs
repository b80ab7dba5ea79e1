//! How often groups speak and how long they wait, by the number of groups on a node; and the limits of replication.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// From this many groups a node on, heartbeats are slowed down: an idle replica costs 250 us of CPU a second at a
/// quarter of a second, 84 us at one second.
const GROUPS_MANY: usize = 32;

/// Entries in one append message. Bytes are the real bound (see `network`); this one only keeps tiny entries from
/// making a message slow to decode.
const MESSAGE_ENTRIES_MAX: u64 = 256;

/// Entries merged into one submission to the journal.
const APPEND_ENTRIES_MAX: u64 = 1_024;

/// Calls that wait for a group's core. Each holds an entry, so this bounds memory; admission happens far below it.
const QUEUE_CALLS_MAX: u64 = 1_024;

/// Delays between attempts to reach a peer.
const BACKOFF: &str = "50ms 100ms ...1s";

/// Heartbeats and elections of every group on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// A leader speaks at least this often.
    pub heartbeat: Duration,
    /// A follower that hears nothing waits a random time from here ...
    pub election_min: Duration,
    /// ... to here before it asks for votes.
    pub election_max: Duration,
}

impl Timings {
    /// Timings for a node with `groups` groups: up to 31, 80 ms and 200 to 400 ms; from 32, 1 s and 2 to 4 s. A follower
    /// waits the longest of them before its own, since a leader may think so long that it leads.
    pub fn for_groups(groups: usize) -> Self {
        if groups < GROUPS_MANY {
            Self {
                heartbeat: Duration::from_millis(80),
                election_min: Duration::from_millis(200),
                election_max: Duration::from_millis(400),
            }
        } else {
            Self {
                heartbeat: Duration::from_secs(1),
                election_min: Duration::from_secs(2),
                election_max: Duration::from_secs(4),
            }
        }
    }

    /// How long a call that carries entries may take: a slow disk must not look like a lost peer.
    pub(crate) fn bulk_timeout(&self) -> Duration {
        self.election_max * 5
    }

    /// openraft's settings for one group.
    pub(crate) fn config(&self, name: String) -> Result<Config, String> {
        let millis = |duration: Duration| duration.as_millis() as u64;
        Config {
            cluster_name: name,
            heartbeat_interval: millis(self.heartbeat),
            // An acknowledged append says the same as a heartbeat; half an interval keeps the sum under an election.
            heartbeat_min_interval: Some(millis(self.heartbeat) / 2),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            enable_pre_vote: Some(true),
            // At least lease and election together, or five voters can deadlock in a partial partition.
            quorum_loss_probe_interval: Some(millis(self.election_max) * 2),
            max_payload_entries: MESSAGE_ENTRIES_MAX,
            max_append_entries: Some(APPEND_ENTRIES_MAX),
            api_channel_size: Some(QUEUE_CALLS_MAX),
            notification_channel_size: Some(QUEUE_CALLS_MAX),
            // Snapshots and purges are driven by the host, by bytes and time.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            backoff: BACKOFF.to_owned(),
            allow_log_reversion: Some(false),
            // A restarted leader asks for votes like everybody else.
            enable_leader_restore: Some(false),
            ..Config::default()
        }
        .validate()
        .map_err(|error| error.to_string())
    }
}

/// What a node allows its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A snapshot is due when a group's log has grown by this many bytes since the last one.
    pub snapshot_log_bytes: u64,
    /// A snapshot is due after this time when anything was applied since the last one.
    pub snapshot_interval: Duration,
    /// Largest proposal. Two of them and their framing fit one 16 MiB message.
    pub entry_bytes_max: usize,
    /// Memory for recent entries, shared by all groups of the node.
    pub cache_bytes: usize,
    /// How long opening a group may wait for attachments that only peers hold.
    pub attachments_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            snapshot_log_bytes: 64 << 20,
            snapshot_interval: Duration::from_secs(15 * 60),
            entry_bytes_max: 4 << 20,
            cache_bytes: 256 << 20,
            attachments_wait: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_by_groups_are_accepted() {
        for (groups, heartbeat_ms, election_ms) in
            [(1, 80, (200, 400)), (31, 80, (200, 400)), (32, 1_000, (2_000, 4_000)), (256, 1_000, (2_000, 4_000))]
        {
            let config = Timings::for_groups(groups).config("g".into()).expect("valid");
            assert_eq!(config.heartbeat_interval, heartbeat_ms);
            assert_eq!((config.election_timeout_min, config.election_timeout_max), election_ms);
        }
    }
}
