//! Locked doors: certificates, tokens and secrets, on both doors.

mod client;
mod grpc;
mod guide;
mod mqtt;
mod secrets;
mod tokens;

use std::path::Path;

use intentd::proto::nlu_client::NluClient;
use intentd::proto::{ParseRequest, ParseResponse};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::harness::Daemon;
use super::harness::authority::Authority;

const OFF: &str = "[mqtt]\nbroker = \"off\"";

/// `[grpc.tls]` with this authority's `NAME.crt` and `NAME.key`, and what follows; no MQTT.
fn grpc_tls(authority: &Authority, name: &str, more: &str) -> String {
    let path = |end: &str| authority.path(&format!("{name}.{end}")).display().to_string();
    format!("[grpc.tls]\ncert = \"{}\"\nkey = \"{}\"\n{more}\n{OFF}", path("crt"), path("key"))
}

fn client_ca(authority: &Authority) -> String {
    format!("client_ca = \"{}\"", authority.path("ca.crt").display())
}

/// A client that trusts an authority, and shows its own certificate `NAME` where there is one.
fn trusting(authority: &Authority, shown: Option<(&Authority, &str)>) -> ClientTlsConfig {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let config = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(read(&authority.path("ca.crt"))));
    match shown {
        None => config,
        Some((own, name)) => config.identity(Identity::from_pem(
            read(&own.path(&format!("{name}.crt"))),
            read(&own.path(&format!("{name}.key"))),
        )),
    }
}

/// A new connection. Under TLS 1.3 a client that is refused learns of it only by its first call.
async fn connect(daemon: &Daemon, tls: ClientTlsConfig) -> Result<NluClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", daemon.grpc)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await;
    channel.map(NluClient::new).map_err(|error| format!("{error:?}"))
}

async fn ask(client: &mut NluClient<Channel>) -> Result<ParseResponse, tonic::Status> {
    client.parse(said(1)).await.map(tonic::Response::into_inner)
}

async fn connect_and_ask(daemon: &Daemon, tls: ClientTlsConfig) -> Result<ParseResponse, String> {
    let mut client = connect(daemon, tls).await?;
    ask(&mut client).await.map_err(|status| format!("{status:?}"))
}

fn said(id: usize) -> ParseRequest {
    ParseRequest { id: id.to_string(), text: "turn on the kitchen lights".to_owned(), ..Default::default() }
}
