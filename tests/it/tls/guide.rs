//! The commands of docs/security.md, run as they stand there.

use std::path::Path;
use std::process::Command;

use intentd::proto::nlu_client::NluClient;
use tempfile::TempDir;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::{Daemon, OFF, said};
use crate::harness::authority::write;

/// The block of shell commands that has this word in it.
fn commands(word: &str) -> String {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let text = std::fs::read_to_string(guide).unwrap();
    let mut blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.find(|block| block.contains(word)).unwrap()
}

fn run(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-euc", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_to_a_locked_door_and_through_it() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), &commands("openssl req -x509"));
    let printed = run(folder.path(), &(commands("openssl rand") + "echo \"$token\"\n"));
    let (sum, token) = printed.trim().split_once('\n').unwrap();
    let path = |file: &str| folder.path().join(file);
    let hash = sum.split(' ').next().unwrap();
    write(
        &path("tokens.toml"),
        &format!("[[token]]\nname = \"hub\"\nsha256 = \"{hash}\"\nservices = [\"intentd.v1.Nlu\"]\n"),
    );
    let config = format!(
        "[grpc.tls]\ncert = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n{OFF}",
        path("gw.crt").display(),
        path("gw.key").display(),
        path("ca.crt").display()
    );
    let tokens = path("tokens.toml").to_string_lossy().into_owned();
    let daemon = Daemon::spawn(&config, &[("INTENTD__GRPC__TOKENS_FILE", &*tokens)]);
    daemon.wait_ready();

    let read = |file: &str| std::fs::read(path(file)).unwrap();
    let tls = ClientTlsConfig::new()
        .domain_name("gw.lan")
        .ca_certificate(Certificate::from_pem(read("ca.crt")))
        .identity(Identity::from_pem(read("client.crt"), read("client.key")));
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", daemon.grpc)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut request = Request::new(said(1));
    let bearer = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let answer = NluClient::new(channel).parse(request).await;
    assert!(answer.is_ok(), "{answer:?}\n{}", daemon.log());
}
