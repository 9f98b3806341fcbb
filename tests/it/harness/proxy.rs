//! A TCP proxy between daemon and broker that writes down every MQTT packet, and can cut the line, after any byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToBroker,
    FromBroker,
}

/// A packet as far as these tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Which connection, counted from 0.
    pub(crate) line: usize,
    pub(crate) way: Way,
    /// Packet type of the fixed header: 3 PUBLISH, 4 PUBACK, 8 SUBSCRIBE, ...
    pub(crate) kind: u8,
    /// Of PUBLISH (QoS 1) and PUBACK, else 0.
    pub(crate) packet_id: u16,
    /// Of PUBLISH.
    pub(crate) topic: String,
    /// Of PUBLISH: the `id` of the utterance in its payload, which is JSON; else empty.
    pub(crate) utterance: String,
    /// Of PUBACK: it says that the publish was not taken (MQTT 5).
    pub(crate) refused: bool,
    /// Of all of it.
    pub(crate) bytes: usize,
}

/// Packet types of MQTT.
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const SUBSCRIBE: u8 = 8;

/// A running proxy.
pub(crate) struct Proxy {
    /// Where the daemon connects to.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    packets: Mutex<Vec<Packet>>,
    open: Mutex<Vec<TcpStream>>,
    lines: AtomicUsize,
    holding: AtomicBool,
    /// Where the next line is to be cut: after so many bytes that go this way.
    next_cut: Mutex<Option<(Way, usize)>>,
    last_cut: Mutex<Option<Instant>>,
    /// Writes no packets down.
    forgetful: bool,
    /// Makes everything late, by chance that begins here.
    late: Option<u64>,
}

impl Proxy {
    /// Listens on a free port and connects each client to `broker`.
    pub(crate) fn start(broker: u16) -> Self {
        Self::start_with(broker, Shared::default())
    }

    /// The same for very many packets: none is written down.
    pub(crate) fn forgetful(broker: u16) -> Self {
        Self::start_with(broker, Shared { forgetful: true, ..Shared::default() })
    }

    /// The same over a long line that loses packets, which TCP sends again: all is late, nothing out of order.
    pub(crate) fn late(broker: u16, seed: u64) -> Self {
        Self::start_with(broker, Shared { late: Some(seed), ..Shared::default() })
    }

    fn start_with(broker: u16, shared: Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(shared);
        let proxy = Self { port, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for (line, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                client.set_nodelay(true).and(upstream.set_nodelay(true)).unwrap();
                shared.open.lock().unwrap().push(client.try_clone().unwrap());
                shared.lines.store(line + 1, Ordering::SeqCst);
                let cut = shared.next_cut.lock().unwrap().take();
                let limit = |way| cut.filter(|cut| cut.0 == way).map_or(usize::MAX, |cut| cut.1);
                forward(&client, &upstream, (line, Way::ToBroker), limit(Way::ToBroker), &shared);
                forward(&upstream, &client, (line, Way::FromBroker), limit(Way::FromBroker), &shared);
            }
        });
        proxy
    }

    /// Everything so far, in order.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        self.shared.packets.lock().unwrap().clone()
    }

    /// How many lines there have been.
    pub(crate) fn lines(&self) -> usize {
        self.shared.lines.load(Ordering::SeqCst)
    }

    /// Lets nothing through to the broker, or all again.
    pub(crate) fn hold(&self, holding: bool) {
        self.shared.holding.store(holding, Ordering::SeqCst);
    }

    /// Cuts the next line after so many bytes that went this way.
    pub(crate) fn cut_next(&self, way: Way, after: usize) {
        *self.shared.next_cut.lock().unwrap() = Some((way, after));
        *self.shared.last_cut.lock().unwrap() = None;
    }

    /// When that happened.
    pub(crate) fn last_cut(&self) -> Option<Instant> {
        *self.shared.last_cut.lock().unwrap()
    }

    /// Ends every open connection at once.
    pub(crate) fn cut(&self) {
        for line in self.shared.open.lock().unwrap().drain(..) {
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

/// A packet is written down before it goes on, so that what it causes stands behind it.
fn forward(
    from: &TcpStream,
    to: &TcpStream,
    (line, way): (usize, Way),
    mut limit: usize,
    shared: &Arc<Shared>,
) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let shared = Arc::clone(shared);
    let late = shared.late.map(|seed| delay(to.try_clone().unwrap(), seed + 2 * line as u64 + way as u64));
    std::thread::spawn(move || {
        let mut pending = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let passed = read.min(limit);
            limit -= passed;
            pending.extend_from_slice(&buffer[..passed]);
            while way == Way::ToBroker && shared.holding.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            while let Some((packet, length)) = parse(&pending, line, way) {
                if !shared.forgetful {
                    shared.packets.lock().unwrap().push(packet);
                }
                pending.drain(..length);
            }
            let sent = match &late {
                Some(late) => late.send(buffer[..passed].to_vec()).is_ok(),
                None => to.write_all(&buffer[..passed]).is_ok(),
            };
            if !sent {
                break;
            }
            if limit == 0 {
                *shared.last_cut.lock().unwrap() = Some(Instant::now());
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        // What is late still arrives.
        if late.is_none() {
            let _ = to.shutdown(Shutdown::Both);
        }
    });
}

/// A line of 200 ms, give or take 50, on which every twentieth chunk is lost, and again each time that it is sent again:
/// after 200 ms, then after twice as long as the time before, up to 3 s in all (RFC 6298, 5.5).
fn delay(mut to: TcpStream, seed: u64) -> mpsc::Sender<Vec<u8>> {
    let (sender, chunks) = mpsc::channel::<(Instant, Vec<u8>)>();
    let (taken, incoming) = mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        for chunk in incoming {
            let mut millis = random.u64(150..250);
            let mut again = 200;
            while random.f64() < 0.05 && again < 3_000 {
                millis += again;
                again *= 2;
            }
            if sender.send((Instant::now() + Duration::from_millis(millis), chunk)).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, chunk) in chunks {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&chunk).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    taken
}

fn parse(bytes: &[u8], line: usize, way: Way) -> Option<(Packet, usize)> {
    let first = *bytes.first()?;
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?;
    let number = |at: usize| body.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let (kind, qos) = (first >> 4, first >> 1 & 3);
    let mut packet = Packet {
        line,
        way,
        kind,
        packet_id: 0,
        topic: String::new(),
        utterance: String::new(),
        refused: false,
        bytes: at + length,
    };
    match kind {
        PUBLISH => {
            let topic = usize::from(number(0));
            packet.topic = String::from_utf8_lossy(&body[2..2 + topic]).into_owned();
            packet.packet_id = if qos > 0 { number(2 + topic) } else { 0 };
            packet.utterance = id(&body[2 + topic..]).unwrap_or_default();
        }
        PUBACK => {
            packet.packet_id = number(0);
            packet.refused = body.get(2).is_some_and(|reason| *reason >= 0x80);
        }
        _ => {}
    }
    Some((packet, at + length))
}

/// The first `"id": "..."`, which in all that these tests say and hear is the utterance's.
fn id(payload: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(payload);
    let (_, after) = text.split_once("\"id\":")?;
    let (id, _) = after.trim_start().strip_prefix('"')?.split_once('"')?;
    Some(id.to_owned())
}
