//! A broker whose acknowledgements come late, out of order, twice, for nothing, as refusals, or never.

use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::{PubAck, PubAckReason, Publish};

use super::super::harness::fake_broker::{accept, hold};
use super::super::harness::proxy::{PUBACK, Packet, Way};
use super::super::harness::{Daemon, FakeBroker, Proxy, wait_for, wait_within};
use super::super::soak::report;
use super::promises::check;
use super::{DEAD_LETTER, INTENT, STATUS, UTTERANCE, broker, said};

/// The least that the configuration takes.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Progress comes within so long after the broker acknowledges again.
const PROGRESS: Duration = Duration::from_secs(15);

const CONNECTIONS: &str = "intentd_mqtt_connections_total";

fn parts() -> (FakeBroker, Proxy, Daemon) {
    let fake = FakeBroker::start();
    let proxy = Proxy::start(fake.port);
    let keep_alive = format!("keep_alive = \"{}s\"\n", KEEP_ALIVE.as_secs());
    let daemon = Daemon::start(&broker(proxy.port, &keep_alive));
    (fake, proxy, daemon)
}

/// After that only answers are published.
#[track_caller]
fn wait_for_status(proxy: &Proxy) {
    let acknowledged = |packet: &Packet| packet.way == Way::FromBroker && packet.kind == PUBACK;
    wait_for("the status is acknowledged", || proxy.packets().iter().any(acknowledged));
}

fn say(fake: &FakeBroker, ids: std::ops::Range<usize>) {
    ids.for_each(|id| fake.say(UTTERANCE, said(&id.to_string())));
}

/// Waits until every utterance is acknowledged, and says how long that took.
#[track_caller]
fn settle(fake: &FakeBroker) -> Duration {
    let start = Instant::now();
    wait_within(PROGRESS, "every utterance is acknowledged", || fake.owed() == 0);
    start.elapsed()
}

/// Far enough for packet identifiers to begin anew.
#[test]
fn late_and_in_reverse_order() {
    let (fake, proxy, daemon) = parts();
    wait_for_status(&proxy);
    fake.answer(hold);
    for round in 0..18 {
        say(&fake, round * 64..round * 64 + 64);
        wait_for("a window of intents", || fake.held().len() == 64);
        if round % 6 == 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
        assert_eq!(fake.owed(), 64, "acknowledged before the intents were");
        fake.held().iter().rev().for_each(|held| fake.acknowledge(held.packet_id));
        settle(&fake);
    }
    check(&proxy.packets());
    assert_eq!(daemon.metric(CONNECTIONS), 1.0);
    assert_eq!(daemon.ready(), Ok(()));
}

/// Each costs a connection, since the broker and the daemon no longer know the same; and nothing else.
#[test]
fn twice_and_for_nothing() {
    let (fake, proxy, daemon) = parts();
    let cases: [fn(u16) -> u16; 4] = [|id| id, |_| 700, |_| 40_000, |_| 0];
    let mut slowest = Duration::ZERO;
    for (case, second) in cases.into_iter().enumerate() {
        let mut odd = true;
        fake.answer(move |publish: &Publish| {
            let odd = std::mem::replace(&mut odd, false);
            let second = odd.then(|| PubAck::new(second(publish.pkid), None));
            accept(publish).into_iter().chain(second).collect()
        });
        say(&fake, case * 20..case * 20 + 20);
        slowest = slowest.max(settle(&fake));
        wait_for("it is back", || daemon.ready().is_ok());
        assert_eq!(daemon.metric(CONNECTIONS), (case + 2) as f64, "case {case}");
    }
    check(&proxy.packets());
    report("F8", &format!("twice and for nothing: a new connection each, all answered after {slowest:.1?}"));
}

#[test]
fn refusals_hold_up_nobody_else() {
    use PubAckReason::*;
    const CODES: [PubAckReason; 7] = [
        UnspecifiedError,
        ImplementationSpecificError,
        NotAuthorized,
        TopicNameInvalid,
        PacketIdentifierInUse,
        QuotaExceeded,
        PayloadFormatInvalid,
    ];
    let (fake, proxy, daemon) = parts();
    let mut refusals = [0; CODES.len()];
    fake.answer(move |publish: &Publish| {
        let id = publish.properties.as_ref().and_then(|properties| properties.user_properties.first());
        let id: usize = id.map_or(usize::MAX, |(_, id)| id.parse().unwrap());
        // The last is refused for good, the others twice, and nothing else.
        let refused = publish.topic == INTENT && id < CODES.len() && {
            refusals[id] += 1;
            refusals[id] <= 2 || id == CODES.len() - 1
        };
        let reason = if refused { CODES[id] } else { Success };
        vec![PubAck { reason, ..PubAck::new(publish.pkid, None) }]
    });
    say(&fake, 0..50);
    wait_for("it isn't ready", || daemon.ready().is_err_and(|why| why.contains("the broker refuses")));
    settle(&fake);
    check(&proxy.packets());
    let letters: Vec<_> = proxy.packets().into_iter().filter(|packet| packet.topic == DEAD_LETTER).collect();
    let last = (CODES.len() - 1).to_string();
    assert!(letters.len() == 1 && letters[0].utterance == last, "{letters:?}");
    assert_eq!(daemon.metric("intentd_mqtt_dead_letters_total{reason=\"publish_refused\"}"), 1.0);
    assert_eq!(daemon.metric("intentd_mqtt_events_total{event=\"refused\"}"), (2 * 6 + 5) as f64);
    assert_eq!(daemon.metric(CONNECTIONS), 1.0);
    wait_for("it is ready again", || daemon.ready().is_ok());
}

#[test]
fn never_and_then_again() {
    let (fake, proxy, daemon) = parts();
    wait_for_status(&proxy);
    fake.answer(hold);
    say(&fake, 0..100);
    let start = Instant::now();
    wait_within(4 * KEEP_ALIVE, "the silence is noticed", || daemon.log().contains("acknowledges neither"));
    let noticed = start.elapsed();
    wait_for("it has a new connection", || daemon.metric(CONNECTIONS) == 2.0);
    wait_for("it publishes all of it again", || fake.held().len() >= 64);
    assert_eq!(fake.owed(), 100, "acknowledged before the intents were");
    fake.answer(accept);
    fake.acknowledge_older_than(Duration::ZERO);
    let progress = settle(&fake);
    check(&proxy.packets());
    assert_eq!(daemon.metric(CONNECTIONS), 2.0);
    report(
        "F8",
        &format!("never: noticed after {noticed:.1?}, all answered {progress:.1?} after they came again"),
    );
}

/// The one that is missing keeps its packet identifier, which comes round again while the others are acknowledged.
#[test]
fn one_that_never_comes() {
    let (fake, proxy, daemon) = parts();
    wait_for_status(&proxy);
    // Anew, with a broker that says nothing to the next status.
    let mut first = true;
    fake.answer(move |publish: &Publish| {
        let held = publish.topic == STATUS && std::mem::replace(&mut first, false);
        if held { Vec::new() } else { accept(publish) }
    });
    proxy.cut();
    wait_for("the status waits for its acknowledgement", || fake.held().len() == 1);
    let start = Instant::now();
    say(&fake, 0..1_200);
    wait_within(PROGRESS + 2 * KEEP_ALIVE, "every utterance is acknowledged", || fake.owed() == 0);
    let answered = start.elapsed();
    check(&proxy.packets());
    assert_eq!(daemon.metric(CONNECTIONS), 3.0, "{}", daemon.log());
    assert_eq!(daemon.ready(), Ok(()));
    report("F8", &format!("one that never comes: 1,200 utterances past it answered after {answered:.1?}"));
}
