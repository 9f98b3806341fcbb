//! rumqttc for MQTT 3.1.1.

use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::{ConnAck, Publish as Packet, SubscribeReasonCode};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions,
    NetworkOptions, Outgoing, QoS, StateError, SubscribeFilter, Transport,
};
use tokio::sync::mpsc;

use super::connection::{
    CONNECT_TIMEOUT, Closed, End, Limits, Login, MAX_PACKET_BYTES_V311, Message, PACKET_IDS, Publish, Raw,
    Request, Settings, window,
};
use super::{explain, probe};
use crate::credentials::Secret;

pub(super) fn open(
    settings: &Settings,
    transport: Transport,
    login: Option<Login>,
    capacity: usize,
) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
    let will = &settings.will;
    options
        .set_transport(transport)
        .set_clean_session(false)
        .set_keep_alive(settings.keep_alive)
        .set_manual_acks(true)
        .set_inflight(PACKET_IDS)
        .set_request_channel_capacity(capacity)
        .set_max_packet_size(MAX_PACKET_BYTES_V311, MAX_PACKET_BYTES_V311)
        .set_last_will(LastWill::new(&will.topic, will.payload.to_vec(), qos(will.qos), will.retain));
    if let Some(Login { user, password }) = login {
        options.set_credentials(user, password.as_ref().map_or("", Secret::expose));
    }
    let (client, mut event_loop) = AsyncClient::new(options, capacity);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    event_loop.set_network_options(network);
    (client, event_loop)
}

/// Polls until the connection ends or nobody listens any more.
pub(super) async fn poll(mut event_loop: EventLoop, events: mpsc::Sender<Raw>) {
    loop {
        match event_loop.poll().await {
            Ok(event) => {
                if events.send(translate(event)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // What was read in the same turn as the end: each acknowledgement spares a second publication.
                for event in event_loop.state.events.drain(..) {
                    let _ = events.send(translate(event)).await;
                }
                let _ = events.send(Raw::Closed(why(&error))).await;
                return;
            }
        }
    }
}

fn translate(event: Event) -> Raw {
    match event {
        Event::Incoming(Incoming::ConnAck(connack)) => connected(&connack),
        Event::Incoming(Incoming::Publish(packet)) => Raw::Message(message(packet)),
        Event::Incoming(Incoming::PubAck(puback)) => Raw::PubAck { packet_id: puback.pkid, refused: None },
        Event::Incoming(Incoming::SubAck(suback)) => Raw::SubAck {
            packet_id: suback.pkid,
            codes: suback.return_codes.into_iter().map(granted).collect(),
        },
        Event::Incoming(Incoming::UnsubAck(_)) => Raw::UnsubAck,
        Event::Outgoing(Outgoing::Subscribe(packet_id)) => Raw::SubscribeSent(packet_id),
        Event::Outgoing(Outgoing::Publish(packet_id)) => Raw::Sent(packet_id),
        Event::Outgoing(Outgoing::AwaitAck(_)) => Raw::Held,
        _ => Raw::Turned,
    }
}

fn connected(connack: &ConnAck) -> Raw {
    let limits = Limits { window: window(None), packet: None, keep_alive: None };
    Raw::Connected { session_present: connack.session_present, limits }
}

fn granted(code: SubscribeReasonCode) -> Result<(), String> {
    match code {
        SubscribeReasonCode::Success(_) => Ok(()),
        SubscribeReasonCode::Failure => Err(explain::refused_subscription(0x80)),
    }
}

fn message(packet: Packet) -> Message {
    Message {
        packet_id: packet.pkid,
        probe: probe::token(None, &packet.payload),
        topic: packet.topic,
        payload: packet.payload,
        qos: packet.qos as u8,
        retain: packet.retain,
        duplicate: packet.dup,
        ..Message::default()
    }
}

/// Whether rumqttc had room for it.
pub(super) fn hand_over(client: &AsyncClient, request: Request) -> bool {
    match request {
        Request::Acknowledge(pkid) => {
            let packet = Packet::new("", QoS::AtLeastOnce, Vec::new());
            client.try_ack(&Packet { pkid, ..packet }).is_ok()
        }
        Request::Publish(Publish { topic, payload, qos: level, retain, .. }) => {
            client.try_publish(topic, qos(level), retain, payload).is_ok()
        }
        Request::Subscribe(subscriptions) => {
            let filters = subscriptions.into_iter().map(|s| SubscribeFilter::new(s.filter, qos(s.qos)));
            client.try_subscribe_many(filters).is_ok()
        }
        Request::Unsubscribe(filter) => client.try_unsubscribe(filter).is_ok(),
        Request::Disconnect => client.try_disconnect().is_ok(),
    }
}

fn qos(level: u8) -> QoS {
    if level == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

fn why(error: &ConnectionError) -> Closed {
    let end =
        match error {
            ConnectionError::MqttState(StateError::ConnectionAborted) => End::Silent,
            ConnectionError::MqttState(
                StateError::Io(error) | StateError::Deserialization(Error::Io(error)),
            ) if explain::is_closing(error) => End::Silent,
            _ => End::Other,
        };
    let reason = match error {
        ConnectionError::ConnectionRefused(code) => explain::refused_connection(as_mqtt_5(*code)),
        // The broker sends it again on each connection, for ever.
        ConnectionError::MqttState(StateError::Deserialization(Error::PayloadSizeLimitExceeded(bytes))) => {
            format!(
                "the broker sends a packet of {bytes} bytes, and under MQTT 3.1.1 can't be told the limit of \
                 {MAX_PACKET_BYTES_V311}; set mqtt.protocol to \"5\", or the broker's own limit for messages"
            )
        }
        other => explain::error(other),
    };
    Closed { reason, end }
}

/// What MQTT 5 calls the return code of a CONNACK (3.2.2.3 there and here).
fn as_mqtt_5(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0x00,
        ConnectReturnCode::RefusedProtocolVersion => 0x84,
        ConnectReturnCode::BadClientId => 0x85,
        ConnectReturnCode::ServiceUnavailable => 0x88,
        ConnectReturnCode::BadUserNamePassword => 0x86,
        ConnectReturnCode::NotAuthorized => 0x87,
    }
}
