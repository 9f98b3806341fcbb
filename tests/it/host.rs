use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::daemon::serve;
use crate::harness::{Daemon, Device, Mosquitto, wait_for};

const UTTERANCE: &str = "intentd/home/kitchen/utterance";
const INTENT: &str = "intentd/home/kitchen/intent";

fn broker(port: u16) -> String {
    format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n")
}

/// One answer over each door.
#[track_caller]
fn answers(daemon: &Daemon, device: &mut Device, id: &str) {
    device.publish(UTTERANCE, format!(r#"{{"id": "{id}", "text": "turn on the lights"}}"#));
    assert_eq!(device.receive(INTENT).json()["id"], id);
    let asked = Command::new(env!("CARGO_BIN_EXE_intentd"))
        .args(["parse", "--server", &format!("http://127.0.0.1:{}", daemon.grpc), "turn on the lights"])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
}

/// In a mount namespace of its own, where everything can be read and nothing written, and memory for the attempts file
/// is full to the last byte.
fn on_a_read_only_system(config: &Path) -> Command {
    let program = serve(config);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-ec"]).arg(
        "mount --bind \"$FOLDER\" \"$FOLDER\"
         mount -t tmpfs -o size=4096,nr_inodes=8 none \"$RUNTIME_DIRECTORY\"
         head -c 4096 /dev/zero >\"$RUNTIME_DIRECTORY/full\"
         mount -o remount,bind,ro /
         mount -o remount,bind,ro \"$FOLDER\"
         if touch \"$FOLDER/probe\" 2>/dev/null; then echo 'the disk can be written' >&2; exit 99; fi
         exec \"$@\"",
    );
    command.arg("sh").arg(program.get_program()).args(program.get_args());
    command
}

#[test]
fn a_read_only_or_full_disk_changes_nothing() {
    let (mosquitto, folder) = (Mosquitto::start(), TempDir::new().unwrap());
    let runtime = folder.path().join("runtime");
    fs::create_dir(&runtime).unwrap();
    let environment =
        [("RUNTIME_DIRECTORY", runtime.to_str().unwrap()), ("FOLDER", folder.path().to_str().unwrap())];
    let mut daemon = Daemon::spawn_by(on_a_read_only_system, &broker(mosquitto.port), &environment);
    daemon.wait_ready();
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    for i in 0..20 {
        answers(&daemon, &mut device, &i.to_string());
    }
    assert!(daemon.log().contains("No space left on device"), "{}", daemon.log());
    assert!(!daemon.log().contains("\"ERROR\""), "{}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0));
}

/// Few descriptors: about a dozen are the daemon's own.
fn with_64_descriptors(config: &Path) -> Command {
    let program = serve(config);
    let mut command = Command::new("prlimit");
    command.arg("--nofile=64:64").arg(program.get_program()).args(program.get_args());
    command
}

#[test]
fn without_file_descriptors_new_peers_wait_and_old_ones_are_served() {
    let mosquitto = Mosquitto::start();
    // The descriptors are to end before one address's share of the connections does.
    let room = [("INTENTD__GRPC__MAX_CONNECTIONS_PER_ADDRESS", "128")];
    let mut daemon = Daemon::spawn_by(with_64_descriptors, &broker(mosquitto.port), &room);
    daemon.wait_ready();
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    answers(&daemon, &mut device, "before");
    let crowd: Vec<TcpStream> =
        (0..120).map(|_| TcpStream::connect(("127.0.0.1", daemon.grpc)).unwrap()).collect();
    wait_for("its descriptors are used up", || daemon.log().contains("Too many open files"));
    for i in 0..20 {
        device.publish(UTTERANCE, format!(r#"{{"id": "{i}", "text": "turn on the lights"}}"#));
        assert_eq!(device.receive(INTENT).json()["id"], i.to_string());
    }
    // It waits between its tries instead of filling the log.
    let started = Instant::now();
    let lines = || daemon.log().matches("Too many open files").count();
    let before = lines();
    std::thread::sleep(Duration::from_secs(1));
    let rate = (lines() - before) as f64 / started.elapsed().as_secs_f64();
    assert!(rate < 25.0, "{rate} lines a second");
    drop(crowd);
    answers(&daemon, &mut device, "after");
    assert_eq!(daemon.terminate(), Some(0));
}

const FAKETIME: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// A gateway without a battery-backed clock starts in 1970, and its clock jumps when it hears the time; the wall clock
/// is also set back and, by mistake, far ahead. The monotonic clock is never touched.
#[test]
fn a_wall_clock_that_jumps_moves_no_timer() {
    let (mosquitto, folder) = (Mosquitto::start(), TempDir::new().unwrap());
    let clock = folder.path().join("clock");
    let set = |time: &str| {
        fs::write(folder.path().join("next"), format!("{time}\n")).unwrap();
        fs::rename(folder.path().join("next"), &clock).unwrap();
    };
    set("@1970-01-01 00:01:00");
    let environment = [
        ("LD_PRELOAD", FAKETIME),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("TZ", "UTC"),
    ];
    let route = "keep_alive = \"5s\"\n[[mqtt.routes]]\nmax_age = \"1h\"\n";
    let mut daemon = Daemon::spawn(&format!("{}{route}", broker(mosquitto.port)), &environment);
    daemon.wait_ready();
    assert!(daemon.log().contains("\"1970-01-01T"), "the clock is not faked\n{}", daemon.log());
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    let connections = daemon.metric("intentd_mqtt_connections_total");
    for (i, time) in ["@1970-01-01 00:02:00", "+0", "-1h", "+10y", "+0"].into_iter().enumerate() {
        set(time);
        answers(&daemon, &mut device, &i.to_string());
        // What a device with a sound clock said now is too old only by a clock that is ten years ahead.
        let said = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        let stamped = format!(r#"{{"id": "s{i}", "text": "turn on the lights", "timestamp": "{said}"}}"#);
        device.publish(UTTERANCE, stamped);
        if time == "+10y" {
            let expired = "intentd_mqtt_dead_letters_total{reason=\"expired\"}";
            wait_for("the dead letter", || daemon.metric(expired) == 1.0);
        } else {
            assert_eq!(device.receive(INTENT).json()["id"], format!("s{i}"));
        }
    }
    // Longer than keep-alive and half of it: the connection has outlived every jump.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(daemon.metric("intentd_mqtt_connections_total"), connections, "{}", daemon.log());
    answers(&daemon, &mut device, "last");
    assert_eq!(daemon.terminate(), Some(0));
}
