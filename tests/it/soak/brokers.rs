//! Brokers that restart, with their sessions (F2), without them (F3), and killed (F4).

use std::time::{Duration, Instant};

use super::traffic::Traffic;
use super::{millis, note, report, sized, times};
use crate::harness::{Daemon, Mosquitto, PATIENCE, Proxy, wait_for};

const PER_SECOND: u32 = 100;

/// Between two faults: longer than the 5 s after which the link takes a connection for a good one.
const BETWEEN: usize = 600;

/// From the moment at which the broker's port is open again.
const BACK: Duration = Duration::from_secs(3);

/// After so long the link takes a connection for a good one.
const PROVEN: Duration = Duration::from_millis(5_500);

fn broker(port: u16) -> String {
    format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n")
}

#[test]
fn restarts_with_sessions_lose_nothing() {
    let restarts = sized(2, 20);
    let mut mosquitto = Mosquitto::start();
    let daemon = Daemon::start(&broker(mosquitto.port));
    let mut traffic = Traffic::new(mosquitto.port);
    let (mut random, mut back) = (fastrand::Rng::with_seed(2), times());
    for restart in 1..=restarts {
        traffic.run(restart * BETWEEN, PER_SECOND, |_| {});
        mosquitto.stop();
        std::thread::sleep(Duration::from_millis(random.u64(0..1000)));
        mosquitto.resume();
        let open = Instant::now();
        wait_for("the daemon is subscribed again", || daemon.ready().is_ok());
        note(&mut back, open.elapsed());
        assert!(open.elapsed() <= BACK, "back {:?} after the port was open", open.elapsed());
    }
    traffic.settle(PATIENCE);
    let (median, longest) = (millis(&back, 0.5), millis(&back, 1.0));
    let figures = traffic.check();
    report(
        "F2",
        &format!(
            "{restarts} restarts: {figures}; back after {median:.0} ms (median), {longest:.0} ms (longest)"
        ),
    );
}

/// What the broker has forgotten itself it can't hand over; what the daemon holds must come out all the same.
#[test]
fn lost_sessions_lose_no_intent_that_the_daemon_holds() {
    let rounds = sized(2, 20);
    let mut mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.port);
    let daemon = Daemon::start(&broker(proxy.port));
    let received = "intentd_mqtt_events_total{event=\"received\"}";
    let mut answered = 0;
    for _ in 0..rounds {
        // Redeliveries count as well.
        let earlier = daemon.metric(received);
        // The broker hands 60 utterances over and hears nothing of their intents.
        proxy.hold(true);
        let mut before = Traffic::new(mosquitto.port);
        (0..60).for_each(|_| before.say());
        wait_for("all are received", || daemon.metric(received) >= earlier + 60.0);
        wait_for("all are understood", || daemon.metric("intentd_queue_depth") == 0.0);
        drop(before);
        mosquitto.stop();
        mosquitto.forget();
        mosquitto.resume();
        let mut after = Traffic::new(mosquitto.port);
        proxy.cut();
        proxy.hold(false);
        answered += after.overhear(60, PATIENCE);
        wait_for("nothing is in flight", || daemon.metric("intentd_mqtt_in_flight") == 0.0);
        daemon.wait_ready();
        // Else the link would wait longer each time.
        std::thread::sleep(PROVEN);
    }
    report("F3", &format!("{rounds} lost sessions: {answered} of {} intents arrived", 60 * rounds));
    assert_eq!(answered, 60 * rounds);
}

/// A broker that is killed loses what it has not stored; whoever must be sure says it again, with the same id.
#[test]
fn a_killed_broker_loses_nothing_of_a_sender_that_repeats() {
    let kills = sized(2, 20);
    let mut mosquitto = Mosquitto::start_with("autosave_interval 1\n");
    let daemon = Daemon::start(&broker(mosquitto.port));
    let mut traffic = Traffic::new(mosquitto.port);
    let (mut random, mut repeated) = (fastrand::Rng::with_seed(4), 0);
    for kill in 1..=kills {
        traffic.run(kill * BETWEEN, PER_SECOND, |_| {});
        mosquitto.kill();
        std::thread::sleep(Duration::from_millis(random.u64(0..1000)));
        mosquitto.resume();
        daemon.wait_ready();
        traffic.subscribe();
        traffic.settle(Duration::from_secs(2));
        while traffic.open() > 0 {
            repeated += traffic.repeat_unanswered();
            traffic.settle(Duration::from_secs(5));
        }
    }
    let figures = traffic.check();
    report("F4", &format!("{kills} kills of the broker: {figures}; {repeated} said again by their sender"));
}
