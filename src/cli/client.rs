//! The way to a running daemon: a gRPC client over plain HTTP/2.

use std::error::Error;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::Failure;
use crate::proto::nlu_client::NluClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads `http://HOST:PORT`; the scheme may be left out.
pub(super) fn uri(text: &str) -> Result<String, String> {
    let uri = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed: tonic::codegen::http::Uri = uri.parse().map_err(|error| format!("{error}"))?;
    match (parsed.scheme_str(), parsed.host()) {
        (Some("http"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err("give it as http://HOST:PORT".to_owned()),
    }
}

/// Connects, or says that nobody answers there.
pub(super) async fn connect(uri: &str) -> Result<NluClient<Channel>, Failure> {
    let unreachable = |error: tonic::transport::Error| {
        let reason = root(&error);
        Failure::unavailable(format!("no intentd answers at {uri}: {reason}; start it with `intentd serve`"))
    };
    let endpoint =
        Endpoint::from_shared(uri.to_owned()).map_err(unreachable)?.connect_timeout(CONNECT_TIMEOUT);
    Ok(NluClient::new(endpoint.connect().await.map_err(unreachable)?))
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
        for wrong in ["", "https://gateway:50051", "mqtt://h", "http://a b"] {
            assert!(uri(wrong).is_err(), "{wrong}");
        }
    }
}
