//! Groups that are closed here until a peer has sent their state. Who asks for it, and who sends it, is in
//! [`crate::rebuild`]; what comes is taken in by `receive`.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::types::GroupId;

/// Groups that are closed until a peer has sent their state.
#[derive(Default)]
pub(crate) struct Awaited(Mutex<BTreeMap<GroupId, Waiting>>);

struct Waiting {
    done: oneshot::Sender<()>,
    heard: Instant,
}

impl Awaited {
    /// Whether `group` waits for its state; something of it has come just now.
    pub fn heard(&self, group: GroupId) -> bool {
        let mut waiting = self.0.lock();
        let own = waiting.get_mut(&group);
        own.map(|own| own.heard = Instant::now()).is_some()
    }

    /// All of it has come.
    pub fn came(&self, group: GroupId) {
        if let Some(waiting) = self.0.lock().remove(&group) {
            // Whoever waited may have given up.
            let _ = waiting.done.send(());
        }
    }

    /// From now on `group` waits; told when all has come.
    pub fn wait(&self, group: GroupId) -> oneshot::Receiver<()> {
        let (done, came) = oneshot::channel();
        self.0.lock().insert(group, Waiting { done, heard: Instant::now() });
        came
    }

    /// It waits no longer.
    pub fn give_up(&self, group: GroupId) {
        self.0.lock().remove(&group);
    }

    /// How long nothing has come.
    pub fn silence(&self, group: GroupId) -> Duration {
        self.0.lock().get(&group).map_or(Duration::ZERO, |waiting| waiting.heard.elapsed())
    }
}
