//! Five times more than can be served, over gRPC and MQTT at once (F17): what is served stays near the peak, refusals
//! come at once, and MQTT gets its share. Deadlines of milliseconds under load (F18): hardly anything is understood for
//! nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use intentd::proto::ParseRequest;
use intentd::proto::nlu_client::NluClient;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::{millis, note, report, sized, times};
use crate::harness::manager::Manager;
use crate::harness::{Daemon, Device, Mosquitto, wait_for};

/// Callers that find the peak: each asks again as soon as it is answered.
const CALLERS: usize = 16;

const OVERLOAD: f64 = 5.0;

/// Given to each call: twice what admission lets an utterance wait (the default of `admission.queue_wait`).
const DEADLINE: Duration = Duration::from_secs(1);

/// Two batches of eight: the one that runs, and the one with the request and seven utterances that waited at the broker;
/// and as long again, since the peak is a mean.
const NORMAL: f64 = 2.0 * 2.0 * 8.0;

/// Nearly as many wordpieces as a text may have: so the machine's other core can produce the load.
fn long() -> String {
    "turn on the light ".repeat(28)
}

fn request(text: &str) -> Request<ParseRequest> {
    Request::new(ParseRequest { text: text.to_owned(), ..ParseRequest::default() })
}

fn hurried(text: &str, deadline: Duration) -> Request<ParseRequest> {
    let mut request = request(text);
    request.set_timeout(deadline);
    request
}

struct Load {
    sent: usize,
    good: Histogram<u64>,
    refused: Histogram<u64>,
    other: Vec<String>,
}

#[test]
fn five_times_too_much_is_refused_at_once_and_the_rest_served() {
    let seconds = sized(8, 60);
    let mosquitto = Mosquitto::start();
    let manager = Manager::new();
    let broker = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let environment = [
        ("INTENTD__ENGINE__THREADS", "1"),
        ("NOTIFY_SOCKET", manager.socket()),
        ("WATCHDOG_USEC", "6000000"),
    ];
    let daemon = Daemon::spawn(&broker, &environment);
    daemon.wait_ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let channels: Vec<_> = (0..8).map(|_| runtime.block_on(connect(&daemon))).collect();

    let text = long();
    let peak = runtime.block_on(closed(&channels, Duration::from_secs(sized(3, 10)), |_| request(&text)));
    let understood = || daemon.metric("intentd_batch_size_sum");
    let answered_mqtt = || daemon.metric("intentd_mqtt_events_total{event=\"published\"}");
    let flood = Flood::start(mosquitto.port);
    std::thread::sleep(Duration::from_secs(1));
    let (before, before_mqtt, started) = (understood(), answered_mqtt(), Instant::now());
    let in_time = |_| hurried(&text, DEADLINE);
    let load = runtime.block_on(open(&channels, OVERLOAD * peak, Duration::from_secs(seconds), in_time));
    let took = started.elapsed().as_secs_f64();
    let (served, over_mqtt) = (understood() - before, answered_mqtt() - before_mqtt);
    flood.stop();
    let normal = runtime.block_on(until_normal(&channels[0], Duration::from_secs_f64(NORMAL / peak)));

    let (goodput, share) = (served / took / peak, over_mqtt / served);
    let silence = manager.longest_silence();
    report(
        "F17",
        &format!(
            "peak {peak:.0}/s; {} sent in {took:.0} s ({:.1} times the peak), {} answered, {} refused, {} other; \
             goodput {:.0} % of peak, MQTT's share {:.0} %; refusals p99 {:.1} ms, admitted p99 {:.0} ms; normal \
             {:.0} ms after; the watchdog never silent for more than {:.1} s",
            load.sent,
            load.sent as f64 / took / peak,
            load.good.len(),
            load.refused.len(),
            load.other.len(),
            100.0 * goodput,
            100.0 * share,
            millis(&load.refused, 0.99),
            millis(&load.good, 0.99),
            normal.as_secs_f64() * 1e3,
            silence.as_secs_f64()
        ),
    );
    let missed = load.other.len() as f64 / (load.other.len() as f64 + load.good.len() as f64);
    assert!(
        missed <= sized(0.01, 0.005),
        "{missed:.3} of the admitted not answered in time: {:?}",
        load.other
    );
    assert!(share >= 0.2, "MQTT got {share:.2} of what was served");
    assert!(normal <= Duration::from_secs(2), "normal only after {normal:?}");
    assert!(silence < Duration::from_secs(6), "the watchdog would have ended it: {silence:?} of silence");
    // The load shares this machine's cores with the daemon; in CI others do as well.
    assert!(goodput >= sized(0.7, 0.9), "goodput {goodput:.2} of the peak");
    assert!(
        millis(&load.refused, 0.99) <= sized(100.0, 20.0),
        "refusals p99 {}",
        millis(&load.refused, 0.99)
    );
}

#[test]
fn deadlines_of_milliseconds_cost_hardly_an_inference() {
    let seconds = sized(8, 60);
    let daemon = Daemon::spawn("[mqtt]\nbroker = \"off\"", &[("INTENTD__ENGINE__THREADS", "1")]);
    daemon.wait_ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let channels: Vec<_> = (0..8).map(|_| runtime.block_on(connect(&daemon))).collect();
    // Shorter and longer ones, and every deadline from 1 to 50 ms for both.
    let text = |sent: usize| "turn on the light ".repeat(if sent.is_multiple_of(2) { 4 } else { 12 });
    let deadline = |sent: usize| Duration::from_millis(1 + (sent * 7 / 2 % 50) as u64);

    let peak =
        runtime.block_on(closed(&channels, Duration::from_secs(sized(3, 10)), |sent| request(&text(sent))));
    let understood = || daemon.metric("intentd_batch_size_sum");
    let answered = || daemon.metric("intentd_grpc_requests_total{method=\"Parse\",code=\"OK\"}");
    let (before, before_answered) = (understood(), answered());
    let load = runtime.block_on(open(&channels, 3.0 * peak, Duration::from_secs(seconds), |sent| {
        hurried(&text(sent), deadline(sent))
    }));
    wait_for("an empty queue", || daemon.metric("intentd_queue_depth") == 0.0);
    let (inferences, good) = (understood() - before, answered() - before_answered);
    let (in_vain, goodput) = ((inferences - good) / inferences, good / seconds as f64 / peak);
    report(
        "F18",
        &format!(
            "peak {peak:.0}/s; {} sent, {} answered in time by the client's clock, {} refused, {} late; {} of \
             {inferences} inferences in vain ({:.2} %); goodput {:.0} % of peak",
            load.sent,
            load.good.len(),
            load.refused.len(),
            load.other.len(),
            inferences - good,
            100.0 * in_vain,
            100.0 * goodput,
        ),
    );
    assert!(in_vain <= sized(0.05, 0.01), "{in_vain:.3} of the inferences in vain");
    assert!(goodput >= sized(0.6, 0.8), "goodput {goodput:.2} of the peak");
}

async fn connect(daemon: &Daemon) -> NluClient<Channel> {
    let address = format!("http://127.0.0.1:{}", daemon.grpc);
    NluClient::new(Endpoint::from_shared(address).unwrap().connect().await.unwrap())
}

/// Answers a second, where each caller waits for its answer.
async fn closed(
    clients: &[NluClient<Channel>],
    time: Duration,
    request: impl Fn(usize) -> Request<ParseRequest>,
) -> f64 {
    let (started, mut calls, mut sent, mut answers) = (Instant::now(), JoinSet::new(), 0, 0_u32);
    let mut call = |calls: &mut JoinSet<_>| {
        let (mut client, request) = (clients[sent % clients.len()].clone(), request(sent));
        sent += 1;
        calls.spawn(async move { client.parse(request).await.is_ok() });
    };
    (0..CALLERS).for_each(|_| call(&mut calls));
    while let Some(answered) = calls.join_next().await {
        answers += u32::from(answered.unwrap());
        if started.elapsed() < time {
            call(&mut calls);
        }
    }
    f64::from(answers) / started.elapsed().as_secs_f64()
}

/// So many a second, whatever becomes of them.
async fn open(
    clients: &[NluClient<Channel>],
    per_second: f64,
    time: Duration,
    request: impl Fn(usize) -> Request<ParseRequest>,
) -> Load {
    let mut load = Load { sent: 0, good: times(), refused: times(), other: Vec::new() };
    let (started, mut calls) = (Instant::now(), JoinSet::new());
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while started.elapsed() < time {
        tick.tick().await;
        let due = (started.elapsed().as_secs_f64() * per_second) as usize;
        while load.sent < due {
            let (mut client, request) = (clients[load.sent % clients.len()].clone(), request(load.sent));
            load.sent += 1;
            calls.spawn(async move {
                let began = Instant::now();
                (client.parse(request).await.map(drop), began.elapsed())
            });
        }
        while let Some(call) = calls.try_join_next() {
            load.count(call.unwrap());
        }
    }
    while let Some(call) = calls.join_next().await {
        load.count(call.unwrap());
    }
    load
}

impl Load {
    fn count(&mut self, (answer, took): (Result<(), tonic::Status>, Duration)) {
        match answer {
            Ok(()) => note(&mut self.good, took),
            Err(status) if status.code() == Code::ResourceExhausted => note(&mut self.refused, took),
            Err(status) => self.other.push(status.to_string()),
        }
    }
}

/// Until ten in a row are answered in a normal time each.
async fn until_normal(client: &NluClient<Channel>, normal: Duration) -> Duration {
    let (started, mut client, mut in_a_row) = (Instant::now(), client.clone(), 0);
    while in_a_row < 10 && started.elapsed() < Duration::from_secs(30) {
        let began = Instant::now();
        let good = client.parse(request(&long())).await.is_ok() && began.elapsed() < normal;
        in_a_row = if good { in_a_row + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

/// A device that says more than there is time for.
struct Flood {
    over: Arc<AtomicBool>,
    device: std::thread::JoinHandle<()>,
}

impl Flood {
    fn start(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let device = std::thread::spawn(move || {
            let mut device = Device::v5(port);
            let said = format!(r#"{{"text": "{}"}}"#, long());
            while !ended.load(Ordering::Relaxed) {
                device.publish("intentd/home/kitchen/utterance", said.clone());
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { over, device }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        self.device.join().unwrap();
    }
}
