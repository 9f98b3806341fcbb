//! What the other side and the settings are called, so that a message names what its reader can change.

/// Names, for messages.
#[derive(Debug)]
pub struct Terms {
    /// The other side.
    pub peer: &'static str,
    /// Where it is set which one.
    pub address: &'static str,
    /// What helps where the other side speaks no TLS.
    pub plain: &'static str,
    /// The CA to trust.
    pub ca: &'static str,
    /// The certificate to show.
    pub cert: &'static str,
    /// Its private key.
    pub key: &'static str,
    /// Where the protocol is set (ALPN).
    pub alpn: &'static str,
}

/// For the MQTT door.
pub const BROKER: Terms = Terms {
    peer: "the broker",
    address: "mqtt.broker",
    plain: "set mqtt.broker to its TLS port, 8883 as a rule",
    ca: "mqtt.tls.ca",
    cert: "mqtt.tls.cert",
    key: "mqtt.tls.key",
    alpn: "the protocols in mqtt.tls.alpn; leave it empty, or set what the broker asks for",
};

/// For commands that ask a running daemon.
pub const GATEWAY: Terms = Terms {
    peer: "the gateway",
    address: "--server",
    plain: "give it as http://HOST:PORT, or set grpc.tls.cert and grpc.tls.key there",
    ca: "--ca",
    cert: "--cert",
    key: "--key",
    alpn: "HTTP/2, and so is no intentd; check the port in --server",
};
