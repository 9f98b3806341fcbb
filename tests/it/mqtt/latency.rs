//! A long line that loses packets: everything comes later, and nothing else changes.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::super::harness::{Daemon, Device, Mosquitto, Proxy};
use super::super::soak::{millis, note, report, sized, times};
use super::promises::{check, check_order};
use super::{INTENT, UTTERANCE, broker, id_of, said};

/// Utterances a second.
const RATE: u32 = 20;

#[test]
fn a_long_line_that_loses_packets_only_makes_all_later() {
    let seed = fastrand::u64(..1 << 32);
    println!("seed {seed}");
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::late(mosquitto.port, seed);
    let daemon = Daemon::start(&broker(proxy.port, ""));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);

    let wanted = sized(200, 2_000);
    let (mut at, mut heard, mut taken) = (HashMap::new(), BTreeSet::new(), times());
    for i in 0..wanted {
        device.publish(UTTERANCE, said(&i.to_string()));
        let next = Instant::now() + Duration::from_secs(1) / RATE;
        at.insert(i, Instant::now());
        let mut until = next;
        if i + 1 == wanted {
            until += Duration::from_secs(15);
        }
        while heard.len() < wanted
            && let Some(intent) =
                device.receive_within(until.saturating_duration_since(Instant::now()), INTENT)
        {
            let id = id_of(&intent);
            if heard.insert(id) {
                note(&mut taken, at[&id].elapsed());
            }
        }
    }
    assert_eq!(heard.len(), wanted, "of {wanted} utterances");
    assert_eq!(proxy.lines(), 1, "the line was given up: {}", daemon.log());
    check(&proxy.packets());
    check_order(&proxy.packets(), INTENT);
    report(
        "F6",
        &format!(
            "{wanted} utterances at {RATE}/s over 200 ms with a twentieth of the chunks lost: 0 lost, in order; intents after \
             {:.0} ms (median), {:.0} ms (99 %)",
            millis(&taken, 0.5),
            millis(&taken, 0.99)
        ),
    );
    assert!(millis(&taken, 0.99) < 5_000.0);
}
