//! The clock. A load says when requests are due; each request's time runs from that moment, not from when somebody got
//! round to sending it, so that a server that stalls can't hide those that should have come meanwhile.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use intentd::proto::Timing;
use tokio::sync::mpsc;

use crate::Result;
use crate::tally::Tally;

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Closed loop: so many are under way at a time; the next is due when an answer comes.
    InFlight(usize),
    /// Open loop: so many in a second, evenly, whatever the answers do.
    PerSecond(f64),
}

/// A way to a server. Answers may come in any order.
pub(crate) trait Way {
    /// Sends an utterance under a number that its answer will bear.
    async fn send(&mut self, number: u64, text: &str) -> Result<()>;

    /// The next answer. Cancel-safe; only asked while one is owed.
    async fn receive(&mut self) -> Result<Answer>;
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) end: End,
}

/// How an utterance ended.
pub(crate) enum End {
    /// With what the server says of its own time.
    Answered(Option<Timing>),
    /// Too much waited.
    Refused,
    /// Anything else.
    Failed,
}

/// An answer that is later than this after the end of its slice doesn't come any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives each utterance a number of its own, so that a late answer of an earlier slice is not taken for another.
#[derive(Default)]
pub(crate) struct Meter {
    next: u64,
}

impl Meter {
    /// One slice.
    pub(crate) async fn run(
        &mut self,
        way: &mut impl Way,
        text: &str,
        load: Load,
        slice: Duration,
        tally: &mut Tally,
    ) -> Result<()> {
        let began = Instant::now();
        let mut due = Due::new(load, began + slice);
        let mut under_way: HashMap<u64, Instant> = HashMap::new();
        let give_up = tokio::time::sleep(slice + PATIENCE);
        tokio::pin!(give_up);
        let mut last_answer = began;
        while !(due.over && under_way.is_empty()) {
            tokio::select! {
                start = due.next(), if !due.over => {
                    let Some(start) = start else { continue };
                    under_way.insert(self.next, start);
                    way.send(self.next, text).await?;
                    self.next += 1;
                }
                answer = way.receive(), if !under_way.is_empty() => {
                    let Answer { number, end } = answer?;
                    let Some(start) = under_way.remove(&number) else { continue };
                    last_answer = Instant::now();
                    match end {
                        End::Answered(inside) => tally.answered(last_answer - start, inside.as_ref()),
                        End::Refused => tally.refused += 1,
                        End::Failed => tally.failed += 1,
                    }
                    due.one_has_ended();
                }
                () = &mut give_up => break,
            }
        }
        tally.failed += under_way.len() as u64;
        tally.elapsed += last_answer - began;
        Ok(())
    }
}

/// The moments at which requests of one slice are due.
struct Due {
    source: Source,
    until: Instant,
    over: bool,
}

enum Source {
    Free(usize),
    Paced(mpsc::Receiver<Instant>),
}

impl Due {
    fn new(load: Load, until: Instant) -> Self {
        let source = match load {
            Load::InFlight(count) => Source::Free(count),
            Load::PerSecond(rate) => Source::Paced(pace(rate, until)),
        };
        Self { source, until, over: false }
    }

    /// None once, when the slice is over. Cancel-safe.
    async fn next(&mut self) -> Option<Instant> {
        let next = match &mut self.source {
            Source::Free(_) if Instant::now() >= self.until => None,
            Source::Free(0) => std::future::pending().await,
            Source::Free(count) => {
                *count -= 1;
                Some(Instant::now())
            }
            Source::Paced(paced) => paced.recv().await,
        };
        self.over = next.is_none();
        next
    }

    fn one_has_ended(&mut self) {
        if let Source::Free(count) = &mut self.source {
            *count += 1;
        }
    }
}

/// On a thread of its own: the runtime's timers are a millisecond wide, longer than what is measured.
fn pace(rate: f64, until: Instant) -> mpsc::Receiver<Instant> {
    // Nobody waits for the pacer, so what the other side has not taken yet is only late, not lost.
    let (sender, receiver) = mpsc::channel(1024);
    let first = Instant::now();
    std::thread::spawn(move || {
        for number in 0_u32.. {
            let start = first + Duration::from_secs_f64(f64::from(number) / rate);
            if start >= until {
                return;
            }
            std::thread::sleep(start.saturating_duration_since(Instant::now()));
            if sender.blocking_send(start).is_err() {
                return;
            }
        }
    });
    receiver
}
