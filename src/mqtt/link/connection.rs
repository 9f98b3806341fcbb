//! One connection to the broker, in words of its own, so that MQTT 5 and 3.1.1 differ in `v5.rs` and `v311.rs`
//! alone. Every connection is a new rumqttc client: its packet ids and its list of collisions outlive a
//! reconnect, and it publishes again what delivery would publish again as well.
//!
//! A task of its own polls rumqttc and does nothing else. It may wait for the link to take an event, because the
//! link never waits for it: what rumqttc has no room for is kept here and tried again on the next turn.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::tokens::Tokens;
use super::{v5, v311};
use crate::config::{Mistake, Protocol};
use crate::credentials::Secret;
use crate::tls::{self, ClientFiles};

/// Largest packet that is taken from the broker. Above every limit of ours, so that too long an utterance becomes
/// a dead letter and not a lost connection, which the broker would answer with the same utterance, for ever.
pub(in crate::mqtt) const MAX_PACKET_BYTES: usize = 256 * 1024;

/// The same under MQTT 3.1.1, where the broker can't be told a limit and a larger packet ends every connection.
pub(super) const MAX_PACKET_BYTES_V311: usize = 4 * 1024 * 1024;

/// Publishes that rumqttc numbers at most. Much larger than the window, so that one slow acknowledgement seldom
/// collides with a packet id that is used again.
pub(super) const PACKET_IDS: u16 = 1024;

/// Our own publishes without an acknowledgement, where the broker allows as many.
pub(super) const MAX_WINDOW: u16 = 128;

/// TCP, CONNECT and CONNACK together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Events between the two tasks; the link takes them at once.
const EVENT_BACKLOG: usize = 256;

/// What a connection needs to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) protocol: Protocol,
    pub(super) host: String,
    pub(super) port: u16,
    /// Files for TLS; none: plain text.
    pub(super) tls: Option<ClientFiles>,
    pub(super) client_id: String,
    /// User name and the file with the password.
    pub(super) login: Option<(String, Option<PathBuf>)>,
    pub(super) keep_alive: Duration,
    pub(super) session_expiry: Duration,
    pub(super) receive_maximum: u16,
    /// Published by the broker when the connection ends without a DISCONNECT.
    pub(super) will: Publish,
}

/// A message to the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// 0 or 1.
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// MQTT 5: user property `id`.
    pub(super) id: Option<String>,
    /// MQTT 5.
    pub(super) correlation: Option<Bytes>,
    /// MQTT 5: the token of a probe.
    pub(super) probe: Option<String>,
}

/// A message from the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::mqtt) struct Message {
    pub(in crate::mqtt) packet_id: u16,
    pub(in crate::mqtt) topic: String,
    pub(in crate::mqtt) payload: Bytes,
    pub(in crate::mqtt) qos: u8,
    pub(in crate::mqtt) retain: bool,
    pub(in crate::mqtt) duplicate: bool,
    /// MQTT 5: what is left of the Message Expiry Interval.
    pub(in crate::mqtt) expires_in: Option<Duration>,
    /// MQTT 5.
    pub(in crate::mqtt) response_topic: Option<String>,
    /// MQTT 5.
    pub(in crate::mqtt) correlation: Option<Bytes>,
    /// MQTT 5: user property `id`.
    pub(in crate::mqtt) id: Option<String>,
    /// It is a probe, whoever's, with this token.
    pub(in crate::mqtt) probe: Option<String>,
}

/// What one filter asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) filter: String,
    pub(super) qos: u8,
    pub(super) shared: bool,
    /// MQTT 5: what we publish ourselves doesn't come back.
    pub(super) no_local: bool,
}

/// What the broker allows on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Our own publishes without an acknowledgement; below rumqttc's limit, at which it would also hold back ours.
    pub(super) window: u16,
    /// Largest packet that the broker takes.
    pub(super) packet: Option<u32>,
    /// The broker's own idea of the keep-alive.
    pub(super) keep_alive: Option<Duration>,
}

/// What happened, for the link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<T> {
    /// CONNACK.
    Connected { session_present: bool, limits: Limits },
    /// SUBACK: the refused filters, each as (its place in the request, reason).
    Subscribed { refused: Vec<(usize, String)> },
    /// UNSUBACK.
    Unsubscribed,
    /// PUBLISH.
    Message(Message),
    /// PUBACK with the reason code of a refusal, or for QoS 0: written.
    Published { token: T, refused: Option<u8> },
    /// The end; nothing follows.
    Closed(Closed),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) reason: String,
    pub(super) end: End,
}

/// What kind of end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The broker says that another client has connected with our id.
    TakenOver,
    /// The broker closed without a word.
    Silent,
    /// Anything else.
    Other,
}

impl Closed {
    /// For a reason of its own.
    pub(super) fn because(reason: String) -> Self {
        Self { reason, end: End::Other }
    }
}

/// The same as rumqttc sees it: packet ids instead of tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Raw {
    Connected {
        session_present: bool,
        limits: Limits,
    },
    SubscribeSent(u16),
    SubAck {
        packet_id: u16,
        codes: Vec<Result<(), String>>,
    },
    UnsubAck,
    Message(Message),
    /// A publish got its packet id; 0 for QoS 0.
    Sent(u16),
    /// A publish waits, because its packet id is still in use; `Sent` follows.
    Held,
    PubAck {
        packet_id: u16,
        refused: Option<u8>,
    },
    /// Anything else that shows that rumqttc turns.
    Turned,
    Closed(Closed),
}

/// What the link asks of rumqttc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Acknowledge(u16),
    Publish(Publish),
    Subscribe(Vec<Subscription>),
    Unsubscribe(String),
    Disconnect,
}

/// What the broker is shown.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Option<Secret>,
}

/// A connection that is being made, stands, or has ended.
pub(super) struct Connection<T> {
    client: Client,
    events: mpsc::Receiver<Raw>,
    poll: JoinHandle<()>,
    /// Not yet taken by rumqttc.
    backlog: VecDeque<Request>,
    tokens: Tokens<T>,
    subscribe_id: Option<u16>,
    last_turn: Instant,
    keep_alive: Duration,
}

enum Client {
    V5(rumqttc::v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

impl<T> Connection<T> {
    /// Begins to connect. Certificates, keys and the password are read for each connection, so that renewed ones count by
    /// themselves.
    pub(super) fn open(settings: &Settings) -> Result<Self, Mistake> {
        let (sender, events) = mpsc::channel(EVENT_BACKLOG);
        let (transport, login) = (transport(settings)?, login(settings)?);
        let (client, poll) = match settings.protocol {
            Protocol::V5 => {
                let (client, event_loop) = v5::open(settings, transport, login, request_capacity(settings));
                (Client::V5(client), tokio::spawn(v5::poll(event_loop, sender)))
            }
            Protocol::V311 => {
                let (client, event_loop) = v311::open(settings, transport, login, request_capacity(settings));
                (Client::V311(client), tokio::spawn(v311::poll(event_loop, sender)))
            }
        };
        Ok(Self {
            client,
            events,
            poll,
            backlog: VecDeque::new(),
            tokens: Tokens::default(),
            subscribe_id: None,
            last_turn: Instant::now(),
            keep_alive: settings.keep_alive,
        })
    }

    /// Hands a publish over. The token comes back with its acknowledgement, if the connection lasts as long.
    pub(super) fn publish(&mut self, publish: Publish, token: T) {
        self.tokens.handed_over.push_back(token);
        self.request(Request::Publish(publish));
    }

    /// Hands over anything else.
    pub(super) fn request(&mut self, request: Request) {
        self.backlog.push_back(request);
        self.flush();
    }

    /// The next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event<T> {
        loop {
            // A stuck socket makes rumqttc wait in a write, where it doesn't see that the keep-alive has passed.
            let stuck_at = self.last_turn + 2 * self.keep_alive + CONNECT_TIMEOUT;
            let raw = match tokio::time::timeout_at(stuck_at, self.events.recv()).await {
                Ok(Some(raw)) => raw,
                Ok(None) => return closed("the connection's task ended".to_owned()),
                Err(_) => return closed("the broker didn't answer for two keep-alives".to_owned()),
            };
            self.last_turn = Instant::now();
            let event = self.translate(raw);
            self.flush();
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// When the oldest publish without a PUBACK was written.
    pub(super) fn oldest_publish(&self) -> Option<std::time::Instant> {
        self.tokens.oldest().map(Instant::into_std)
    }

    fn translate(&mut self, raw: Raw) -> Option<Event<T>> {
        match raw {
            Raw::Connected { session_present, limits } => {
                self.keep_alive = limits.keep_alive.unwrap_or(self.keep_alive);
                Some(Event::Connected { session_present, limits })
            }
            Raw::SubscribeSent(packet_id) => {
                self.subscribe_id = Some(packet_id);
                None
            }
            Raw::SubAck { packet_id, codes } if self.subscribe_id == Some(packet_id) => {
                let refused = codes.into_iter().enumerate().filter_map(|(i, code)| Some((i, code.err()?)));
                let refused = refused.collect();
                Some(Event::Subscribed { refused })
            }
            Raw::SubAck { .. } | Raw::Turned => None,
            Raw::UnsubAck => Some(Event::Unsubscribed),
            Raw::Message(message) => Some(Event::Message(message)),
            Raw::Sent(packet_id) => {
                let token = self.tokens.sent(packet_id)?;
                Some(Event::Published { token, refused: None })
            }
            Raw::Held => {
                self.tokens.held();
                None
            }
            Raw::PubAck { packet_id, refused } => {
                let token = self.tokens.acknowledged(packet_id)?;
                Some(Event::Published { token, refused })
            }
            Raw::Closed(closed) => Some(Event::Closed(closed)),
        }
    }

    fn flush(&mut self) {
        while let Some(request) = self.backlog.pop_front() {
            let taken = match &self.client {
                Client::V5(client) => v5::hand_over(client, request.clone()),
                Client::V311(client) => v311::hand_over(client, request.clone()),
            };
            if !taken {
                self.backlog.push_front(request);
                return;
            }
        }
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

/// Given explicitly: rumqttc's own choice of trusted certificates panics where a system has none.
fn transport(settings: &Settings) -> Result<Transport, Mistake> {
    let Some(files) = &settings.tls else { return Ok(Transport::Tcp) };
    Ok(Transport::tls_with_config(TlsConfiguration::Rustls(tls::client(files, &tls::BROKER)?)))
}

/// User name and password.
fn login(settings: &Settings) -> Result<Option<Login>, Mistake> {
    let Some((user, file)) = &settings.login else { return Ok(None) };
    let password = file.as_deref().map(Secret::read).transpose();
    let password = password.map_err(|why| Mistake::new("mqtt.password_file", why))?;
    Ok(Some(Login { user: user.clone(), password }))
}

/// Acknowledgements and publishes share rumqttc's channel.
fn request_capacity(settings: &Settings) -> usize {
    2 * (usize::from(settings.receive_maximum) + usize::from(MAX_WINDOW)) + 8
}

/// The window for what rumqttc and the broker allow: one below, so that rumqttc never stops taking requests.
pub(super) fn window(receive_maximum: Option<u16>) -> u16 {
    receive_maximum.unwrap_or(u16::MAX).min(PACKET_IDS).saturating_sub(1).clamp(1, MAX_WINDOW)
}

fn closed<T>(reason: String) -> Event<T> {
    Event::Closed(Closed::because(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_stays_below_both_limits() {
        assert_eq!(window(None), MAX_WINDOW);
        assert_eq!(window(Some(20)), 19);
        assert_eq!(window(Some(1)), 1);
        assert_eq!(window(Some(0)), 1);
    }
}
