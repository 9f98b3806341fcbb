use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::manager::Manager;
use crate::harness::{Daemon, Device, copy_of_bundle, free_port, wait_for};

const OFF: &str = "[mqtt]\nbroker = \"off\"";

fn exit_code_with_bundle(path: &Path) -> (Option<i32>, String) {
    let mut daemon = Daemon::spawn(OFF, &[("INTENTD__MODEL__BUNDLE", &path.to_string_lossy())]);
    (daemon.exit().code(), daemon.log())
}

#[test]
fn a_graceful_stop_ends_with_0() {
    let mut daemon = Daemon::start(OFF);
    let start = Instant::now();
    assert_eq!(daemon.terminate(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(daemon.log().contains("drained"), "{}", daemon.log());
}

#[test]
fn a_broker_that_is_down_neither_stops_the_start_nor_the_end() {
    let daemon_config = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"", free_port());
    let mut daemon = Daemon::spawn(&daemon_config, &[]);
    let end = Instant::now() + Duration::from_secs(10);
    while !daemon.ready().is_err_and(|why| why.contains("mqtt")) {
        assert!(Instant::now() < end, "{:?}\n{}", daemon.ready(), daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(TcpStream::connect(("127.0.0.1", daemon.grpc)).is_ok(), "gRPC serves meanwhile");
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["GRPC__LISTEN", "HTTP__LISTEN", "MQTT__EMBEDDED__LISTEN"] {
        let mut daemon = Daemon::spawn("", &[(&format!("INTENTD__{key}"), &address)]);
        assert_eq!(daemon.exit().code(), Some(69), "{key}: {}", daemon.log());
        let name = key.to_lowercase().replace("__", ".");
        assert!(daemon.log().contains(&name) && daemon.log().contains(&address), "{}", daemon.log());
    }
}

#[test]
fn a_damaged_bundle_is_refused_by_the_name_of_its_file() {
    let folder = copy_of_bundle();
    let file = folder.path().join("heads/intent.onnx");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (code, log) = exit_code_with_bundle(folder.path());
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("heads/intent.onnx"), "{log}");
}

#[test]
fn a_missing_bundle_or_file_is_refused_by_name() {
    let folder = copy_of_bundle();
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let (code, log) = exit_code_with_bundle(folder.path());
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("tokenizer.json"), "{log}");

    let nowhere = folder.path().join("nowhere");
    let (code, log) = exit_code_with_bundle(&nowhere);
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("nowhere"), "{log}");
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let environment = [("INTENTD__ENGINE__THREADS", "many"), ("INTENTD__ADMISSION__PLACE", "1")];
    let mut daemon = Daemon::spawn("[mqtt]\nbroker = \"of\"", &environment);
    assert_eq!(daemon.exit().code(), Some(78));
    for key in ["engine.threads", "admission.place", "mqtt.broker"] {
        assert!(daemon.log().contains(key), "{key} is missing in {}", daemon.log());
    }
}

/// What systemd hears with Type=notify and a watchdog.
#[test]
fn the_service_manager_is_told() {
    let manager = Manager::new();
    let environment = [("NOTIFY_SOCKET", manager.socket()), ("WATCHDOG_USEC", "3000000")];
    let mut daemon = Daemon::spawn(OFF, &environment);
    wait_for("READY=1", || manager.heard("READY=1") == 1);
    wait_for("signs of life", || manager.heard("WATCHDOG=1") >= 3);
    assert_eq!(daemon.terminate(), Some(0));
    wait_for("STOPPING=1", || manager.heard("STOPPING=1") == 1);
}

/// A client that never closes can't keep the daemon from ending, and a second signal ends it at once.
#[test]
fn a_client_that_never_closes_does_not_hold_up_the_end() {
    let hold = |daemon: &Daemon| {
        let mut client = TcpStream::connect(("127.0.0.1", daemon.grpc)).unwrap();
        // The preface and an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5), then silence.
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        client
    };
    let mut patient = Daemon::start(OFF);
    let client = hold(&patient);
    let start = Instant::now();
    assert_eq!(patient.terminate(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(client);

    let mut hurried = Daemon::start(OFF);
    let _client = hold(&hurried);
    hurried.signal("TERM");
    hurried.signal("TERM");
    let start = Instant::now();
    hurried.exit();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// A gateway's flash card wears out by writing. The embedded broker is inside the process, so it is counted too.
#[test]
fn nothing_is_written_to_disk() {
    let mut daemon = Daemon::start("");
    let mut device = Device::v311(daemon.mqtt);
    device.subscribe("intentd/home/kitchen/intent");
    for i in 0..20 {
        device.publish(
            "intentd/home/kitchen/utterance",
            format!(r#"{{"id": "{i}", "text": "turn on the lights"}}"#),
        );
        device.receive("intentd/home/kitchen/intent");
    }
    device.publish("intentd/home/kitchen/utterance", "no JSON");
    wait_for("the dead letter", || {
        daemon.metric("intentd_mqtt_dead_letters_total{reason=\"bad_json\"}") > 0.0
    });
    assert_eq!(daemon.stored_bytes(), 0);
    assert_eq!(daemon.terminate(), Some(0));
}
