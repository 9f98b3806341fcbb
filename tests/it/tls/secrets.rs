//! F34: a secret in every place that takes one, the most talkative log there is, and as many errors as can be provoked.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use intentd::proto::nlu_client::NluClient;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

use super::{Authority, Daemon, said, trusting};
use crate::harness::authority::write;
use crate::harness::{Device, Mosquitto, free_port, wait_for};

const PASSWORD: &str = "canary-password-4711";
const TOKEN: &str = "canary-token-0123456789abcdef01234567";
const WRONG_TOKEN: &str = "canary-wrong-0123456789abcdef01234567";

/// A broker that wants certificate, user and password, and its TLS port.
fn broker(authority: &Authority) -> (Mosquitto, u16) {
    let port = free_port();
    let passwords = authority.path("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["gateway", PASSWORD])
        .status();
    assert!(made.unwrap().success());
    let path = |file: &str| authority.path(file).display().to_string();
    let more = format!(
        "password_file {}\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        passwords.display(),
        path("ca.crt"),
        path("broker.crt"),
        path("broker.key"),
    );
    let mosquitto = Mosquitto::start_with(&more);
    wait_for("mosquitto listens with TLS", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (mosquitto, port)
}

fn configuration(authority: &Authority, port: u16) -> String {
    let path = |file: &str| authority.path(file).display().to_string();
    format!(
        "[grpc.tls]\ncert = \"{}\"\nkey = \"{}\"\n[mqtt]\nbroker = \"mqtts://127.0.0.1:{port}\"\n\
         username = \"gateway\"\npassword_file = \"{}\"\n[mqtt.tls]\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
        path("server.crt"),
        path("server.key"),
        path("password"),
        path("ca.crt"),
        path("gateway.crt"),
        path("gateway.key"),
    )
}

/// The lines of a key that hold it.
fn body(path: &Path) -> Vec<String> {
    let pem = std::fs::read_to_string(path).unwrap();
    pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect()
}

async fn call(daemon: &Daemon, authority: &Authority, token: &str) -> bool {
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", daemon.grpc)).unwrap();
    let channel = endpoint.tls_config(trusting(authority, None)).unwrap().connect().await.unwrap();
    let mut request = Request::new(said(1));
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    NluClient::new(channel).parse(request).await.is_ok()
}

/// Every form in which a canary could show itself.
fn canaries(authority: &Authority) -> Vec<String> {
    let mut all: Vec<String> = [PASSWORD, TOKEN, WRONG_TOKEN].map(str::to_owned).to_vec();
    // As a list of bytes, which is how Debug prints a buffer.
    all.extend(
        [PASSWORD, TOKEN]
            .map(|secret| format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned()),
    );
    all.extend(["server.key", "gateway.key"].iter().flat_map(|file| body(&authority.path(file))));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_printed() {
    let authority = Authority::new("ours");
    for name in ["server", "broker", "gateway"] {
        authority.issue(name);
    }
    write(&authority.path("password"), PASSWORD);
    let tokens = authority.path("tokens.toml");
    super::tokens::write_tokens(&tokens, &[("hub", TOKEN, "intentd.v1.Nlu")]);
    let (mut mosquitto, port) = broker(&authority);
    let tokens = tokens.to_string_lossy().into_owned();
    let environment = [("INTENTD__LOG__LEVEL", "trace"), ("INTENTD__GRPC__TOKENS_FILE", &*tokens)];
    let mut daemon = Daemon::spawn(&configuration(&authority, port), &environment);
    daemon.wait_ready();

    assert!(call(&daemon, &authority, TOKEN).await);
    assert!(!call(&daemon, &authority, WRONG_TOKEN).await);
    let mut device = Device::v5(mosquitto.port);
    device.publish("intentd/home/kitchen/utterance", "no JSON");
    // Files that can't be used any more, a broker that goes away, and a password that is refused.
    write(Path::new(&tokens), &format!("{TOKEN} = \"{TOKEN}\""));
    daemon.signal("HUP");
    wait_for("the bad tokens in the log", || daemon.log().contains("stay in force"));
    mosquitto.stop();
    write(&authority.path("passwords"), "");
    mosquitto.resume();
    wait_for("a refused password", || daemon.log().matches("no connection to the broker").count() > 1);
    tokio::time::sleep(Duration::from_millis(300)).await;

    let printed = [
        daemon.log(),
        daemon.page("/metrics"),
        daemon.page("/readyz"),
        daemon.command(&["config", "show"]),
        daemon.command(&["config", "check"]),
    ];
    assert_eq!(daemon.terminate(), Some(0));
    assert!(printed[0].contains("\"level\":\"TRACE\""), "the log is not at trace");
    for canary in canaries(&authority) {
        for text in printed.iter().chain([&daemon.log()]) {
            let line = text.lines().find(|line| line.contains(&canary));
            assert_eq!(line, None, "{canary} was printed");
        }
    }
}
