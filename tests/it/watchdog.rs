use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::harness::manager::Manager;
use crate::harness::{Daemon, Device, Mosquitto, inside, wait_for};

/// systemd would end the daemon after so long without a sign. The loops show themselves once a second.
const PERIOD: Duration = Duration::from_secs(6);

/// Names the file that lists, once it is there, what the log must say for the loop that says it to hang.
const TRIGGER: &str = "INTENTD_TEST_HANG";

/// Hangs whoever logs a line that the trigger names: the thread, and with it the loop that runs on it.
struct Hangman;

impl<S: tracing::Subscriber> Layer<S> for Hangman {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let Some(trigger) = std::env::var_os(TRIGGER) else { return };
        let Ok(words) = std::fs::read_to_string(trigger) else { return };
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            while format!("{value:?}").contains(&words) {
                std::thread::sleep(PERIOD);
            }
        });
    }
}

/// Not a test: the daemon of the tests below.
#[test]
#[ignore = "a program that the other tests start"]
fn daemon() {
    inside::serve(Hangman);
}

fn this_program(config: &Path) -> Command {
    inside::command("watchdog::daemon", config)
}

/// Starts a daemon at a broker, lets it show that it lives, makes one loop hang by `provoke`, and hears the silence.
fn hangs(words: &str, named: &str, provoke: impl Fn(&mut Mosquitto, &Daemon)) {
    let (manager, folder, mut mosquitto) = (Manager::new(), TempDir::new().unwrap(), Mosquitto::start());
    let trigger = folder.path().join("trigger");
    let period = PERIOD.as_micros().to_string();
    let environment = [
        ("NOTIFY_SOCKET", manager.socket()),
        ("WATCHDOG_USEC", &period),
        (TRIGGER, trigger.to_str().unwrap()),
        ("INTENTD__GRPC__MAX_CONNECTIONS", "1"),
    ];
    let broker = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let daemon = Daemon::spawn_by(this_program, &broker, &environment);
    daemon.wait_ready();
    wait_for("signs of life", || manager.heard("WATCHDOG=1") >= 2);

    std::fs::write(&trigger, words).unwrap();
    provoke(&mut mosquitto, &daemon);
    let hung = Instant::now();
    wait_for("the log names the loop", || daemon.log().contains(named));
    std::thread::sleep(PERIOD);
    let last = manager.last_sign().unwrap();
    let lag = last.saturating_duration_since(hung);
    assert!(lag <= PERIOD, "it said that all is well {lag:?} after a loop had hung");
    println!("{named}: silent {lag:?} after it hung");
}

#[test]
fn a_worker_that_hangs_silences_the_watchdog() {
    hangs("hang yourself", "Inference(", |mosquitto, _| {
        let mut device = Device::v5(mosquitto.port);
        device.publish("intentd/home/kitchen/utterance", r#"{"text": "hang yourself"}"#);
        device.wait_acknowledged();
    });
}

#[test]
fn a_link_that_hangs_silences_the_watchdog() {
    hangs("connected to the broker", "Link", |mosquitto, daemon| {
        mosquitto.stop();
        wait_for("the daemon isn't ready", || daemon.ready().is_err());
        mosquitto.resume();
    });
}

#[test]
fn an_accept_loop_that_hangs_silences_the_watchdog() {
    hangs("a gRPC connection was closed", "Accept", |_, daemon| {
        let connect = || TcpStream::connect(("127.0.0.1", daemon.grpc)).unwrap();
        let _first = connect();
        let mut surplus = connect();
        surplus.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        // Closed only after the line in the log, in which the loop hangs: whichever comes first.
        let _ = surplus.read(&mut [0; 1]);
    });
}
