//! A broker that the test plays itself, for what no real one does when asked: it hands utterances out and keeps them in a
//! session as MQTT 5 wants it, and leaves to the test when, how often and how a publish is acknowledged. It knows one client.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectReturnCode, Packet, PingResp, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};

/// What a publish is answered with at once.
pub(crate) type Rule = Box<dyn FnMut(&Publish) -> Vec<PubAck> + Send>;

/// A listening broker.
pub(crate) struct FakeBroker {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

/// A publish that was not acknowledged on the connection that it came on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) packet_id: u16,
    since: Instant,
}

struct State {
    rule: Rule,
    /// Utterances out at a time; none: what the client asks for.
    most: Option<usize>,
    has_session: bool,
    /// Not handed out yet.
    waiting: VecDeque<Publish>,
    /// Handed out and not acknowledged.
    out: VecDeque<Publish>,
    last_id: u16,
    line: Option<Line>,
}

/// The connection.
struct Line {
    number: usize,
    stream: TcpStream,
    receive_maximum: usize,
    held: Vec<Held>,
}

impl FakeBroker {
    /// Acknowledges what it gets, and heeds the client's Receive Maximum.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// Hands out so many utterances before the first is acknowledged, whatever the client asked for.
    pub(crate) fn pushing(most: usize) -> Self {
        Self::start_with(Some(most))
    }

    fn start_with(most: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            rule: Box::new(accept),
            most,
            has_session: false,
            waiting: VecDeque::new(),
            out: VecDeque::new(),
            last_id: 0,
            line: None,
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                stream.set_nodelay(true).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    serve(number, &stream, &state);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, state }
    }

    /// Publishes are answered by this rule from now on. It may not call the broker.
    pub(crate) fn answer(&self, rule: impl FnMut(&Publish) -> Vec<PubAck> + Send + 'static) {
        self.state.lock().unwrap().rule = Box::new(rule);
    }

    /// An utterance of a device.
    pub(crate) fn say(&self, topic: &str, payload: String) {
        let mut state = self.state.lock().unwrap();
        state.waiting.push_back(Publish::new(topic, QoS::AtLeastOnce, payload, None));
        state.hand_out();
    }

    /// Utterances that the client has not acknowledged.
    pub(crate) fn owed(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.waiting.len() + state.out.len()
    }

    /// Publishes of this connection without an acknowledgement, the oldest first.
    pub(crate) fn held(&self) -> Vec<Held> {
        self.state.lock().unwrap().line.as_ref().map_or_else(Vec::new, |line| line.held.clone())
    }

    /// Acknowledges every publish that has been held for so long.
    pub(crate) fn acknowledge_older_than(&self, age: Duration) {
        let mut state = self.state.lock().unwrap();
        let held = state.line.as_ref().map_or_else(Vec::new, |line| line.held.clone());
        for late in held.iter().take_while(|held| held.since.elapsed() >= age) {
            state.acknowledge(PubAck::new(late.packet_id, None));
        }
    }

    /// Acknowledges a publish, or what never was one.
    pub(crate) fn acknowledge(&self, packet_id: u16) {
        self.state.lock().unwrap().acknowledge(PubAck::new(packet_id, None));
    }
}

/// The rule of a good broker.
pub(crate) fn accept(publish: &Publish) -> Vec<PubAck> {
    vec![PubAck::new(publish.pkid, None)]
}

/// The rule of one that says nothing.
pub(crate) fn hold(_: &Publish) -> Vec<PubAck> {
    Vec::new()
}

/// Reads until the connection ends or another has taken its place.
fn serve(number: usize, mut stream: &TcpStream, state: &Mutex<State>) {
    let (mut pending, mut buffer) = (BytesMut::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..read]);
        loop {
            let packet = match Packet::read(&mut pending, None) {
                Err(Error::InsufficientBytes(_)) => break,
                // A DISCONNECT without a reason is an error to this codec.
                Ok(Packet::Disconnect(_)) | Err(_) => return,
                Ok(packet) => packet,
            };
            let mut state = state.lock().unwrap();
            if let Packet::Connect(connect, ..) = &packet {
                state.connect(number, stream.try_clone().unwrap(), connect);
            } else if state.line.as_ref().is_some_and(|line| line.number == number) {
                state.take(packet);
            } else {
                return;
            }
        }
    }
}

impl State {
    fn connect(&mut self, number: usize, stream: TcpStream, connect: &Connect) {
        let asked = connect.properties.as_ref().and_then(|properties| properties.receive_maximum);
        let receive_maximum = asked.map_or(usize::from(u16::MAX), usize::from);
        self.line = Some(Line { number, stream, receive_maximum, held: Vec::new() });
        let session_present = self.has_session;
        let code = ConnectReturnCode::Success;
        self.send(&Packet::ConnAck(ConnAck { session_present, code, properties: None }));
        for publish in self.out.clone() {
            self.send(&Packet::Publish(Publish { dup: true, ..publish }));
        }
        self.hand_out();
    }

    fn take(&mut self, packet: Packet) {
        match packet {
            Packet::Subscribe(subscribe) => {
                let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
                let return_codes = vec![granted; subscribe.filters.len()];
                self.send(&Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None }));
                self.has_session = true;
                self.hand_out();
            }
            Packet::Publish(publish) => {
                if let Some(line) = &mut self.line {
                    line.held.push(Held { packet_id: publish.pkid, since: Instant::now() });
                }
                let acknowledgements = (self.rule)(&publish);
                acknowledgements.into_iter().for_each(|acknowledgement| self.acknowledge(acknowledgement));
            }
            Packet::PubAck(acknowledgement) => {
                self.out.retain(|publish| publish.pkid != acknowledgement.pkid);
                self.hand_out();
            }
            Packet::PingReq(_) => self.send(&Packet::PingResp(PingResp)),
            _ => {}
        }
    }

    fn hand_out(&mut self) {
        let Some(line) = self.line.as_ref().filter(|_| self.has_session) else { return };
        let most = self.most.unwrap_or(line.receive_maximum);
        while self.out.len() < most {
            let Some(publish) = self.waiting.pop_front() else { return };
            let publish = Publish { pkid: self.free_id(), ..publish };
            self.send(&Packet::Publish(publish.clone()));
            self.out.push_back(publish);
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.out.iter().all(|publish| publish.pkid != self.last_id) {
                return self.last_id;
            }
        }
    }

    fn acknowledge(&mut self, acknowledgement: PubAck) {
        if let Some(line) = &mut self.line {
            line.held.retain(|held| held.packet_id != acknowledgement.pkid);
        }
        self.send(&Packet::PubAck(acknowledgement));
    }

    /// Fails where the client is gone, which the reader notices.
    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        if let Some(line) = &mut self.line {
            let _ = line.stream.write_all(&bytes);
        }
    }
}
