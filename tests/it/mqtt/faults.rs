//! Crashes, restarts and cut lines: no utterance is lost, and none is acknowledged before its intent is safe.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use super::super::harness::proxy::{PUBACK, Packet, Way};
use super::super::harness::{Daemon, Device, Mosquitto, PATIENCE, Proxy, free_port, wait_for, wait_within};
use super::promises::check;
use super::{INTENT, STATUS, broker, collect, say};

fn listener(port: u16) -> Device {
    let device = Device::v5(port);
    device.subscribe(INTENT);
    device
}

#[test]
fn an_utterance_is_acknowledged_after_its_intent_in_the_order_of_receipt() {
    for protocol in ["5", "3.1.1"] {
        let mosquitto = Mosquitto::start();
        let proxy = Proxy::start(mosquitto.port);
        let _daemon = Daemon::start(&broker(proxy.port, &format!("protocol = \"{protocol}\"\n")));
        let mut device = listener(mosquitto.port);
        say(&mut device, 0..100);
        collect(&mut device, 100, PATIENCE);
        let acknowledged = |packet: &Packet| packet.way == Way::ToBroker && packet.kind == PUBACK;
        wait_for("100 acknowledgements", || {
            proxy.packets().iter().filter(|p| acknowledged(p)).count() == 100
        });
        check(&proxy.packets());
    }
}

#[test]
fn a_killed_daemon_loses_nothing() {
    let mosquitto = Mosquitto::start();
    let mut daemon = Daemon::start(&broker(mosquitto.port, ""));
    let mut device = listener(mosquitto.port);
    say(&mut device, 0..200);
    daemon.kill();
    daemon.restart();
    collect(&mut device, 200, PATIENCE);
}

#[test]
fn a_broker_that_restarts_with_its_sessions_loses_nothing() {
    let mut mosquitto = Mosquitto::start();
    let daemon = Daemon::start(&broker(mosquitto.port, ""));
    let mut device = listener(mosquitto.port);
    say(&mut device, 0..300);
    mosquitto.stop();
    wait_for("the daemon isn't ready", || daemon.ready().is_err());
    mosquitto.resume();
    collect(&mut device, 300, PATIENCE);
    daemon.wait_ready();
}

#[test]
fn a_broker_that_forgot_everything_gets_the_intents_anyway() {
    for protocol in ["5", "3.1.1"] {
        let mut mosquitto = Mosquitto::start();
        let proxy = Proxy::start(mosquitto.port);
        let daemon = Daemon::start(&broker(proxy.port, &format!("protocol = \"{protocol}\"\n")));
        // The broker hands 60 utterances over and hears nothing of their intents.
        proxy.hold(true);
        say(&mut Device::v5(mosquitto.port), 0..60);
        let received = "intentd_mqtt_events_total{event=\"received\"}";
        wait_for("60 received", || daemon.metric(received) == 60.0);
        wait_for("60 understood", || daemon.metric("intentd_queue_depth") == 0.0);
        mosquitto.stop();
        mosquitto.forget();
        mosquitto.resume();
        let mut device = listener(mosquitto.port);
        proxy.cut();
        proxy.hold(false);
        collect(&mut device, 60, PATIENCE);
        wait_for("nothing is in flight", || daemon.metric("intentd_mqtt_in_flight") == 0.0);
    }
}

#[test]
fn a_cut_line_loses_nothing_and_mixes_nothing_up() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.port);
    let daemon = Daemon::start(&broker(proxy.port, ""));
    let mut device = listener(mosquitto.port);
    for round in 0..5 {
        say(&mut device, round * 50..round * 50 + 50);
        std::thread::sleep(Duration::from_millis(20 * round as u64));
        proxy.cut();
    }
    collect(&mut device, 250, PATIENCE);
    wait_for("nothing is in flight", || daemon.metric("intentd_mqtt_in_flight") == 0.0);
    check(&proxy.packets());
}

/// mosquitto 2.0.11 does, once there is a backlog and acknowledgements flow.
#[test]
fn a_broker_that_ignores_the_receive_maximum_loses_nothing() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.port);
    let daemon = Daemon::start(&broker(proxy.port, "receive_maximum = 4\n"));
    let mut device = listener(mosquitto.port);
    device.subscribe(STATUS);
    say(&mut device, 0..200);
    collect(&mut device, 200, PATIENCE);
    check(&proxy.packets());
    // It came back each time without its last will.
    while let Some(status) = device.receive_within(Duration::from_millis(100), STATUS) {
        assert_eq!(status.json()["state"], "online");
    }
    daemon.wait_ready();
}

#[test]
fn a_broker_that_is_down_ends_nothing_and_is_found_when_it_comes() {
    let port = free_port();
    let mut daemon = Daemon::spawn(&broker(port, ""), &[]);
    wait_for("it is up and says why it isn't ready", || {
        daemon.ready().is_err_and(|why| why.contains("mqtt") && why.contains("refused"))
    });
    assert_eq!(daemon.terminate(), Some(0));
}

/// A broker of a few bytes that refuses the first subscription (3.1.1) and grants the second.
#[test]
fn a_refused_subscription_is_told_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answer, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut packet = [0; 2048];
        let _ = stream.read(&mut packet).unwrap();
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        while let Ok(read @ 1..) = stream.read(&mut packet) {
            if packet[0] == 0x82 {
                let code: u8 = answers.recv().unwrap();
                stream.write_all(&[0x90, 3, packet[2], packet[3], code]).unwrap();
            }
            assert!(read < packet.len());
        }
    });
    let daemon = Daemon::spawn(&broker(port, "protocol = \"3.1.1\"\n"), &[]);
    answer.send(0x80).unwrap();
    wait_for("the reason is told", || {
        daemon.ready().is_err_and(|why| why.contains("refused the subscription intentd/+/+/utterance"))
    });
    answer.send(0x01).unwrap();
    wait_within(Duration::from_secs(5), "it is ready", || daemon.ready().is_ok());
}
