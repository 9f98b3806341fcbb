//! What is measured, in which order and for how long.

use std::ffi::OsStr;
use std::time::Duration;

use intentd::proto::nlu_client::NluClient;
use prost::Message as _;
use tonic::transport::Channel;

use crate::grpc::{Streams, Unary, connect, request};
use crate::in_process::InProcess;
use crate::meter::{Load, Meter};
use crate::mqtt::Device;
use crate::processes::{self, Process, Server};
use crate::report::{Report, Row};
use crate::tally::Tally;
use crate::{Options, Result, echo};

/// Utterances of so many wordpieces, begin and end among them; what isn't about length is measured with twelve.
const UTTERANCES: [(usize, &str); 3] = [
    (8, "turn on the living room lights"),
    (TYPICAL, "turn on the lights in the living room at ten"),
    (16, "turn on the lights in the living room at ten and play some music"),
];
const TYPICAL: usize = 12;

/// In flight on streams: one, half of what a single stream may have, and more than any batch.
const IN_FLIGHT: [usize; 3] = [1, 8, 64];

/// In flight where a capacity is sought: as many as one connection, or the broker, may have.
const SATURATED: usize = 64;

/// Shares of the capacity at which requests arrive in the open loop.
const SHARES: [f64; 3] = [0.1, 0.5, 0.8];

/// The daemon's own largest batch (admission.max_batch).
const BATCH: usize = 8;

/// Before the first slice of each cell, not counted.
const WARM_UP: Duration = Duration::from_millis(100);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    InProcess,
    Echo,
    Intentd,
}

/// In what way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `Worker::parse`, so many utterances at once on so many threads.
    Parse {
        threads: usize,
        batch: usize,
    },
    Unary,
    Stream,
    Mqtt,
}

/// One kind of request under one load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) who: Who,
    pub(crate) call: Call,
    pub(crate) tokens: usize,
    pub(crate) load: Load,
    /// Of the capacity, in the open loop.
    pub(crate) share: Option<f64>,
}

/// How long a cell is measured: so many slices, in turn with the others of its group.
#[derive(Clone, Copy)]
struct Slices {
    count: u32,
    each: Duration,
}

impl Slices {
    fn new(options: &Options, count: u32, millis: u64) -> Self {
        Self { count: if options.quick { count / 6 } else { count }, each: Duration::from_millis(millis) }
    }
}

/// Starts everything, measures everything.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism()?.get().saturating_sub(1).max(1),
        threads => threads,
    };
    let mut bench = Bench::start(options, threads).await?;
    let mut rows = Vec::new();
    let alone = Slices::new(options, 36, 100);
    for (tokens, _) in UTTERANCES {
        rows.extend(bench.group(&one_at_a_time(tokens), alone).await?);
    }
    let saturated = Slices::new(options, 12, 400);
    for in_flight in IN_FLIGHT {
        rows.extend(bench.group(&streams(in_flight, threads), saturated).await?);
    }
    let capacities = bench.group(&capacities(), saturated).await?;
    let arrivals = Slices::new(options, 12, 500);
    for share in SHARES {
        rows.extend(bench.group(&open_loop(share, &capacities), arrivals).await?);
    }
    rows.extend(capacities);
    Ok(Report::new(bench.in_process.kernel(), threads, rows))
}

fn one_at_a_time(tokens: usize) -> Vec<Cell> {
    let cell = |who, call| Cell { who, call, tokens, load: Load::InFlight(1), share: None };
    vec![
        cell(Who::InProcess, Call::Parse { threads: 1, batch: 1 }),
        cell(Who::Echo, Call::Unary),
        cell(Who::Intentd, Call::Unary),
        cell(Who::Echo, Call::Mqtt),
        cell(Who::Intentd, Call::Mqtt),
    ]
}

fn streams(in_flight: usize, threads: usize) -> Vec<Cell> {
    let cell = |who, call| Cell { who, call, tokens: TYPICAL, load: Load::InFlight(in_flight), share: None };
    let mut cells = vec![cell(Who::Echo, Call::Stream), cell(Who::Intentd, Call::Stream)];
    if in_flight == SATURATED {
        cells.push(cell(Who::InProcess, Call::Parse { threads, batch: BATCH }));
    }
    cells
}

fn capacities() -> Vec<Cell> {
    let both = [Who::Echo, Who::Intentd];
    let cells = [Call::Unary, Call::Mqtt].into_iter().flat_map(|call| both.map(|who| (who, call)));
    let load = Load::InFlight(SATURATED);
    cells.map(|(who, call)| Cell { who, call, tokens: TYPICAL, load, share: None }).collect()
}

/// The echo gets the daemon's arrivals: it shows what the same traffic costs without understanding.
fn open_loop(share: f64, capacities: &[Row]) -> Vec<Cell> {
    let cells = capacities.iter().map(|row| row.cell).map(|cell| {
        let daemons = |row: &&Row| row.cell.who == Who::Intentd && row.cell.call == cell.call;
        let capacity = capacities.iter().find(daemons).map_or(0.0, |row| row.tally.rate());
        Cell { load: Load::PerSecond((capacity * share).max(1.0)), share: Some(share), ..cell }
    });
    cells.collect()
}

/// Everything that is running, and the ways to it.
struct Bench {
    meter: Meter,
    in_process: InProcess,
    echo_grpc: Process,
    echo_mqtt: Process,
    intentd: Process,
    _broker: Process,
    to_echo: Ways,
    to_intentd: Ways,
    // Holds the broker's configuration and the echoes' answer.
    _folder: tempfile::TempDir,
}

struct Ways {
    client: NluClient<Channel>,
    unary: Unary,
    device: Device,
}

impl Ways {
    async fn open(grpc: u16, broker: u16, root: &str) -> Result<Self> {
        let client = connect(grpc).await?;
        Ok(Self { unary: Unary::new(client.clone()), client, device: Device::connect(broker, root).await? })
    }
}

impl Bench {
    async fn start(options: &Options, threads: usize) -> Result<Self> {
        let in_process = InProcess::open(&options.bundle, threads)?;
        let folder = tempfile::tempdir()?;
        let Server { process: broker, port } = processes::broker(folder.path())?;
        let daemon = processes::intentd(&options.intentd, &options.bundle, threads, port)?;
        let to_intentd = Ways::open(daemon.port, port, "intentd").await?;

        // The echoes give back what the daemon says, so that sizes are equal.
        let file = folder.path().join("answer");
        std::fs::write(&file, typical_answer(daemon.port).await?)?;
        let (file, broker_port) = (file.as_os_str(), port.to_string());
        let echo_grpc = processes::echo(&[OsStr::new("echo-grpc"), file])?;
        let echo_mqtt = processes::echo(&[OsStr::new("echo-mqtt"), file, OsStr::new(&broker_port)])?;
        let to_echo = Ways::open(echo_grpc.port, port, echo::ROOT).await?;
        Ok(Self {
            meter: Meter::default(),
            in_process,
            echo_grpc: echo_grpc.process,
            echo_mqtt: echo_mqtt.process,
            intentd: daemon.process,
            _broker: broker,
            to_echo,
            to_intentd,
            _folder: folder,
        })
    }

    /// Measures cells in turn, every other time backwards.
    async fn group(&mut self, cells: &[Cell], slices: Slices) -> Result<Vec<Row>> {
        let mut rows: Vec<Row> = cells.iter().map(|cell| Row { cell: *cell, tally: Tally::new() }).collect();
        for cell in cells {
            self.slice(cell, WARM_UP, &mut Tally::new()).await?;
        }
        for round in 0..slices.count {
            for step in 0..rows.len() {
                let index = if round % 2 == 0 { step } else { rows.len() - 1 - step };
                let Row { cell, tally } = &mut rows[index];
                self.slice(cell, slices.each, tally).await?;
            }
        }
        Ok(rows)
    }

    async fn slice(&mut self, cell: &Cell, slice: Duration, tally: &mut Tally) -> Result<()> {
        let text = UTTERANCES.iter().find(|(tokens, _)| *tokens == cell.tokens).map_or("", |(_, text)| text);
        let (process, ways) = match (cell.who, cell.call) {
            (Who::Intentd, _) => (&self.intentd, &mut self.to_intentd),
            (_, Call::Mqtt) => (&self.echo_mqtt, &mut self.to_echo),
            _ => (&self.echo_grpc, &mut self.to_echo),
        };
        let before = process.cpu()?;
        let meter = &mut self.meter;
        match cell.call {
            Call::Parse { threads, batch } => {
                return self.in_process.run(text, (threads, batch), slice, tally);
            }
            Call::Unary => meter.run(&mut ways.unary, text, cell.load, slice, tally).await?,
            Call::Stream => {
                let mut streams = Streams::open(ways.client.clone()).await?;
                meter.run(&mut streams, text, cell.load, slice, tally).await?;
            }
            Call::Mqtt => meter.run(&mut ways.device, text, cell.load, slice, tally).await?,
        }
        tally.cpu += process.cpu()? - before;
        Ok(())
    }
}

/// What the daemon says to the typical utterance, encoded. Asks for all, to see that their lengths are those told.
async fn typical_answer(port: u16) -> Result<Vec<u8>> {
    let mut client = connect(port).await?;
    let mut typical = Vec::new();
    for (tokens, text) in UTTERANCES {
        let answer = client.parse(request(0, text)).await?.into_inner();
        let counted = answer.timing.map_or(0, |timing| timing.tokens as usize);
        if counted != tokens {
            return Err(format!("\"{text}\" has {counted} wordpieces in this bundle, not {tokens}").into());
        }
        if tokens == TYPICAL {
            typical = answer.encode_to_vec();
        }
    }
    Ok(typical)
}
