//! The engine in this process, without any daemon: what is left when transport and admission cost nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use intentd_core::Utterance;
use intentd_engine::{Engine, Thresholds, Trust, Worker};

use crate::Result;
use crate::tally::Tally;

/// Some threads' share of the engine.
pub(crate) struct InProcess {
    kernel: &'static str,
    workers: Vec<Worker>,
}

impl InProcess {
    pub(crate) fn open(bundle: &Path, threads: usize) -> Result<Self> {
        let engine = Engine::open(bundle, &Trust::default(), Thresholds::default())?;
        let workers = (0..threads).map(|_| engine.worker()).collect::<std::result::Result<_, _>>()?;
        Ok(Self { kernel: engine.kernel(), workers })
    }

    pub(crate) fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// One slice on so many of the threads, batch after batch on each. A batch has one time.
    pub(crate) fn run(
        &mut self,
        text: &str,
        (threads, batch): (usize, usize),
        slice: Duration,
        tally: &mut Tally,
    ) -> Result<()> {
        let began = Instant::now();
        let until = began + slice;
        let times = std::thread::scope(|scope| {
            let workers = self.workers.iter_mut().take(threads);
            let running: Vec<_> =
                workers.map(|worker| scope.spawn(move || parse(worker, text, batch, until))).collect();
            let joined = running.into_iter().map(|thread| thread.join().map_err(|_| "a worker panicked")?);
            joined.collect::<Result<Vec<_>>>()
        })?;
        tally.elapsed += began.elapsed();
        for time in times.into_iter().flatten() {
            tally.latency.record(time);
            tally.answers += batch as u64;
        }
        Ok(())
    }
}

fn parse(worker: &mut Worker, text: &str, batch: usize, until: Instant) -> Result<Vec<Duration>> {
    let utterance = Utterance { text: text.to_owned(), ..Utterance::default() };
    let utterances = vec![&utterance; batch];
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        for answer in worker.parse(&utterances) {
            answer?;
        }
        times.push(began.elapsed());
    }
    Ok(times)
}
