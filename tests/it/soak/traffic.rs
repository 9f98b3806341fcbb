//! Devices that speak all the time, and what they hear: every utterance has an id, and every answer is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{note, times};
use crate::harness::Device;

const UTTERANCE: &str = "intentd/home/kitchen/utterance";
const INTENT: &str = "intentd/home/kitchen/intent";
const DEAD_LETTER: &str = "intentd/test/dead-letter";

/// From one word to forty.
const TEXTS: [&str; 8] = [
    "lights",
    "turn on the kitchen lights",
    "wake me up at seven thirty tomorrow",
    "what is the weather going to be like in hamburg on saturday afternoon",
    "play some jazz in the living room",
    "remind me to water the plants in the garden every second day at six in the evening",
    "set the thermostat in the bedroom to nineteen degrees",
    "please could you be so kind and send an email to my sister and tell her that i will arrive on the late train \
     on friday, that i bring two friends and a cake, and that she should not wait for us with the dinner",
];

/// Which of the texts an utterance of this number says.
pub(super) fn text(number: usize) -> &'static str {
    TEXTS[number % TEXTS.len()]
}

/// What was said and what was heard.
pub(super) struct Traffic {
    device: Device,
    said: Vec<Instant>,
    /// Without their times, by number.
    answers: BTreeMap<usize, Value>,
    /// Answers that came again.
    pub(super) duplicates: usize,
    /// Answers that came again and were not the same.
    pub(super) different: usize,
    /// Letters instead of answers.
    pub(super) dead: Vec<Value>,
    /// When the last new answer came.
    pub(super) heard: Instant,
    /// From the publish to the first answer.
    pub(super) latency: hdrhistogram::Histogram<u64>,
}

impl Traffic {
    pub(super) fn new(port: u16) -> Self {
        let traffic = Self {
            device: Device::v5(port),
            said: Vec::new(),
            answers: BTreeMap::new(),
            duplicates: 0,
            different: 0,
            dead: Vec::new(),
            heard: Instant::now(),
            latency: times(),
        };
        traffic.subscribe();
        traffic
    }

    /// Says the next utterance.
    pub(super) fn say(&mut self) {
        let number = self.said.len();
        self.said.push(Instant::now());
        self.publish(number);
    }

    /// Says again what has no answer.
    pub(super) fn repeat_unanswered(&mut self) -> usize {
        let open: Vec<_> = (0..self.said.len()).filter(|number| !self.answers.contains_key(number)).collect();
        open.iter().for_each(|number| self.publish(*number));
        open.len()
    }

    fn publish(&mut self, number: usize) {
        self.device.publish(UTTERANCE, format!(r#"{{"id": "{number}", "text": "{}"}}"#, text(number)));
    }

    /// For a broker that has forgotten its sessions.
    pub(super) fn subscribe(&self) {
        self.device.subscribe(INTENT);
        self.device.subscribe(DEAD_LETTER);
    }

    /// How many different answers come to utterances that another said, until there are so many.
    pub(super) fn overhear(&mut self, wanted: usize, limit: Duration) -> usize {
        let end = Instant::now() + limit;
        let mut numbers = BTreeSet::new();
        while numbers.len() < wanted {
            let left = end.saturating_duration_since(Instant::now());
            let Some(message) = self.device.receive_within(left, INTENT) else { break };
            numbers.insert(message.json()["id"].to_string());
        }
        numbers.len()
    }

    /// How many were said.
    pub(super) fn said(&self) -> usize {
        self.said.len()
    }

    /// How many have no answer yet.
    pub(super) fn open(&self) -> usize {
        self.said.len() - self.answers.len()
    }

    /// Says so many a second until `said` are, hearing meanwhile; `beside` is called again and again.
    pub(super) fn run(&mut self, said: usize, per_second: u32, mut beside: impl FnMut(usize)) {
        let (first, started) = (self.said.len(), Instant::now());
        while self.said.len() < said {
            let due = Duration::from_secs(1) / per_second * u32::try_from(self.said.len() - first).unwrap();
            if started.elapsed() < due {
                self.hear(Duration::from_millis(1));
            } else {
                self.say();
                self.hear(Duration::ZERO);
            }
            beside(self.said.len());
        }
    }

    /// Hears until nothing is open, or for so long.
    pub(super) fn settle(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.open() > 0 && Instant::now() < end {
            self.hear(Duration::from_millis(20));
        }
    }

    /// Takes what has come, waiting at most so long for the first.
    pub(super) fn hear(&mut self, wait: Duration) {
        let mut wait = wait;
        while let Some(message) = self.device.receive_within(wait, INTENT) {
            wait = Duration::ZERO;
            self.take(message.json());
        }
        while let Some(letter) = self.device.receive_within(Duration::ZERO, DEAD_LETTER) {
            self.dead.push(letter.json());
        }
    }

    fn take(&mut self, mut answer: Value) {
        assert!(answer.get("error").is_none(), "{answer}");
        let number: usize = answer["id"].as_str().and_then(|id| id.parse().ok()).expect("our id");
        answer.as_object_mut().unwrap().remove("timing");
        match self.answers.get(&number) {
            Some(known) => {
                self.duplicates += 1;
                self.different += usize::from(*known != answer);
            }
            None => {
                self.heard = Instant::now();
                note(&mut self.latency, self.said[number].elapsed());
                self.answers.insert(number, answer);
            }
        }
    }

    /// Lost, dead letters, duplicates; fails unless each utterance has an answer, and the same each time.
    #[track_caller]
    pub(super) fn check(&self) -> String {
        let figures = format!(
            "{} said, {} lost, {} dead letters, {} duplicates, {} of them different",
            self.said(),
            self.open(),
            self.dead.len(),
            self.duplicates,
            self.different
        );
        let first = (0..self.said.len()).find(|number| !self.answers.contains_key(number));
        assert_eq!(self.open(), 0, "{figures}; the first without an answer: {first:?}");
        assert!(self.dead.is_empty(), "{figures}: {:?}", self.dead);
        assert_eq!(self.different, 0, "{figures}");
        figures
    }
}
