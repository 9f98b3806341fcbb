//! A running daemon over gRPC: callers side by side, each with one utterance under way.

use std::time::{Duration, Instant};

use comfy_table::Table;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::cli::client::{Client, Server};
use crate::cli::latency::Latency;
use crate::cli::{Failure, screen};
use crate::proto::{ModelRef, ParseRequest, ParseResponse};

/// Twelve wordpieces, begin and end among them.
const TEXT: &str = "turn on the lights in the living room at ten";
const CALLERS: [usize; 3] = [1, 8, 64];

/// Time for one cell.
const BUDGET: Duration = Duration::from_secs(1);

/// A refused caller waits before it asks again, as the contract wants.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// One kind of call and number of callers.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    call: &'static str,
    streams: usize,
    answers: u64,
    /// RESOURCE_EXHAUSTED: the daemon's queue was full.
    refused: u64,
    median_us: Option<f64>,
    p99_us: Option<f64>,
    utterances_per_s: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Unary,
    Stream,
}

/// What one caller saw.
struct Tally {
    latency: Latency,
    refused: u64,
}

pub(super) async fn measure(uri: &str, server: &Server) -> Result<(ModelRef, Vec<Cell>), Failure> {
    let failed = |status: Status| Failure::status(uri, &status);
    let mut client = server.connect().await?;
    let first = client.parse(request()).await.map_err(failed)?.into_inner();
    let calls =
        [Call::Unary, Call::Stream].into_iter().flat_map(|call| CALLERS.map(|callers| (call, callers)));
    let progress = screen::progress("measuring", 2 * CALLERS.len());
    let mut cells = Vec::new();
    for (call, callers) in calls {
        cells.push(cell(&client, call, callers).await.map_err(failed)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok((first.model.unwrap_or_default(), cells))
}

async fn cell(client: &Client, call: Call, callers: usize) -> Result<Cell, Status> {
    let started = Instant::now();
    let until = started + BUDGET;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let client = client.clone();
        tasks.spawn(async move {
            match call {
                Call::Unary => unary(client, until).await,
                Call::Stream => stream(client, until).await,
            }
        });
    }
    let mut all = Tally { latency: Latency::new(), refused: 0 };
    while let Some(tally) = tasks.join_next().await {
        let tally = tally.map_err(|error| Status::internal(error.to_string()))??;
        all.latency.merge(&tally.latency);
        all.refused += tally.refused;
    }
    Ok(Cell {
        call: if call == Call::Unary { "unary" } else { "stream" },
        streams: callers,
        answers: all.latency.count(),
        refused: all.refused,
        median_us: all.latency.quantile_us(0.5),
        p99_us: all.latency.quantile_us(0.99),
        utterances_per_s: all.latency.count() as f64 / started.elapsed().as_secs_f64(),
    })
}

async fn unary(mut client: Client, until: Instant) -> Result<Tally, Status> {
    let mut tally = Tally { latency: Latency::new(), refused: 0 };
    while Instant::now() < until {
        let began = Instant::now();
        match client.parse(request()).await {
            Ok(_) => tally.latency.record(began.elapsed()),
            Err(status) if status.code() == Code::ResourceExhausted => tally.wait_after_refusal().await,
            Err(status) => return Err(status),
        }
    }
    Ok(tally)
}

async fn stream(mut client: Client, until: Instant) -> Result<Tally, Status> {
    let ended = || Status::unavailable("the stream ended early");
    let mut tally = Tally { latency: Latency::new(), refused: 0 };
    let (requests, outgoing) = mpsc::channel(1);
    let mut answers = client.parse_stream(ReceiverStream::new(outgoing)).await?.into_inner();
    while Instant::now() < until {
        let began = Instant::now();
        requests.send(request()).await.map_err(|_| ended())?;
        let answer: ParseResponse = answers.message().await?.ok_or_else(ended)?;
        match answer.error {
            None => tally.latency.record(began.elapsed()),
            Some(error) if error.code == Code::ResourceExhausted as i32 => tally.wait_after_refusal().await,
            Some(error) => return Err(Status::new(Code::from(error.code), error.message)),
        }
    }
    Ok(tally)
}

impl Tally {
    async fn wait_after_refusal(&mut self) {
        self.refused += 1;
        tokio::time::sleep(AFTER_REFUSAL).await;
    }
}

fn request() -> ParseRequest {
    ParseRequest { text: TEXT.to_owned(), ..ParseRequest::default() }
}

pub(super) fn table(cells: &[Cell]) -> Table {
    let mut table =
        screen::table(&["call", "streams", "median", "p99", "utterances/s", "answers", "refused"]);
    for cell in cells {
        let time = |us: Option<f64>| screen::number(us.map(screen::micros).unwrap_or_default());
        let rate = screen::number(format!("{:.0}", cell.utterances_per_s));
        let (answers, refused) = (screen::number(cell.answers), screen::number(cell.refused));
        let (streams, median, p99) = (screen::number(cell.streams), time(cell.median_us), time(cell.p99_us));
        table.add_row([cell.call.into(), streams, median, p99, rate, answers, refused]);
    }
    table
}
