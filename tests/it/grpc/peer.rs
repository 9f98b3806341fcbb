//! A peer that speaks HTTP/2 by hand (RFC 9113), and so may speak it badly.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::Daemon;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// `:method POST, :scheme http, :path /`, of HPACK's static table.
pub(super) const REQUEST: [u8; 3] = [0x83, 0x86, 0x84];

/// A window that is never full: of each stream, as a setting, and of the connection.
const WIDE: [u8; 4] = [0x7f, 0, 0, 0];
const WIDE_STREAMS: [u8; 6] = [0, 4, 0x7f, 0, 0, 0];

/// A window of streams that lets no answer through.
const SHUT_STREAMS: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// Marks the pong that ends a flood which the daemon endured.
const LAST: [u8; 8] = *b"the last";

/// No flood takes longer to be cut off or endured.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call, in HPACK's plainest form.
pub(super) fn call(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(":path", path), ("content-type", "application/grpc"), ("te", "trailers")] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    block
}

/// How a flood ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was read and answered.
    Endured,
    /// The daemon hung up; with the error of its GOAWAY, where that arrived.
    Cut(Option<u32>),
}

/// A connection that has sent preface and settings.
pub(super) struct Peer {
    stream: TcpStream,
}

impl Peer {
    pub(super) fn greet(daemon: &Daemon) -> Self {
        Self::over(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(), daemon, WIDE_STREAMS)
    }

    /// One that reads, but opens no window for an answer.
    pub(super) fn greet_with_shut_window(daemon: &Daemon) -> Self {
        Self::over(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(), daemon, SHUT_STREAMS)
    }

    /// One for which the kernel keeps little, so that it is soon full.
    pub(super) fn greet_with_small_buffer(daemon: &Daemon) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket, daemon, WIDE_STREAMS)
    }

    fn over(socket: Socket, daemon: &Daemon, streams: [u8; 6]) -> Self {
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], daemon.grpc)).into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let settings = [frame(SETTINGS, 0, 0, &streams), frame(WINDOW_UPDATE, 0, 0, &WIDE)].concat();
        stream.write_all(&[PREFACE, &settings].concat()).unwrap();
        Self { stream }
    }

    /// Sends waves until the last or until the daemon hangs up, while reading what it answers.
    pub(super) fn flood(&mut self, waves: impl Iterator<Item = Vec<u8>>) -> End {
        let reader = self.read_on();
        if self.pour(waves) {
            // Fails where the daemon has just hung up, as the reader will tell.
            let _ = self.stream.write_all(&frame(PING, 0, 0, &LAST));
        }
        reader.join().unwrap()
    }

    /// The same without reading. Whether all of it was taken.
    pub(super) fn pour(&mut self, waves: impl Iterator<Item = Vec<u8>>) -> bool {
        for wave in waves {
            if self.stream.write_all(&wave).is_err() {
                return false;
            }
        }
        true
    }

    pub(super) fn hang_up(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }

    /// What the daemon says from here on.
    pub(super) fn read_on(&self) -> JoinHandle<End> {
        let mut stream = self.stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut goaway = None;
            loop {
                match read_frame(&mut stream) {
                    Some((PING, ACK, payload)) if payload == LAST => return End::Endured,
                    Some((GOAWAY, _, payload)) => {
                        goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                    }
                    Some(_) => {}
                    None => {
                        // The writer learns of it too.
                        let _ = stream.shutdown(Shutdown::Both);
                        return End::Cut(goaway);
                    }
                }
            }
        })
    }
}

/// Kind, flags and payload; none once the daemon has hung up.
fn read_frame(stream: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).map_err(|error| assert!(!waited(&error), "silence")).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], payload))
}

fn waited(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
