//! F19 and F20: peers that are slow on purpose, and floods of frames. The offender is cut off or held to what is
//! bounded, while somebody else is served.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd::proto::nlu_client::NluClient;
use prost::Message as _;
use tonic::transport::Channel;

use super::peer::{
    CONTINUATION, DATA, END_HEADERS, End, HEADERS, PING, PREFACE, PRIORITY, Peer, REQUEST, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, call, frame,
};
use super::{OFF, SAID, client, request};
use crate::harness::{Daemon, wait_for};

/// Peers that are slow in one way, and in two others.
const SILENT: usize = 500;
const SLOW: usize = 20;

/// Time for handshake and greeting, and one second more.
const CUT_WITHIN: Duration = Duration::from_secs(6);

/// Frames of a flood, and how many go out at once.
const FRAMES: u32 = 100_000;
const WAVE: u32 = 100;

const ROOM: [(&str, &str); 2] =
    [("INTENTD__GRPC__MAX_CONNECTIONS", "1024"), ("INTENTD__GRPC__MAX_CONNECTIONS_PER_ADDRESS", "1024")];

/// What an unmolested caller sees, and what the daemon needs for it.
struct Healthy {
    client: NluClient<Channel>,
    p99: Duration,
    resident: u64,
    files: usize,
}

impl Healthy {
    async fn of(daemon: &Daemon) -> Self {
        let mut client = client(daemon).await;
        // The first calls find nothing warm.
        p99(&mut client, || false, 200).await;
        let p99 = p99(&mut client, || false, 300).await;
        Self { client, p99, resident: daemon.resident_bytes(), files: daemon.open_files() }
    }

    /// Calls while the trouble lasts; its result.
    async fn during<T: Send + 'static>(
        &mut self,
        what: &str,
        trouble: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let trouble = tokio::task::spawn_blocking(trouble);
        let start = Instant::now();
        let p99 = p99(&mut self.client, || !trouble.is_finished(), 100).await;
        println!("{what}: {:?}, p99 {:?} before, {p99:?} meanwhile", start.elapsed(), self.p99);
        // The flood comes from the same cores: a few of its time slices are no fault of the daemon.
        let most = self.p99 * 3 + Duration::from_millis(20);
        assert!(p99 <= most, "{what}: {:?} became {p99:?}", self.p99);
        trouble.await.unwrap()
    }

    /// Descriptors, memory and CPU as before.
    fn is_back(&self, daemon: &Daemon) {
        wait_for("its files to be closed", || daemon.open_files() <= self.files + 5);
        let grown = daemon.resident_bytes().saturating_sub(self.resident);
        println!("resident memory grew by {} KiB", grown / 1024);
        assert!(grown <= 16 << 20, "resident memory grew by {grown} bytes");
        std::thread::sleep(Duration::from_secs(2));
        let before = daemon.cpu_time();
        std::thread::sleep(Duration::from_secs(1));
        let used = daemon.cpu_time() - before;
        assert!(used <= Duration::from_millis(50), "{used:?} of CPU in an idle second");
    }
}

/// Of calls one after the other: so many, and as long as there is trouble.
async fn p99(client: &mut NluClient<Channel>, trouble: impl Fn() -> bool, least: usize) -> Duration {
    let mut times = Vec::new();
    while times.len() < least || trouble() {
        let start = Instant::now();
        client.parse(request(times.len(), SAID)).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_peers_are_cut_off_while_others_are_served() {
    let daemon = Arc::new(Daemon::spawn(OFF, &ROOM));
    daemon.wait_ready();
    let mut healthy = Healthy::of(&daemon).await;
    let watched = Arc::clone(&daemon);
    let took = healthy
        .during("silent, dripping and half-open peers", move || {
            let connect = |_| TcpStream::connect(("127.0.0.1", watched.grpc)).unwrap();
            let _silent: Vec<_> = (0..SILENT).map(connect).collect();
            let mut dripping: Vec<_> = (0..SLOW).map(connect).collect();
            let half_open: Vec<_> = (0..SLOW).map(connect).collect();
            for mut peer in &half_open {
                peer.write_all(&PREFACE[..10]).unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
            }
            wait_for("all to be accepted", || watched.metric("intentd_grpc_connections") > SILENT as f64);
            let start = Instant::now();
            for byte in PREFACE.chunks(1).cycle() {
                for peer in &mut dripping {
                    // Fails once it is cut off.
                    let _ = peer.write_all(byte);
                }
                std::thread::sleep(Duration::from_secs(1));
                if watched.metric("intentd_grpc_connections") <= 1.0 || start.elapsed() > 2 * CUT_WITHIN {
                    break;
                }
            }
            start.elapsed()
        })
        .await;
    // It looks once a second.
    assert!(took < CUT_WITHIN + Duration::from_secs(1), "cut after {took:?}");
    healthy.is_back(&daemon);
}

/// A peer that greets, floods, and reads all answers.
struct Flood {
    what: &'static str,
    wave: fn(u32) -> Vec<u8>,
    end: fn(End) -> bool,
}

const CALM: u32 = 11;

fn cut(end: End) -> bool {
    matches!(end, End::Cut(_))
}

/// An empty header list, of a stream of the client's (odd).
fn open(n: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 2 * n + 1, &REQUEST)
}

/// HPACK: an entry of 4,000 bytes for the dynamic table, then 4,000 references to it: 16 MB in 8 KB.
fn bomb(n: u32) -> Vec<u8> {
    let mut block = REQUEST.to_vec();
    block.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    block.extend([b'b'; 4000]);
    block.extend([0xbe; 4000]);
    frame(HEADERS, END_HEADERS, 2 * n + 1, &block)
}

const FLOODS: [Flood; 8] = [
    Flood {
        what: "rapid reset",
        wave: |n| [open(n), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat(),
        end: |end| end == End::Cut(Some(CALM)),
    },
    Flood { what: "pings", wave: |n| frame(PING, 0, 0, &[n as u8; 8]), end: cut },
    Flood { what: "settings", wave: |n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, n as u8]), end: cut },
    Flood { what: "priorities", wave: |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1]), end: cut },
    Flood { what: "window updates", wave: |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), end: cut },
    Flood {
        what: "header continuations",
        wave: |n| match n {
            0 => frame(HEADERS, 0, 1, &REQUEST),
            _ => frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']),
        },
        end: cut,
    },
    Flood { what: "empty data", wave: |n| if n == 0 { open(0) } else { frame(DATA, 0, 1, &[]) }, end: cut },
    Flood { what: "header bombs", wave: bomb, end: cut },
];

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_hurt_nobody_else() {
    let daemon = Arc::new(Daemon::start(OFF));
    let mut healthy = Healthy::of(&daemon).await;
    for Flood { what, wave, end } in FLOODS {
        let daemon = Arc::clone(&daemon);
        let ended = healthy
            .during(what, move || {
                let waves = (0..FRAMES / WAVE)
                    .map(move |n| (n * WAVE..(n + 1) * WAVE).flat_map(wave).collect::<Vec<u8>>());
                Peer::greet(&daemon).flood(waves)
            })
            .await;
        println!("{what}: {ended:?}");
        assert!(end(ended), "{what}: {ended:?}");
    }
    healthy.is_back(&daemon);
}

/// Questions whose answers have some kilobytes each: the file in which the service stands.
fn questions() -> Vec<u8> {
    const SERVICE: &[u8] = b"intentd.v1.Nlu";
    let message = [&[0x22, SERVICE.len() as u8], SERVICE].concat();
    [&[0, 0, 0, 0, message.len() as u8], &message[..]].concat().repeat(300)
}

/// Answers that nobody reads pile up in the kernel's buffers alone, and not for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_no_answer_is_cut_off() {
    let daemon = Arc::new(Daemon::start(OFF));
    let mut healthy = Healthy::of(&daemon).await;
    let flooded = Arc::clone(&daemon);
    let took = healthy
        .during("answers that are not read", move || {
            let mut peer = Peer::greet_with_small_buffer(&flooded);
            let head = call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
            let asked = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, 0, 1, &questions()).repeat(8)];
            let start = Instant::now();
            assert!(peer.pour(asked.into_iter()));
            let cut = "intentd_grpc_denied_total{reason=\"not_reading\"}";
            wait_for("it to be cut off", || flooded.metric(cut) == 1.0);
            start.elapsed()
        })
        .await;
    assert!(took < CUT_WITHIN, "{took:?}");
    healthy.is_back(&daemon);
}

/// Streams of such a peer, too few to make others wait, and utterances in each, more than may wait for their answers to be read.
const SHUT: u32 = 3;
const WAITING: usize = 40;

/// A window that is never opened holds its own streams and nothing else: the work behind them ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_opens_no_window_holds_no_work() {
    let daemon = Arc::new(Daemon::start(OFF));
    let mut healthy = Healthy::of(&daemon).await;
    let asked = Arc::clone(&daemon);
    let took = healthy
        .during("windows that are not opened", move || {
            let mut peer = Peer::greet_with_shut_window(&asked);
            let reader = peer.read_on();
            let head = call("/intentd.v1.Nlu/ParseStream");
            let message = request(1, SAID).encode_to_vec();
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let messages = [&[0], &length[..], &message].concat().repeat(WAITING);
            let start = Instant::now();
            assert!(peer.pour((0..SHUT).map(|n| {
                let stream = 2 * n + 1;
                [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, 0, stream, &messages)].concat()
            })));
            let open = || asked.metric("intentd_grpc_streams");
            wait_for("its streams", || open() == f64::from(SHUT));
            wait_for("its work to end", || open() == 0.0);
            let took = start.elapsed();
            peer.hang_up();
            assert_eq!(reader.join().unwrap(), End::Cut(None));
            took
        })
        .await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    healthy.is_back(&daemon);
}
