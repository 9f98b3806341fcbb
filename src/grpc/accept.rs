//! Connections: accepted, counted, bounded, and given a time limit for their handshake. A handshake holds its
//! connection's place, and never the others up.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::grpc::access::Access;
use crate::grpc::connection::Connection;
use crate::grpc::places::{Full, Place, Places};
use crate::health::{Health, Loop};
use crate::telemetry::Metrics;

/// How long a peer may take for TLS and greeting together; one that never speaks would hold a place for ever.
const GREETING_WITHIN: Duration = Duration::from_secs(5);

/// An idle loop shows this often that it turns.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Pause after a failed accept. Without file descriptors the next one fails at once, and would spin.
const BACK_OFF: Duration = Duration::from_millis(100);

/// An idle TCP connection is probed after a minute, and given up after three probes 10 s apart.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Accepts until the stream is dropped; that closes the listener.
pub(super) fn accept(
    listener: TcpListener,
    places: Places,
    access: Access,
    metrics: Metrics,
    health: Health,
) -> ReceiverStream<Result<Connection, Infallible>> {
    // One at a time: while the server doesn't take it, the others wait in the kernel's backlog.
    let (accepted, connections) = mpsc::channel(1);
    let acceptor = Acceptor { listener, places, access, metrics, health };
    tokio::spawn(async move {
        tokio::select! {
            () = acceptor.run(&accepted) => {}
            () = accepted.closed() => {}
        }
        acceptor.health.ended(Loop::Accept);
    });
    ReceiverStream::new(connections)
}

struct Acceptor {
    listener: TcpListener,
    places: Places,
    access: Access,
    metrics: Metrics,
    health: Health,
}

impl Acceptor {
    async fn run(&self, accepted: &Accepted) {
        loop {
            self.health.beat(Loop::Accept);
            let (stream, peer) = match tokio::time::timeout(HEARTBEAT, self.listener.accept()).await {
                Ok(Ok(accepted)) => accepted,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a gRPC connection could not be accepted");
                    tokio::time::sleep(BACK_OFF).await;
                    continue;
                }
                Err(_) => continue,
            };
            // Without a place the connection is closed at once, rather than left waiting in silence.
            let place = match self.places.take(peer.ip()) {
                Ok(place) => place,
                Err(Full(limit)) => {
                    self.metrics.grpc_denied.get_or_create(&[("reason", limit)]).inc();
                    tracing::debug!(%peer, "a gRPC connection was closed: grpc.{limit} are open");
                    continue;
                }
            };
            if set_options(&stream).is_err() {
                // The peer has closed it.
                continue;
            }
            let late = Instant::now() + GREETING_WITHIN;
            if let Some(tls) = self.access.tls() {
                self.shake_hands(tls, stream, place, late, accepted.clone());
            } else if accepted
                .send(Ok(Connection::plain(stream, place, late, self.metrics.clone())))
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// In a task of its own, which ends with the door.
    fn shake_hands(
        &self,
        tls: TlsAcceptor,
        stream: TcpStream,
        place: Place,
        late: Instant,
        accepted: Accepted,
    ) {
        let metrics = self.metrics.clone();
        tokio::spawn(async move {
            let handshake =
                tokio::time::timeout_at(late, Connection::secure(tls, stream, place, late, metrics.clone()));
            let connection = tokio::select! {
                connection = handshake => connection.unwrap_or_else(|late| Err(late.into())),
                () = accepted.closed() => return,
            };
            match connection {
                // Fails when the door has closed.
                Ok(connection) => drop(accepted.send(Ok(connection)).await),
                Err(error) => {
                    metrics.grpc_denied.get_or_create(&[("reason", "tls_handshake")]).inc();
                    tracing::debug!(%error, "a gRPC connection was closed in its TLS handshake");
                }
            }
        });
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

type Accepted = mpsc::Sender<Result<Connection, Infallible>>;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::config::Grpc;

    const SOON: Duration = Duration::from_secs(2);

    async fn start(
        connections_max: usize,
    ) -> (std::net::SocketAddr, ReceiverStream<Result<Connection, Infallible>>, Metrics) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, _registry) = Metrics::new();
        let settings = Grpc {
            listen: address,
            max_connections: connections_max,
            max_connections_per_address: connections_max,
            max_streams: 1,
            tls: None,
            tokens_file: None,
        };
        let access = Access::open(&settings).unwrap();
        let places = Places::new(connections_max, connections_max, metrics.grpc_connections.clone());
        let connections = accept(listener, places, access, metrics.clone(), Health::new(None));
        (address, connections, metrics)
    }

    /// Whether the other side closes the connection soon.
    async fn is_closed(mut client: TcpStream) -> bool {
        let read = tokio::time::timeout(SOON, client.read(&mut [0; 1])).await;
        read.is_ok_and(|read| read.map_or(true, |bytes| bytes == 0))
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_at_once_and_places_come_back() {
        let (address, mut connections, metrics) = start(1).await;
        let _first = TcpStream::connect(address).await.unwrap();
        let held = connections.next().await.unwrap().unwrap();
        assert_eq!(metrics.grpc_connections.get(), 1);

        assert!(is_closed(TcpStream::connect(address).await.unwrap()).await, "the second one waits");
        assert_eq!(metrics.grpc_denied.get_or_create(&[("reason", "max_connections")]).get(), 1);
        drop(held);
        assert_eq!(metrics.grpc_connections.get(), 0);
        let _third = TcpStream::connect(address).await.unwrap();
        assert!(tokio::time::timeout(SOON, connections.next()).await.is_ok(), "the place did not come back");
    }

    #[tokio::test]
    async fn dropping_the_stream_closes_the_listener() {
        let (address, connections, _metrics) = start(1).await;
        drop(connections);
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, refused).await.is_ok(), "it still listens");
    }
}
