//! Workers: folds, stores and checks of documents, off the actors and off the runtime's threads. The twin runs a job in
//! place, so that a simulation has one thread. Threads and blocking tasks of this crate begin here and nowhere else.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};

/// A piece of blocking work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs blocking work somewhere, once.
pub trait Workers: Send + Sync + 'static {
    /// Completes when `job` has run, or was lost because it panicked.
    fn run(&self, job: Job) -> BoxFuture<'static, ()>;
}

/// Blocking threads of the runtime, a few at a time.
pub struct ThreadWorkers {
    /// More jobs than processors at once only cost memory: each holds a view of a shard.
    room: Arc<Semaphore>,
}

impl ThreadWorkers {
    /// `parallel` jobs at a time, at least one.
    pub fn new(parallel: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(parallel.max(1))) }
    }

    /// As many jobs at a time as there are processors.
    pub fn per_processor() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl Workers for ThreadWorkers {
    fn run(&self, job: Job) -> BoxFuture<'static, ()> {
        let room = self.room.clone();
        Box::pin(async move {
            // The semaphore is never closed.
            let _permit = room.acquire_owned().await;
            let _ = tokio::task::spawn_blocking(job).await;
        })
    }
}

/// Runs each job where it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct InPlaceWorkers;

impl Workers for InPlaceWorkers {
    fn run(&self, job: Job) -> BoxFuture<'static, ()> {
        Box::pin(async move { job() })
    }
}

/// The job panicked; its message is on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a background job failed; the log has its last words")]
pub struct JobLost;

/// Runs `job` on `workers` and hands back its result.
pub async fn run<T: Send + 'static>(
    workers: &dyn Workers,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobLost> {
    let (give, take) = oneshot::channel();
    workers
        .run(Box::new(move || {
            // Whoever asked may have gone; then the result is nobody's.
            let _ = give.send(job());
        }))
        .await;
    take.await.map_err(|_| JobLost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_back_and_a_panic_is_an_error() {
        let threads = ThreadWorkers::new(1);
        assert_eq!(run(&threads, || 6 * 7).await, Ok(42));
        assert_eq!(run(&threads, || panic!("on purpose")).await, Err::<(), _>(JobLost));
        assert_eq!(run(&threads, || 1).await, Ok(1), "a panic gives its place back");
        assert_eq!(run(&InPlaceWorkers, || 2).await, Ok(2));
    }
}
