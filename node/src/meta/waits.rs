//! Who waits for what, kept on the meta group's leader: the steps of jobs, and jobs for their turn between slot moves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Jobs that wait until no slot is on its way; no move begins meanwhile.
#[derive(Default)]
pub struct Turns(AtomicUsize);

/// One of them, until it is dropped.
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits in line.
    pub fn wait(&self) -> Turn<'_> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Turn(self)
    }

    /// Whether somebody does.
    pub fn is_awaited(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
