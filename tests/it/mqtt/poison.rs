//! An utterance that ends the whole process is found across crashes, and nothing that was merely in flight is blamed.
//!
//! The shipped binary has no way to be ended by an utterance. So the daemon that dies here is this very test program,
//! with a log subscriber that aborts when it reads that a certain text enters inference.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::super::harness::{Daemon, Device, Mosquitto, PATIENCE, inside, wait_for};
use super::{DEAD_LETTER, INTENT, UTTERANCE, broker, collect, said, say};

const KILLER: &str = "end this process";

struct Executioner;

impl<S: tracing::Subscriber> Layer<S> for Executioner {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            if field.name() == "text" && format!("{value:?}") == format!("{KILLER:?}") {
                std::process::abort();
            }
        });
    }
}

/// Not a test: the daemon of the test below.
#[test]
#[ignore = "a program that the other test starts"]
fn daemon() {
    inside::serve(Executioner);
}

fn this_program(config: &Path) -> Command {
    inside::command("mqtt::poison::daemon", config)
}

#[test]
fn an_utterance_that_ends_the_process_becomes_a_dead_letter_and_nothing_else_does() {
    let (mosquitto, memory) = (Mosquitto::start(), TempDir::new().unwrap());
    let runtime = [("RUNTIME_DIRECTORY", memory.path().to_str().unwrap())];
    let mut daemon = Daemon::spawn_by(this_program, &broker(mosquitto.port, ""), &runtime);
    daemon.wait_ready();
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    device.subscribe(DEAD_LETTER);
    say(&mut device, 0..20);
    device.publish(UTTERANCE, format!(r#"{{"id": "killer", "text": "{KILLER}"}}"#));
    say(&mut device, 20..40);

    let mut deaths = 0;
    let end = Instant::now() + 3 * PATIENCE;
    while daemon.metric_if_up("intentd_mqtt_dead_letters_total{reason=\"poison\"}") != Some(1.0) {
        assert!(Instant::now() < end, "{deaths} deaths\n{}", daemon.log());
        if daemon.has_ended() {
            deaths += 1;
            daemon.respawn();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Three alone, and one in the company in which it came.
    assert!((3..=4).contains(&deaths), "{deaths}");
    collect(&mut device, 40, PATIENCE);
    let letter = device.receive(DEAD_LETTER).json();
    assert_eq!(
        (letter["reason"].as_str(), letter["id"].as_str()),
        (Some("poison"), Some("killer")),
        "{letter}"
    );
    assert_eq!(letter["attempts"], 3);
    // At once when it comes again, over gRPC too.
    device.publish(UTTERANCE, format!(r#"{{"id": "again", "text": "{KILLER}"}}"#));
    assert_eq!(device.receive(DEAD_LETTER).json()["id"], "again");
    let asked = Command::new(env!("CARGO_BIN_EXE_intentd"))
        .args(["parse", "--server", &format!("http://127.0.0.1:{}", daemon.grpc), KILLER])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&asked.stderr).contains("died on this utterance 3 times"), "{asked:?}");
    assert!(!daemon.has_ended());
}

#[test]
fn kills_from_outside_bury_nothing() {
    let (mosquitto, memory) = (Mosquitto::start(), TempDir::new().unwrap());
    let runtime = [("RUNTIME_DIRECTORY", memory.path().to_str().unwrap())];
    let mut daemon = Daemon::spawn(&broker(mosquitto.port, ""), &runtime);
    daemon.wait_ready();
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    device.subscribe(DEAD_LETTER);
    let (kills, each) = (10, 100);
    let (mut suspected, mut seed) = (0, fastrand::Rng::with_seed(4711));
    for kill in 0..kills {
        for i in kill * each..(kill + 1) * each {
            device.publish(UTTERANCE, said(&i.to_string()));
        }
        std::thread::sleep(Duration::from_millis(seed.u64(0..60)));
        daemon.kill();
        let record = std::fs::read_to_string(memory.path().join("attempts-test")).unwrap();
        suspected += usize::from(record.starts_with("running"));
        daemon.restart();
    }
    collect(&mut device, kills * each, PATIENCE);
    wait_for("nothing is in flight", || daemon.metric("intentd_mqtt_in_flight") == 0.0);
    assert!(device.receive_within(Duration::from_millis(500), DEAD_LETTER).is_none());
    assert!(suspected > 0, "no kill met an utterance in inference: the test shows nothing");
    // Whoever was suspected has come out again since.
    let record = std::fs::read_to_string(memory.path().join("attempts-test")).unwrap();
    assert!(record.starts_with("end"), "{record}");
}
