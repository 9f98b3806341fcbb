//! What the broker's refusals mean for whoever can mend them, and which setting to look at. The reason codes are those of
//! MQTT 5; `v311` translates its few.

use std::io;

use crate::config::Protocol;
use crate::tls;

/// A CONNACK that refuses.
pub(super) fn refused_connection(code: u8) -> String {
    let (what, remedy) = match code {
        0x84 => (
            "it does not speak this version of MQTT",
            "set mqtt.protocol to the other one, \"5\" or \"3.1.1\"",
        ),
        0x85 => ("it does not accept the client id", "set mqtt.client_id, or gateway, to one that it does"),
        0x86 => ("user name or password is wrong", "check mqtt.username and mqtt.password_file"),
        0x87 => (
            "this client is not authorized",
            "check mqtt.username and mqtt.password_file, and whom the broker lets in by which mqtt.client_id",
        ),
        0x88 => ("it is not available", "its log says why"),
        0x89 => ("it is busy", "look at its load and its limit on connections"),
        0x8A => (
            "it has banned this client",
            "lift the ban there; brokers ban who connects very often, as two with one gateway or mqtt.client_id do",
        ),
        0x8C => (
            "it wants a way of authentication that is not spoken here",
            "let it take mqtt.username and mqtt.password_file, or a certificate (mqtt.tls.cert)",
        ),
        0x90 => (
            "it does not accept the topic of the last will, intentd/{gateway}/status",
            "allow it there, or set another gateway",
        ),
        0x95 => ("the CONNECT is larger than it takes", "raise its limit on the size of packets"),
        0x97 => (
            "a quota is used up",
            "raise its limits on the connections, sessions or messages of this client (mqtt.username, mqtt.client_id)",
        ),
        0x9A => ("it keeps no retained messages, and the daemon's status is one", "allow them there"),
        0x9B => ("it does not take QoS 1, without which nothing is sure to arrive", "allow it there"),
        0x9C | 0x9D => ("it wants us at another server", "set mqtt.broker to that one"),
        0x9F => ("we connect too often for it", "raise its limit on the rate of connections"),
        _ => {
            return format!(
                "the broker refused the connection with reason code 0x{code:02X}; its log says why"
            );
        }
    };
    format!("the broker refused the connection: {what}; {remedy}")
}

/// A DISCONNECT of the broker. That of a takeover has words of its own.
pub(super) fn disconnected(code: u8, why: Option<&str>) -> String {
    let what = match code {
        0x87 => {
            "this client is not authorized; check what the broker allows mqtt.username and mqtt.client_id"
        }
        0x89 => "it is busy; look at its load",
        0x8B => "it is shutting down",
        0x8D => "it heard nothing of us for longer than mqtt.keep_alive",
        0x93 => "it took more than its receive maximum",
        0x95 => "a packet was larger than it takes; raise its limit on the size of packets",
        0x96 | 0x9F => "there is too much at a time for it; raise its limits on rates",
        0x97 => "a quota is used up; raise its limits for mqtt.username or mqtt.client_id",
        0x98 => "somebody who administers it ended the connection",
        0x9C | 0x9D => "it wants us at another server; set mqtt.broker to that one",
        0x9E => "it has no shared subscriptions; remove `share` from mqtt.routes",
        0xA0 => "the time that it allows a connection is over",
        0xA2 => "it has no wildcards; give mqtt.routes topics without {names}",
        _ => "its log says why",
    };
    let said = why.map(|why| format!(", \"{}\"", why.escape_debug())).unwrap_or_default();
    format!("the broker ended the connection (reason code 0x{code:02X}{said}): {what}")
}

/// A SUBACK that refuses; behind the filter that it is about.
pub(super) fn refused_subscription(code: u8) -> String {
    let what = match code {
        0x80 | 0x87 => "let this client read it in the broker's access list",
        0x8F => "the broker does not take such a filter; change subscribe in mqtt.routes",
        0x97 => "a quota is used up; raise the broker's limit on subscriptions",
        0x9E => "the broker has no shared subscriptions; remove `share` from mqtt.routes",
        0xA2 => "the broker has no wildcards; give mqtt.routes topics without {names}",
        _ => "the broker's log says why",
    };
    format!("reason code 0x{code:02X}; {what}")
}

/// A PUBACK that refuses.
pub(super) fn refused_publication(code: u8) -> String {
    let what = match code {
        0x87 => "let this client write it in the broker's access list",
        0x97 => "a quota is used up; raise the broker's limits",
        _ => "the broker's log says why",
    };
    format!("reason code 0x{code:02X}; {what}")
}

/// The end of a connection that the broker closed instead of an answer to the CONNECT, which is how some refuse.
pub(super) fn closed_unanswered(protocol: Protocol) -> String {
    let version = match protocol {
        Protocol::V5 => "if it does not speak MQTT 5, set mqtt.protocol to \"3.1.1\"; ",
        Protocol::V311 => "",
    };
    format!(
        "the broker closed the connection instead of answering; {version}if its port is one for TLS, set mqtt.broker to \
         mqtts://; else its log says why"
    )
}

/// Why a connection ended, in words that help where TLS is the reason.
pub(super) fn error(error: &(dyn std::error::Error + 'static)) -> String {
    let in_handshake = error.source().is_some_and(|source| source.is::<rumqttc::TlsError>());
    tls::explain(error, &tls::BROKER).unwrap_or_else(|| match in_handshake {
        true => format!(
            "{error}: the broker broke the TLS handshake off; set mqtt.broker to its TLS port, 8883 as a rule"
        ),
        false => error.to_string(),
    })
}

/// Whether an error of the socket is what is left of a peer that closed it.
pub(super) fn is_closing(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What whoever reads it must look at.
    #[test]
    fn refusals_name_the_setting() {
        for (code, setting) in [
            (0x84, "mqtt.protocol"),
            (0x85, "mqtt.client_id"),
            (0x86, "mqtt.password_file"),
            (0x87, "mqtt.username"),
            (0x89, "limit on connections"),
            (0x8A, "gateway"),
            (0x8C, "mqtt.tls.cert"),
            (0x90, "gateway"),
            (0x97, "quota"),
            (0x9D, "mqtt.broker"),
            (0x83, "0x83"),
        ] {
            assert!(refused_connection(code).contains(setting), "{}", refused_connection(code));
        }
        assert!(refused_subscription(0x9E).contains("share") && disconnected(0x9E, None).contains("share"));
        assert!(closed_unanswered(Protocol::V5).contains("3.1.1"));
        assert!(!closed_unanswered(Protocol::V311).contains("3.1.1"));
    }

    /// The broker is a stranger, and its words go to the log and to readiness.
    #[test]
    fn the_brokers_own_words_are_escaped() {
        assert!(disconnected(0x98, Some("a\nb\u{1b}[31m")).contains("\"a\\nb\\u{1b}[31m\""));
    }
}
