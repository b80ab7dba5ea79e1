//! How much memory the process has, looked at a few times a second: beyond what it may have, usage is refused with a delay,
//! while reads, closes and replication go on. What is refused is not counted, so nothing is lost but time.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::data::admission::Admission;

/// A full node at its fastest takes in some hundred MiB in this time.
const INTERVAL: Duration = Duration::from_millis(250);

/// Room is given again below so many percent of the most, so that it does not come and go with every batch.
const EASES_AT_PERCENT: u64 = 97;

/// Of the machine's memory, or its control group's, where nothing is said.
const DEFAULT_PERCENT: u64 = 85;

/// Watches until `end`; `max`: bytes, 0 for the default. Does nothing where the system does not tell.
pub async fn watch(admission: Admission, max: u64, end: CancellationToken) {
    let Some(max) = Some(max).filter(|max| *max > 0).or_else(default_max) else { return };
    while !end.is_cancelled() {
        let Some(resident) = resident() else { return };
        let was_short = admission.memory_is_short();
        let is_short = resident > if was_short { max / 100 * EASES_AT_PERCENT } else { max };
        if is_short != was_short {
            tracing::warn!(resident, max, is_short, "memory: usage is refused while the process has more than it may");
            admission.note_memory(is_short);
        }
        let _ = tokio::time::timeout(INTERVAL, end.cancelled()).await;
    }
}

/// Bytes that may be used where nothing is said.
fn default_max() -> Option<u64> {
    let machine = field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let group = std::fs::read_to_string(Path::new("/sys/fs/cgroup/memory.max")).ok();
    let group = group.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Some(machine.min(group) / 100 * DEFAULT_PERCENT)
}

/// Bytes of this process that are in memory.
fn resident() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// A field of a table of the kernel's, which counts in KiB.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        assert_eq!(field("VmPeak:\t 9 kB\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2 << 20));
        assert_eq!(field("VmRSS: many", "VmRSS:"), None);
        assert!(resident().unwrap() > 1 << 20 && default_max().unwrap() > resident().unwrap());
    }

    #[tokio::test]
    async fn usage_waits_for_memory() {
        let (admission, end) = (Admission::new(10, 10), CancellationToken::new());
        let watching = tokio::spawn(watch(admission.clone(), 1 << 20, end.clone()));
        while !admission.memory_is_short() {
            tokio::task::yield_now().await;
        }
        end.cancel();
        watching.await.unwrap();
    }
}
