//! Puts the services and their limits together. Every option of the HTTP/2 server is given here: tonic's own
//! defaults leave most of them unlimited.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;

use crate::config::Grpc;
use crate::grpc::accept::accept;
use crate::grpc::access::Access;
use crate::grpc::deadline::note_deadline;
use crate::grpc::guard::Guard;
use crate::grpc::health::Serving;
use crate::grpc::nlu::Nlu;
use crate::grpc::places::Places;
use crate::health::Health;
use crate::inference::Inference;
use crate::proto;
use crate::proto::nlu_server::NluServer;
use crate::telemetry::Metrics;

/// Largest request. One with every field at its limit has about 22 KiB, a question with its passages as well.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Largest answer: a request's text and context echoed, as much again for what was found in it, and an embedding.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A unary call ends after this time even if its message never arrives. Longer than an utterance may wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);

/// Bytes that a peer may send before they are read, per connection; with all connections open it bounds the memory.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// The same per stream: one message.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// How often a connection is asked whether its peer still lives, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers of a request.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Streams that a peer opened and reset before they were looked at, then GOAWAY (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;

/// Streams that were reset for the peer's protocol errors, then GOAWAY.
const ERROR_RESETS_MAX: usize = 1024;

/// How long health says NOT_SERVING, and calls are refused with UNAVAILABLE, before connections are closed: time for
/// clients to hear of it over the connections they have.
const NOTICE: Duration = Duration::from_millis(250);

/// Serves until `draining` turns true, then refuses new calls, lets admitted ones finish and closes.
///
/// A peer that never finishes its call keeps this from returning: the caller limits the wait.
pub async fn serve(
    listener: TcpListener,
    settings: &Grpc,
    access: Access,
    inference: Inference,
    metrics: Metrics,
    health: Health,
    draining: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let reflect = settings.listen.ip().is_loopback();
    let nlu = NluServer::new(Nlu::new(inference, metrics.clone(), draining.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let serving = HealthServer::new(Serving::new(draining.clone()))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let guard = Guard::new(access.clone(), metrics.clone());
    let places = Places::new(
        settings.max_connections,
        settings.max_connections_per_address,
        metrics.grpc_connections.clone(),
    );
    let connections = accept(listener, places, access, metrics, health);

    Server::builder()
        .max_concurrent_streams(settings.max_streams)
        .timeout(CALL_TIMEOUT)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .accept_http1(false)
        .layer(InterceptorLayer::new(note_deadline))
        .layer(guard)
        .add_service(nlu)
        .add_service(serving)
        .add_optional_service(reflect.then(|| reflection().build_v1().expect(VALID)))
        .add_optional_service(reflect.then(|| reflection().build_v1alpha().expect(VALID)))
        .serve_with_incoming_shutdown(connections, notice(draining))
        .await
}

const VALID: &str = "the descriptors were made by the build";

fn reflection<'a>() -> Reflection<'a> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Resolves when it is time to close connections.
async fn notice(mut draining: watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody will say more, so it is a stop as well.
    let _ = draining.wait_for(|draining| *draining).await;
    tokio::time::sleep(NOTICE).await;
}
