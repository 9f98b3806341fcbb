//! The small JSON files of a bundle: labels, calibration, self-test vectors.

use std::collections::HashSet;

use intentd_core::Task;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::verify::Verified;
use crate::OpenError;

/// Most labels of one head: a head has one output channel each.
const MAX_LABELS: usize = 4096;

/// Names of what the heads tell apart.
#[derive(Clone, Debug)]
pub struct Labels {
    /// The intents in scope, in the bundle's order.
    pub intents: Vec<String>,
    /// Names of the slots, in the bundle's order.
    pub slots: Vec<String>,
    /// Every output of the intent head.
    pub(crate) intent_outputs: Vec<String>,
    /// Which output means out of scope.
    pub(crate) out_of_scope: Option<usize>,
    /// Every output of the slots head.
    pub(crate) tags: Vec<Tag>,
    /// `[from, to]` scores of tags that follow each other; empty: only what is legal counts.
    pub(crate) transitions: Vec<f32>,
}

/// The place of a word inside a slot; slots by their index in `Labels::slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Outside,
    Begin(usize),
    Inside(usize),
}

#[derive(Deserialize)]
struct LabelsFile {
    intents: Vec<String>,
    out_of_scope: Option<String>,
    tags: Vec<String>,
    #[serde(default)]
    transitions: Vec<Vec<f32>>,
}

/// How scores become probabilities and probabilities outcomes.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Calibration {
    pub(crate) intent: IntentCalibration,
    pub(crate) slots: SlotsCalibration,
}

/// Temperature and thresholds of the intent head.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct IntentCalibration {
    pub(crate) temperature: f32,
    /// From here on: RECOGNIZED.
    pub(crate) recognized: f32,
    /// Below: NOT_RECOGNIZED.
    pub(crate) not_recognized: f32,
}

/// A site's own thresholds; none: the bundle's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Confidence from which an intent is RECOGNIZED.
    pub recognized: Option<f32>,
    /// Confidence below which an utterance is NOT_RECOGNIZED.
    pub not_recognized: Option<f32>,
}

/// Temperature of the slots head.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct SlotsCalibration {
    pub(crate) temperature: f32,
}

/// One vector of the self-test: what the bundle's author got.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SelfTestLine {
    pub(crate) text: String,
    pub(crate) input_ids: Vec<u32>,
    /// Probabilities of all outputs of the intent head, in their order.
    pub(crate) intent_scores: Vec<f32>,
    pub(crate) outcome: String,
    pub(crate) intent: Option<String>,
    pub(crate) slots: Vec<SelfTestSlot>,
}

/// A slot of a self-test vector.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SelfTestSlot {
    pub(crate) name: String,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Labels {
    pub(crate) fn read(bundle: &mut Verified) -> Result<Self, OpenError> {
        const FILE: &str = "labels.json";
        let file: LabelsFile = read_json(bundle, FILE)?;
        let has_intents = bundle.manifest.supported_tasks().contains(&Task::Intent);
        Self::from_file(file, has_intents)
            .map_err(|message| OpenError::Content { path: bundle.path(FILE), message })
    }

    fn from_file(file: LabelsFile, has_intents: bool) -> Result<Self, String> {
        check_names("intents", &file.intents)?;
        check_names("tags", &file.tags)?;
        let out_of_scope = match &file.out_of_scope {
            Some(name) => Some(
                file.intents
                    .iter()
                    .position(|intent| intent == name)
                    .ok_or_else(|| format!("out_of_scope {name:?} is not among the intents"))?,
            ),
            None => None,
        };
        let intents: Vec<String> = file
            .intents
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != out_of_scope)
            .map(|(_, name)| name.clone())
            .collect();
        if has_intents && intents.is_empty() {
            return Err("names no intent in scope".to_owned());
        }
        let (slots, tags) = read_tags(&file.tags)?;
        let count = tags.len();
        let square = file.transitions.len() == count && file.transitions.iter().all(|row| row.len() == count);
        if !(file.transitions.is_empty() || square) {
            return Err(format!("transitions must have a row and a column for each of the {count} tags"));
        }
        let transitions = file.transitions.concat();
        Ok(Self { intents, slots, intent_outputs: file.intents, out_of_scope, tags, transitions })
    }
}

impl Calibration {
    pub(crate) fn read(bundle: &mut Verified) -> Result<Self, OpenError> {
        const FILE: &str = "calibration.json";
        let calibration: Self = read_json(bundle, FILE)?;
        calibration.check().map_err(|message| OpenError::Content { path: bundle.path(FILE), message })?;
        Ok(calibration)
    }

    fn check(&self) -> Result<(), String> {
        for (name, value) in
            [("intent.temperature", self.intent.temperature), ("slots.temperature", self.slots.temperature)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{name} is {value}; it must be positive"));
            }
        }
        self.intent.check_thresholds()
    }
}

impl IntentCalibration {
    /// Lays a site's thresholds over the bundle's.
    pub(crate) fn with(self, site: Thresholds) -> Result<Self, String> {
        let overridden = Self {
            recognized: site.recognized.unwrap_or(self.recognized),
            not_recognized: site.not_recognized.unwrap_or(self.not_recognized),
            ..self
        };
        overridden.check_thresholds().map(|()| overridden)
    }

    fn check_thresholds(&self) -> Result<(), String> {
        let Self { recognized, not_recognized, .. } = *self;
        if !(0.0 <= not_recognized && not_recognized <= recognized && recognized <= 1.0) {
            return Err(format!(
                "thresholds must be 0 <= not_recognized <= recognized <= 1, but are {not_recognized} and {recognized}"
            ));
        }
        Ok(())
    }
}

impl SelfTestLine {
    /// File of the vectors.
    pub(crate) const FILE: &str = "selftest.jsonl";

    pub(crate) fn read(bundle: &mut Verified) -> Result<Vec<Self>, OpenError> {
        let bytes = bundle.take(Self::FILE)?;
        let wrong = |message| OpenError::Content { path: bundle.path(Self::FILE), message };
        let mut lines = Vec::new();
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            lines.push(serde_json::from_slice(line).map_err(|e| wrong(format!("line {}: {e}", index + 1)))?);
        }
        if lines.is_empty() {
            return Err(wrong("holds no vector; an untested bundle is not started".to_owned()));
        }
        Ok(lines)
    }
}

fn read_json<T: DeserializeOwned>(bundle: &mut Verified, file: &str) -> Result<T, OpenError> {
    let bytes = bundle.take(file)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| OpenError::Content { path: bundle.path(file), message: e.to_string() })
}

fn check_names(list: &str, names: &[String]) -> Result<(), String> {
    if names.len() > MAX_LABELS {
        return Err(format!("{} {list}; the limit is {MAX_LABELS}", names.len()));
    }
    let mut seen = HashSet::new();
    match names.iter().find(|name| name.is_empty() || !seen.insert(name.as_str())) {
        Some(name) => Err(format!("{list} holds {name:?} twice, or an empty name")),
        None => Ok(()),
    }
}

/// Slot names and tags. `O` must be there, and each slot needs its `B-`: otherwise no legal sequence exists.
fn read_tags(names: &[String]) -> Result<(Vec<String>, Vec<Tag>), String> {
    let mut slots: Vec<String> = Vec::new();
    for name in names {
        if let Some(slot) = name.strip_prefix("B-") {
            slots.push(slot.to_owned());
        }
    }
    let slot_index = |slot: &str| {
        slots.iter().position(|known| known == slot).ok_or_else(|| format!("tag I-{slot} has no B-{slot}"))
    };
    let tags = names
        .iter()
        .map(|name| match name.split_at_checked(2) {
            Some(("B-", slot)) => slot_index(slot).map(Tag::Begin),
            Some(("I-", slot)) => slot_index(slot).map(Tag::Inside),
            _ if name == "O" => Ok(Tag::Outside),
            _ => Err(format!("tag {name:?} is neither O nor B- nor I- of a slot")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if !tags.contains(&Tag::Outside) {
        return Err("tags lack O, the one for words outside any slot".to_owned());
    }
    Ok((slots, tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(intents: &[&str], out_of_scope: Option<&str>, tags: &[&str]) -> LabelsFile {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        LabelsFile {
            intents: owned(intents),
            out_of_scope: out_of_scope.map(str::to_owned),
            tags: owned(tags),
            transitions: Vec::new(),
        }
    }

    #[test]
    fn transitions_join_all_tags() {
        let with = |transitions: &[&[f32]]| {
            let transitions = transitions.iter().map(|row| row.to_vec()).collect();
            Labels::from_file(LabelsFile { transitions, ..file(&["a"], None, &["O", "B-x"]) }, true)
        };
        assert_eq!(with(&[&[0.0, -1.0], &[-2.0, -3.0]]).unwrap().transitions, [0.0, -1.0, -2.0, -3.0]);
        assert!(with(&[&[0.0, -1.0]]).unwrap_err().contains("2 tags"));
        assert!(with(&[&[0.0, -1.0], &[0.0]]).is_err());
    }

    fn labels(intents: &[&str], out_of_scope: Option<&str>, tags: &[&str]) -> Result<Labels, String> {
        Labels::from_file(file(intents, out_of_scope, tags), true)
    }

    #[test]
    fn a_bundle_without_the_intent_task_needs_no_intents() {
        let labels = Labels::from_file(file(&[], None, &["O", "B-room"]), false).unwrap();
        assert!(labels.intents.is_empty());
        assert_eq!(labels.slots, ["room"]);
    }

    #[test]
    fn out_of_scope_is_not_an_intent() {
        let labels = labels(&["light_on", "oos", "light_off"], Some("oos"), &["O"]).unwrap();
        assert_eq!(labels.intents, ["light_on", "light_off"]);
        assert_eq!(labels.out_of_scope, Some(1));
    }

    #[test]
    fn tags_become_slots() {
        let labels = labels(&["a"], None, &["O", "B-time", "I-time", "B-room"]).unwrap();
        assert_eq!(labels.slots, ["time", "room"]);
        assert_eq!(labels.tags, [Tag::Outside, Tag::Begin(0), Tag::Inside(0), Tag::Begin(1)]);
    }

    #[test]
    fn contradictions_are_named() {
        #[track_caller]
        fn check(intents: &[&str], oos: Option<&str>, tags: &[&str], expected: &str) {
            let error = labels(intents, oos, tags).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        check(&["a", "a"], None, &["O"], "twice");
        check(&["a"], Some("oos"), &["O"], "oos");
        check(&["oos"], Some("oos"), &["O"], "no intent in scope");
        check(&["a"], None, &["B-x"], "lack O");
        check(&["a"], None, &["O", "I-x"], "I-x");
        check(&["a"], None, &["O", "x"], "\"x\"");
    }

    #[test]
    fn a_sites_thresholds_replace_those_it_names() {
        let bundle = IntentCalibration { temperature: 1.5, recognized: 0.8, not_recognized: 0.4 };
        let site = |recognized, not_recognized| bundle.with(Thresholds { recognized, not_recognized });
        let thresholds =
            |calibration: IntentCalibration| (calibration.recognized, calibration.not_recognized);
        assert_eq!(site(None, None).map(thresholds), Ok((0.8, 0.4)));
        assert_eq!(site(Some(0.9), None).map(thresholds), Ok((0.9, 0.4)));
        assert_eq!(site(None, Some(0.1)).map(thresholds), Ok((0.8, 0.1)));
        assert!(site(Some(0.3), None).is_err(), "below the bundle's not_recognized");
    }

    #[test]
    fn thresholds_and_temperatures_make_sense() {
        let good = Calibration {
            intent: IntentCalibration { temperature: 1.5, recognized: 0.8, not_recognized: 0.4 },
            slots: SlotsCalibration { temperature: 1.0 },
        };
        assert_eq!(good.check(), Ok(()));
        let mut bad = good;
        bad.intent.not_recognized = 0.9;
        assert!(bad.check().is_err());
        let mut bad = good;
        bad.slots.temperature = f32::NAN;
        assert!(bad.check().is_err());
    }
}
