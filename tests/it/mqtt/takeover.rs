//! F15: two daemons with one gateway name, which throw each other out of the session.

use std::time::{Duration, Instant};

use super::super::harness::{Daemon, Device, Mosquitto, PATIENCE, wait_for, wait_within};
use super::{INTENT, broker, collect, say};
use crate::soak::{report, sized};

/// Of both together, in a minute.
const MOST_CONNECTIONS: f64 = 10.0;

/// Of one processor, for each of the two.
const MOST_CPU: f64 = 0.05;

#[test]
fn two_daemons_with_one_name_take_turns_slowly_and_say_so() {
    take_turns("5");
}

#[test]
fn so_do_they_under_mqtt_3_1_1() {
    take_turns("3.1.1");
}

fn take_turns(protocol: &str) {
    let time = sized(Duration::from_secs(20), Duration::from_secs(60));
    let mosquitto = Mosquitto::start();
    let config = broker(mosquitto.port, &format!("protocol = \"{protocol}\"\n"));
    let first = Daemon::start(&config);
    let mut second = Daemon::spawn(&config, &[]);
    wait_for("the second is up", || second.get("/healthz").is_some());
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);

    let (start, daemons) = (Instant::now(), [&first, &second]);
    let before = daemons.map(Daemon::cpu_time);
    let mut told = [false; 2];
    say(&mut device, 0..20);
    let mut look = || {
        for (told, daemon) in told.iter_mut().zip(daemons) {
            let names_it = |why: String| why.contains("intentd-test") && why.contains("`gateway`");
            *told |= daemon.ready().is_err_and(names_it);
        }
        std::thread::sleep(Duration::from_millis(200));
        told == [true; 2]
    };
    while start.elapsed() < time {
        look();
    }
    let elapsed = start.elapsed();
    let connections: f64 = daemons.map(|daemon| daemon.metric("intentd_mqtt_connections_total")).iter().sum();
    let cpu = [0, 1].map(|i| (daemons[i].cpu_time() - before[i]).as_secs_f64() / elapsed.as_secs_f64());
    report(
        "F15",
        &format!(
            "MQTT {protocol}: {connections} connections of both in {elapsed:.0?}, {:.1} % and {:.1} % CPU",
            100.0 * cpu[0],
            100.0 * cpu[1]
        ),
    );
    // Once one of them has found out and waits, the other is seldom thrown out, and needs longer.
    wait_within(Duration::from_secs(60), "both say what to mend", look);
    assert!(daemons.iter().all(|daemon| daemon.log().contains("give each daemon its own")));
    assert!(connections <= MOST_CONNECTIONS, "{connections} connections in {elapsed:?}");
    assert!(cpu.iter().all(|cpu| *cpu < MOST_CPU), "{cpu:?} of a processor");
    // One of the two was always there.
    collect(&mut device, 20, PATIENCE);

    assert_eq!(second.terminate(), Some(0));
    wait_within(Duration::from_secs(35), "the one that stays is ready", || first.ready().is_ok());
    say(&mut device, 20..21);
    while device.receive(INTENT).json()["id"] != "20" {}
}
