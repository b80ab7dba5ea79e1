//! A producer that pushes small batches without end while something happens to the cluster, and how long each record waits
//! for its verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::{Batching, Sink, Totals};
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_shard::base::id::ProducerId;
use reckoner_shard::base::time::Timestamp;
use tokio::task::JoinHandle;

use super::ingest::define;
use crate::workload::Shape;

/// Records that are pushed at once, and how long until the next ones.
const GROUP: usize = 100;
const PUSH_INTERVAL: Duration = Duration::from_millis(5);

/// When each record was pushed, by number, and how long those with a verdict waited, in microseconds.
#[derive(Clone)]
struct Waits {
    pushed: Arc<Mutex<Vec<Instant>>>,
    waits: Arc<Mutex<Histogram<u64>>>,
}

impl Sink for Waits {
    fn settled(&mut self, settled: Settled<'_>) {
        let (pushed, mut waits) = (self.pushed.lock(), self.waits.lock());
        for number in settled.numbers() {
            let Some(at) = pushed.get(number as usize - 1) else { continue };
            // The histogram grows with what it is given; only a count beyond 64 bits could fail.
            let _ = waits.record(at.elapsed().as_micros() as u64);
        }
    }
}

/// How long records waited, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// The producer at work.
pub struct Steady {
    waits: Waits,
    stop: Arc<AtomicBool>,
    pushing: JoinHandle<Result<Totals>>,
}

impl Steady {
    /// Begins to push to every counter of `shape` in turn, usage that starts at `start`.
    pub async fn begin(client: &Client, shape: &Shape, start: Timestamp) -> Result<Steady> {
        let producer = ProducerId::new("steady")?;
        let epoch = client.open_producer(&producer, None, None).await?.epoch;
        let batching = Batching { age_max: Duration::from_millis(1), ..Batching::default() };
        let waits = Waits { pushed: Arc::default(), waits: Arc::new(Mutex::new(Histogram::new(3)?)) };
        let batcher = Batcher::sequenced(client.clone(), producer, epoch, batching, waits.clone()).await?;
        let series = define(&batcher, shape, 0..shape.counters())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (pushed, stopped) = (waits.pushed.clone(), stop.clone());
        let pushing = tokio::spawn(async move {
            for (at, series) in series.iter().cycle().enumerate() {
                pushed.lock().push(Instant::now());
                batcher.push(*series, 1_000, start).await?;
                if at % GROUP == GROUP - 1 {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    tokio::time::sleep(PUSH_INTERVAL).await;
                }
            }
            batcher.flush().await?;
            Ok(batcher.totals())
        });
        Ok(Steady { waits, stop, pushing })
    }

    /// How long the records waited that got their verdict since this was asked last.
    pub fn waited(&self) -> Waited {
        let mut waits = self.waits.waits.lock();
        let ms = |micros: u64| micros as f64 / 1e3;
        let waited = Waited { p99_ms: ms(waits.value_at_quantile(0.99)), max_ms: ms(waits.max()) };
        waits.reset();
        waited
    }

    /// Ends it; how many records were pushed, each of them counted.
    pub async fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let totals = self.pushing.await??;
        let pushed = self.waits.pushed.lock().len() as u64;
        // One whose verdict was lost is sent again, and then known already.
        ensure!(totals.accepted + totals.duplicate == pushed, "{pushed} records were pushed, verdicts: {totals:?}");
        Ok(pushed)
    }
}
