//! A broker inside the daemon, for a try-out: rumqttd with a 3.1.1 listener only. A listener for MQTT 5 beside it
//! would let one publish with properties end the thread that serves a 3.1.1 subscriber. It keeps everything in
//! memory and promises nothing across the end of the process.
//!
//! rumqttd's router runs in a thread of its own, and a topic that begins with a character outside ASCII makes it
//! panic. So this module runs listener and router itself instead of `Broker::start`, sees the router's end, and
//! starts both anew.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttd::protocol::v4::V4;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::link::MAX_PACKET_BYTES;

/// Clients at a time: a home's devices, and a bound for a mistaken one that reconnects without end.
const MAX_CLIENTS: usize = 200;

/// What one topic filter may hold for slow and absent subscribers: 8 segments of 1 MiB, the oldest dropped first.
const SEGMENT_BYTES: usize = 1024 * 1024;
const SEGMENTS: usize = 8;

/// Packets in one turn of the router for one connection.
const PACKETS_PER_TURN: u64 = 200;

/// rumqttd sends at most 100 publishes ahead of their acknowledgements, whatever stands here; the number bounds
/// the packets that it takes from one connection in one read.
const MAX_INFLIGHT: usize = 100;

/// How often the router is looked after.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// Why the embedded broker can't start.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// The port is taken or the address isn't ours.
    #[error(
        "the embedded broker can't listen on {listen}: {source}. If another MQTT broker runs there, use it with \
         mqtt.broker = \"mqtt://{listen}\"; else choose another address with mqtt.embedded.listen, or switch MQTT \
         off with mqtt.broker = \"off\""
    )]
    Bind {
        /// The configured address.
        listen: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No thread or no event loop for it.
    #[error("the embedded broker can't start its thread: {0}")]
    Thread(std::io::Error),
}

/// The running broker; dropping it ends it.
#[derive(Debug)]
pub struct Embedded {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts the broker. The port is tested first, because rumqttd binds it later and only logs a failure.
    pub fn start(listen: SocketAddr) -> Result<Self, EmbeddedError> {
        TcpListener::bind(listen).map_err(|source| EmbeddedError::Bind { listen, source })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(EmbeddedError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || serve_until(runtime, listen, stopped))
            .map_err(EmbeddedError::Thread)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Fails only when the thread has ended already.
        self.stop.take().map(|stop| stop.send(()));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the embedded broker's thread ended by a panic");
        }
    }
}

/// One life after the other. Connections are tasks of the runtime, so each life has a runtime of its own, and its
/// end closes them.
fn serve_until(mut runtime: Runtime, listen: SocketAddr, mut stopped: oneshot::Receiver<()>) {
    loop {
        let ended = runtime.block_on(async {
            tokio::select! {
                _ = &mut stopped => End::Asked,
                end = live(listen) => end,
            }
        });
        runtime.shutdown_background();
        match ended {
            End::Asked => return,
            End::Broken(why) => {
                tracing::error!(%listen, why, "the embedded broker starts anew; what it held is lost")
            }
        }
        std::thread::sleep(CHECK_EVERY);
        runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the embedded broker can't start anew");
                return;
            }
        };
    }
}

enum End {
    Asked,
    Broken(String),
}

async fn live(listen: SocketAddr) -> End {
    let router = Router::new(0, router_config()).spawn();
    let mut server = Server::new(server_settings(listen), router.clone(), V4);
    let router_ended = async {
        while !router.is_disconnected() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    };
    tokio::select! {
        result = server.start(LinkType::Remote) => match result {
            Ok(()) => End::Broken("its listener ended".to_owned()),
            Err(error) => End::Broken(format!("its listener failed: {error:?}")),
        },
        () = router_ended => End::Broken("its router ended".to_owned()),
    }
}

fn router_config() -> RouterConfig {
    RouterConfig {
        max_connections: MAX_CLIENTS,
        max_outgoing_packet_count: PACKETS_PER_TURN,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    }
}

fn server_settings(listen: SocketAddr) -> ServerSettings {
    ServerSettings {
        name: "embedded-broker".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: MAX_PACKET_BYTES,
            max_inflight_count: MAX_INFLIGHT,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_remedies() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = taken.local_addr().unwrap();
        let message = Embedded::start(listen).unwrap_err().to_string();
        for part in [&listen.to_string(), "mqtt.embedded.listen", "mqtt://", "off"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn its_end_frees_the_port() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        drop(Embedded::start(listen).unwrap());
        Embedded::start(listen).unwrap();
    }
}
