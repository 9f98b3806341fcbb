//! A broker that lets nobody in: readiness names the setting to look at, and what is mended counts by itself.

use std::fs::{Permissions, set_permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::super::harness::authority::write;
use super::super::harness::{Daemon, Mosquitto, wait_for, wait_within};
use super::broker;

/// Longest wait between two attempts, and a little.
const NEXT_ATTEMPT: Duration = Duration::from_secs(32);

#[track_caller]
fn wait_told(daemon: &Daemon, words: &[&str]) {
    let mut last = String::new();
    let told = |last: &mut String| {
        *last = daemon.ready().err().unwrap_or_default();
        words.iter().all(|word| last.contains(word))
    };
    let end = std::time::Instant::now() + NEXT_ATTEMPT;
    while !told(&mut last) {
        assert!(std::time::Instant::now() < end, "{words:?} not in readiness, last {last}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_wrong_password_is_told_and_a_mended_file_counts_by_itself() {
    let folder = TempDir::new().unwrap();
    let (passwords, password) = (folder.path().join("passwords"), folder.path().join("password"));
    let made =
        Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&passwords).args(["gw", "right"]).status();
    assert!(made.unwrap().success());
    let mosquitto = Mosquitto::start_with(&format!("password_file {}\n", passwords.display()));
    for protocol in ["5", "3.1.1"] {
        write(&password, "wrong\n");
        let login = format!("username = \"gw\"\npassword_file = \"{}\"\n", password.display());
        let more = format!("protocol = \"{protocol}\"\n{login}");
        let daemon = Daemon::spawn(&broker(mosquitto.port, &more), &[]);
        wait_told(&daemon, &["not authorized", "mqtt.username", "mqtt.password_file"]);

        set_permissions(&password, Permissions::from_mode(0o644)).unwrap();
        wait_told(&daemon, &["mqtt.password_file", "others can read", "chmod"]);

        write(&password, "right\n");
        set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
        wait_within(NEXT_ATTEMPT, "ready with the mended file", || daemon.ready().is_ok());
        assert!(!daemon.log().contains("\"wrong\""));
    }
}

/// A broker of a few bytes that answers every CONNECT with these, or by closing.
fn refusing(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut connect = [0; 2048];
            let _ = stream.read(&mut connect);
            let _ = stream.write_all(answer);
        }
    });
    port
}

#[test]
fn what_a_broker_refuses_is_explained() {
    let refusals: [(&str, &[u8], &[&str]); 9] = [
        ("5", &[0x20, 3, 0, 0x85, 0], &["client id", "mqtt.client_id"]),
        ("5", &[0x20, 3, 0, 0x8A, 0], &["banned", "gateway"]),
        ("5", &[0x20, 3, 0, 0x97, 0], &["quota"]),
        ("5", &[0x20, 3, 0, 0x84, 0], &["version of MQTT", "mqtt.protocol"]),
        // What a broker of MQTT 3.1.1 answers to MQTT 5.
        ("5", &[0x20, 2, 0, 1], &["mqtt.protocol", "3.1.1"]),
        ("5", &[], &["closed the connection instead of answering", "mqtts://"]),
        ("3.1.1", &[0x20, 2, 0, 2], &["client id", "mqtt.client_id"]),
        ("3.1.1", &[0x20, 2, 0, 3], &["not available"]),
        ("3.1.1", &[0x20, 2, 0, 4], &["mqtt.username", "mqtt.password_file"]),
    ];
    for (protocol, answer, words) in refusals {
        let daemon = Daemon::spawn(&broker(refusing(answer), &format!("protocol = \"{protocol}\"\n")), &[]);
        wait_told(&daemon, words);
        wait_for("the log tells it too", || words.iter().all(|word| daemon.log().contains(word)));
    }
}

#[test]
fn a_broker_that_ends_the_connection_is_explained() {
    let disconnect = [&[0x20, 3, 0, 0, 0][..], &[0xE0, 2, 0x98, 0]].concat();
    let daemon = Daemon::spawn(&broker(refusing(disconnect.leak()), ""), &[]);
    wait_told(&daemon, &["ended the connection", "administers"]);
}
