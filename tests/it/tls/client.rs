//! `intentd parse --server` and `intentd bench --server` through locked doors, and what they say outside of them.

use std::process::{Command, Output};

use super::tokens::{HUB, write_tokens};
use super::{Authority, Daemon, OFF, client_ca, grpc_tls};
use crate::harness::authority::write;

fn intentd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_intentd"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

#[track_caller]
fn answers(arguments: &[&str]) {
    let output = intentd(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}: {said}");
}

#[track_caller]
fn fails(code: i32, arguments: &[&str], remedies: &[&str]) {
    let output = intentd(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for remedy in remedies {
        assert!(said.contains(remedy), "{remedy} is missing in {said}");
    }
}

const TEXT: &str = "turn on the kitchen lights";

#[test]
fn commands_get_through_a_locked_door_and_are_told_what_keeps_them_out() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    ours.issue("server");
    ours.issue("client");
    theirs.issue("stranger");
    let file = |authority: &Authority, name: &str| authority.path(name).to_string_lossy().into_owned();
    let (tokens, token, wrong) = (file(&ours, "tokens.toml"), file(&ours, "token"), file(&ours, "wrong"));
    write_tokens(tokens.as_ref(), &[("hub", HUB, "intentd.v1.Nlu")]);
    write(token.as_ref(), &format!("{HUB}\n"));
    write(wrong.as_ref(), &HUB[1..]);
    let daemon = Daemon::spawn(
        &grpc_tls(&ours, "server", &client_ca(&ours)),
        &[("INTENTD__GRPC__TOKENS_FILE", &tokens)],
    );
    daemon.wait_ready();

    let at = |host: &str| format!("https://{host}:{}", daemon.grpc);
    let (named, plain) = (at("localhost"), format!("http://localhost:{}", daemon.grpc));
    let (ca, cert, key) = (file(&ours, "ca.crt"), file(&ours, "client.crt"), file(&ours, "client.key"));
    let shown = ["--cert", &cert, "--key", &key];
    let call = |uri: &str, more: &[&str]| {
        let all = [&["parse", "--server", uri], more, &[TEXT]].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let fails = |uri: &str, more: &[&str], remedies: &[&str]| {
        let arguments = call(uri, more);
        fails(69, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), remedies);
    };
    let known = [&["--ca", &ca][..], &shown].concat();
    for uri in [&named, &at("127.0.0.1")] {
        let arguments = call(uri, &[&known[..], &["--token-file", &token]].concat());
        answers(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let bench = ["bench", "--json", "--server", &named];
    answers(&[&bench[..], &known, &["--token-file", &token]].concat());

    let (their_ca, stranger, strangers_key) =
        (file(&theirs, "ca.crt"), file(&theirs, "stranger.crt"), file(&theirs, "stranger.key"));
    fails(&named, &[&["--ca", &their_ca][..], &shown].concat(), &["unknown CA", "--ca"]);
    fails(&named, &["--ca", &ca], &["wants a client certificate", "--cert and --key"]);
    let strange = ["--ca", &ca, "--cert", &stranger, "--key", &strangers_key];
    fails(&named, &strange, &["refuses the certificate", "--cert and --key"]);
    fails(&named, &known, &["Unauthenticated", "--token-file"]);
    fails(&named, &[&known[..], &["--token-file", &wrong]].concat(), &["Unauthenticated", "--token-file"]);
    fails(&plain, &[], &["https://"]);
    // Without --ca the certificate must be of a CA that this system trusts; it knows nothing of ours.
    fails(&named, &shown, &["unknown CA", "--ca"]);
    assert!(!daemon.log().contains(HUB));
}

#[test]
fn a_certificate_of_another_host_is_refused() {
    let authority = Authority::new("ours");
    authority.issue_for("elsewhere", &["elsewhere.lan"], (2020, 2999));
    let daemon = Daemon::start(&grpc_tls(&authority, "elsewhere", ""));
    let ca = authority.path("ca.crt").to_string_lossy().into_owned();
    let uri = format!("https://localhost:{}", daemon.grpc);
    fails(
        69,
        &["parse", "--server", &uri, "--ca", &ca, TEXT],
        &["another name", "--server", "elsewhere.lan"],
    );
}

#[test]
fn a_door_without_tls_is_told_from_one_with_it() {
    let authority = Authority::new("ours");
    let daemon = Daemon::start(OFF);
    let ca = authority.path("ca.crt").to_string_lossy().into_owned();
    let uri = format!("https://localhost:{}", daemon.grpc);
    fails(69, &["parse", "--server", &uri, "--ca", &ca, TEXT], &["does not speak TLS", "http://"]);
}

#[test]
fn what_was_given_is_used_or_refused() {
    let folder = Authority::new("ours");
    folder.issue("client");
    let file = |name: &str| folder.path(name).to_string_lossy().into_owned();
    let (ca, cert, key, open) = (file("ca.crt"), file("client.crt"), file("client.key"), file("open"));
    std::fs::write(&open, HUB).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let secure = "https://localhost:1";
    fails(64, &["parse", "--ca", &ca, TEXT], &["--server"]);
    fails(64, &["parse", "--server", secure, "--cert", &cert, TEXT], &["--key"]);
    fails(64, &["parse", "--server", "http://localhost:1", "--ca", &ca, TEXT], &["https://"]);
    fails(
        64,
        &["parse", "--server", "http://gw.lan:1", "--token-file", &open, TEXT],
        &["plain text", "https://"],
    );
    fails(78, &["parse", "--server", secure, "--token-file", &open, TEXT], &["--token-file", "chmod o="]);
    fails(78, &["parse", "--server", secure, "--ca", &key, TEXT], &["--ca", "client.key"]);
    fails(78, &["parse", "--server", secure, "--ca", "none.crt", TEXT], &["--ca", "none.crt"]);
}
