//! What the steps of jobs wait for, kept by the runner on the leader for whoever asks.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What steps wait for, by job, for whoever asks how far a job is. Known on the leader only.
#[derive(Default)]
pub struct Waits(Mutex<BTreeMap<String, String>>);

impl Waits {
    /// What the next step of a job waits for.
    pub fn of(&self, job: &str) -> Option<String> {
        self.0.lock().get(job).cloned()
    }

    /// Notes what a job waits for, or that it waits no more.
    pub fn set(&self, job: &str, what: Option<String>) {
        match what {
            Some(what) => drop(self.0.lock().insert(job.to_owned(), what)),
            None => drop(self.0.lock().remove(job)),
        }
    }
}
