//! `[[mqtt.routes]]`: where utterances come from, what is asked about them, and where the answers go.

use intentd_core::Task;
use intentd_core::topic::Route as Topics;
use serde_json::Value;

use super::read::Reader;
use super::{Codec, Route};

/// Most routes of one daemon: each is compared with every other, and a wildcard level serves any number of devices.
const MAX_ROUTES: usize = 64;

/// What may be asked about an utterance.
const TASKS: [(&str, Task); 5] = [
    ("intent", Task::Intent),
    ("slots", Task::Slots),
    ("sentiment", Task::Sentiment),
    ("entities", Task::Entities),
    ("embedding", Task::Embedding),
];

impl Reader {
    pub(super) fn routes(&mut self, key: &str) -> Vec<Route> {
        let Value::Array(routes) = self.value(key) else {
            self.mistake(key, "routes come from the file only, each as a block [[mqtt.routes]]");
            return Vec::new();
        };
        if routes.is_empty() {
            self.mistake(key, "at least one route is needed; set mqtt.broker = \"off\" to do without MQTT");
        }
        if routes.len() > MAX_ROUTES {
            let message = format!(
                "{} routes; the limit is {MAX_ROUTES}: let one with {{name}} levels serve many",
                routes.len()
            );
            self.mistake(key, &message);
            return Vec::new();
        }
        (0..routes.len()).filter_map(|i| self.route(&format!("{key}[{i}]"))).collect()
    }

    fn route(&mut self, key: &str) -> Option<Route> {
        let (subscribe, publish) =
            (self.text(&format!("{key}.subscribe")), self.text(&format!("{key}.publish")));
        let topics = Topics::new(&subscribe, &publish).map_err(|error| self.mistake(key, error.to_string()));
        let codec = self.choice(&format!("{key}.codec"), &[("json", Codec::Json), ("text", Codec::Text)]);
        let qos = self.whole(&format!("{key}.qos"), 0, 1);
        let share = self.optional(&format!("{key}.share"));
        if share.as_deref().is_some_and(|group| group.contains(['/', '+', '#', '\0'])) {
            self.mistake(&format!("{key}.share"), "a group's name holds none of / + #");
        }
        let max_age =
            Some(self.duration(&format!("{key}.max_age"), "0s", "3650d")).filter(|age| !age.is_zero());
        let bundle = self.text(&format!("{key}.bundle"));
        let tasks = self.tasks(&format!("{key}.tasks"));
        Some(Route { topics: topics.ok()?, codec, qos, share, max_age, bundle, tasks })
    }

    /// In one order and each once, so that equal wishes are equal.
    fn tasks(&mut self, key: &str) -> Vec<Task> {
        let mut tasks = Vec::new();
        for name in self.list(key) {
            match TASKS.iter().find(|(known, _)| *known == name) {
                Some((_, task)) => tasks.push(*task),
                None => {
                    let known: Vec<&str> = TASKS.iter().map(|(known, _)| *known).collect();
                    self.mistake(key, format!("there is no task \"{name}\"; known: {}", known.join(", ")));
                }
            }
        }
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }
}
