//! One connection below HTTP/2, over TCP or TLS. HTTP/2's own keep-alive finds peers that are gone; this finds those
//! that are there and no good: who doesn't speak HTTP/2 in time, takes no answer, or floods.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::grpc::frames::{Frames, HEAD_BYTES, PREFACE_BYTES};
use crate::grpc::places::Place;
use crate::telemetry::Metrics;

/// HTTP/2's preface and the head of the SETTINGS frame that must follow it (RFC 9113, 3.4).
const GREETING_BYTES: usize = PREFACE_BYTES + HEAD_BYTES;

/// How long a peer may take not a single byte of what waits for it. While that is so, h2 reads nothing either, and
/// would notice only by its next keep-alive.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What HTTP/2 is spoken over: TCP, or TLS over it.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection whose peer is about to speak HTTP/2.
pub(super) struct Connection {
    stream: Box<dyn Wire>,
    greeting: Option<Greeting>,
    frames: Frames,
    /// When to give up; none while the peer takes what it is sent.
    stalled: Option<Pin<Box<Sleep>>>,
    peer: TcpConnectInfo,
    metrics: Metrics,
    _place: Place,
}

/// What a peer still owes before HTTP/2 looks after it.
struct Greeting {
    bytes: usize,
    late: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, place: Place, late: Instant, metrics: Metrics) -> Self {
        let peer = stream.connect_info();
        Self::new(Box::new(stream), peer, place, late, metrics)
    }

    pub(super) async fn secure(
        tls: TlsAcceptor,
        stream: TcpStream,
        place: Place,
        late: Instant,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let peer = stream.connect_info();
        Ok(Self::new(Box::new(tls.accept(stream).await?), peer, place, late, metrics))
    }

    fn new(
        stream: Box<dyn Wire>,
        peer: TcpConnectInfo,
        place: Place,
        late: Instant,
        metrics: Metrics,
    ) -> Self {
        let late = Box::pin(tokio::time::sleep_until(late));
        let greeting = Some(Greeting { bytes: GREETING_BYTES, late });
        let frames = Frames::new(Instant::now().into_std());
        Self { stream, greeting, frames, stalled: None, peer, metrics, _place: place }
    }

    /// What ends the connection.
    fn cut<T>(&self, reason: &'static str, kind: io::ErrorKind, why: &'static str) -> Poll<io::Result<T>> {
        self.metrics.grpc_denied.get_or_create(&[("reason", reason)]).inc();
        tracing::debug!(peer = ?self.peer.remote_addr(), "a gRPC connection was cut: {why}");
        Poll::Ready(Err(io::Error::new(kind, why)))
    }

    /// Passes on what became of sending, unless the peer has taken nothing for too long.
    fn unless_stalled<T>(&mut self, cx: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.stalled = None;
            return sent;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED_AFTER)));
        if stalled.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.stalled = None;
        self.cut("not_reading", io::ErrorKind::TimedOut, "the peer took nothing of what it was sent")
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_ready() {
            let bytes = &buf.filled()[before..];
            if let Some(greeting) = &mut this.greeting {
                greeting.bytes = greeting.bytes.saturating_sub(bytes.len());
                if greeting.bytes == 0 {
                    this.greeting = None;
                }
            }
            if !this.frames.take(bytes, Instant::now().into_std()) {
                buf.set_filled(before);
                return this.cut("flood", io::ErrorKind::InvalidData, "it flooded the daemon with frames");
            }
            return read;
        }
        if let Some(greeting) = &mut this.greeting
            && greeting.late.as_mut().poll(cx).is_ready()
        {
            return this.cut("no_greeting", io::ErrorKind::TimedOut, "it did not speak HTTP/2 in time");
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.unless_stalled(cx, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.unless_stalled(cx, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(cx);
        self.unless_stalled(cx, sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.unless_stalled(cx, sent)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.peer.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::grpc::places::Places;

    const SOON: Duration = Duration::from_secs(2);

    /// A client, and its connection on our side.
    async fn pair() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let (metrics, _registry) = Metrics::new();
        let place = Places::new(1, 1, metrics.grpc_connections.clone()).take(peer.ip()).unwrap();
        (client, Connection::plain(stream, place, Instant::now() + SOON, metrics))
    }

    #[tokio::test]
    async fn a_peer_that_drips_its_greeting_is_cut_off() {
        let (mut client, mut held) = pair().await;
        let short = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
        held.greeting = Some(Greeting { bytes: GREETING_BYTES, late: short });
        client.write_all(b"PRI * HTTP/2.0").await.unwrap();
        let mut all = Vec::new();
        let read = tokio::time::timeout(SOON, held.read_to_end(&mut all)).await.expect("it waits for ever");
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(all, b"PRI * HTTP/2.0");
    }

    #[tokio::test]
    async fn a_peer_that_has_greeted_may_be_silent() {
        let (mut client, mut held) = pair().await;
        client.write_all(&[0; GREETING_BYTES]).await.unwrap();
        held.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
        assert!(held.greeting.is_none());
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_cut_off_and_one_that_is_slow_is_not() {
        let (mut client, mut held) = pair().await;
        let bytes = vec![0; 64 * 1024];
        // Until the kernel takes no more.
        while tokio::time::timeout(Duration::from_millis(50), held.write_all(&bytes)).await.is_ok() {}
        assert!(held.stalled.is_some());
        let mut taken = vec![0; 1024 * 1024];
        let (taken, sent) = tokio::join!(
            tokio::time::timeout(SOON, client.read_exact(&mut taken)),
            tokio::time::timeout(SOON, held.write_all(&bytes)),
        );
        assert!(taken.unwrap().is_ok() && sent.unwrap().is_ok());
        while tokio::time::timeout(Duration::from_millis(50), held.write_all(&bytes)).await.is_ok() {}
        held.stalled = Some(Box::pin(tokio::time::sleep(Duration::from_millis(50))));
        let sent = tokio::time::timeout(SOON, held.write_all(&bytes)).await.expect("it waits for ever");
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
