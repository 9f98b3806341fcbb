//! Very many utterances over both doors, with faults every hour's worth of them (F29): nothing grows, nothing slows down.
//!
//! A day is 24 parts. Each begins with a fault: the broker restarts, the line is cut, or the daemon is told to read its
//! certificates and tokens again. The short form has a fault every sixth part: within 5 s of the one before, it would
//! find the link still waiting longer each time.

use std::time::{Duration, Instant};

use intentd::proto::ParseRequest;
use intentd::proto::nlu_client::NluClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::traffic::{self, Traffic};
use super::{millis, note, report, sized, times};
use crate::harness::{Daemon, Mosquitto, PATIENCE, Proxy};

const PARTS: usize = 24;

/// Utterances of a stream that are on their way at a time.
const IN_FLIGHT: usize = 8;

/// Of the device, so that it never waits for long; the rest of the machine's power goes to the stream.
const MQTT_IN_FLIGHT: usize = 32;

/// Of the whole of a soak, where the memory still settles.
const WARM_UP: f64 = 0.2;

#[derive(Clone, Copy)]
struct Sample {
    answered: f64,
    resident_kib: f64,
    files: usize,
    threads: usize,
    p99_ms: f64,
}

#[test]
fn very_many_utterances_leave_it_as_it_was() {
    let (utterances, growth) = sized((24_000, 0.05), (1_000_000, 0.02));
    let mut mosquitto = Mosquitto::start_with("set_tcp_nodelay true\n");
    let proxy = Proxy::forgetful(mosquitto.port);
    let daemon = Daemon::start(&format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n", proxy.port));
    let started = Instant::now();
    let (mut samples, mut said) = (Vec::new(), 0);
    for part in 0..PARTS {
        match (part % sized(6, 1), part / sized(6, 1) % 3) {
            (0, 0) => {
                mosquitto.stop();
                mosquitto.resume();
            }
            (0, 1) => proxy.cut(),
            (0, _) => daemon.signal("HUP"),
            _ => {}
        }
        // A fourth over MQTT, whose broker and device cost more than the daemon itself.
        let over_mqtt = utterances / PARTS / 4;
        let streamed = utterances / PARTS - over_mqtt;
        let address = format!("http://127.0.0.1:{}", daemon.grpc);
        let stream = std::thread::spawn(move || stream(address, streamed));
        let mut traffic = Traffic::new(mosquitto.port);
        while traffic.said() < over_mqtt {
            if traffic.open() < MQTT_IN_FLIGHT {
                traffic.say();
                traffic.hear(Duration::ZERO);
            } else {
                traffic.hear(Duration::from_millis(5));
            }
        }
        traffic.settle(PATIENCE);
        traffic.check();
        let mut latency = stream.join().unwrap();
        latency.add(&traffic.latency).unwrap();
        said += over_mqtt + streamed;
        drop(traffic);
        daemon.wait_ready();
        samples.push(sample(&daemon, said, millis(&latency, 0.99)));
    }
    let warm = &samples[(PARTS as f64 * WARM_UP) as usize..];
    let (first, last) = (warm[0], warm[warm.len() - 1]);
    let slope = growth_over_the_whole(warm);
    report(
        "F29",
        &format!(
            "{said} utterances, {} faults, {:.0} s: 0 lost; resident {:.1} to {:.1} MiB, {:+.2} % by least \
             squares over the last 80 %; descriptors {} to {}, threads {} to {}; p99 {:.1} to {:.1} ms",
            PARTS / sized(6, 1),
            started.elapsed().as_secs_f64(),
            first.resident_kib / 1024.0,
            last.resident_kib / 1024.0,
            100.0 * slope,
            first.files,
            last.files,
            first.threads,
            last.threads,
            first.p99_ms,
            last.p99_ms
        ),
    );
    assert!(slope < growth, "memory grew by {:.1} %", 100.0 * slope);
    assert!(last.files <= first.files + 2, "descriptors: {} to {}", first.files, last.files);
    // One of the runtime's, for calls that block, comes and goes.
    assert!(last.threads <= first.threads + 1, "threads: {} to {}", first.threads, last.threads);
}

fn sample(daemon: &Daemon, said: usize, p99_ms: f64) -> Sample {
    Sample {
        answered: said as f64,
        resident_kib: (daemon.resident_bytes() / 1024) as f64,
        files: daemon.open_files(),
        threads: daemon.threads(),
        p99_ms,
    }
}

/// Of the memory, as a part of its mean: the slope by least squares times the whole span.
fn growth_over_the_whole(samples: &[Sample]) -> f64 {
    let n = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|sample| sample.answered), mean(|sample| sample.resident_kib));
    let both: f64 = samples.iter().map(|s| (s.answered - x) * (s.resident_kib - y)).sum();
    let square: f64 = samples.iter().map(|s| (s.answered - x).powi(2)).sum();
    both / square * (samples[samples.len() - 1].answered - samples[0].answered) / y
}

/// Says so many over a stream of its own, and compares nothing but that each is answered. What is refused for now, as it may
/// be while the machine does something else, is said again.
fn stream(address: String, utterances: usize) -> hdrhistogram::Histogram<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = NluClient::connect(address).await.unwrap();
        let (requests, outgoing) = mpsc::channel(IN_FLIGHT);
        let mut answers = client.parse_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let (mut said, mut latency) = (Vec::with_capacity(utterances), times());
        let request = |id: usize| {
            let text = traffic::text(id).to_owned();
            ParseRequest { id: id.to_string(), text, ..ParseRequest::default() }
        };
        let mut answered = 0;
        while answered < utterances {
            while said.len() < utterances.min(answered + IN_FLIGHT) {
                requests.send(request(said.len())).await.unwrap();
                said.push(Instant::now());
            }
            let answer = answers.message().await.unwrap().expect("an answer");
            let id = answer.id.parse::<usize>().unwrap();
            if answer.error.as_ref().is_some_and(|error| error.code == Code::ResourceExhausted as i32) {
                tokio::time::sleep(Duration::from_millis(100)).await;
                requests.send(request(id)).await.unwrap();
                continue;
            }
            assert!(answer.error.is_none(), "{answer:?}");
            note(&mut latency, said[id].elapsed());
            answered += 1;
        }
        latency
    })
}
