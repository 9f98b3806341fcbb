//! The way to a running daemon: a gRPC client over HTTP/2, in plain text or by TLS, with a token where one is needed.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::codegen::{InterceptedService, Service};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::Failure;
use crate::config::Mistake;
use crate::credentials::Secret;
use crate::proto::nlu_client::NluClient;
use crate::tls::{self, ClientFiles, GATEWAY};

/// For TCP, and for TLS after it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which daemon, and what to show it.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Server {
    /// Ask a running daemon, such as http://127.0.0.1:50051 or https://gw.lan:50051, instead of opening a bundle.
    #[arg(long = "server", value_name = "URI", value_parser = uri, conflicts_with = "bundle")]
    pub(super) uri: Option<String>,
    /// Certificates of the CAs, as PEM, of which one must have signed the daemon's (else any that this system trusts).
    #[arg(long, value_name = "FILE", requires = "uri")]
    ca: Option<PathBuf>,
    /// Certificate to show to a daemon that asks for one, as PEM.
    #[arg(long, value_name = "FILE", requires = "uri", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, as PEM; others must not be able to read the file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// File that holds the token to send; others must not be able to read it.
    #[arg(long, value_name = "FILE", requires = "uri")]
    token_file: Option<PathBuf>,
}

/// Reads `http://HOST:PORT` or `https://HOST:PORT`; the scheme may be left out where it is http.
fn uri(text: &str) -> Result<String, String> {
    let uri = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed: Uri = uri.parse().map_err(|error| format!("{error}"))?;
    match (parsed.scheme_str(), parsed.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err("give it as http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

/// A client that shows its token with each call.
pub(super) type Client = NluClient<InterceptedService<Channel, Bearer>>;

impl Server {
    /// The one at this URI, which asks for nothing.
    pub(super) fn open(uri: &str) -> Self {
        Self { uri: Some(uri.to_owned()), ..Self::default() }
    }

    /// Connects, or says what keeps it from that.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let uri = self.uri.as_deref().unwrap_or_default();
        let parsed: Uri = uri.parse().map_err(Failure::usage)?;
        let secure = parsed.scheme_str() == Some("https");
        self.check(&parsed, secure)?;
        let bearer = Bearer::read(self.token_file.as_deref())?;
        let unreachable = |error: tonic::transport::Error| {
            let reason = tls::explain(&error, &GATEWAY).unwrap_or_else(|| {
                format!("no intentd answers there: {}; start it with `intentd serve`", root(&error))
            });
            Failure::unavailable(format!("{uri}: {reason}"))
        };
        let channel = if secure {
            // Plain to tonic: what comes out of our connector is encrypted already.
            let inner = uri.replacen("https", "http", 1);
            let endpoint = Endpoint::from_shared(inner).map_err(unreachable)?.origin(parsed);
            endpoint.connect_with_connector(self.secure()?).await
        } else {
            let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(unreachable)?;
            endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await
        };
        Ok(NluClient::with_interceptor(channel.map_err(unreachable)?, bearer))
    }

    /// Nothing that was given is left out in silence, and no token goes over a network in plain text.
    fn check(&self, uri: &Uri, secure: bool) -> Result<(), Failure> {
        if secure {
            return Ok(());
        }
        if self.ca.is_some() || self.cert.is_some() {
            return Err(Failure::usage(
                "--ca, --cert and --key are for TLS: give --server as https://HOST:PORT",
            ));
        }
        if self.token_file.is_some() && !is_loopback(uri.host().unwrap_or_default()) {
            let message =
                "a token would go over the network in plain text: give --server as https://HOST:PORT";
            return Err(Failure::usage(message));
        }
        Ok(())
    }

    fn secure(&self) -> Result<Secure, Failure> {
        let identity = self.cert.clone().zip(self.key.clone());
        let files = ClientFiles { ca: self.ca.clone(), identity, alpn: Vec::new() };
        let config = tls::grpc_client(files)?;
        Ok(Secure { tls: TlsConnector::from(config) })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = bare(host).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An IPv6 address without the brackets that it has in a URI.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Connects by TLS, and checks that the certificate is of the host in the URI.
#[derive(Clone)]
struct Secure {
    tls: TlsConnector,
}

impl Secure {
    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let host = bare(uri.host().unwrap_or_default()).to_owned();
        let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        let name = host.try_into().map_err(io::Error::other)?;
        let mut stream = self.tls.connect(name, stream).await?;
        // Under TLS 1.3 a client hears after the handshake that its certificate was refused, and later h2 would keep
        // no more of it than the text. A server of HTTP/2 speaks without being asked.
        stream.fill_buf().await?;
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Secure {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connection = self.clone().connect(uri);
        Box::pin(async {
            let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
            tokio::time::timeout(CONNECT_TIMEOUT, connection).await.unwrap_or_else(late)
        })
    }
}

/// The token of each call; none where none was given.
#[derive(Clone)]
pub(super) struct Bearer(Option<Arc<MetadataValue<Ascii>>>);

impl Bearer {
    fn read(file: Option<&std::path::Path>) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self(None)) };
        let token = Secret::read(file).map_err(|message| Mistake::new("--token-file", message))?;
        let value = MetadataValue::try_from(format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| {
            Mistake::new("--token-file", format!("{}: holds no token of one line", file.display()))
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(Arc::new(value))))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", MetadataValue::clone(value));
        }
        Ok(request)
    }
}

/// A transport error says no more than that; its cause has the reason.
fn root(mut error: &dyn Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_may_be_left_out() {
        assert_eq!(uri("127.0.0.1:50051").as_deref(), Ok("http://127.0.0.1:50051"));
        assert_eq!(uri("http://[::1]:50051").as_deref(), Ok("http://[::1]:50051"));
        assert_eq!(uri("https://gw.lan:50051").as_deref(), Ok("https://gw.lan:50051"));
        for wrong in ["", "mqtt://h", "http://a b"] {
            assert!(uri(wrong).is_err(), "{wrong}");
        }
    }
}
