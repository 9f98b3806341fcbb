use std::path::Path;

use intentd::proto::nlu_client::NluClient;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Authority, Daemon, OFF, said};
use crate::harness::authority::write;
use crate::harness::wait_for;

pub(super) const HUB: &str = "hub-0123456789abcdef0123456789abcdef";
const DEVELOPER: &str = "dev-0123456789abcdef0123456789abcdef";

/// Writes a tokens file of (name, token, service).
pub(super) fn write_tokens(path: &Path, callers: &[(&str, &str, &str)]) {
    let blocks = callers.iter().map(|(name, token, service)| {
        format!("[[token]]\nname = \"{name}\"\ntoken = \"{token}\"\nservices = [\"{service}\"]\n")
    });
    write(path, &blocks.collect::<String>());
}

/// Both a client and a token of its own for each call.
async fn channel(daemon: &Daemon) -> Channel {
    Endpoint::from_shared(format!("http://127.0.0.1:{}", daemon.grpc)).unwrap().connect().await.unwrap()
}

async fn parse(channel: &Channel, authorization: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(said(1));
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    NluClient::new(channel.clone()).parse(request).await.map(drop)
}

#[track_caller]
fn refused(result: Result<(), Status>, code: Code, part: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(part), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_caller_may_use() {
    let folder = Authority::new("a folder");
    let file = folder.path("tokens.toml");
    write_tokens(
        &file,
        &[("hub", HUB, "intentd.v1.Nlu"), ("developer", DEVELOPER, "grpc.reflection.v1.ServerReflection")],
    );
    let daemon = Daemon::spawn(OFF, &[("INTENTD__GRPC__TOKENS_FILE", &file.to_string_lossy())]);
    daemon.wait_ready();
    let channel = channel(&daemon).await;
    let bearer = |token: &str| format!("Bearer {token}");

    assert!(parse(&channel, Some(&bearer(HUB))).await.is_ok());
    refused(parse(&channel, None).await, Code::Unauthenticated, "authorization: Bearer");
    refused(parse(&channel, Some("Basic aHViOg==")).await, Code::Unauthenticated, "authorization: Bearer");
    refused(parse(&channel, Some(&bearer(&HUB[1..]))).await, Code::Unauthenticated, "tokens file");
    let may_not = "developer may not use intentd.v1.Nlu";
    refused(parse(&channel, Some(&bearer(DEVELOPER))).await, Code::PermissionDenied, may_not);
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok(), "{health:?}");
    for (reason, count) in [("no_token", 2.0), ("wrong_token", 1.0), ("service_not_allowed", 1.0)] {
        let metric = format!("intentd_grpc_denied_total{{reason=\"{reason}\"}}");
        assert_eq!(daemon.metric(&metric), count, "{reason}");
    }
    let log = daemon.log();
    assert!(log.contains("\"caller\":\"hub\"") && log.contains("\"caller\":\"developer\""), "{log}");
    assert!(!log.contains(HUB) && !log.contains(DEVELOPER), "{log}");

    // Taken back, and given to somebody else, without a restart.
    write_tokens(&file, &[("hub", DEVELOPER, "intentd.v1.Nlu")]);
    daemon.signal("HUP");
    wait_for("the new tokens", || daemon.log().contains("read anew"));
    refused(parse(&channel, Some(&bearer(HUB))).await, Code::Unauthenticated, "tokens file");
    assert!(parse(&channel, Some(&bearer(DEVELOPER))).await.is_ok());
}

#[test]
fn a_bad_tokens_file_stops_the_start_without_being_quoted() {
    let folder = Authority::new("a folder");
    let file = folder.path("tokens.toml");
    let start = || {
        let mut daemon = Daemon::spawn(OFF, &[("INTENTD__GRPC__TOKENS_FILE", &file.to_string_lossy())]);
        assert_eq!(daemon.exit().code(), Some(78), "{}", daemon.log());
        assert!(daemon.log().contains("grpc.tokens_file"), "{}", daemon.log());
        assert!(!daemon.log().contains(HUB), "{}", daemon.log());
        daemon.log()
    };
    write(&file, &format!("{HUB} = \n"));
    assert!(start().contains("line 1"));
    write_tokens(&file, &[("hub", HUB, "intentd.v1.Nlu")]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, open).unwrap();
    assert!(start().contains("chmod o="));
}
