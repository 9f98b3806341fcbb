//! rumqttc for MQTT 5.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, PubAckReason,
    Publish as Packet, PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, StateError};
use rumqttc::{NetworkOptions, Outgoing, Transport};
use tokio::sync::mpsc;

use super::connection::{
    CONNECT_TIMEOUT, Closed, End, Limits, Login, MAX_PACKET_BYTES, Message, PACKET_IDS, Publish, Raw,
    Request, Settings, Subscription, window,
};
use super::{explain, probe};
use crate::credentials::Secret;

/// User property with the sender's id.
const ID: &str = "id";

/// The longest expiry that isn't "for ever", which this number means (MQTT 5, 3.1.2.11.2).
const MAX_EXPIRY: u32 = u32::MAX - 1;

pub(super) fn open(
    settings: &Settings,
    transport: Transport,
    login: Option<Login>,
    capacity: usize,
) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
    let will = &settings.will;
    let (topic, payload) = (will.topic.as_str(), will.payload.to_vec());
    options
        .set_transport(transport)
        .set_clean_start(false)
        .set_keep_alive(settings.keep_alive)
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
        .set_manual_acks(true)
        .set_outgoing_inflight_upper_limit(PACKET_IDS)
        .set_request_channel_capacity(capacity)
        .set_network_options(network())
        .set_last_will(LastWill::new(topic, payload, qos(will.qos), will.retain, None))
        .set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(seconds(settings.session_expiry)),
            receive_maximum: Some(settings.receive_maximum),
            max_packet_size: Some(MAX_PACKET_BYTES as u32),
            topic_alias_max: Some(0),
            ..ConnectProperties::new()
        });
    if let Some(Login { user, password }) = login {
        options.set_credentials(user, password.as_ref().map_or("", Secret::expose));
    }
    AsyncClient::new(options, capacity)
}

fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(MAX_EXPIRY).min(MAX_EXPIRY)
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
        Event::Incoming(Incoming::PubAck(puback)) => {
            Raw::PubAck { packet_id: puback.pkid, refused: refusal(puback.reason) }
        }
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

/// Reason code of a PUBACK that refuses (MQTT 5, 3.4.2.1).
fn refusal(reason: PubAckReason) -> Option<u8> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::UnspecifiedError => Some(0x80),
        PubAckReason::ImplementationSpecificError => Some(0x83),
        PubAckReason::NotAuthorized => Some(0x87),
        PubAckReason::TopicNameInvalid => Some(0x90),
        PubAckReason::PacketIdentifierInUse => Some(0x91),
        PubAckReason::QuotaExceeded => Some(0x97),
        PubAckReason::PayloadFormatInvalid => Some(0x99),
    }
}

fn connected(connack: &ConnAck) -> Raw {
    let properties = connack.properties.as_ref();
    let limits = Limits {
        window: window(properties.and_then(|p| p.receive_max)),
        packet: properties.and_then(|p| p.max_packet_size),
        keep_alive: properties.and_then(|p| p.server_keep_alive).map(|s| Duration::from_secs(u64::from(s))),
    };
    Raw::Connected { session_present: connack.session_present, limits }
}

fn granted(code: SubscribeReasonCode) -> Result<(), String> {
    match code {
        SubscribeReasonCode::Success(_) => Ok(()),
        refused => Err(explain::refused_subscription(suback_code(refused))),
    }
}

/// Reason code of a SUBACK (MQTT 5, 3.9.3).
fn suback_code(code: SubscribeReasonCode) -> u8 {
    match code {
        SubscribeReasonCode::Success(qos) => qos as u8,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => 0x80,
        SubscribeReasonCode::ImplementationSpecific => 0x83,
        SubscribeReasonCode::NotAuthorized => 0x87,
        SubscribeReasonCode::TopicFilterInvalid => 0x8F,
        SubscribeReasonCode::PkidInUse => 0x91,
        SubscribeReasonCode::QuotaExceeded => 0x97,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => 0x9E,
        SubscribeReasonCode::SubscriptionIdNotSupported => 0xA1,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => 0xA2,
    }
}

/// Reason code of a CONNACK (MQTT 5, 3.2.2.2). The first of them are those of MQTT 3.1.1.
fn connack_code(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0x00,
        ConnectReturnCode::UnspecifiedError => 0x80,
        ConnectReturnCode::MalformedPacket => 0x81,
        ConnectReturnCode::ProtocolError => 0x82,
        ConnectReturnCode::ImplementationSpecificError => 0x83,
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => 0x84,
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => 0x85,
        ConnectReturnCode::BadUserNamePassword => 0x86,
        ConnectReturnCode::NotAuthorized => 0x87,
        ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::ServerUnavailable => 0x88,
        ConnectReturnCode::ServerBusy => 0x89,
        ConnectReturnCode::Banned => 0x8A,
        ConnectReturnCode::BadAuthenticationMethod => 0x8C,
        ConnectReturnCode::TopicNameInvalid => 0x90,
        ConnectReturnCode::PacketTooLarge => 0x95,
        ConnectReturnCode::QuotaExceeded => 0x97,
        ConnectReturnCode::PayloadFormatInvalid => 0x99,
        ConnectReturnCode::RetainNotSupported => 0x9A,
        ConnectReturnCode::QoSNotSupported => 0x9B,
        ConnectReturnCode::UseAnotherServer => 0x9C,
        ConnectReturnCode::ServerMoved => 0x9D,
        ConnectReturnCode::ConnectionRateExceeded => 0x9F,
    }
}

fn message(packet: Packet) -> Message {
    let properties = packet.properties.unwrap_or_default();
    let of = |name: &str| properties.user_properties.iter().find(|(key, _)| key == name);
    let property = |name: &str| of(name).map(|(_, value)| value.clone());
    Message {
        id: property(ID),
        probe: probe::token(property(probe::PROPERTY), &packet.payload),
        packet_id: packet.pkid,
        // Not UTF-8: matches no route, as does the empty topic.
        topic: String::from_utf8(packet.topic.to_vec()).unwrap_or_default(),
        payload: packet.payload,
        qos: packet.qos as u8,
        retain: packet.retain,
        duplicate: packet.dup,
        expires_in: properties.message_expiry_interval.map(|s| Duration::from_secs(u64::from(s))),
        response_topic: properties.response_topic,
        correlation: properties.correlation_data,
    }
}

/// Whether rumqttc had room for it.
pub(super) fn hand_over(client: &AsyncClient, request: Request) -> bool {
    match request {
        Request::Acknowledge(pkid) => {
            client.try_ack(&Packet { pkid, qos: QoS::AtLeastOnce, ..Packet::default() }).is_ok()
        }
        Request::Publish(publish) => {
            let properties = properties(&publish);
            let Publish { topic, payload, retain, .. } = publish;
            client.try_publish_with_properties(topic, qos(publish.qos), retain, payload, properties).is_ok()
        }
        Request::Subscribe(subscriptions) => {
            client.try_subscribe_many(subscriptions.iter().map(filter)).is_ok()
        }
        Request::Unsubscribe(filter) => client.try_unsubscribe(filter).is_ok(),
        Request::Disconnect => client.try_disconnect().is_ok(),
    }
}

fn properties(publish: &Publish) -> PublishProperties {
    let named = [(ID, &publish.id), (probe::PROPERTY, &publish.probe)];
    let given = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: publish.probe.as_ref().map(|_| seconds(probe::EXPIRY)),
        content_type: Some("application/json".to_owned()),
        correlation_data: publish.correlation.clone(),
        user_properties: given.collect(),
        ..PublishProperties::default()
    }
}

/// Bytes of the packet on the wire.
pub(super) fn size(publish: &Publish) -> usize {
    let properties = Some(properties(publish));
    let packet = Packet::new(&publish.topic, qos(publish.qos), publish.payload.clone(), properties);
    Packet { pkid: 1, ..packet }.size()
}

fn filter(subscription: &Subscription) -> Filter {
    Filter {
        path: subscription.filter.clone(),
        qos: qos(subscription.qos),
        nolocal: subscription.no_local,
        // Else live messages would carry the RETAIN flag as well.
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::Never,
    }
}

fn qos(level: u8) -> QoS {
    if level == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

fn why(error: &ConnectionError) -> Closed {
    let end = match error {
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => End::TakenOver,
        ConnectionError::MqttState(StateError::ConnectionAborted) => End::Silent,
        ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
        ) if explain::is_closing(error) => End::Silent,
        _ => End::Other,
    };
    let reason = match error {
        ConnectionError::ConnectionRefused(code) => explain::refused_connection(connack_code(*code)),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            explain::disconnected(*reason_code as u8, reason_string.as_deref())
        }
        // The only error of rumqttc that doesn't count what it holds among its sources.
        ConnectionError::MqttState(StateError::Deserialization(held)) => explain::error(held),
        other => explain::error(other),
    };
    Closed { reason, end }
}
